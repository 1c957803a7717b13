"""One stream of messages to every page that is open."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.errors import LabError
from labctl.i18n import tr

MOST_PAGES = 8
"""Pages that follow the lab at the same time."""
MOST_MESSAGES = 1000
"""That wait for one page. One that is further behind is dropped; it connects again and gets the
state anew."""
MOST_LOG = 300
"""Messages of the work that is done now, or was done last, which a new page is sent."""
_STATES = ("lab", "lesson", "preview", "picture", "terminals", "snapshots", "instances",
           "class")  # fmt: skip
"""Kinds of messages of which only the last counts; of most others each is a line of the log."""
_MOMENTS = ("walk",)
"""Kinds that only pages which are open now want to see."""
_PONG = json.dumps({"kind": "pong"})


@dataclass(eq=False)
class Reader:
    """One page."""

    waiting: deque[str] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False

    def answer(self) -> None:
        """Say that the connection is alive, which a browser does not notice by itself."""
        if _PONG not in self.waiting:
            self.waiting.append(_PONG)
        self.wake.set()


class Feed:
    """Sends messages to all pages, and to a new page the state and the log of the last work."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._states: dict[str, str] = {}
        self._log: deque[str] = deque(maxlen=MOST_LOG)
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_in(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """The event loop of the pages; None: they are closed."""
        self._loop = loop

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._readers)

    def publish(self, message: Mapping[str, Any]) -> None:
        """Send a message to all pages; from any thread. `kind` says what it is."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._send, message["kind"], json.dumps(message))

    def _send(self, kind: str, text: str) -> None:
        if kind in _STATES:
            if self._states.get(kind) == text:
                return
            self._states[kind] = text
        elif kind not in _MOMENTS:
            if kind == "begun":
                self._log.clear()
            self._log.append(text)
        for reader in self._readers:
            reader.waiting.append(text)
            reader.dropped = reader.dropped or len(reader.waiting) > MOST_MESSAGES
            reader.wake.set()

    def subscribe(self) -> Reader:
        """A new page. Raises LabError when there are too many."""
        if len(self._readers) >= MOST_PAGES:
            raise LabError(tr("{n} pages are open already", n=MOST_PAGES))
        reader = Reader(deque([*self._states.values(), *self._log]))
        reader.wake.set()
        self._readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """The page is gone."""
        self._readers.discard(reader)
