"""`labctl capture`: packets of several interfaces of several nodes, as lines and as one pcapng."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from labctl.access.capture import filter_trouble
from labctl.access.live_capture import MOST_TAPS, LiveCapture, Place
from labctl.access.packet_lines import Described, describe
from labctl.access.pcapng import (
    CapturedInterface,
    Packet,
    file_header,
    packet_block,
    statistics_block,
)
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.spec.problems import did_you_mean

MOST_LINES = 300
"""Packets that are decoded and shown in one second. Decoding takes up to 1 ms; of what is more only
the number is told, and the file has all of it."""
_LOOK_SECONDS = 0.2
"""Between two looks whether the capture is to end."""

_LIST = """# network devices
ls /sys/class/net
for file in /run/netns/*; do
    [ -e "$file" ] || continue
    name=${file##*/}
    ip netns exec "$name" ls /sys/class/net | sed "s|^|$name/|"
done
"""

Show = Callable[[Packet, Described], None]


@dataclass(frozen=True)
class Summary:
    """What a capture was."""

    packets: int
    not_shown: int
    dropped: int
    """Packets that the nodes had no time for; they are in no file."""
    failures: tuple[str, ...]
    """Why interfaces were no longer listened at before the end; for people."""


def interfaces_of(lab: Lab, node: str) -> list[str]:
    """The names of a node's network devices; NAMESPACE/NAME of one in another network namespace.

    The loopback devices are left out. Raises LabError.
    """
    names = lab.guest(node).run(_LIST, timeout=20).stdout.split()
    return [name for name in names if name.rpartition("/")[2] not in ("bonding_masters", "lo")]


def places(lab: Lab, wanted: Sequence[str]) -> list[Place]:
    """Each NODE:INTERFACE as a place, without repetitions.

    Raises LabError, with what there is, when a node or an interface is not there.
    """
    lab.require_created()
    found: list[Place] = []
    for text in wanted:
        name, _, interface = text.partition(":")
        place = Place(lab.node(name).name, interface)
        if place not in found:
            found.append(place)
    if len(found) > MOST_TAPS:
        raise LabError(
            tr("more than {n} interfaces at once", n=MOST_TAPS),
            hint=tr("capture some of them in a second terminal"),
            code=EXIT_USAGE,
        )
    nodes = sorted({place.node for place in found})
    for node in nodes:
        if not lab.provider.running(lab.node(node)):
            raise LabError(
                tr("{name} is not running", name=node), hint=tr("start the lab: `labctl up`")
            )
    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        known = dict(zip(nodes, pool.map(lambda n: interfaces_of(lab, n), nodes), strict=True))
    for place in found:
        _expect(place, known[place.node])
    return found


def _expect(place: Place, known: Sequence[str]) -> None:
    """Raises LabError when the node has no such interface."""
    if place.interface in known:
        return
    hint = tr("{node} has {interfaces}", node=place.node, interfaces=tr_list(known))
    if not place.interface:
        example = f"{place.node}:{known[0]}" if known else place.node
        raise LabError(
            tr("'{text}' names no interface; write NODE:INTERFACE, such as {example}",
               text=place.node, example=example),
            hint=hint, code=EXIT_USAGE,
        )  # fmt: skip
    meant = did_you_mean(place.interface, known)
    text = tr("{node} has no interface '{interface}'", node=place.node, interface=place.interface)
    if meant:
        text += tr(". ") + tr("did you mean {meant}?", meant=meant)
    raise LabError(text, hint=hint, code=EXIT_USAGE)


def check_filter(lab: Lab, node: str, filter: str) -> None:
    """Raises LabError when tcpdump does not take the filter."""
    # In parentheses it is no option of tcpdump's, whatever it begins with.
    if filter.strip() and (trouble := filter_trouble(lab.guest(node), f"({filter})")):
        raise LabError(
            tr("tcpdump does not take the filter '{filter}': {trouble}",
               filter=filter, trouble=trouble),
            hint=tr("its language is that of pcap-filter(7): `icmp`, `udp port 6081`, "
                    "`host 172.16.0.5 and tcp`"),
            code=EXIT_USAGE,
        )  # fmt: skip


def described_interfaces(capture: LiveCapture, filter: str) -> list[CapturedInterface]:
    """The interfaces of a capture, for its file."""
    return [
        CapturedInterface(str(place), link_type, filter)
        for place, link_type in zip(capture.places, capture.link_types, strict=True)
    ]


def capture(
    lab: Lab,
    found: Sequence[Place],
    filter: str,
    *,
    sink: BinaryIO | None,
    show: Show | None,
    began: Callable[[], None] = lambda: None,
    hidden: Callable[[int], None] = lambda _: None,
    seconds: float | None = None,
    count: int | None = None,
) -> Summary:
    """Capture until Ctrl-C, for so many seconds, or so many packets.

    `sink` gets a pcapng file, each packet as soon as it is known; `show` each packet, decoded, and
    `hidden` the number of those for which there was no time. `began` is called when all interfaces
    are listened at. Raises LabError, and BrokenPipeError when nobody reads the sink any more.
    """
    number = not_shown = 0
    with stopping() as stop, LiveCapture(found, lab.guest, filter) as live:
        writer = _Writer(sink, live, filter)
        began()
        until = time.monotonic() + seconds if seconds is not None else None
        limit = _Limit()
        while not live.ended:
            now = time.monotonic()
            over = stop.is_set() or (until is not None and now >= until)
            if over or (count is not None and number >= count):
                live.stop()
            packets = live.take(_LOOK_SECONDS)
            if count is not None:
                packets = packets[: max(0, count - number)]
            number += len(packets)
            writer.write(packets)
            skipped = 0
            for packet in packets:
                if show is None:
                    break
                if limit.allows():
                    place = found[packet.tap]
                    link_type = live.link_types[packet.tap]
                    show(packet, describe(packet, place.node, place.interface, link_type))
                else:
                    skipped += 1
            if skipped:
                hidden(skipped)
                not_shown += skipped
        writer.end(live)
    return Summary(number, not_shown, sum(live.dropped), tuple(live.failures))


class _Limit:
    """Allows MOST_LINES in each second."""

    def __init__(self) -> None:
        self._second, self._used = 0, 0

    def allows(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._used = second, 0
        self._used += 1
        return self._used <= MOST_LINES


class _Writer:
    """Writes the pcapng, if there is a sink."""

    def __init__(self, sink: BinaryIO | None, live: LiveCapture, filter: str) -> None:
        self._sink = sink
        self._last = 0
        if sink is not None:
            sink.write(file_header(described_interfaces(live, filter)))
            sink.flush()

    def write(self, packets: Sequence[Packet]) -> None:
        if self._sink is None or not packets:
            return
        self._sink.write(b"".join(packet_block(packet) for packet in packets))
        self._sink.flush()
        self._last = packets[-1].time

    def end(self, live: LiveCapture) -> None:
        if self._sink is not None:
            for tap, dropped in enumerate(live.dropped):
                self._sink.write(statistics_block(tap, self._last, dropped))
            self._sink.flush()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, or the end of the terminal, instead of an exception.

    So no packet is written in part. A second Ctrl-C interrupts as always.
    """
    event = threading.Event()
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]

    def stop(number: int, _: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in signals}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
