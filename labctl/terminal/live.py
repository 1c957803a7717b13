"""The console for a terminal: running steps at the bottom, everything else scrolls above them.

It imports rich, so only `make_console` imports it, when it is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import rich.console
from rich.console import ConsoleRenderable, RenderableType
from rich.live import Live
from rich.text import Text

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
from labctl.terminal.page import BaseConsole, Tally, failure_details, note_line
from labctl.terminal.text import Line, Span, Style, cell_width, duration, fold, one_line, pad

# Of the eight standard colours, magenta and red are readable on white and on black in the usual
# themes. Green and yellow are too pale on white for sentences: only marks have them.
_STYLES: dict[Style, str] = {
    "plain": "",
    "bold": "bold",
    "dim": "dim",
    "ok": "green",
    "bad": "red",
    "warn": "yellow",
    "code": "magenta",
    "prompt": "magenta",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TIME_CELLS = 7
"""Width of the column of times: "59m 59s", "already"."""
_NARROWEST = 20
"""Cells that the title of a step has at least, however narrow the terminal."""


@dataclass(frozen=True)
class _Running:
    """A step that is running, as its line shows it."""

    title: str
    node: str
    since: float
    """On the console's clock, in seconds."""
    estimate_s: float | None
    progress: str = ""
    output: str = ""


