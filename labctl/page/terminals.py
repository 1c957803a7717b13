"""Terminals of the page: each is a shell on a node that goes on while the page is reloaded.

A thread reads the shell. What it prints goes into a bounded replay buffer and to every viewer (a
WebSocket). A viewer acknowledges what its browser has drawn; while one is behind by more than
`MOST_UNSEEN` bytes the shell is not read: the node's program waits, as at any slow terminal.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from labctl.access.shell import Shell
from labctl.errors import LabError
from labctl.i18n import tr

MOST_TERMINALS = 16
MOST_VIEWERS = 8
"""Of one terminal: pages that show it at the same time."""
REPLAY_BYTES = 2 << 20
"""What a page that is loaded again is shown: some 10,000 lines of 200 bytes."""
MOST_UNSEEN = 512 << 10
"""Bytes that one viewer may be behind before the shell is no longer read."""
SECONDS_BEHIND = 15.0
"""After so long without an acknowledgement a viewer that is behind is dropped: its computer may
sleep, and the shell goes on for the others. Its page connects again and gets the replay."""
SECONDS_ALONE = 30 * 60.0
"""A terminal that no page shows ends after so long."""
SECONDS_IDLE = 12 * 3600.0
"""One that is shown ends when nothing was typed or printed for so long."""
_FRAME = 64 << 10
"""Bytes that are sent to a browser at once."""


OpenShell = Callable[[str, int, int], Shell]
"""Logs in to a node: (node, columns, rows) -> its shell. Raises LabError."""


@dataclass(eq=False)
class Viewer:
    """One page that shows a terminal. Its fields are guarded by the terminal's lock."""

    wake: Callable[[], None]
    """Called in any thread when there is something to send."""
    pending: deque[bytes] = field(default_factory=deque)
    unseen: int = 0
    """Bytes that are pending, or sent and not acknowledged."""
    heard_at: float = 0.0
    dropped: bool = False


