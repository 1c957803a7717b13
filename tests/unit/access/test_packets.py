"""Captured bytes -> frames.

A case is tests/golden/pcap/NAME.pcap, recorded in a real lab, with NAME.json, the frames; the name
ends in .NODE.INTERFACE. Adding a case is adding its files. What a lab rarely shows (a VLAN tag, a
frame cut short) is written here byte by byte.
"""

import json
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from labctl.access.ip_layers import PAYLOAD, Quoted
from labctl.access.packets import Frame, exchange, frames
from labctl.errors import LabError
from tests.unit.golden import GOLDEN, expect_json

CASES = sorted((GOLDEN / "pcap").glob("*.pcap"))


def read(case: Path) -> list[Frame]:
    _, node, interface = case.stem.rsplit(".", 2)
    return frames(case.read_bytes(), node, interface)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    expect_json(case.with_suffix(".json"), [asdict(frame) for frame in read(case)])


def test_captures_are_small_and_have_their_frames() -> None:
    assert {p.stem for p in CASES} == {p.stem for p in (GOLDEN / "pcap").glob("*.json")}
    assert all(case.stat().st_size < 4096 for case in CASES)


def golden(name: str) -> bytes:
    return (GOLDEN / "pcap" / f"{name}.pcap").read_bytes()


def test_one_packet_is_the_same_packet_at_every_interface() -> None:
    """The walk of the lesson: the inner packet of both eth1, and eth0 after the translation."""
    at_hypervisor = read(GOLDEN / "pcap" / "ping-out.compute-01.eth1.pcap")[0]
    at_gateway = read(GOLDEN / "pcap" / "ping-out.network-controller.eth1.pcap")[0]
    outside = read(GOLDEN / "pcap" / "ping-out.network-controller.eth0.pcap")[0]
    for one, other in ((at_hypervisor, at_gateway), (at_gateway, outside)):
        assert (one.identifier, one.sequence) == (other.identifier, other.sequence)
        assert (one.kind, one.dst) == (other.kind, other.dst) == ("request", "8.8.8.8")
    assert at_hypervisor.src == at_gateway.src != outside.src
    assert (at_hypervisor.tunnel, at_gateway.tunnel, outside.tunnel) == (True, True, False)
    assert at_hypervisor.option_class == 0x102


# -- files that are not whole ----------------------------------------------------------------------
def test_the_first_frame_of_a_process_is_decoded_as_all_others() -> None:
    """scapy knows only the layers that are imported, and Geneve is one that it does not import."""
    case = GOLDEN / "pcap" / "ping-in.compute-01.eth1.pcap"
    program = (
        "import sys; from labctl.access.packets import frames;"
        " print(len(frames(open(sys.argv[1], 'rb').read(), 'compute-01', 'eth1')))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(case)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == len(frames(case.read_bytes(), "compute-01", "eth1"))


def test_an_empty_file_and_one_without_packets() -> None:
    whole = golden("ping-out.compute-01.eth1")
    for length in (0, 10, 23, 24):
        assert frames(whole[:length], "n", "eth1") == []


def test_a_file_that_was_cut_off_gives_what_is_whole() -> None:
    whole = golden("ping-out.compute-01.eth1")
    expected = frames(whole, "n", "eth1")
    assert len(expected) == 4
    record = 16 + 156
    for length in range(24, len(whole) + 1, 7):
        complete = (length - 24) // record
        assert frames(whole[:length], "n", "eth1") == expected[:complete], length


def test_what_is_no_capture_is_said() -> None:
    with pytest.raises(LabError, match=r"eth1 of n.* is no pcap"):
        frames(b"tcpdump: eth1: No such device exists\n", "n", "eth1")


def test_a_capture_of_something_else_than_ethernet_is_said() -> None:
    cooked = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113)  # `tcpdump -i any`
    with pytest.raises(LabError, match="no Ethernet"):
        frames(cooked, "n", "any")


# -- frames that a lab rarely shows ----------------------------------------------------------------
MACS = bytes.fromhex("525400000002 525400000001".replace(" ", ""))
IP_TYPE, VLAN_TYPE, ARP_TYPE = b"\x08\x00", b"\x81\x00", b"\x08\x06"


def ip(payload: bytes, protocol: int = 1, src: str = "10.0.2.15", dst: str = "8.8.8.8") -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    return header + bytes(map(int, (f"{src}.{dst}").split("."))) + payload


def echo(kind: int, identifier: int = 7, sequence: int = 3) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, identifier, sequence)


def pcap(*packets: bytes, nano: bool = False, order: str = "<", captured: int = 65535) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    content = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, captured, 1)
    for number, packet in enumerate(packets):
        part = packet[:captured]
        fraction = 500_000_000 if nano else 500_000
        content += struct.pack(f"{order}IIII", 100 + number, fraction, len(part), len(packet))
        content += part
    return content