class _Region(Live):
    """The lines at the bottom, redrawn correctly even when the window becomes narrower.

    Most terminals wrap the lines again then: they take more rows than rich has counted, and rich
    alone would not clear all of them.
    """

    _last_drawn: tuple[int, tuple[int, ...]] = (0, ())
    """The window's width and the cells of each line when they were last drawn."""
    _last_text: Sequence[str] = ()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What rich prints: it clears our rows, prints what is new, then our lines."""
        width, (before, lines) = self.console.width, self._last_drawn
        if 0 < width < before and self._live_render._shape is not None:
            rows = sum(max(1, -(-cells // width)) for cells in lines)
            self._live_render._shape = (width, rows)
        printed = super().process_renderables(renderables)
        self._last_drawn = (width, tuple(min(cell_width(line), width) for line in self._last_text))
        return printed

    def get_renderable(self) -> RenderableType:
        """What to draw next."""
        renderable = super().get_renderable()
        self._last_text = str(renderable).split("\n")
        return renderable


class LiveConsole(BaseConsole):
    """One line for each running step, redrawn; finished steps and lessons scroll above them.

    `width` is in cells, and for tests; without it the terminal's is used.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rich = rich.console.Console(
            file=stream,
            width=width,
            force_terminal=True,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._clock = clock
        self._live: _Region | None = None
        self._tally: Tally | None = None
        self._began = 0.0
        self._forecast: tuple[float, float] | None = None
        """Remaining seconds, and when on our clock that was estimated."""
        self._estimates: dict[str, float | None] = {}
        # Replaced as a whole and never changed, for rich's refresh thread reads it at any time.
        # A lock instead could deadlock with rich's own, which is held while it prints.
        self._running: dict[str, _Running] = {}

    @property
    def width(self) -> int:
        return self._rich.width

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._start(event)
            case RunForecast():
                remaining = event.remaining_s
                self._forecast = None if remaining is None else (remaining, self._clock())
            case StepStarted():
                estimate = self._estimates.get(event.id)
                title, node = one_line(event.title), one_line(event.node or "")
                step = _Running(title, node, self._clock(), estimate)
                self._running = {**self._running, event.id: step}
            case StepProgress():
                self._update(event.id, progress=one_line(event.message))
            case OutputLine():
                if output := one_line(event.text):
                    self._update(event.step_id, output=output)
            case StepFinished():
                self._finished(event)
            case Note():
                self.write([note_line(event)])
            case RunFinished():
                self.close()
                if self._tally:
                    self.write([self._tally.line(event)])
                self._tally = None

    def verbatim(self, lines: Sequence[Line]) -> None:
        if lines:
            # Soft wrap: the terminal breaks long lines itself, so that they are copied whole.
            self._scroll(Text("\n").join(_rich_text(line) for line in lines))

    def close(self) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()

    def _start(self, event: RunStarted) -> None:
        self.close()
        self._tally = Tally(event)
        self._began = self._clock()
        self._running = {}
        self._estimates = {step.id: step.estimate_s for step in event.steps}
        if event.title:
            self.heading(event.title)
        self._live = _Region(
            console=self._rich,
            get_renderable=self._render,
            refresh_per_second=10,
            transient=True,
            # rich must not redirect them: stdout may carry JSON while this draws on stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _update(self, id: str, *, progress: str | None = None, output: str | None = None) -> None:
        if step := self._running.get(id):
            if progress is not None:
                step = replace(step, progress=progress)
            if output is not None:
                step = replace(step, output=output)
            self._running = {**self._running, id: step}

    def _finished(self, event: StepFinished) -> None:
        if self._tally:
            self._tally.add(event)
        step = self._running.get(event.id)
        self._running = {id: running for id, running in self._running.items() if id != event.id}
        if step is None:
            return  # it never started: only the last line counts it
        took = duration(event.seconds)
        ends: dict[Outcome, tuple[Span, str, Style]] = {
            "done": (Span("✓", "ok"), took, "plain"),
            "already": (Span("✓", "dim"), tr("already"), "dim"),
            "failed": (Span("✗", "bad"), took, "bad"),
            "skipped": (Span("-", "warn"), took, "plain"),
        }
        mark, time_text, style = ends[event.outcome]
        mark, time_span, *words = self._step_line(mark, time_text, step, style)
        if event.outcome == "skipped" and event.detail:
            words.append(Span(f"  {one_line(event.detail)}"))
        lead = cell_width(mark.text + time_span.text)
        first, *more = fold(words, max(self.width - lead, _NARROWEST))
        lines = [(mark, time_span, *first), *((Span(" " * lead), *line) for line in more)]
        self._scroll(Text("\n").join(self._cropped(_rich_text(line)) for line in lines))
        if event.outcome == "failed":
            self.write(failure_details(event))

    def _step_line(self, mark: Span, time_text: str, step: _Running, style: Style) -> list[Span]:
        spans = [mark, Span(f" {pad(time_text, _TIME_CELLS, right=True)}  ", "dim")]
        spans.append(Span(step.title, style))
        if step.node:
            spans.append(Span(tr("  ({node})", node=step.node), "dim"))
        return spans

    def _cropped(self, text: Text) -> Text:
        # The line is folded at spaces already: this cuts only a word that is too long.
        text.truncate(self.width, overflow="ellipsis")
        return text

    def _scroll(self, text: Text) -> None:
        if self._live:
            # print() draws the region again as it was; refresh it first, or a step would be shown
            # as running below the line that says how it ended.
            self._live.refresh()
        self._rich.print(text, soft_wrap=True)

    def _render(self) -> Text:
        """The region at the bottom: running steps, then the footer. No line of it wraps."""
        now = self._clock()
        steps = list(self._running.values())
        room = max(1, self._rich.height - 2)
        lines = [self._running_line(step, now) for step in steps[:room]]
        lines.append(self._footer(now))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _running_line(self, step: _Running, now: float) -> Text:
        mark = Span(_SPINNER[int(now * 10) % len(_SPINNER)], "code")
        line = _rich_text(self._step_line(mark, duration(now - step.since), step, "plain"))
        if step.estimate_s is not None:
            line.append(f"  ~{_rough(step.estimate_s)}", "dim")
        if detail := step.progress or step.output:
            line.append(f"  {detail}", "dim")
        return line

    def _footer(self, now: float) -> Text:
        parts = [duration(now - self._began)]
        if self._tally:
            parts.insert(0, f"{self._tally.completed}/{self._tally.total}")
        if self._tally and self._tally.failed:
            parts.append(tr("failed; waiting for what is running"))
        elif self._forecast:
            remaining, forecast_at = self._forecast
            left = max(0.0, remaining - (now - forecast_at))
            parts.append(tr("about {time} left", time=_rough(left)))
        return Text("  " + " · ".join(parts), "bold")


def _rough(seconds: float) -> str:
    """An estimate as text, in whole seconds: it is not more precise."""
    return duration(seconds) if seconds >= 60 else f"{seconds:.0f}s"


def _rich_text(line: Sequence[Span]) -> Text:
    text = Text()
    for span in line:
        text.append(span.text, _STYLES[span.style])
    return text
