"""The console: it shows the events of the work, and the parts of a lesson, to people.

`make_console` chooses between the plain console (plain.py) and the live one with its spinners
(live.py). Only the live one needs rich, which is imported only for it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

from labctl.engine.events import Event
from labctl.terminal.page import MarkLevel
from labctl.terminal.plain import PlainConsole
from labctl.terminal.text import Line


class Console(Protocol):
    """A subscriber of events that can also show the parts of a lesson.

    Text may come from a guest or a lab.yaml; control sequences in it never reach the terminal.
    """

    def __call__(self, event: Event) -> None: ...

    @property
    def width(self) -> int | None:
        """Cells in a line of the terminal; None where lines may have any length, as in a pipe."""

    def write(self, lines: Sequence[Line]) -> None:
        """Prints sanitized, styled lines, broken between words at the width of the terminal."""

    def heading(self, text: str) -> None:
        """A title above what follows."""

    def say(self, text: str = "") -> None:
        """Prints a text; without one, a blank line."""

    def explain(self, text: str) -> None:
        """Prints wrapped paragraphs that may hold `code`, **bold** and "- " items."""

    def command(self, command: str, prompt: str = "$") -> None:
        """Prints a command behind a prompt, such as "network-controller#"."""

    def output(self, text: str) -> None:
        """Prints the output of a command, all of its lines."""

    def claim(
        self, ok: bool, text: str, *, evidence: str = "", expected: str = "", seen: str = ""
    ) -> None:
        """Prints whether a claim holds, with evidence; if not, what was expected and seen."""

    def finding(
        self,
        level: MarkLevel,
        text: str,
        *,
        impact: str = "",
        fix: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        """What was found about the host: what is so, what it breaks, what to do and to type."""

    def summary(self, ok: bool, text: str) -> None:
        """Prints the result, as the last line."""

    def error(self, message: str, hint: str = "", log: str = "") -> None:
        """Prints why the command failed, what to do, and the log to read."""

    def close(self) -> None:
        """Restores the terminal; leaving the `with` block does it too."""

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

    With `json` it writes to stderr, so that stdout holds nothing but the JSON. The live console
    needs a terminal that can show it: a tty, TERM not empty or "dumb", UTF-8, and NO_COLOR empty
    or unset. `clock` counts seconds, for the times that are shown.
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
