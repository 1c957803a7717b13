"""The capture that the page listens to: one at a time, its packets in a bounded buffer.

Any page may begin another one, all see the same. It ends by its button, with `labctl open`, and
after a minute that no page looks at it.
"""

import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.access.live_capture import LiveCapture
from labctl.access.packet_lines import (
    Conversations,
    Described,
    describe,
    layers_of,
    time_of_day,
)
from labctl.access.packets import ethernet
from labctl.access.pcapng import CapturedInterface, Packet, file_header, packet_block
from labctl.actions.capture import MOST_LINES, check_filter, described_interfaces, places
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.terminal.text import one_line

MOST_PACKETS = 5000
MOST_BYTES = 16 << 20
"""What the buffer holds; then the oldest packets are forgotten."""
SECONDS_ALONE = 60.0
"""A capture that no page looks at ends after so long."""
MOST_BYTES_SHOWN = 2048
"""Of one packet; the file has all of it."""
_NO_FLOW = -1


@dataclass(frozen=True)
class _Kept:
    number: int
    packet: Packet
    text: str
    """Empty: there was no time to decode it."""
    flow: int
    """Number of its flow; -1: none is known."""


class Captures:
    """Listens at interfaces, and keeps the last packets."""

    def __init__(self, lab: Callable[[], Lab], command: str) -> None:
        """`command` is how the user called labctl."""
        self._lab = lab
        self._command = command
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._clear(())
        self._watchers = 0
        self._alone_since = time.monotonic()

    def _clear(self, names: Sequence[str], filter: str = "") -> None:
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._number = 0
        self._names = tuple(names)
        self._filter = filter
        self._wireshark = ""
        self._interfaces: list[CapturedInterface] = []
        self._failure = ""
        self._dropped = 0
        self._run = f"{time.time():.6f}"

    # -- beginning and end -------------------------------------------------------------------------
    def begin(self, wanted: Sequence[str], filter: str) -> None:
        """Listen at each NODE:INTERFACE, instead of those before. Raises LabError."""
        with self._starting:
            lab = self._lab()
            if not wanted:
                raise LabError(tr("no interface is chosen"))
            found = places(lab, wanted)
            check_filter(lab, found[0].node, filter)
            ethernet(b"")  # imports scapy, which takes a second: packets must not wait for it

            self.end()
            live = LiveCapture(found, lab.guest, filter)
            live.__enter__()  # `_listen` ends it
            with self._lock:
                self._clear([str(place) for place in found], filter)
                self._interfaces = described_interfaces(live, filter)
                self._wireshark = self._command_line(lab.file)
                self._stop = threading.Event()
                self._alone_since = time.monotonic()
            self._thread = threading.Thread(
                target=self._listen, args=(live, self._stop), name="listen", daemon=True
            )
            self._thread.start()

    def _command_line(self, file: Path) -> str:
        words = [self._command, "capture", *self._names, "-f", str(file)]
        words += ["--filter", self._filter] if self._filter else []
        return f"{shlex.join([*words, '-w', '-'])} | wireshark -k -i -"

    def end(self) -> None:
        """Listen no more; what was captured stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._thread is not None and self._thread.is_alive()

    def watch(self, by: int) -> None:
        """One page more (1) or less (-1) looks at it."""
        with self._lock:
            self._watchers += by
            self._alone_since = time.monotonic()

    def _listen(self, live: LiveCapture, stop: threading.Event) -> None:
        flows, second, decoded = Conversations(), 0, 0
        stopped = False
        try:
            while not live.ended:
                if (stop.is_set() or self._is_alone()) and not stopped:
                    stopped = True
                    live.stop()
                for packet in live.take(0.2, 100):
                    now = int(time.monotonic())
                    second, decoded = (second, decoded + 1) if now == second else (now, 1)
                    described = None
                    if decoded <= MOST_LINES:
                        place = live.places[packet.tap]
                        described = describe(
                            packet, place.node, place.interface, live.link_types[packet.tap]
                        )
                    self._keep(packet, described, flows)
        finally:
            live.__exit__()
            with self._lock:
                self._failure = one_line(tr("; ").join(live.failures))
                self._dropped = sum(live.dropped)

    def _is_alone(self) -> bool:
        with self._lock:
            return not self._watchers and time.monotonic() - self._alone_since > SECONDS_ALONE

    def _keep(self, packet: Packet, described: Described | None, flows: Conversations) -> None:
        frame = described.frame if described is not None else None
        flow = flows.number(frame) if frame is not None else _NO_FLOW
        text = one_line(described.what) if described is not None else ""
        with self._lock:
            self._kept.append(_Kept(self._number, packet, text, flow))
            self._number += 1
            self._bytes += len(packet.data)
            while len(self._kept) > MOST_PACKETS or self._bytes > MOST_BYTES:
                self._bytes -= len(self._kept.popleft().packet.data)

    # -- for pages ---------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """What it is now; `run` is another for each capture."""
        with self._lock:
            return {
                "run": self._run, "running": self.running, "places": list(self._names),
                "filter": self._filter, "wireshark": one_line(self._wireshark),
                "packets": self._number, "kept": len(self._kept), "failure": self._failure,
                "dropped": self._dropped,
            }  # fmt: skip

    def since(self, number: int, most: int = 200) -> tuple[list[dict[str, Any]], int, int]:
        """(rows, packets that have none, the next number) from the packet of that number on."""
        with self._lock:
            first = self._kept[0].number if self._kept else self._number
            kept = [self._kept[at] for at in range(max(0, number - first), len(self._kept))][:most]
            gone = max(0, first - number)
            rows = [
                {
                    "number": each.number, "time": time_of_day(each.packet),
                    "place": self._names[each.packet.tap], "text": each.text, "flow": each.flow,
                }
                for each in kept if each.text
            ]  # fmt: skip
            after = kept[-1].number + 1 if kept else max(number, first)
        return rows, gone + len(kept) - len(rows), after

    def detail(self, number: int) -> dict[str, Any]:
        """All layers and the bytes of one packet. Raises LabError when it is not kept any more."""
        with self._lock:
            first = self._kept[0].number if self._kept else 0
            if not first <= number < first + len(self._kept):
                raise LabError(tr("this packet is not kept any more"))
            kept = self._kept[number - first]
            interface, name = self._interfaces[kept.packet.tap], self._names[kept.packet.tap]
        data = kept.packet.data
        layers = layers_of(data) if interface.link_type == 1 else []
        return {
            "number": number, "time": time_of_day(kept.packet), "place": name,
            "length": kept.packet.length, "bytes": data[:MOST_BYTES_SHOWN].hex(),
            "layers": [
                {
                    "name": one_line(layer.name), "start": layer.start, "length": layer.length,
                    "fields": [[one_line(key), one_line(value)] for key, value in layer.fields],
                }
                for layer in layers
            ],
        }  # fmt: skip

    def file(self) -> bytes:
        """What is kept, as pcapng."""
        with self._lock:
            packets = [kept.packet for kept in self._kept]
            interfaces = list(self._interfaces)
        return file_header(interfaces) + b"".join(map(packet_block, packets))
