"""The console for pipes, logs and CI: plain lines, no terminal needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TextIO

from labctl.engine.events import (
    Event,
    Note,
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
from labctl.terminal.text import Line, Span, duration, one_line, pad


class PlainConsole(BaseConsole):
    """Plain lines for pipes, logs, NO_COLOR and --quiet: no escapes, nothing rewritten.

    Each line begins with the time since the start of the run, as in a kernel log. With `quiet`
    only failures, warnings, claims that do not hold, and summaries are printed.
    """

    progress_every = 15.0
    """Seconds between two progress lines of a step: enough to see in a CI log that it runs."""

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
        self._last_line_at: dict[str, float] = {}
        self._broken = False

    @property
    def width(self) -> int | None:
        return self._width

    def close(self) -> None:
        """Does nothing: a plain console changes nothing about the terminal."""

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._began = self._clock()
                self._tally = Tally(event)
                if event.title:
                    self.heading(event.title)
            case StepStarted():
                name = one_line(event.title)
                if event.node:
                    name = tr("{text} ({detail})", text=name, detail=one_line(event.node))
                self._names[event.id] = name
                self._last_line_at[event.id] = self._clock()
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
                pass  # a printed estimate would soon be wrong; output is in the step's log

    def _progress(self, event: StepProgress) -> None:
        now = self._clock()
        if now - self._last_line_at.get(event.id, 0.0) >= self.progress_every:
            self._last_line_at[event.id] = now
            line = self._line(tr("running"), event.id, tr(": ") + one_line(event.message))
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
        # No line for a skipped step: dozens of them would hide the failure. The last line counts
        # them.

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
            # `labctl create | head`: nobody reads any more, but the lab is still to be made.
            self._broken = True
