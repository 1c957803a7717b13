"""What people see of the work: a subscriber of events, and the page a lesson is shown on.

`make_console` chooses. `PlainConsole` is here and knows no terminal; the live display with
its spinners is in `live.py`, so that rich is imported only where a terminal will show it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

from labctl.engine.events import (
    Event,
)
from labctl.terminal.page import Level
from labctl.terminal.plain import PlainConsole
from labctl.terminal.text import (
    Line,
)


class Console(Protocol):
    """A subscriber of events that can also show the parts of a lesson.

    All text may come from a guest or a lab.yaml: none of it can command the terminal.
    """

    def __call__(self, event: Event) -> None: ...

    @property
    def width(self) -> int | None:
        """Cells in a line of the terminal; None where lines have no end, as in a pipe."""

    def write(self, lines: Sequence[Line]) -> None:
        """Sanitized lines in styles, broken between words where the terminal ends."""

    def heading(self, text: str) -> None:
        """A title above what follows."""

    def say(self, text: str = "") -> None:
        """One line as it is; an empty one parts things."""

    def explain(self, text: str) -> None:
        """Paragraphs, with `code`, **bold** and "- " items; wrapped."""

    def command(self, command: str, prompt: str = "$") -> None:
        """A command as it is typed, e.g. with the prompt "network-controller#"."""

    def output(self, text: str) -> None:
        """What a command printed, every line of it."""

    def claim(
        self, ok: bool, text: str, *, evidence: str = "", expected: str = "", seen: str = ""
    ) -> None:
        """Whether a claim holds and how that is known; if not, what was expected and seen."""

    def finding(
        self,
        level: Level,
        text: str,
        *,
        breaks: str = "",
        mend: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        """What was found about the host: what is so, what it breaks, what to do and to type."""

    def summary(self, ok: bool, text: str) -> None:
        """The last line: how it went."""

    def error(self, message: str, hint: str = "", log: str = "") -> None:
        """Why the work ends here, and what to do."""

    def close(self) -> None:
        """Leaves the terminal as it was; also on the way out of `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_console(
    *,
    quiet: bool = False,
    json: bool = False,
    no_color: bool = False,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    env: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Console:
    """The console for these options and this terminal.

    With `json` it writes to stderr, so that stdout holds the JSON alone. Live only where a
    terminal can show it: a tty that is not dumb, in UTF-8, without NO_COLOR (if not empty).
    `clock` counts seconds, for the times that are shown.
    """
    env = os.environ if env is None else env
    stream = (stderr or sys.stderr) if json else (stdout or sys.stdout)
    plain = quiet or no_color or bool(env.get("NO_COLOR")) or env.get("TERM", "") in ("", "dumb")
    utf8 = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    if plain or not utf8 or not stream.isatty():
        columns = shutil.get_terminal_size((80, 24)).columns if stream.isatty() else None
        return PlainConsole(stream, quiet=quiet, width=columns, clock=clock)
    from labctl.terminal.live import LiveConsole

    return LiveConsole(stream, clock=clock)
