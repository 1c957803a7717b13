"""The lesson's state for the page, whoever changes it: the page, or a labctl in a terminal.

What a labctl of another process does is seen by the files that it writes: the position in the
lessons, and the log of events. Looking at the two takes some microseconds.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from labctl.errors import LabError
from labctl.lab import Lab
from labctl.page.lesson import lesson_shown
from labctl.page.work import Message, PageConsole, Publish, Work, cleaned
from labctl.terminal.text import one_line, sanitize

MOST_READ = 256 << 10
"""Bytes of the event log that are read at once; what another labctl printed before is left out."""
_SHOWN = ("run_started", "step_started", "step_finished", "run_finished", "note")
"""Events of another labctl that the page shows."""


class Following:
    """Publishes the lesson when it changes, and what a labctl of another process does."""

    def __init__(self, lab: Callable[[], Lab], work: Work, publish: Publish) -> None:
        self._lab = lab
        self._work = work
        self._publish = publish
        self._seen: tuple[object, ...] = ()
        self._offset: int | None = None
        self._previewing = threading.Lock()

    def look(self) -> None:
        """Publish what is new since the last look. Called again and again, by one thread."""
        lab = self._lab()
        self._follow_events(lab.state.events)
        seen = (_version(lab.state.lesson_position), lab.state.exists, self._work.verb)
        if seen == self._seen:
            return
        self._seen = seen
        self.tell(lab)

    def tell(self, lab: Lab) -> None:
        """Publish where the learner is, and then what comes next."""
        try:
            shown = lesson_shown(lab)
        except LabError as error:
            self._publish({"kind": "lesson", "lesson": None, "choices": [],
                           "problem": sanitize(error.message)})  # fmt: skip
            return
        names = {"lab": lab.topology.lab, "nodes": [node.name for node in lab.topology.nodes]}
        self._publish({"kind": "lab", **names})
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
        texts = {"explain": sanitize(coming.explain), "task": sanitize(coming.task)}
        self._publish({"kind": "preview", "lesson": coming.lesson, "checkpoint": coming.checkpoint,
                       "commands": commands, **texts})  # fmt: skip

    def _follow_events(self, path: Path) -> None:
        with suppress(OSError):
            size = path.stat().st_size
            if self._offset is None or self._work.verb or size < self._offset:
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


def _version(path: Path) -> tuple[int, ...]:
    """Changes whenever the file is replaced."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return (info.st_ino, info.st_mtime_ns, info.st_size)
