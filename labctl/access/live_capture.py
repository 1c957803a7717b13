"""Captures at several interfaces of several nodes, and gives the packets as they pass.

On each node tcpdump writes into the SSH connection; it ends with it. Packets of different nodes
arrive with different delays, so each waits a moment for older ones: then they come in the order of
their times.
"""

import heapq
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from labctl.access.guest import Guest, GuestError
from labctl.access.pcapng import Packet, PcapStream
from labctl.access.shell import Pipe, Pipes, open_pipes
from labctl.i18n import tr

HOLD_SECONDS = 0.3
"""How long a packet waits for older ones of other interfaces; our choice."""
MOST_WAITING = 32 << 20
"""Bytes of packets that wait to be taken. While there are more, nothing is read; the node's kernel
then drops packets, and counts them."""
MOST_TAPS = 32
"""Interfaces of one capture; our choice."""
_SESSIONS = 8
"""Programs on one connection: sshd's MaxSessions is 10."""
_START_SECONDS = 20
"""Until a tcpdump must capture, and until one that is stopped must have ended; times the node's
timeout factor."""
_OVERHEAD = 200
"""Bytes that a packet takes here besides its own."""
_DROPPED = re.compile(r"^(\d+) packets? dropped by (?:kernel|interface)", re.MULTILINE)

OpenPipes = Callable[[Guest], Pipes]


@dataclass(frozen=True, order=True)
class Place:
    """An interface of a node."""

    node: str
    interface: str
    """Its name; NAMESPACE/NAME where it is in another network namespace of the node."""

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


@dataclass
class _Listener:
    place: Place
    pipe: Pipe
    stream: PcapStream
    patience: float
    """Seconds to start, and to stop."""
    ended: bool = False
    dropped: int = 0
    thread: threading.Thread | None = None


