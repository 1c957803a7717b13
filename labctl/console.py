"""What people see of the work: a subscriber of events, and the page a lesson is shown on.

`make_console` chooses. `PlainConsole` is here and knows no terminal; the live display with
its spinners is in `live.py`, so that rich is imported only where a terminal will show it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

from labctl.engine.events import (
    Event,
    Note,
    Outcome,
    OutputLine,
    RunFinished,
    RunForecast,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from labctl.i18n import tr
from labctl.prose import (
    Line,
    Span,
    Style,
    cell_width,
    duration,
    hang,
    one_line,
    pad,
    paragraphs,
    sanitize,
)
from labctl.reflow import fit_command, fit_output


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


class Page(ABC):
    """How the parts of a lesson and the ends of steps look, as styled lines.

    What both consoles have in common; they differ in how a line reaches the screen
    and in what they show while a step runs.
    """

    quiet: bool = False
    _below_command = False
    """Whether a command that said nothing is the last thing on the page."""

    @property
    @abstractmethod
    def width(self) -> int | None:
        """Cells in a line of the terminal; None where lines have no end, as in a pipe."""

    @abstractmethod
    def close(self) -> None:
        """See `Console.close`."""

    @abstractmethod
    def verbatim(self, lines: Sequence[Line]) -> None:
        """Prints sanitized lines as they are; a terminal may break them where it likes."""

    def write(self, lines: Sequence[Line]) -> None:
        """Prints sanitized lines, broken between words where the terminal ends."""
        width = self.width
        if width is not None:
            lines = [part for line in lines for part in hang(line, width)]
        self.verbatim(lines)

    def heading(self, text: str) -> None:
        self._unless_quiet([(), (Span(one_line(text), "bold"),)])

    def say(self, text: str = "") -> None:
        self._unless_quiet(_lines(text))

    def explain(self, text: str) -> None:
        if not self.quiet:
            # A page of text is read most easily at no more than 100 cells.
            self.verbatim([*paragraphs(text, min(self.width or 80, 100)), ()])

    def command(self, command: str, prompt: str = "$") -> None:
        if not self.quiet:
            self._typed(f"{one_line(prompt)} ", sanitize(command.rstrip()))
            self._below_command = True

    def output(self, text: str) -> None:
        if not text.strip() or self.quiet:
            return
        self._below_command = False
        clean, width = sanitize(text.rstrip()), self.width
        lines = clean.split("\n") if width is None else fit_output(clean, width)
        self.verbatim([*((Span(line),) for line in lines), ()])

    def claim(
        self, ok: bool, text: str, *, evidence: str = "", expected: str = "", seen: str = ""
    ) -> None:
        if ok and self.quiet:
            return
        lines: list[Line] = [(_mark(ok, "  "), Span(one_line(text), "plain" if ok else "bad"))]
        details = [(tr("evidence"), evidence)]
        if not ok:
            details = [(tr("expected"), expected), (tr("seen"), seen), *details]
        blank: list[Line] = [()] if self._below_command else []
        self._below_command = False
        self.write([*blank, *lines, *_details(details, indent=4)])

    def finding(
        self,
        level: Level,
        text: str,
        *,
        breaks: str = "",
        mend: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        if self.quiet and level in ("ok", "note"):
            return
        mark, style = _LEVELS[level]
        self.write([(Span(f"  {mark} ", style), Span(one_line(text)))])
        if breaks:
            self.write([(Span("    "), Span(one_line(breaks), "dim"))])
        if mend:
            self.write([(Span("    → "), Span(one_line(mend)))])
        for command in commands:
            self._typed("      $ ", one_line(command))

    def summary(self, ok: bool, text: str) -> None:
        self.write([(), (_mark(ok), Span(one_line(text), "bold" if ok else "bad"))])

    def error(self, message: str, hint: str = "", log: str = "") -> None:
        first, *more = _lines(message.strip(), "bad")
        self.write(
            [
                (_mark(False), *first),
                *((Span("  "), *line) for line in more),
                *_details([(tr("hint"), hint), (tr("log"), log)], indent=2),
            ]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _typed(self, lead: str, command: str) -> None:
        width = self.width
        lines = command.split("\n")
        if width is not None:
            hang = len(lead) - len(lead.lstrip()) + 2
            lines = fit_command(command, width, cell_width(lead), hang)
        spans = [(Span(line, "bold"),) for line in lines]
        self.verbatim([(Span(lead, "prompt"), *spans[0]), *spans[1:]])

    def _unless_quiet(self, lines: Sequence[Line]) -> None:
        if not self.quiet:
            self.write(lines)


def _lines(text: str, style: Style = "plain") -> list[Line]:
    return [(Span(line, style),) for line in sanitize(text).split("\n")]


Level = Literal["ok", "note", "warning", "error"]
_LEVELS: Mapping[Level, tuple[str, Style]] = {
    "ok": ("✓", "ok"),
    "note": ("·", "dim"),
    "warning": ("!", "warn"),
    "error": ("✗", "bad"),
}


def _mark(ok: bool, indent: str = "") -> Span:
    return Span(f"{indent}✓ ", "ok") if ok else Span(f"{indent}✗ ", "bad")


def _details(pairs: Sequence[tuple[str, str]], indent: int) -> list[Line]:
    """Labelled values in a column; more lines of a value stand below its first."""
    shown = [(label, value.strip()) for label, value in pairs if value.strip()]
    column = max((cell_width(label) for label, _ in shown), default=0)
    lines: list[Line] = []
    for label, value in shown:
        lead = " " * indent + pad(label, column) + "  "
        for number, line in enumerate(sanitize(value).split("\n")):
            lines.append(
                (Span(lead if number == 0 else pad("", column + indent + 2), "dim"), Span(line))
            )
    return lines


def failure_details(event: StepFinished) -> list[Line]:
    """Why a step failed, its hint and its log, to stand below the step's own line."""
    why: list[Line] = [
        (Span("    "), *line)
        for line in _lines((event.detail or "").strip(), "bad")
        if line[0].text
    ]
    return [*why, *_details([(tr("hint"), event.hint or ""), (tr("log"), event.log or "")], 4)]


