"""What is wrong with a lab.yaml or a lesson, in words with which a learner can fix it.

One :class:`Problem` is one line on the terminal. :class:`SpecError` holds all of them, so that
nobody has to fix a file one error at a time.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list

KeyPath = tuple[str | int, ...]
"""The path to a value in a YAML file: keys of mappings (str) and positions in lists (int)."""

_LONGEST_SHOWN = 60
"""Characters of a value that a message shows."""
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would end a line, or more: keys in a YAML file may hold anything."""
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and how to fix it."""

    file: str
    line: int
    """Counted from 1; 0 when the problem is the file as a whole (missing, unreadable)."""
    path: str
    """Dotted path of the value, as in ``nodes.compute-01.eth1``; empty for the whole file."""
    message: str
    fix: str = ""

    def to_json(self) -> "ProblemJson":
        """For programs, which know the fix as `mend`."""
        return {
            "file": self.file,
            "line": self.line,
            "path": self.path,
            "message": self.message,
            "mend": self.fix,
        }

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f"{place}: {self.path}" if self.path else place
        # FILE:LINE is the same in every language: editors can jump to it.
        text = f"{where}: {self.message}" + (f"{tr('; ')}{self.fix}" if self.fix else "")
        return _BREAKS.sub(lambda found: ascii(found[0])[1:-1], text)


class ProblemJson(TypedDict):
    """A problem in what `validate --json` prints."""

    file: str
    line: int
    """Counted from 1; 0 when the problem is the file as a whole (missing, unreadable)."""
    path: str
    """Dotted path of the value, as in ``nodes.compute-01.eth1``; empty for the whole file."""
    message: str
    mend: str
    """How to fix it; empty if labctl does not know."""


@dataclass(frozen=True)
class Validation:
    """What `validate --json` prints."""

    valid: bool
    problems: tuple[ProblemJson, ...] = ()


class SpecError(LabError):
    """The file cannot be used; ``problems`` says why, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), code=EXIT_USAGE)


def printable(text: object) -> str:
    """A value from the file for a message: shortened, and without control characters."""
    # Escape sequences would control the terminal, and lone surrogates cannot be encoded.
    safe = "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: _LONGEST_SHOWN + 1]
    )
    return safe if len(safe) <= _LONGEST_SHOWN else safe[: _LONGEST_SHOWN - 1] + "…"


def quoted(text: object) -> str:
    """The same in quotes, so that one sees where the value begins and ends."""
    safe = printable(text)
    return f'"{safe}"' if "'" in safe else f"'{safe}'"


def dotted(path: KeyPath) -> str:
    """``("tenant", "dns", 1)`` as ``tenant.dns[1]``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = printable(key) if _PLAIN_KEY.fullmatch(key) else f'"{printable(key)}"'
            text += f".{name}" if text else name
    return text


def choices_of(expected: str) -> list[str]:
    """The values in pydantic's list of those it expects: ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", expected)


def either(choices: Sequence[str]) -> str:
    """The choices as text: ``a, b or c``."""
    *others, last = choices
    return tr("{names} or {last}", names=tr_list(others), last=last) if others else last


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    # A very long word is no typing mistake, and difflib takes quadratic time.
    if len(word) > _LONGEST_SHOWN:
        return None
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None