def geneve(inner: bytes, options: bytes = b"") -> bytes:
    head = struct.pack("!BBHI", len(options) // 4, 0, 0x6558, 42 << 8) + options
    udp = struct.pack("!HHHH", 40000, 6081, 8 + len(head) + len(inner), 0)
    return MACS + IP_TYPE + ip(udp + head + inner, 17, "192.168.33.20", "192.168.33.10")


PLAIN = MACS + IP_TYPE + ip(echo(8))


def test_a_plain_frame() -> None:
    (frame,) = frames(pcap(PLAIN), "gw", "eth0")
    assert frame == Frame(
        node="gw",
        interface="eth0",
        time=100.5,
        tunnel=False,
        tunnel_src=None,
        tunnel_dst=None,
        vni=None,
        option_class=None,
        option_data=None,
        src_mac="52:54:00:00:00:01",
        dst_mac="52:54:00:00:00:02",
        src="10.0.2.15",
        dst="8.8.8.8",
        ttl=64,
        protocol="icmp",
        kind="request",
        identifier=7,
        sequence=3,
        ip_id=1,
        length=28,
        code=0,
    )


def test_nanoseconds_and_the_other_byte_order() -> None:
    for order in "<>":
        for nano in (False, True):
            (frame,) = frames(pcap(PLAIN, nano=nano, order=order), "gw", "eth0")
            assert frame.time == 100.5


def test_a_vlan_tag_hides_nothing() -> None:
    tagged = MACS + VLAN_TYPE + b"\x00\x64" + IP_TYPE + ip(echo(0))
    twice = MACS + VLAN_TYPE + b"\x00\x64" + VLAN_TYPE + b"\x00\x65" + IP_TYPE + ip(echo(0))
    found = [(one.kind, one.src_mac) for one in frames(pcap(tagged, twice), "gw", "eth0")]
    assert found == [("reply", "52:54:00:00:00:01")] * 2


def test_what_is_no_ip_is_left_out() -> None:
    arp = MACS + ARP_TYPE + bytes(28)
    unknown = MACS + b"\x88\xb5" + b"whatever"
    lldp = MACS + b"\x88\xcc" + bytes(20)
    assert frames(pcap(arp, unknown, lldp), "gw", "eth0") == []
    assert len(frames(pcap(arp, PLAIN, lldp), "gw", "eth0")) == 1


def test_frames_that_are_too_short_to_say_anything() -> None:
    short = [PLAIN[:length] for length in (0, 1, 6, 12, 13, 14)]
    assert frames(pcap(*short), "gw", "eth0") == []
    for length in range(15, len(PLAIN)):  # must not fail, whatever it finds
        frames(pcap(PLAIN[:length]), "gw", "eth0")


def test_a_snapshot_length_that_cuts_the_payload_changes_nothing() -> None:
    long = MACS + IP_TYPE + ip(echo(8) + bytes(1000))
    (frame,) = frames(pcap(long, captured=96), "gw", "eth0")
    assert (frame.kind, frame.sequence) == ("request", 3)


def test_what_is_inside_geneve_counts() -> None:
    option = struct.pack("!HBB", 0x0102, 0x80, 1) + b"\x00\x01\x00\x03"
    (frame,) = frames(pcap(geneve(PLAIN, option)), "gw", "eth1")
    assert (frame.tunnel, frame.tunnel_src, frame.tunnel_dst, frame.vni) == (
        True, "192.168.33.20", "192.168.33.10", 42,
    )  # fmt: skip
    assert (frame.option_class, frame.option_data) == (0x102, "00010003")
    assert (frame.src, frame.dst, frame.protocol) == ("10.0.2.15", "8.8.8.8", "icmp")


def test_geneve_without_options_and_with_a_vlan_inside() -> None:
    tagged = MACS + VLAN_TYPE + b"\x00\x64" + IP_TYPE + ip(echo(8))
    found = frames(pcap(geneve(PLAIN), geneve(tagged)), "gw", "eth1")
    assert [(one.tunnel, one.option_class, one.option_data, one.kind) for one in found] == [
        (True, None, None, "request")
    ] * 2


def test_geneve_that_carries_no_ip_is_left_out() -> None:
    arp = MACS + ARP_TYPE + bytes(28)
    assert frames(pcap(geneve(arp), geneve(b""), geneve(b"\x01\x02")), "gw", "eth1") == []


@pytest.mark.parametrize(
    ("protocol", "name"), [(1, "icmp"), (6, "tcp"), (17, "udp"), (47, "47"), (89, "89")]
)
def test_protocols(protocol: int, name: str) -> None:
    (frame,) = frames(pcap(MACS + IP_TYPE + ip(bytes(20), protocol)), "gw", "eth0")
    assert frame.protocol == name


def test_an_icmp_error_is_no_echo() -> None:
    about = ip(echo(8))
    error = MACS + IP_TYPE + ip(struct.pack("!BBHI", 3, 1, 0, 0) + about, 1, "10.0.2.2")
    (frame,) = frames(pcap(error), "gw", "eth0")
    assert (frame.kind, frame.identifier, frame.sequence) == ("3", None, None)
    assert (frame.src, frame.code) == ("10.0.2.2", 1)
    assert frame.quoted == Quoted("10.0.2.15", "8.8.8.8", "icmp", 1, None, None, 7, 3)


def test_an_icmp_error_about_tcp_or_udp_tells_the_ports() -> None:
    for protocol, name in ((6, "tcp"), (17, "udp")):
        about = ip(struct.pack("!HHI", 40000, 22, 5), protocol)  # eight bytes are all that is sure
        error = MACS + IP_TYPE + ip(struct.pack("!BBHI", 3, 3, 0, 0) + about, 1, "8.8.8.8")
        (frame,) = frames(pcap(error), "gw", "eth0")
        assert frame.quoted == Quoted("10.0.2.15", "8.8.8.8", name, 1, 40000, 22, None, None)
        assert (frame.source_port, frame.payload) == (None, "")


def test_tcp_and_udp() -> None:
    head = struct.pack("!HHIIBBHHH", 40000, 22, 7, 9, 5 << 4, 0x12, 1000, 0, 0)
    (frame,) = frames(pcap(MACS + IP_TYPE + ip(head + b"hi", 6)), "gw", "eth0")
    assert (frame.source_port, frame.destination_port, frame.flags) == (40000, 22, "SA")
    assert (frame.tcp_sequence, frame.tcp_acknowledged, frame.payload) == (7, 9, b"hi".hex())
    datagram = struct.pack("!HHHH", 40000, 9999, 8 + 3, 0) + b"abc"
    padded = MACS + IP_TYPE + ip(datagram, 17) + bytes(20)  # Ethernet's shortest frame
    (frame,) = frames(pcap(padded), "gw", "eth0")
    assert (frame.destination_port, frame.payload, frame.length) == (9999, b"abc".hex(), 31)


def test_only_the_beginning_of_a_payload_is_kept() -> None:
    (frame,) = frames(pcap(MACS + IP_TYPE + ip(echo(8) + b"x" * 1000)), "gw", "eth0")
    assert frame.payload == (b"x" * PAYLOAD).hex()


def test_what_the_tunnel_itself_looks_like() -> None:
    (frame,) = frames(pcap(geneve(PLAIN)), "gw", "eth1")
    assert (frame.outer_src_mac, frame.outer_ttl, frame.tunnel_port) == (
        "52:54:00:00:00:01", 64, 40000,
    )  # fmt: skip
    assert (frame.source_port, frame.length) == (None, 28)


def test_the_outermost_tag_is_told() -> None:
    tagged = MACS + VLAN_TYPE + b"\x00\x64" + IP_TYPE + ip(echo(0))
    plain, inside = frames(pcap(tagged, geneve(tagged)), "gw", "eth0")
    assert (plain.vlan, inside.vlan) == (100, 100)


def test_frames_are_json() -> None:
    found = [asdict(one) for one in frames(pcap(PLAIN, geneve(PLAIN)), "gw", "eth0")]
    assert len(found) == 2
    assert json.loads(json.dumps(found)) == found


# -- an exchange -----------------------------------------------------------------------------------
def arp() -> bytes:
    return MACS + b"\x08\x06" + bytes(28)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_an_exchange_is_a_request_and_its_own_reply(order: str, nano: bool) -> None:
    def sent(kind: int, sequence: int) -> bytes:
        return geneve(MACS + IP_TYPE + ip(echo(kind, sequence=sequence)))

    whole = pcap(arp(), sent(0, 1), sent(8, 2), sent(0, 1), sent(0, 2), sent(8, 3), order=order,
                 nano=nano)  # fmt: skip
    found = frames(exchange(whole), "gw", "eth1")
    assert [(frame.kind, frame.sequence) for frame in found] == [("request", 2), ("reply", 2)]
    assert found == [frames(whole, "gw", "eth1")[n] for n in (1, 3)]


def test_an_exchange_without_a_reply_or_without_a_request() -> None:
    request = MACS + IP_TYPE + ip(echo(8))
    assert exchange(pcap(arp(), request, request)) == pcap(arp(), request)[:24] + record(1, request)
    others = [MACS + IP_TYPE + ip(bytes(20), protocol=6) for _ in range(3)]
    assert len(frames(exchange(pcap(*others)), "gw", "eth0")) == 2
    assert frames(exchange(pcap(arp())), "gw", "eth0") == []
    assert exchange(b"") == b""
    assert frames(exchange(pcap(request)[:-1]), "gw", "eth0") == []


def record(number: int, packet: bytes) -> bytes:
    size = len(packet)
    return struct.pack("<IIII", 100 + number, 500_000, size, size) + packet
