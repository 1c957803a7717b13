"""The display on a terminal: running steps at the bottom, everything else scrolling above.

Imports rich; only `make_console` imports this.
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
from labctl.terminal.page import Page, Tally, failure_details, note_line
from labctl.terminal.text import Line, Span, Style, cell_width, duration, fold, one_line, pad

# Of the eight colours every terminal has, magenta and red are readable as text on white and on
# black in the usual themes. Green and yellow are pale on white: they colour marks, not sentences.
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
_TIME_CELLS = 7  # "59.9s", "59m 59s", "already"
_NARROWEST = 20


@dataclass(frozen=True)
class _Running:
    title: str
    node: str
    since: float
    estimate_s: float | None
    progress: str = ""
    output: str = ""


class _Region(Live):
    """The lines at the bottom, also when the window becomes narrower while they are there.

    Most terminals then break them anew: they take more rows than rich remembers, and without this
    rich would leave what it does not know of.
    """

    _drawn: tuple[int, tuple[int, ...]] = (0, ())
    """The window's width and the cells of each line, when they were drawn the last time."""
    _text: Sequence[str] = ()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What rich prints: from the first of our rows down, whatever is new, then our lines."""
        width, (before, lines) = self.console.width, self._drawn
        if 0 < width < before and self._live_render._shape is not None:
            rows = sum(max(1, -(-cells // width)) for cells in lines)
            self._live_render._shape = (width, rows)
        printed = super().process_renderables(renderables)
        self._drawn = (width, tuple(min(cell_width(line), width) for line in self._text))
        return printed

    def get_renderable(self) -> RenderableType:
        """What is drawn the next time."""
        now = super().get_renderable()
        self._text = str(now).split("\n")
        return now


class LiveConsole(Page):
    """One line per running step, redrawn; finished steps and lessons scroll past above it.

    `width` in cells overrides the terminal's, for tests.
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
        self._forecast: tuple[float, float] | None = None  # remaining seconds, said when
        self._estimates: dict[str, float | None] = {}
        # Replaced, never changed: rich's refresh thread reads it at any time, and a lock held
        # while printing would meet rich's own the other way round.
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
                if said := one_line(event.text):
                    self._update(event.step_id, output=said)
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
            # Soft: the terminal breaks what is too long, so that it is copied in one piece.
            self._scroll(Text("\n").join(_text(line) for line in lines))

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
            # Left alone: stdout may be carrying JSON while this draws on stderr.
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
        self._running = {id: each for id, each in self._running.items() if id != event.id}
        if step is None:
            return  # never started; counted in the last line
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
        lines = [(mark, time_span, *first), *((Span(" " * lead), *one) for one in more)]
        self._scroll(Text("\n").join(self._cropped(_text(line)) for line in lines))
        if event.outcome == "failed":
            self.write(failure_details(event))

    def _step_line(self, mark: Span, time_text: str, step: _Running, style: Style) -> list[Span]:
        spans = [mark, Span(f" {pad(time_text, _TIME_CELLS, right=True)}  ", "dim")]
        spans.append(Span(step.title, style))
        if step.node:
            spans.append(Span(f"  ({step.node})", "dim"))
        return spans

    def _cropped(self, text: Text) -> Text:
        # Only what has no blank to be broken at.
        text.truncate(self.width, overflow="ellipsis")
        return text

    def _scroll(self, text: Text) -> None:
        if self._live:
            # Printing repeats the region as it was last drawn; a step must not be shown as
            # running below the line of its end.
            self._live.refresh()
        self._rich.print(text, soft_wrap=True)

    def _render(self) -> Text:
        """The region that is redrawn: running steps, then the footer; no line ever wraps."""
        now = self._clock()
        steps = list(self._running.values())
        room = max(1, self._rich.height - 2)
        lines = [self._running_line(step, now) for step in steps[:room]]
        lines.append(self._footer(now))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _running_line(self, step: _Running, now: float) -> Text:
        mark = Span(_SPINNER[int(now * 10) % len(_SPINNER)], "code")
        line = _text(self._step_line(mark, duration(now - step.since), step, "plain"))
        if step.estimate_s is not None:
            line.append(f"  ~{_rough(step.estimate_s)}", "dim")
        if said := step.progress or step.output:
            line.append(f"  {said}", "dim")
        return line

    def _footer(self, now: float) -> Text:
        parts = [duration(now - self._began)]
        if self._tally:
            parts.insert(0, f"{self._tally.over}/{self._tally.total}")
        if self._tally and self._tally.failed:
            parts.append(tr("failed; waiting for what is running"))
        elif self._forecast:
            remaining, said = self._forecast
            left = max(0.0, remaining - (now - said))
            parts.append(tr("about {time} left", time=_rough(left)))
        return Text("  " + " · ".join(parts), "bold")


def _rough(seconds: float) -> str:
    """An estimate: whole seconds, for it is not worth more."""
    return duration(seconds) if seconds >= 60 else f"{seconds:.0f}s"


def _text(line: Sequence[Span]) -> Text:
    text = Text()
    for span in line:
        text.append(span.text, _STYLES[span.style])
    return text
