"""What is wrong with a lab.yaml, said so that a learner can mend it.

One :class:`Problem` is one line on the terminal; :class:`SpecError` carries all of them at once,
because mending a file one error at a time is what people remember about bad tools.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

Path = tuple[str | int, ...]
"""Where a value stands in lab.yaml: keys of mappings (str) and positions in lists (int)."""

_LONGEST_SHOWN = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and how to mend it."""

    file: str
    line: int
    """Counted from 1; 0 when the problem is the file itself (missing, unreadable)."""
    path: str
    """Dotted path of the value, as in ``nodes.compute-01.eth1``; empty for the whole file."""
    message: str
    mend: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f"{place}: {self.path}" if self.path else place
        # The place stays as editors know it, whatever the language.
        return f"{where}: {self.message}" + (f"{tr('; ')}{self.mend}" if self.mend else "")


class SpecError(LabError):
    """lab.yaml cannot be used; ``problems`` says why, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), code=EXIT_USAGE)


def shown(text: object) -> str:
    """A value from the file, fit to stand in a message: short, and without control characters."""
    # A terminal obeys escape sequences, and lone surrogates cannot be encoded: neither gets out.
    safe = "".join(
        c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: _LONGEST_SHOWN + 1]
    )
    return safe if len(safe) <= _LONGEST_SHOWN else safe[: _LONGEST_SHOWN - 1] + "…"


def quoted(text: object) -> str:
    """The same in quotes, for text whose ends should be seen."""
    safe = shown(text)
    return f'"{safe}"' if "'" in safe else f"'{safe}'"


def dotted(path: Path) -> str:
    """``("tenant", "dns", 1)`` as ``tenant.dns[1]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = shown(step) if _PLAIN_KEY.fullmatch(step) else f'"{shown(step)}"'
            text += f".{key}" if text else key
    return text


def choices_of(expected: str) -> list[str]:
    """The words in what pydantic expects: ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", expected)


def either(choices: Sequence[str]) -> str:
    """The choices as a sentence lists them: ``a, b or c``."""
    *others, last = choices
    return tr("{names} or {last}", names=", ".join(others), last=last) if others else last


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    # Long garbage resembles nothing, and difflib is quadratic.
    if len(word) > _LONGEST_SHOWN:
        return None
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None