class LiveCapture:
    """Packets of several interfaces; use it as a context, which begins and ends the capture."""

    def __init__(
        self,
        places: Sequence[Place],
        guest: Callable[[str], Guest],
        filter: str = "",
        open_pipes: OpenPipes = open_pipes,
    ) -> None:
        """`filter` is a pcap filter. `guest` gives the handle on a node."""
        self.places = tuple(places)
        self._guest = guest
        self._filter = filter
        self._open_pipes = open_pipes
        self._connections: list[Pipes] = []
        self._listeners: list[_Listener] = []
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, float, Packet]] = []
        self._waiting_bytes = 0
        self._numbers = count()
        self._stopping = self._closed = False
        self.failures: list[str] = []
        """Why interfaces are no longer listened at, one text each; for people."""

    # -- beginning and end -------------------------------------------------------------------------
    def __enter__(self) -> "LiveCapture":
        """Begin to capture everywhere. Raises GuestError; then nothing runs on any node."""
        nodes = sorted({place.node for place in self.places})
        try:
            with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
                for listeners in list(pool.map(self._open, nodes)):
                    self._listeners += listeners
            self._listeners.sort(key=lambda listener: self.places.index(listener.place))
            with ThreadPoolExecutor(max_workers=max(1, len(self._listeners))) as pool:
                list(pool.map(self._begin, self._listeners))
        except BaseException:
            self._close()
            raise
        for listener in self._listeners:
            name = f"capture-{listener.place}"
            listener.thread = threading.Thread(
                target=self._read, args=(listener,), name=name, daemon=True
            )
            listener.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._close()

    def stop(self) -> None:
        """End all captures. What had passed until now can still be taken."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for listener in self._listeners:
            listener.pipe.end_input()

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for listener in self._listeners:
            listener.pipe.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.close()

    def _open(self, node: str) -> list[_Listener]:
        guest = self._guest(node)
        places = [place for place in self.places if place.node == node]
        listeners = []
        for first in range(0, len(places), _SESSIONS):
            connection = self._open_pipes(guest)
            self._connections.append(connection)
            for place in places[first : first + _SESSIONS]:
                pipe = connection.pipe(_script(place.interface, self._filter))
                stream = PcapStream(self.places.index(place))
                patience = _START_SECONDS * guest.timeout_factor
                listeners.append(_Listener(place, pipe, stream, patience))
        return listeners

    def _begin(self, listener: _Listener) -> None:
        """Wait for the header, which tcpdump writes when it captures."""
        late = threading.Timer(listener.patience, listener.pipe.close)
        late.start()
        try:
            while listener.stream.link_type is None:
                data = listener.pipe.read()
                if not data:
                    raise GuestError(self._why(listener))
                self._add(listener.stream.feed(data))
        except ValueError as error:
            place = listener.place
            raise GuestError(
                tr("cannot capture on {node}: {why}", node=place.node, why=error)
            ) from error
        finally:
            late.cancel()

    def _why(self, listener: _Listener) -> str:
        """Why a tcpdump ended, in its own words."""
        errors = listener.pipe.errors()
        words = [line for line in errors.splitlines() if not line.startswith("tcpdump: listening")]
        why = " / ".join(line.removeprefix("tcpdump: ") for line in words if line.strip())
        return tr("cannot capture on {node}: {why}", node=str(listener.place),
                  why=why or tr("the connection broke"))  # fmt: skip

    # -- packets -----------------------------------------------------------------------------------
    @property
    def link_types(self) -> list[int]:
        """Of each interface, by its number."""
        return [listener.stream.link_type or 0 for listener in self._listeners]

    @property
    def dropped(self) -> list[int]:
        """Packets that the node had no time for, by the number of the interface; at the end."""
        return [listener.dropped for listener in self._listeners]

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        with self._changed:
            return all(listener.ended for listener in self._listeners) and not self._waiting

    def take(self, seconds: float, most: int = 1000) -> list[Packet]:
        """The packets that are due, at most `most`; waits for the first one at most `seconds`."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                taken = list(self._due(most))
                now = time.monotonic()
                over = not self._waiting and all(each.ended for each in self._listeners)
                if taken or now >= until or over:
                    break
                ripe = self._waiting[0][2] + HOLD_SECONDS if self._waiting else until
                self._changed.wait(max(0.001, min(ripe, until) - now))
            if taken:
                self._changed.notify_all()
        return taken

    def _due(self, most: int) -> Iterator[Packet]:
        running = sum(not listener.ended for listener in self._listeners)
        for _ in range(most):
            if not self._waiting:
                return
            _, _, arrived, packet = self._waiting[0]
            ripe = (
                time.monotonic() - arrived >= HOLD_SECONDS
                or len(self._listeners) == 1
                or not running
                or self._waiting_bytes > MOST_WAITING // 2
            )
            if not ripe:
                return
            heapq.heappop(self._waiting)
            self._waiting_bytes -= len(packet.data) + _OVERHEAD
            yield packet

    def _add(self, packets: Iterator[Packet]) -> None:
        for packet in packets:
            with self._changed:
                while self._waiting_bytes > MOST_WAITING and not self._closed:
                    self._changed.wait(1)
                entry = (packet.time, next(self._numbers), time.monotonic(), packet)
                heapq.heappush(self._waiting, entry)
                self._waiting_bytes += len(packet.data) + _OVERHEAD
                self._changed.notify_all()

    def _read(self, listener: _Listener) -> None:
        failure = ""
        try:
            while data := listener.pipe.read():
                self._add(listener.stream.feed(data))
            if not self._stopping:
                failure = self._why(listener)
        except ValueError as error:
            failure = tr("cannot capture on {node}: {why}", node=str(listener.place), why=error)
        errors = listener.pipe.errors()
        with self._changed:
            listener.dropped = sum(int(number) for number in _DROPPED.findall(errors))
            listener.ended = True
            if failure:
                self.failures.append(failure)
            self._changed.notify_all()


def _script(interface: str, filter: str) -> str:
    """tcpdump, until the end of the script's input, which comes with the end of the connection.

    The connection's own packets are left out: they would carry each other without end where the
    interface is that of the connection. The filter begins with "(" or "not": it is no option.
    """
    namespace, _, device = interface.rpartition("/")
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    tcpdump = shlex.join(
        [*enter, "tcpdump", "-n", "-U", "--immediate-mode", "--time-stamp-precision=nano",
         "-s", "0", "-i", device, "-w", "-", "--"]
    )  # fmt: skip
    wanted = shlex.quote(f"({filter})" if filter.strip() else "")
    return f"""
    # {tcpdump}
    exec 3<&0
    filter={wanted}
    set -- $SSH_CONNECTION
    if [ $# = 4 ]; then
        filter="not (host $1 and host $3 and tcp port $2 and tcp port $4)${{filter:+ and $filter}}"
    fi
    {tcpdump} "$filter" </dev/null 3<&- &
    pid=$!
    {{ read -r _ <&3; kill -TERM $pid; }} >/dev/null 2>&1 &
    wait $pid
    code=$?
    kill $! 2>/dev/null
    exit $code
    """
