"""Errors for users: what happened and how to fix it, never a traceback. Exit codes."""

import re
from pathlib import Path

from labctl.i18n import tr

EXIT_DONE = 0
EXIT_FAILED = 1
"""The lab or a step failed."""
EXIT_USAGE = 2
"""Wrong use of the command, or a wrong lab.yaml."""
EXIT_CLAIM = 3
"""A claim of a lesson does not hold, or a packet got no answer."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as a shell reports it."""


class LabError(Exception):
    """A failure with a message for people, a hint how to fix it, and an exit code."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or ""
        self.code = code
        self.log: Path | None = None
        """The file with more details, if there is one."""


class DiskFullError(LabError):
    """A disk of this machine is full."""

    def __init__(self, what: object, *, hint: str | None = None) -> None:
        """`what` is the path that could not be written, or the words of the program that met it."""
        again = tr("free some space, then run the same command again; it goes on where it stopped")
        super().__init__(tr("the disk is full: {path}", path=what), hint=hint or again)


_DISK_FULL = re.compile(r"VERR_DISK_FULL|DrvVD_DISKFULL|No space left|Disk quota exceeded|ENOSPC")
"""As VirtualBox (twice), the system's library (ENOSPC, EDQUOT) and Ruby name a full disk."""


def says_disk_full(text: str) -> bool:
    """Whether the output of a program says that a disk is full."""
    return _DISK_FULL.search(text) is not None


class Cancelled(Exception):  # noqa: N818 - a state, not a mistake
    """The work was asked to stop, and stopped before its end."""


def cannot_write(path: Path, error: OSError, *, hint: str | None = None) -> LabError:
    """The error for a file or directory that the system did not let us write."""
    return LabError(tr("cannot write {path}: {error}", path=path, error=error.strerror), hint=hint)


def space_or_permissions() -> str:
    """The hint where nothing more is known of why a file cannot be written."""
    return tr("free some disk space or mend the permissions, then run the same command again")
