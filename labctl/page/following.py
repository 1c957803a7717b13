"""The lesson's state for the page, whoever changes it: the page, or a labctl in a terminal.

What a labctl of another process does is seen by the files that it writes: the position in the
lessons, and the log of events. Looking at the two takes some microseconds.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from labctl.errors import LabError
from labctl.lab import Lab
from labctl.lessons.progress import read_position
from labctl.page.snapshots import snapshots_shown
from labctl.page.work import Message, PageConsole, Publish, Work, cleaned
from labctl.terminal.text import one_line, sanitize

MOST_READ = 256 << 10
"""Bytes of the event log that are read at once; what another labctl printed before is left out."""
SECONDS_WITHOUT = 5.0
"""From the end of a lesson to telling the pages, if another process does it: it may be a reset."""
_SHOWN = ("run_started", "step_started", "step_finished", "run_finished", "note")
"""Events of another labctl that the page shows."""


class Following:
    """Publishes the lesson when it changes, and what a labctl of another process does."""

    def __init__(self, lab: Callable[[], Lab], work: Work, publish: Publish) -> None:
        self._lab = lab
        self._work = work
        self._publish = publish
        self._seen: tuple[object, ...] = ()
        self._seen_snapshots: tuple[object, ...] = ()
        self._offset: int | None = None
        self._seen_ended = 0
        self._previewing = threading.Lock()
        self._has_lesson = False
        self._without_since: float | None = None
        """Since when there is no lesson any more, which the pages were not told yet."""

    def look(self) -> None:
        """Publish what is new since the last look. Called again and again, by one thread."""
        lab = self._lab()
        self._follow_events(lab.state.events)
        seen = (version(lab.state.lesson_position), lab.state.exists, self._work.verb)
        self._look_at_snapshots(lab)
        if seen == self._seen or self._is_restarting(lab):
            return
        self._seen = seen
        self.tell(lab)

    def _is_restarting(self, lab: Lab) -> bool:
        """Whether a reset has put the lab back and is about to start the same lesson again.

        Between the two there is no lesson, and a choice of lessons would flash up.
        """
        if not self._has_lesson or read_position(lab.state).current is not None:
            self._without_since = None
            return False
        if self._work.verb == "reset":
            return True
        now = time.monotonic()  # a labctl in a terminal may do it as well
        self._without_since = self._without_since or now
        return lab.state.exists and now - self._without_since < SECONDS_WITHOUT

    def _look_at_snapshots(self, lab: Lab) -> None:
        state = lab.state
        took = len(self._work.seconds), sum(self._work.seconds.values())
        seen = (version(state.snapshots), version(state.snapshot_current), state.exists, took)
        if seen != self._seen_snapshots:
            self._seen_snapshots = seen
            self._publish({"kind": "snapshots", **snapshots_shown(lab, self._work.seconds)})

    def tell(self, lab: Lab) -> None:
        """Publish which nodes there are, where the learner is, and then what comes next."""
        names = {"lab": lab.topology.lab, "nodes": [each.name for each in lab.topology.machines]}
        self._publish({"kind": "lab", **names})  # terminals are there whatever the lesson says
        from labctl.page.lesson import lesson_shown  # reads all lessons: the page is shown first

        try:
            shown = lesson_shown(lab)
        except LabError as error:
            self._publish({"kind": "lesson", "lesson": None, "choices": [],
                           "problem": sanitize(error.message)})  # fmt: skip
            return
        self._has_lesson = shown["lesson"] is not None
        self._publish({"kind": "lesson", "verb": self._work.verb, **shown})
        if not self._work.verb:  # else it is about to change
            threading.Thread(target=self._tell_next, args=(lab,), daemon=True).start()

    def _tell_next(self, lab: Lab) -> None:
        """It asks the lab, which takes a moment."""
        from labctl.actions.lessons import (
            preview,  # loads the OpenStack SDK: the page is shown first
        )

        with self._previewing:
            try:
                coming = preview(lab, PageConsole(lambda _: None))
            except LabError as error:
                problem = {"text": sanitize(error.message), "hint": sanitize(error.hint or "")}
                self._publish({"kind": "preview", "checkpoint": None, "problem": problem})
                return
        if coming is None:
            self._publish({"kind": "preview", "checkpoint": None})
            return
        commands = [
            {"prompt": one_line(prompt), "text": sanitize(text, keep_tabs=True), "output": ""}
            for prompt, text in coming.commands
        ]
        texts = {"explain": sanitize(coming.explain), "task": sanitize(coming.task),
                 "question": sanitize(coming.question)}  # fmt: skip
        self._publish({"kind": "preview", "lesson": coming.lesson, "checkpoint": coming.checkpoint,
                       "commands": commands, **texts})  # fmt: skip

    def _follow_events(self, path: Path) -> None:
        with suppress(OSError):
            size = path.stat().st_size
            was_ours = bool(self._work.verb) or self._work.ended != self._seen_ended
            self._seen_ended = self._work.ended
            if self._offset is None or was_ours or size < self._offset:
                self._offset = size  # our own work publishes its events itself
            if size > self._offset:
                for message in _events(path, max(self._offset, size - MOST_READ), size):
                    self._publish(message)
                self._offset = size


def _events(path: Path, start: int, end: int) -> Iterator[Message]:
    with path.open("rb") as stream:
        stream.seek(start)
        lines = stream.read(end - start).split(b"\n")
    for line in lines:
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") in _SHOWN:
                if event["event"] == "run_started":
                    yield {"kind": "begun", "verb": ""}
                yield {"kind": "event", **cleaned(event)}


def version(path: Path) -> tuple[int, ...]:
    """Changes whenever the file is replaced, made or deleted."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return (info.st_ino, info.st_mtime_ns, info.st_size)
