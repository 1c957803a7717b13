"""What all consoles draw with: parts of lessons, findings, errors and steps as styled lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from labctl.engine.events import Note, Outcome, RunFinished, RunStarted, StepFinished
from labctl.i18n import tr
from labctl.terminal.fit import fit_command, fit_output
from labctl.terminal.text import (
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


class BaseConsole(ABC):
    """How the parts of a lesson and the ends of steps look, as styled lines.

    The plain and the live console share it. They differ in how a line is printed, and in what
    they show while a step runs.
    """

    quiet: bool = False
    _after_silent_command = False
    """Whether the last thing printed is a command that has printed no output."""

    @property
    @abstractmethod
    def width(self) -> int | None:
        """Cells in a line of the terminal; None where lines have no end, as in a pipe."""

    @abstractmethod
    def close(self) -> None:
        """See `Console.close`."""

    @abstractmethod
    def verbatim(self, lines: Sequence[Line]) -> None:
        """Prints sanitized lines as they are; the terminal breaks those that are too long."""

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
            # Longer lines than 100 cells are hard to read.
            self.verbatim([*paragraphs(text, min(self.width or 80, 100)), ()])

    def command(self, command: str, prompt: str = "$") -> None:
        if not self.quiet:
            self._write_command(f"{one_line(prompt)} ", sanitize(command.rstrip()))
            self._after_silent_command = True

    def output(self, text: str) -> None:
        if not text.strip() or self.quiet:
            return
        self._after_silent_command = False
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
        blank: list[Line] = [()] if self._after_silent_command else []
        self._after_silent_command = False
        self.write([*blank, *lines, *_details(details, indent=4)])

    def finding(
        self,
        level: MarkLevel,
        text: str,
        *,
        impact: str = "",
        fix: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        if self.quiet and level in ("ok", "note"):
            return
        mark, style = _LEVELS[level]
        self.write([(Span(f"  {mark} ", style), Span(one_line(text)))])
        if impact:
            self.write([(Span("    "), Span(one_line(impact), "dim"))])
        if fix:
            self.write([(Span("    → "), Span(one_line(fix)))])
        for command in commands:
            self._write_command("      $ ", one_line(command))

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

    def _write_command(self, prompt: str, command: str) -> None:
        width = self.width
        lines = command.split("\n")
        if width is not None:
            continuation = len(prompt) - len(prompt.lstrip()) + 2
            lines = fit_command(command, width, cell_width(prompt), continuation)
        spans = [(Span(line, "bold"),) for line in lines]
        self.verbatim([(Span(prompt, "prompt"), *spans[0]), *spans[1:]])

    def _unless_quiet(self, lines: Sequence[Line]) -> None:
        if not self.quiet:
            self.write(lines)


def _lines(text: str, style: Style = "plain") -> list[Line]:
    return [(Span(line, style),) for line in sanitize(text).split("\n")]


MarkLevel = Literal["ok", "note", "warning", "error"]
"""What the mark in front of a finding stands for."""

_LEVELS: Mapping[MarkLevel, tuple[str, Style]] = {
    "ok": ("✓", "ok"),
    "note": ("·", "dim"),
    "warning": ("!", "warn"),
    "error": ("✗", "bad"),
}


def _mark(ok: bool, indent: str = "") -> Span:
    return Span(f"{indent}✓ ", "ok") if ok else Span(f"{indent}✗ ", "bad")


def _details(pairs: Sequence[tuple[str, str]], indent: int) -> list[Line]:
    """Labelled values in a column; further lines of a value are aligned with its first."""
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
    """Why a step failed, its hint and its log: the lines printed below the step's own line."""
    reasons: list[Line] = [
        (Span("    "), *line)
        for line in _lines((event.detail or "").strip(), "bad")
        if line[0].text
    ]
    return [*reasons, *_details([(tr("hint"), event.hint or ""), (tr("log"), event.log or "")], 4)]


def note_line(event: Note) -> Line:
    """A note as one line; a warning or an error begins with that word."""
    if event.level == "info":
        return (Span(one_line(event.message)),)
    if event.level == "error":
        return (Span(tr("error: "), "bad"), Span(one_line(event.message), "bad"))
    return (Span(tr("warning: "), "warn"), Span(one_line(event.message)))


class Tally:
    """Counts the steps of a run by outcome, for the last line of the run."""

    def __init__(self, started: RunStarted) -> None:
        self.title = one_line(started.title)
        self.total = len(started.steps)
        self._counts: dict[Outcome, int] = {"done": 0, "already": 0, "failed": 0, "skipped": 0}

    def add(self, event: StepFinished) -> None:
        """Counts the end of a step."""
        self._counts[event.outcome] += 1

    @property
    def failed(self) -> bool:
        """Whether a step failed: no more steps start then."""
        return self._counts["failed"] > 0

    @property
    def completed(self) -> int:
        """Number of steps that are done, in this run or earlier."""
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
