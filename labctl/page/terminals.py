"""Terminals of the page: each is a shell that goes on while the page is reloaded.

A thread reads the shell. What it prints goes into a bounded replay buffer and to every viewer (a
WebSocket). A viewer acknowledges what its browser has drawn; while one is behind by more than
`MOST_UNSEEN` bytes the shell is not read: the node's program waits, as at any slow terminal.

Bytes are counted from the shell's first one, so that a viewer whose connection broke gets what it
has missed, and only that. Several viewers share one size, the smallest, as with tmux; and one of
them, the leader, answers what programs ask of a terminal (such as where the cursor is): two answers
would be read as something typed.
"""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

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
_PART = 4 << 10
"""Bytes up to which output is kept in one piece: each piece costs some 40 bytes more than it has,
and a program that shows progress prints a byte at a time."""


OpenShell = Callable[[str, int, int], Shell]
"""Logs in to a node or an instance: (name, columns, rows) -> its shell. Raises LabError."""
Size = tuple[int, int]
"""Columns and rows."""


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
    size: Size | None = None
    """What fits on its screen; None: it does not show the terminal now."""
    notices: deque[str] = field(default_factory=deque)
    """JSON texts that are to be sent before what is pending."""

    def tell(self, **notice: Any) -> None:
        """Send the page something about the terminal."""
        self.notices.append(json.dumps(notice))


class Terminal:
    """A shell on a node or an instance, its last output, and who looks at it."""

    def __init__(
        self,
        number: int,
        node: str,
        shell: Shell,
        size: Size = (80, 24),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`node` is the name of the node or the instance; `size` is what the shell has now."""
        self.number = number
        self.node = node
        self.shell = shell
        self.ended = False
        self._size = size
        self._clock = clock
        self._changed = threading.Condition()
        self._replay: deque[bytes] = deque()
        self._replay_bytes = 0
        self._printed = 0
        """Bytes since the shell's first one."""
        self._viewers: list[Viewer] = []
        self._leader: Viewer | None = None
        self._alone_since = self._active_at = clock()
        threading.Thread(target=self._read, name=f"terminal-{number}", daemon=True).start()

    # -- viewers ---------------------------------------------------------------------------------
    def attach(self, wake: Callable[[], None], seen: int | None = None) -> Viewer:
        """A viewer, which is first sent the replay, or what it has missed since the byte `seen`.

        Its first notice says with which byte (`from`) it begins, and which (`live`) is the first
        that was not printed before. Raises LabError when there are too many.
        """
        with self._changed:
            if len(self._viewers) >= MOST_VIEWERS:
                raise LabError(tr("this terminal is open in {n} pages already", n=MOST_VIEWERS))
            first = self._printed - self._replay_bytes
            begin = seen if seen is not None and first <= seen <= self._printed else first
            missed = _without(self._replay, begin - first)
            viewer = Viewer(wake, missed, self._printed - begin, self._clock())
            viewer.tell(**{"from": begin, "live": self._printed, "size": self._size})
            self._viewers.append(viewer)
            if self._leader is None:
                self._lead(viewer)
        wake()
        return viewer

    def detach(self, viewer: Viewer) -> None:
        """The page is gone; the shell goes on."""
        with self._changed:
            self._forget(viewer)
        self._fit()

    def take(self, viewer: Viewer) -> bytes | str:
        """What is to be sent to the viewer next; empty when there is nothing now."""
        taken = bytearray()
        with self._changed:
            if viewer.notices:
                return viewer.notices.popleft()
            while viewer.pending and len(taken) < _FRAME:
                taken += viewer.pending.popleft()
        return bytes(taken)

    def acknowledge(self, viewer: Viewer, count: int) -> None:
        """The viewer's browser has drawn so many bytes more."""
        with self._changed:
            viewer.unseen = max(0, viewer.unseen - max(0, count))
            viewer.heard_at = self._clock()
            self._changed.notify_all()

    def resize(self, viewer: Viewer, size: Size | None) -> None:
        """What fits on the viewer's screen; None: it does not show the terminal now."""
        with self._changed:
            viewer.size = size
        self._fit()

    def _fit(self) -> None:
        """Give the shell the smallest of its viewers' sizes."""
        with self._changed:
            sizes = [viewer.size for viewer in self._viewers if viewer.size is not None]
            if not sizes:
                return
            size = min(c for c, _ in sizes), min(r for _, r in sizes)
            viewers = list(self._viewers)
            # To all, changed or not: a page that asked for more has drawn it larger meanwhile.
            for viewer in viewers:
                viewer.tell(size=size)
            changed, self._size = size != self._size, size
        if changed:
            self.shell.resize(*size)
        for viewer in viewers:
            viewer.wake()

    def _lead(self, viewer: Viewer | None) -> None:
        if viewer is self._leader:
            return
        if self._leader is not None:
            self._leader.tell(leads=False)
            self._leader.wake()
        self._leader = viewer
        if viewer is not None:
            viewer.tell(leads=True)
            viewer.wake()

    def _forget(self, viewer: Viewer) -> None:
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            viewer.pending.clear()
        if viewer is self._leader:
            self._lead(self._viewers[-1] if self._viewers else None)
        if not self._viewers:
            self._alone_since = self._clock()
        self._changed.notify_all()

    # -- the shell -------------------------------------------------------------------------------
    def write(self, viewer: Viewer, data: bytes) -> None:
        """What was typed. It may wait for the node; without an effect once the shell has ended."""
        self._active_at = self._clock()
        with self._changed:
            if viewer in self._viewers:
                self._lead(viewer)
        with suppress(OSError):
            self.shell.write(data)

    def close(self) -> None:
        """End the shell."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        self.shell.close()

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
            data = b"" if self.ended else self.shell.read()
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
                self.shell.close()
                return

    def _keep(self, data: bytes) -> None:
        self._active_at = self._clock()
        joined = bool(self._replay) and len(self._replay[-1]) + len(data) <= _PART
        self._replay.append(self._replay.pop() + data if joined else data)
        self._replay_bytes += len(data)
        self._printed += len(data)
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


def _without(parts: deque[bytes], count: int) -> deque[bytes]:
    """The parts without their first `count` bytes."""
    for number, part in enumerate(parts):
        if count < len(part):
            return deque([part[count:], *islice(parts, number + 1, None)])
        count -= len(part)
    return deque()


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
        """A new terminal on a node or an instance.

        Raises LabError when there are too many, or no way in.
        """
        async with self._opening:
            if len(self._terminals) >= MOST_TERMINALS:
                raise LabError(
                    tr("there are {n} terminals already", n=MOST_TERMINALS),
                    hint=tr("close one of them"),
                )
            shell = await asyncio.to_thread(self._open_shell, node, columns, rows)
            terminal = Terminal(self._next, node, shell, (columns, rows))
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
