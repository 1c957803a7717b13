"""Errors a user can cause or meet: what happened, and how to mend it. Never a traceback."""

from pathlib import Path

EXIT_DONE = 0
EXIT_FAILED = 1
"""The lab or a step failed."""
EXIT_USAGE = 2
"""Wrong use of the command, or a wrong lab.yaml."""
EXIT_CLAIM = 3
"""A claim does not hold."""
EXIT_INTERRUPTED = 130
"""Ctrl-C; what a shell reports for it."""


class LabError(Exception):
    """Something failed for a reason a person can understand."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or ""
        self.code = code
        self.log: Path | None = None
        """The file that tells more, if there is one."""


class Cancelled(Exception):  # noqa: N818 - a state, not a mistake
    """The work was told to stop before it was finished."""
