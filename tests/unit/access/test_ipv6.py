"""IPv6 on the wire: frames and neighbor discovery out of bytes, written here one by one.

The frames of tests/golden/pcap/ipv6.* were recorded in a real lab: see test_packets.py.
"""

import struct
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from labctl.access.flows import own_frames
from labctl.access.ip_layers import PAYLOAD, Quoted
from labctl.access.neighbors import NeighborMessage, neighbor_message
from labctl.access.packet_lines import describe
from labctl.access.packets import (
    Frame,
    ethernet_frames,
    exchange,
    frames,
    identity,
    sighting,
)
from labctl.access.pcapng import Packet
from labctl.probes import ProbeContext
from labctl.probes.wire import PROBES
from tests.unit.access.test_packets import MACS, VLAN_TYPE, geneve, pcap
from tests.unit.fakes import FakeGuest, no_cloud, topology

IPV6_TYPE = b"\x86\xdd"
HOST, ROUTER = "2001:db8:8::10", "2001:db8:8::1"
LINK_LOCAL, ALL_NODES = "fe80::1", "ff02::1"
MAC = bytes.fromhex("fa163e0000ab")


def packed(address: str) -> bytes:
    return IPv6Address(address).packed


def ipv6(
    payload: bytes, next_header: int = 58, src: str = HOST, dst: str = ROUTER, hops: int = 64
) -> bytes:
    head = struct.pack("!IHBB", 6 << 28 | 0xABCDE, len(payload), next_header, hops)
    return head + packed(src) + packed(dst) + payload


def echo(kind: int, data: bytes = b"", identifier: int = 7, sequence: int = 3) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + data


def framed(packet: bytes) -> bytes:
    return MACS + IPV6_TYPE + packet


def neighbor_messages(content: bytes, node: str, interface: str) -> list[NeighborMessage]:
    decoded = (
        neighbor_message(node, interface, seconds, outer)
        for seconds, outer in ethernet_frames(content, node, interface)
    )
    return [message for message in decoded if message is not None]


def only(*wire: bytes) -> Frame:
    (frame,) = frames(pcap(*wire), "compute-01", "eth1")
    return frame


# -- frames ----------------------------------------------------------------------------------------
def test_a_plain_frame() -> None:
    assert only(framed(ipv6(echo(128, b"hello")))) == Frame(
        node="compute-01",
        interface="eth1",
        time=100.5,
        tunnel=False,
        tunnel_src=None,
        tunnel_dst=None,
        vni=None,
        option_class=None,
        option_data=None,
        src_mac="52:54:00:00:00:01",
        dst_mac="52:54:00:00:00:02",
        src=HOST,
        dst=ROUTER,
        ttl=64,
        protocol="icmp6",
        kind="request",
        identifier=7,
        sequence=3,
        length=40 + 8 + 5,
        code=0,
        payload=b"hello".hex(),
    )


def test_in_a_tunnel_over_ipv4() -> None:
    option = struct.pack("!HBB", 0x0102, 0x80, 1) + b"\x00\x01\x00\x03"
    frame = only(geneve(framed(ipv6(echo(129), hops=63)), option))
    assert (frame.tunnel, frame.tunnel_src, frame.tunnel_dst, frame.vni) == (
        True, "192.168.33.20", "192.168.33.10", 42,
    )  # fmt: skip
    assert (frame.option_class, frame.option_data, frame.outer_ttl) == (0x102, "00010003", 64)
    assert (frame.src, frame.dst, frame.ttl, frame.kind) == (HOST, ROUTER, 63, "reply")


def test_a_tag_and_the_padding_of_ethernet_change_nothing() -> None:
    tagged = MACS + VLAN_TYPE + b"\x00\x65" + IPV6_TYPE + ipv6(echo(128, b"x")) + bytes(9)
    frame = only(tagged)
    assert (frame.vlan, frame.kind, frame.payload) == (101, "request", b"x".hex())


def test_only_the_beginning_of_an_echo_is_kept() -> None:
    assert only(framed(ipv6(echo(128, b"x" * 999)))).payload == (b"x" * PAYLOAD).hex()


def test_tcp_and_udp() -> None:
    head = struct.pack("!HHIIBBHHH", 40000, 22, 7, 9, 5 << 4, 0x12, 1000, 0, 0)
    frame = only(framed(ipv6(head + b"hi", 6)))
    assert (frame.protocol, frame.source_port, frame.destination_port, frame.flags) == (
        "tcp", 40000, 22, "SA",
    )  # fmt: skip
    assert (frame.tcp_sequence, frame.tcp_acknowledged, frame.payload) == (7, 9, b"hi".hex())
    frame = only(framed(ipv6(struct.pack("!HHHH", 546, 547, 11, 0) + b"abc", 17)))
    assert (frame.protocol, frame.destination_port, frame.payload) == ("udp", 547, b"abc".hex())