def note_line(event: Note) -> Line:
    """A note as one line, its level in front unless it is mere information."""
    if event.level == "info":
        return (Span(one_line(event.message)),)
    if event.level == "error":
        return (Span(tr("error: "), "bad"), Span(one_line(event.message), "bad"))
    return (Span(tr("warning: "), "warn"), Span(one_line(event.message)))


class Tally:
    """What a run amounts to, from its events; the words of its last line."""

    def __init__(self, started: RunStarted) -> None:
        self.title = one_line(started.title)
        self.total = len(started.steps)
        self._counts: dict[Outcome, int] = {"done": 0, "already": 0, "failed": 0, "skipped": 0}

    def add(self, event: StepFinished) -> None:
        """Counts the end of a step."""
        self._counts[event.outcome] += 1

    @property
    def failed(self) -> bool:
        """Whether a step failed, so that nothing more will start."""
        return self._counts["failed"] > 0

    @property
    def over(self) -> int:
        """Steps that are done, now or before."""
        return self._counts["done"] + self._counts["already"]

    def line(self, event: RunFinished) -> Line:
        """How the run went, e.g. "✓ Create lab · 31 done · 2m 05s"."""
        words = {
            "done": tr("{n} done", n=self._counts["done"]),
            "already": tr("{n} already done", n=self._counts["already"]),
            "failed": tr("{n} failed", n=self._counts["failed"]),
            "skipped": tr("{n} skipped", n=self._counts["skipped"]),
        }
        parts = [words[outcome] for outcome, count in self._counts.items() if count]
        if not event.ok and not self._counts["failed"]:
            parts.insert(0, tr("interrupted"))
        text = " · ".join([*filter(None, [self.title]), *parts, duration(event.seconds)])
        return (_mark(event.ok), Span(text, "bold" if event.ok else "bad"))


class PlainConsole(Page):
    """Plain lines for pipes, logs, NO_COLOR and --quiet: no escapes, nothing rewritten.

    The time in front is since the start of the run, as in a kernel log. `quiet` keeps
    failures, warnings, claims that do not hold, and summaries.
    """

    # One line per step in this many seconds shows CI that a long step is alive.
    progress_every = 15.0

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quiet = quiet
        self._width = width
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._tally: Tally | None = None
        self._names: dict[str, str] = {}
        self._spoke: dict[str, float] = {}
        self._broken = False

    @property
    def width(self) -> int | None:
        return self._width

    def close(self) -> None:
        """Nothing to restore: nothing was ever redrawn."""

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._began = self._clock()
                self._tally = Tally(event)
                if event.title:
                    self.heading(event.title)
            case StepStarted():
                name = one_line(event.title)
                self._names[event.id] = f"{name} ({one_line(event.node)})" if event.node else name
                self._spoke[event.id] = self._clock()
                self._unless_quiet([self._line(tr("started"), event.id)])
            case StepProgress():
                self._progress(event)
            case StepFinished():
                self._finished(event)
            case RunFinished():
                if self._tally and not (self.quiet and event.ok):
                    self.write([self._tally.line(event)])
                self._tally = None
            case Note():
                if event.level != "info" or not self.quiet:
                    self.write([note_line(event)])
            case RunForecast() | OutputLine():
                pass  # an estimate would not stay true on a line that stays; output is logged

    def _progress(self, event: StepProgress) -> None:
        now = self._clock()
        if now - self._spoke.get(event.id, 0.0) >= self.progress_every:
            self._spoke[event.id] = now
            line = self._line(tr("running"), event.id, f": {one_line(event.message)}")
            self._unless_quiet([line])

    def _finished(self, event: StepFinished) -> None:
        if self._tally:
            self._tally.add(event)
        if event.outcome == "failed":
            self.write([self._line(tr("failed"), event.id, f"  {duration(event.seconds)}")])
            self.write(failure_details(event))
        elif event.outcome == "done":
            line = self._line(tr("done"), event.id, f"  {duration(event.seconds)}")
            self._unless_quiet([line])
        elif event.outcome == "already":
            self._unless_quiet([self._line(tr("already"), event.id)])
        # What was skipped is counted in the last line; thirty lines of it would hide the failure.

    def _line(self, word: str, id: str, rest: str = "") -> Line:
        elapsed = f"{self._clock() - self._began:.1f}s"
        name = self._names.get(id, one_line(id))
        return (Span(f"[{elapsed:>8}] {pad(word, 8)} "), Span(f"{name}{rest}"))

    def verbatim(self, lines: Sequence[Line]) -> None:
        text = "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines)
        if self._broken:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except BrokenPipeError:
            # `labctl create | head`: the reader has seen enough, the lab is still wanted.
            self._broken = True


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
    from labctl.live import LiveConsole

    return LiveConsole(stream, clock=clock)
