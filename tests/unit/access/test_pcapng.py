"""pcap in, pcapng out; scapy reads it back."""

import io
import struct
from itertools import pairwise
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from labctl.access.pcapng import (
    CapturedInterface,
    Packet,
    PcapStream,
    file_header,
    packet_block,
    statistics_block,
)
from tests.unit.golden import GOLDEN


def pcap(order: str, magic: int, *records: tuple[int, int, bytes], link_type: int = 1) -> bytes:
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    return head + b"".join(
        struct.pack(f"{order}IIII", seconds, fraction, len(data), len(data) + 7) + data
        for seconds, fraction, data in records
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_a_pcap_in_any_pieces_gives_the_same_packets(order: str, magic: int, unit: int) -> None:
    text = pcap(order, magic, (1_800_000_000, 999_999, b"a" * 60), (1_800_000_001, 5, b""))
    expected = [
        Packet(3, 1_800_000_000 * 10**9 + 999_999 * unit, b"a" * 60, 67),
        Packet(3, 1_800_000_001 * 10**9 + 5 * unit, b"", 7),
    ]
    for size in (1, 7, 24, len(text)):
        stream = PcapStream(3)
        pieces = (text[at : at + size] for at in range(0, len(text), size))
        assert [packet for piece in pieces for packet in stream.feed(piece)] == expected
        assert stream.link_type == 1


def test_what_is_no_pcap_is_refused() -> None:
    with pytest.raises(ValueError, match="pcap"):
        list(PcapStream(0).feed(b"bash: tcpdump: command not found"))
    endless = pcap("<", 0xA1B2C3D4) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30)
    with pytest.raises(ValueError, match="pcap"):
        list(PcapStream(0).feed(endless))


def test_scapy_reads_the_packets_back_with_their_times_and_interfaces() -> None:
    recorded = sorted((GOLDEN / "pcap").glob("ping-out.*.pcap"))
    interfaces = [CapturedInterface(f"{file.stem}:網路", filter="icmp") for file in recorded]
    packets = [
        packet
        for tap, file in enumerate(recorded)
        for packet in PcapStream(tap).feed(file.read_bytes())
    ]
    packets.sort(key=lambda packet: packet.time)
    assert len(packets) >= 6
    text = file_header(interfaces) + b"".join(map(packet_block, packets))
    text += statistics_block(1, packets[-1].time, 12)
    with RawPcapNgReader(io.BytesIO(text)) as reader:  # type: ignore[arg-type]  # as a file
        found: list[Any] = list(reader)
    assert [data for data, _ in found] == [packet.data for packet in packets]
    assert [meta.ifname.decode() for _, meta in found] == [
        interfaces[packet.tap].name for packet in packets
    ]
    assert [(meta.tshigh << 32) + meta.tslow for _, meta in found] == [
        packet.time for packet in packets
    ]
    assert {meta.tsresol for _, meta in found} == {10**9}
    assert all(earlier.time <= later.time for earlier, later in pairwise(packets))


def test_every_block_has_its_length_at_both_ends_in_multiples_of_four() -> None:
    interface = CapturedInterface("a", link_type=113)
    odd = [packet_block(Packet(0, 5, b"x" * size, size)) for size in range(8)]
    text = file_header([interface]) + b"".join(odd) + statistics_block(0, 5, 2**40)
    kinds, at = [], 0
    while at < len(text):
        kind, length = struct.unpack_from("<II", text, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", text, at + length - 4)[0] == length
        kinds.append(kind)
        at += length
    assert kinds == [0x0A0D0D0A, 1, *[6] * 8, 5]