@pytest.mark.parametrize(("next_header", "name"), [(47, "47"), (59, "59"), (132, "132")])
def test_other_protocols_are_their_numbers(next_header: int, name: str) -> None:
    frame = only(framed(ipv6(bytes(20), next_header)))
    assert (frame.protocol, frame.kind) == (name, "")


def test_what_is_behind_extension_headers_counts() -> None:
    # A report of multicast listeners (MLDv2) has a router alert in front, hop by hop.
    report = struct.pack("!BBHI", 143, 0, 0, 0)
    alert = bytes([58, 0, 5, 2, 0, 0, 1, 0])
    frame = only(framed(ipv6(alert + report, 0)))
    assert (frame.protocol, frame.kind, frame.code) == ("icmp6", "143", None)
    # Of a fragment that is not the first nobody knows what its bytes are.
    later = bytes([17, 0]) + struct.pack("!HI", 1 << 3, 99)
    frame = only(framed(ipv6(later + bytes(24), 44)))
    assert (frame.protocol, frame.source_port) == ("udp", None)


@pytest.mark.parametrize(
    ("next_header", "about", "quoted"),
    [
        (58, echo(128), Quoted(HOST, "2001:db8:9::9", "icmp6", 0, None, None, 7, 3)),
        (17, struct.pack("!HHHH", 40000, 53, 8, 0),
         Quoted(HOST, "2001:db8:9::9", "udp", 0, 40000, 53, None, None)),
        (6, struct.pack("!HHIIBBHHH", 40000, 22, 7, 9, 5 << 4, 2, 0, 0, 0),
         Quoted(HOST, "2001:db8:9::9", "tcp", 0, 40000, 22, None, None)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_an_error_tells_what_it_is_about(
    next_header: int, about: bytes, quoted: Quoted, kind: int
) -> None:
    original = ipv6(about, next_header, dst="2001:db8:9::9")
    error = struct.pack("!BBHI", kind, 3, 0, 0) + original
    frame = only(framed(ipv6(error, src=ROUTER, dst=HOST)))
    assert (frame.kind, frame.code, frame.identifier) == (str(kind), 3, None)
    assert frame.quoted == quoted


def test_frames_that_are_cut_off_do_no_harm() -> None:
    whole = framed(ipv6(echo(128, b"data")))
    discovery = framed(solicitation())
    for wire in (whole, discovery, geneve(whole)):
        for length in range(len(wire)):
            for read in (frames, neighbor_messages):
                assert len(read(pcap(wire[:length]), "n", "eth1")) <= 1


def test_a_packet_is_the_same_before_and_behind_a_router() -> None:
    sent = only(framed(ipv6(echo(128, b"12345678"))))
    routed = only(geneve(framed(ipv6(echo(128, b"12345678"), hops=63))))
    assert identity(sent) == identity(routed)
    assert identity(sent) != identity(only(framed(ipv6(echo(128, b"12345678", sequence=4)))))


def test_an_exchange_is_a_request_and_its_reply() -> None:
    whole = pcap(framed(solicitation()), framed(ipv6(echo(128))), framed(ipv6(echo(129))))
    assert [frame.kind for frame in frames(exchange(whole), "n", "eth1")] == ["request", "reply"]


def test_a_ping_that_was_under_way_is_somebody_elses() -> None:
    own = replace(only(framed(ipv6(echo(128, sequence=0)))), time=1.0)
    foreign = replace(only(framed(ipv6(echo(128, identifier=8, sequence=90)))), time=2.0)
    assert own_frames([own, foreign]) == [own]
    ipv4 = replace(foreign, protocol="icmp", identifier=7)  # an identifier is of one protocol
    assert own_frames([own, ipv4]) == [own]


def test_as_a_line_of_text() -> None:
    head = struct.pack("!HHHH", 546, 547, 8, 0)
    text = sighting(vars(only(framed(ipv6(head, 17)))))
    assert f"udp [{HOST}]:546 > [{ROUTER}]:547" in text
    packet = Packet(0, 0, framed(solicitation()), len(framed(solicitation())))
    described = describe(packet, "compute-01", "tap0")
    assert described.frame is not None
    assert f"icmp6 neighbor-solicitation {HOST} > {ROUTER}" in described.text


# -- neighbor discovery ----------------------------------------------------------------------------
def option(kind: int, mac: bytes = MAC) -> bytes:
    return bytes([kind, 1]) + mac


def solicitation(target: str = ROUTER, options: bytes = b"") -> bytes:
    return ipv6(struct.pack("!BBHI", 135, 0, 0, 0) + packed(target) + options, hops=255)


def message(wire: bytes) -> NeighborMessage:
    (found,) = neighbor_messages(pcap(wire), "compute-01", "tap0")
    return found


def prefix(address: str, length: int, flags: int) -> bytes:
    head = struct.pack("!BBBBIII", 3, 4, length, flags, 3600, 3600, 0)
    return head + packed(address)


def test_who_has_an_address() -> None:
    found = message(framed(solicitation(options=option(1))))
    assert found == NeighborMessage(
        node="compute-01",
        interface="tap0",
        time=100.5,
        tunnel=False,
        kind="neighbor-solicitation",
        src=HOST,
        dst=ROUTER,
        src_mac="52:54:00:00:00:01",
        target=ROUTER,
        mac="fa:16:3e:00:00:ab",
        prefixes=(),
        managed=None,
        other=None,
    )


def test_the_answer_and_one_who_asks_for_its_own_address() -> None:
    told = struct.pack("!BBHI", 136, 0, 0, 0xE0000000) + packed(ROUTER) + option(2)
    found = message(geneve(framed(ipv6(told, src=ROUTER, dst=HOST, hops=255))))
    assert (found.kind, found.target, found.mac, found.tunnel) == (
        "neighbor-advertisement", ROUTER, "fa:16:3e:00:00:ab", True,
    )  # fmt: skip
    free = struct.pack("!BBHI", 135, 0, 0, 0) + packed(HOST)
    found = message(framed(ipv6(free, src="::", dst="ff02::1:ff00:10", hops=255)))
    assert (found.src, found.target, found.mac) == ("::", HOST, None)


@pytest.mark.parametrize(("flags", "managed", "other"), [
    (0, False, False), (0x40, False, True), (0x80, True, False), (0xC0, True, True),
])  # fmt: skip
def test_what_a_router_advertises(flags: int, managed: bool, other: bool) -> None:
    head = struct.pack("!BBHBBHII", 134, 0, 0, 255, flags, 1800, 0, 0)
    mtu = struct.pack("!BBHI", 5, 1, 0, 1442)
    options = option(1) + mtu + prefix("2001:db8:8::", 64, 0xC0) + prefix("2001:db8:7::", 64, 0x80)
    advertised = head + options
    wire = framed(ipv6(advertised, src=LINK_LOCAL, dst=ALL_NODES, hops=255))
    found = message(wire)
    assert (found.kind, found.src, found.mac, found.target) == (
        "router-advertisement", LINK_LOCAL, "fa:16:3e:00:00:ab", None,
    )  # fmt: skip
    # The second one is on the link, and not for addresses: its flag A is not set.
    assert found.prefixes == ("2001:db8:8::/64",)
    assert (found.managed, found.other) == (managed, other)
    assert only(wire).kind == "router-advertisement"


def test_a_host_asks_for_routers() -> None:
    asked = struct.pack("!BBHI", 133, 0, 0, 0) + option(1)
    found = message(framed(ipv6(asked, src=LINK_LOCAL, dst="ff02::2", hops=255)))
    assert (found.kind, found.dst, found.mac, found.managed) == (
        "router-solicitation", "ff02::2", "fa:16:3e:00:00:ab", None,
    )  # fmt: skip


def test_nothing_else_is_neighbor_discovery() -> None:
    arp = MACS + b"\x08\x06" + bytes(28)
    others = (framed(ipv6(echo(128))), arp, framed(ipv6(bytes(8), 17)), geneve(b"\x01\x02"))
    assert neighbor_messages(pcap(*others), "n", "eth1") == []
    assert neighbor_messages(b"", "n", "eth1") == []


def test_one_row_for_each_message() -> None:
    seen = neighbor_messages(pcap(framed(solicitation())), "compute-01", "tap0")
    context = ProbeContext(topology(), no_cloud, lambda name: FakeGuest(), neighbors=seen)
    (row,) = PROBES["wire.neighbors"](context, {})
    assert (row["kind"], row["target"], row["prefixes"]) == ("neighbor-solicitation", ROUTER, [])