class Terminal:
    """A shell on a node, its last output, and who looks at it."""

    def __init__(
        self, number: int, node: str, shell: Shell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.number = number
        self.node = node
        self.ended = False
        self._shell = shell
        self._clock = clock
        self._changed = threading.Condition()
        self._replay: deque[bytes] = deque()
        self._replay_bytes = 0
        self._viewers: list[Viewer] = []
        self._alone_since = self._active_at = clock()
        threading.Thread(target=self._read, name=f"terminal-{number}", daemon=True).start()

    # -- viewers ---------------------------------------------------------------------------------
    def attach(self, wake: Callable[[], None]) -> Viewer:
        """A viewer, which is first sent the replay. Raises LabError when there are too many."""
        with self._changed:
            if len(self._viewers) >= MOST_VIEWERS:
                raise LabError(tr("this terminal is open in {n} pages already", n=MOST_VIEWERS))
            viewer = Viewer(wake, deque(self._replay), self._replay_bytes, self._clock())
            self._viewers.append(viewer)
        wake()
        return viewer

    def detach(self, viewer: Viewer) -> None:
        """The page is gone; the shell goes on."""
        with self._changed:
            self._forget(viewer)

    def take(self, viewer: Viewer) -> bytes:
        """What is to be sent to the viewer next; empty when there is nothing now."""
        taken = bytearray()
        with self._changed:
            while viewer.pending and len(taken) < _FRAME:
                taken += viewer.pending.popleft()
        return bytes(taken)

    def acknowledge(self, viewer: Viewer, count: int) -> None:
        """The viewer's browser has drawn so many bytes more."""
        with self._changed:
            viewer.unseen = max(0, viewer.unseen - max(0, count))
            viewer.heard_at = self._clock()
            self._changed.notify_all()

    def _forget(self, viewer: Viewer) -> None:
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            viewer.pending.clear()
        if not self._viewers:
            self._alone_since = self._clock()
        self._changed.notify_all()

    # -- the shell -------------------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """What was typed. It may wait for the node; without an effect once the shell has ended."""
        self._active_at = self._clock()
        with suppress(OSError):
            self._shell.write(data)

    def resize(self, columns: int, rows: int) -> None:
        """The size of the page that was resized last."""
        self._shell.resize(columns, rows)

    def close(self) -> None:
        """End the shell."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        self._shell.close()

    @property
    def is_idle(self) -> bool:
        """Whether nobody has used it for so long that it should end."""
        now = self._clock()
        with self._changed:
            alone = not self._viewers and now - self._alone_since > SECONDS_ALONE
        return alone or now - self._active_at > SECONDS_IDLE

    def _read(self) -> None:
        while True:
            with self._changed:
                while not self.ended and any(v.unseen > MOST_UNSEEN for v in self._viewers):
                    self._changed.wait(1)
                    self._drop_silent()
            data = b"" if self.ended else self._shell.read()
            with self._changed:
                self.ended = self.ended or not data
                self._keep(data)
                viewers = list(self._viewers)
                for viewer in viewers:
                    viewer.pending.append(data)
                    viewer.unseen += len(data)
            for viewer in viewers:
                viewer.wake()
            if self.ended:
                self._shell.close()
                return

    def _keep(self, data: bytes) -> None:
        self._active_at = self._clock()
        self._replay.append(data)
        self._replay_bytes += len(data)
        if self._replay_bytes <= REPLAY_BYTES:
            return
        while self._replay_bytes > REPLAY_BYTES:
            self._replay_bytes -= len(self._replay.popleft())
        # Begin at a line's beginning, not in the middle of a control sequence.
        if self._replay:
            first = self._replay.popleft()
            rest = first.partition(b"\n")[2]
            self._replay_bytes -= len(first) - len(rest)
            self._replay.appendleft(rest)

    def _drop_silent(self) -> None:
        now = self._clock()
        for viewer in list(self._viewers):
            if viewer.unseen > MOST_UNSEEN and now - viewer.heard_at > SECONDS_BEHIND:
                viewer.dropped = True
                self._forget(viewer)
                viewer.wake()


def sane_size(columns: int, rows: int) -> tuple[int, int]:
    """The size of a terminal that a browser asks for, within what a program can bear."""
    return min(max(columns, 2), 1000), min(max(rows, 2), 1000)


class Terminals:
    """All terminals of the page."""

    def __init__(self, open_shell: OpenShell) -> None:
        self._open_shell = open_shell
        self._terminals: dict[int, Terminal] = {}
        self._next = 1
        self._opening = asyncio.Lock()

    def get(self, number: int) -> Terminal | None:
        """The terminal of that number."""
        return self._terminals.get(number)

    def all(self) -> Sequence[Terminal]:
        """Every terminal, the oldest first; those whose shell has ended included."""
        return list(self._terminals.values())

    async def begin(self, node: str, columns: int, rows: int) -> Terminal:
        """A new terminal on a node. Raises LabError when there are too many, or no way in."""
        async with self._opening:
            if len(self._terminals) >= MOST_TERMINALS:
                raise LabError(
                    tr("there are {n} terminals already", n=MOST_TERMINALS),
                    hint=tr("close one of them"),
                )
            shell = await asyncio.to_thread(self._open_shell, node, columns, rows)
            terminal = Terminal(self._next, node, shell)
            self._terminals[self._next] = terminal
            self._next += 1
        return terminal

    async def close(self, number: int) -> None:
        """End a terminal, if there is one of that number."""
        terminal = self._terminals.pop(number, None)
        if terminal is not None:
            await asyncio.to_thread(terminal.close)

    async def close_idle(self) -> list[int]:
        """End those that nobody uses; returns their numbers."""
        idle = [terminal.number for terminal in self.all() if terminal.is_idle]
        for number in idle:
            await self.close(number)
        return idle

    async def close_all(self) -> None:
        """End every terminal."""
        for number in list(self._terminals):
            await self.close(number)
