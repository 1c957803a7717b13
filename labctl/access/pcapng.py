"""Takes pcap streams apart as they arrive, and writes captures of many interfaces as pcapng. Pure.

pcap: libpcap's pcap-savefile(5). pcapng: draft-ietf-opsawg-pcapng.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labctl.i18n import tr

ETHERNET = 1
"""The link type of Ethernet frames (LINKTYPE_ETHERNET)."""
_LARGEST = 1 << 20
"""Bytes of one packet. libpcap captures 262,144 at most; a larger number is no packet's length."""
_HEADER, _RECORD = 24, 16
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1),
}  # fmt: skip
"""First bytes of a pcap -> (byte order of its numbers, nanoseconds in its unit of time)."""


@dataclass(frozen=True)
class Packet:
    """One packet at one interface."""

    tap: int
    """Number of the interface among those of the capture, from 0."""
    time: int
    """Nanoseconds since the epoch, by the clock of the interface's node."""
    data: bytes
    length: int
    """Bytes that it had; `data` may hold fewer."""


class PcapStream:
    """One pcap, of which `feed` is given the parts as they arrive."""

    def __init__(self, tap: int) -> None:
        self._tap = tap
        self._waiting = bytearray()
        self._order, self._unit = "", 1
        self.link_type: int | None = None
        """None until the header has arrived."""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that are complete now. Raises ValueError where it is no pcap."""
        self._waiting += data
        if not self._order:
            if len(self._waiting) < _HEADER:
                return
            known = _MAGIC.get(bytes(self._waiting[:4]))
            if known is None:
                raise ValueError(tr("what tcpdump printed is no pcap"))
            self._order, self._unit = known
            self.link_type = struct.unpack_from(f"{self._order}I", self._waiting, 20)[0] & 0xFFFF
            del self._waiting[:_HEADER]
        start = 0
        while len(self._waiting) - start >= _RECORD:
            seconds, fraction, kept, length = struct.unpack_from(
                f"{self._order}IIII", self._waiting, start
            )
            if kept > _LARGEST:
                raise ValueError(tr("what tcpdump printed is no pcap"))
            end = start + _RECORD + kept
            if len(self._waiting) < end:
                break
            content = bytes(self._waiting[start + _RECORD : end])
            time = seconds * 1_000_000_000 + fraction * self._unit
            yield Packet(self._tap, time, content, length)
            start = end
        del self._waiting[:start]


# -- pcapng --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CapturedInterface:
    """What a pcapng file says of one of its interfaces."""

    name: str
    link_type: int = ETHERNET
    filter: str = ""


def file_header(interfaces: Sequence[CapturedInterface]) -> bytes:
    """The beginning of a pcapng file: a section, and the description of each interface.

    Its times have nanoseconds. A packet's `tap` is the number of its interface here.
    """
    # Byte order, version 1.0, length not known; option 4: the application.
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((4, b"labctl"))
    return _block(0x0A0D0D0A, section) + b"".join(
        _block(1, struct.pack("<HHI", interface.link_type, 0, 0) + _options(
            (2, interface.name.encode()),
            (9, b"\x09"),  # if_tsresol: 10 to the power of -9 s
            *([(11, b"\0" + interface.filter.encode())] if interface.filter else []),
        ))
        for interface in interfaces
    )  # fmt: skip


def packet_block(packet: Packet) -> bytes:
    """One packet in a pcapng file that `file_header` began."""
    high, low = packet.time >> 32, packet.time & 0xFFFFFFFF
    head = struct.pack("<IIIII", packet.tap, high, low, len(packet.data), packet.length)
    return _block(6, head + _padded(packet.data))


def statistics_block(tap: int, time: int, dropped: int) -> bytes:
    """How many packets of an interface the node had no time for; `time` as in Packet."""
    head = struct.pack("<III", tap, time >> 32, time & 0xFFFFFFFF)
    return _block(5, head + _options((5, struct.pack("<Q", dropped))))


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(*options: tuple[int, bytes]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options]
    return b"".join([*parts, struct.pack("<HH", 0, 0)])


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
