"""Packets for people: one line each, and all layers and bytes of one.

scapy is imported inside the functions because importing it takes a second.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from labctl.access.packets import Frame, decode, ethernet, identity, sighting
from labctl.access.pcapng import ETHERNET, Packet
from labctl.i18n import tr

MOST_VALUE = 300
"""Characters of the value of one field."""


@dataclass(frozen=True)
class Described:
    """A packet, decoded as far as labctl can."""

    frame: Frame | None
    """None: what it carries is no IP."""
    text: str
    """Not sanitized: a packet may hold anything."""

    @property
    def what(self) -> str:
        """The text without the place where it was seen."""
        _, _, what = self.text.partition(tr(": "))
        return what or self.text


def describe(packet: Packet, node: str, interface: str, link_type: int = ETHERNET) -> Described:
    """Decode one packet, whatever it holds."""
    unknown = tr("{interface} of {node}: {n} bytes that labctl does not decode",
                 interface=interface, node=node, n=packet.length)  # fmt: skip
    if link_type != ETHERNET:
        return Described(None, unknown)
    try:
        outer = ethernet(packet.data)
        frame = decode(node, interface, packet.time / 1e9, outer)
        if frame is not None:
            return Described(frame, packet_text(frame))
        where = tr("{interface} of {node}", interface=interface, node=node)
        return Described(None, where + tr(": ") + outer.summary())
    except Exception:  # scapy meets any bytes here, and its layers raise what they will
        return Described(None, unknown)


def packet_text(frame: Frame) -> str:
    """All that labctl decodes of a packet, outer headers included, as a line of text."""
    text = sighting(asdict(frame))
    if frame.sequence is not None:
        text += tr(", id {identifier} seq {sequence}", **asdict(frame))
    if frame.tunnel:
        text += tr(", outer {outer_src_mac} > {outer_dst_mac}, ttl {outer_ttl}", **asdict(frame))
    return text + tr(", {length} bytes", length=frame.length)


def time_of_day(packet: Packet) -> str:
    """The packet's time in this machine's time zone, with microseconds."""
    when = datetime.fromtimestamp(packet.time // 1_000_000_000).astimezone()
    return f"{when:%H:%M:%S}.{packet.time % 1_000_000_000 // 1000:06d}"


@dataclass(frozen=True)
class Layer:
    """One header of a packet, or what it carries."""

    name: str
    start: int
    """Number of its first byte in the packet."""
    length: int
    fields: Sequence[tuple[str, str]]
    """(name, value); not sanitized."""


def layers_of(data: bytes) -> list[Layer]:
    """The layers of an Ethernet frame, the outermost first; of unknown bytes as far as it goes."""
    from scapy.packet import NoPayload

    layers: list[Layer] = []
    start = 0
    try:
        layer: Any = ethernet(data)
        while not isinstance(layer, NoPayload):
            header = layer.raw_packet_cache
            length = len(header) if header is not None else len(layer.original)
            fields = [
                (field.name, str(field.i2repr(layer, layer.getfieldval(field.name)))[:MOST_VALUE])
                for field in layer.fields_desc
                if field.name in layer.fields
            ]
            layers.append(Layer(str(layer.name), start, min(length, len(data) - start), fields))
            start += length
            layer = layer.payload
    except Exception:  # as in `describe`: what was decoded before is shown
        return layers
    return layers


class Conversations:
    """Numbers the flows of packets, so that a packet has one number wherever it is seen.

    A flow is known by its addresses and ports, in both directions. NAT changes these, but not what
    `identity` has: the packet joins the two.
    """

    def __init__(self, most: int = 10_000) -> None:
        """Of more than `most` flows, or packets, the oldest are forgotten."""
        self._most = most
        self._flows: OrderedDict[object, int] = OrderedDict()
        self._packets: OrderedDict[object, int] = OrderedDict()
        self._next = 0

    def number(self, frame: Frame) -> int:
        """The number of the frame's flow: 0, 1, …"""
        flow, packet = _flow(frame), identity(frame)
        number = self._packets.get(packet)
        if number is None or not _tells(frame):
            number = self._flows.get(flow)
        if number is None:
            number, self._next = self._next, self._next + 1
        for known, key in ((self._flows, flow), (self._packets, packet)):
            known[key] = number
            known.move_to_end(key)
            if len(known) > self._most:
                known.popitem(last=False)
        return number


def _flow(frame: Frame) -> tuple[object, ...]:
    source, target = (frame.src, frame.source_port), (frame.dst, frame.destination_port)
    if frame.quoted is not None:  # an ICMP error belongs to the flow that it is about
        quoted = frame.quoted
        source, target = (quoted.src, quoted.source_port), (quoted.dst, quoted.destination_port)
        ends = tuple(sorted((source, target), key=str))
        return (quoted.protocol, ends, quoted.identifier)
    return (frame.protocol, tuple(sorted((source, target), key=str)), frame.identifier)


def _tells(frame: Frame) -> bool:
    """Whether `identity` tells this packet from others: something in it is as good as random."""
    return bool(frame.ip_id or frame.payload or frame.tcp_sequence)
