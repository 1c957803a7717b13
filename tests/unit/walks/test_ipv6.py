"""A walk over IPv6: what differs from IPv4, from the command that sends to the words shown."""

import socket
from dataclasses import replace
from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from labctl.access.ip_layers import Quoted
from labctl.access.packets import Frame
from labctl.providers.host_capture import pcap
from labctl.walks.arp import ArpQuestion, messages_in, questions
from labctl.walks.correlate import join
from labctl.walks.describe import kind_of, name_of_ttl, with_port
from labctl.walks.model import Joined, Names, Point, SentProbe
from labctl.walks.ovntrace import arp_command, microflow
from labctl.walks.plan import Endpoint, ExternalNetwork, plan, send_command
from tests.unit.walks.sending import expect_heard
from tests.unit.walks.test_correlate import frame as ipv4_frame

NEAR, FAR, ROUTER = "2001:db8:8::10", "2001:db8:9::10", "2001:db8:8::1"
VM_MAC, SIX_MAC = "fa:16:3e:00:00:01", "fa:16:3e:00:00:03"
NEAR_PORT, FAR_PORT = "02:00:00:00:01:02", "02:00:00:00:02:02"

VM = Endpoint("vm_1", "instance", NEAR, "c1", "tap1", mac=VM_MAC)
SIX = Endpoint("vm_six", "instance", FAR, "c2", "tap2", mac=SIX_MAC)
OWN_ADDRESS = Endpoint("r:n1", "address", ROUTER, mac=NEAR_PORT)
OUTSIDE = Endpoint("2001:db8:ffff::1", "address", "2001:db8:ffff::1")
NODE = Endpoint("gw", "node", "2001:db8:7::2", "gw")
NETWORK = ExternalNetwork("gw", {"gw": ("br-ex", "eth0"), "c1": ("eth0",)}, "nat0")


# -- what is listened to and sent ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("target", "way"),
    [
        (SIX, ["c1 tap1", "c1 eth1", "c2 eth1", "c2 tap2"]),
        (OWN_ADDRESS, ["c1 tap1"]),
        (OUTSIDE, ["c1 tap1", "c1 eth1", "gw eth1", "gw eth0", "internet nat0"]),
    ],
)
def test_the_way(target: Endpoint, way: list[str]) -> None:
    made = plan(VM, target, "ping", None, NETWORK)
    assert [f"{point.node} {point.interface}" for point in made.expected] == way


def test_filters_have_neighbor_discovery_in_place_of_arp() -> None:
    made = plan(VM, SIX, "tcp", 22, NETWORK)
    by_place = {(point.node, point.interface): point.filter for point in made.listen}
    assert by_place["c1", "tap1"] == "icmp6 or tcp port 22"
    assert by_place["c1", "eth1"] == "udp port 6081 or icmp6 or tcp port 22 or vlan"


def test_the_size_of_a_ping_is_that_of_the_longer_header() -> None:
    send = send_command(VM, SIX, "ping", None, 3)
    size = int(send.shown.split(" -s ")[1].split()[0])
    assert (send.probe.protocol, send.probe.length) == ("icmp6", size + 48)
    assert send.probe.mac == VM_MAC


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_client_of_a_node_really_sends(kind: str) -> None:
    family = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6, family) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        if kind == "tcp":
            server.listen()
        port = server.getsockname()[1]
        send = send_command(NODE, Endpoint("here", "address", "::1"), kind, port, 7)  # type: ignore[arg-type]
        expect_heard(send, server, kind)


# -- joining ---------------------------------------------------------------------------------------
TAP1, TAP2 = Point("c1", "tap1", "instance"), Point("c2", "tap2", "instance")
C1, C2 = Point("c1", "eth1", "underlay"), Point("c2", "eth1", "underlay")
POINTS = [TAP1, C1, C2, TAP2]
NAMES = Names(
    owners={"192.168.33.20": "c1", "192.168.33.30": "c2"},
    datapaths={1: "n1", 2: "n_six"},
    routers={NEAR_PORT: "r", FAR_PORT: "r"},
    inside=frozenset({VM_MAC, SIX_MAC, NEAR_PORT, FAR_PORT}),
)
PROBE = SentProbe("icmp6", NEAR, FAR, length=125, mac=VM_MAC)


def frame(point: Point, time: float, **given: Any) -> Frame:
    """An echo request of vm_1 to vm_six as it leaves it, with what is `given` changed."""
    known = {
        "src": NEAR, "dst": FAR, "src_mac": VM_MAC, "dst_mac": NEAR_PORT, "protocol": "icmp6",
        "ip_id": 0, "length": 125, "ttl": 255,
    }  # fmt: skip
    return ipv4_frame(point, time, **{**known, **given})


ROUTED: dict[str, Any] = {"ttl": 254, "src_mac": FAR_PORT, "dst_mac": SIX_MAC}
BACK: dict[str, Any] = {
    "kind": "reply", "src": FAR, "dst": NEAR, "src_mac": SIX_MAC, "dst_mac": FAR_PORT, "ttl": 64,
}  # fmt: skip
ROUTED_BACK: dict[str, Any] = {
    **BACK, "ttl": 63, "src_mac": NEAR_PORT, "dst_mac": VM_MAC,
}  # fmt: skip


def inside(point: Point, time: float, ends: tuple[str, str], vni: int, **given: Any) -> Frame:
    return frame(
        point, time, tunnel=True, tunnel_src=ends[0], tunnel_dst=ends[1], vni=vni,
        option_class=0x102, option_data="00010002", **given,
    )  # fmt: skip


def there_and_back(**given: Any) -> list[Frame]:
    there = ("192.168.33.20", "192.168.33.30")
    return [
        frame(TAP1, 1.0, **given),
        inside(C1, 1.001, there, 2, **ROUTED, **given),
        inside(C2, 1.002, there, 2, **ROUTED, **given),
        frame(TAP2, 1.003, **ROUTED, **given),
        frame(TAP2, 1.004, **BACK, **given),
        inside(C2, 1.005, there[::-1], 1, **ROUTED_BACK, **given),
        inside(C1, 1.006, there[::-1], 1, **ROUTED_BACK, **given),
        frame(TAP1, 1.007, **ROUTED_BACK, **given),
    ]


def places(joined: Joined) -> list[list[str]]:
    return [
        [f"{hop.node} {hop.interface}" for hop in path.hops]
        for path in (joined.request, joined.reply)
        if path is not None
    ]


WAY = ["c1 tap1", "c1 eth1", "c2 eth1", "c2 tap2"]


def test_a_ping_across_computes() -> None:
    joined = join(there_and_back()[::-1], PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.answer == "reply"
    assert joined.request is not None
    assert [hop.frame.ttl for hop in joined.request.hops] == [255, 254, 254, 254]
    changes = [(change.field, change.by) for change in joined.request.hops[1].changes]
    assert changes == [("tunnel", "Geneve"), ("ttl", "r"), ("src_mac", "r"), ("dst_mac", "r")]


@pytest.mark.parametrize(
    "stranger",
    [{"identifier": 8}, {"sequence": 1}, {"payload": "11" * 20}, {"length": 124}],
    ids=lambda given: next(iter(given)),
)
def test_another_ping_of_the_same_instance_is_not_mixed_in(stranger: dict[str, Any]) -> None:
    """Without an identification each of these alone tells two packets apart."""
    probe = replace(PROBE, length=None, marker="00" * 8)
    other = [replace(one, time=one.time + 0.0001, **stranger) for one in there_and_back()]
    joined = join([*there_and_back(), *other], probe, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    for path in (joined.request, joined.reply):
        assert path is not None
        seen = {
            (hop.frame.identifier, hop.frame.sequence, hop.frame.payload, hop.frame.length)
            for hop in path.hops
        }
        assert len(seen) == 1


def test_the_sender_is_known_by_its_mac_whatever_address_it_chooses() -> None:
    joined = join([frame(TAP1, 1.0, src="2001:db8:8::99")], PROBE, POINTS, NAMES)
    assert places(joined) == [["c1 tap1"]]
    strangers = [frame(TAP1, 1.0, src_mac=SIX_MAC)]
    assert join(strangers, PROBE, POINTS, NAMES).request is None


@pytest.mark.parametrize(
    ("kind", "code", "about", "answer"),
    [
        ("1", 4, {}, "refused"), ("1", 1, {}, "error"), ("1", 3, {}, "error"),
        ("3", 0, {}, "error"), ("1", 4, {"source_port": 40001}, None),
        ("1", 4, {"dst": ROUTER}, None),
    ],
)  # fmt: skip
def test_icmpv6_errors_about_udp(
    kind: str, code: int, about: dict[str, Any], answer: str | None
) -> None:
    sent = frame(
        TAP1, 1.0, protocol="udp", kind="", identifier=None, sequence=None, source_port=40000,
        destination_port=9999,
    )  # fmt: skip
    quoted = replace(Quoted(NEAR, FAR, "udp", 0, 40000, 9999, None, None), **about)
    error = frame(TAP1, 1.1, src=ROUTER, dst=NEAR, kind=kind, code=code, quoted=quoted,
                  identifier=None, sequence=None)  # fmt: skip
    probe = SentProbe("udp", NEAR, FAR, port=9999, mac=VM_MAC)
    assert join([sent, error], probe, POINTS, NAMES).answer == answer


def test_a_handshake_by_its_sequence_numbers() -> None:
    tcp = {"protocol": "tcp", "kind": "", "identifier": None, "sequence": None, "payload": "",
           "length": 80}  # fmt: skip
    syn = {**tcp, "source_port": 4000, "destination_port": 22, "flags": "S", "tcp_sequence": 5}
    answer = {**tcp, "source_port": 22, "destination_port": 4000, "flags": "SA", "tcp_sequence": 9,
              "tcp_acknowledged": 6}  # fmt: skip
    seen = [
        frame(TAP1, 1.0, **syn), frame(TAP2, 1.1, **{**ROUTED, **syn}),
        frame(TAP2, 1.2, **{**BACK, **answer}), frame(TAP1, 1.3, **{**ROUTED_BACK, **answer}),
    ]  # fmt: skip
    joined = join(seen, SentProbe("tcp", NEAR, FAR, port=22, mac=VM_MAC), POINTS, NAMES)
    assert places(joined) == [["c1 tap1", "c2 tap2"], ["c2 tap2", "c1 tap1"]]


# -- neighbor discovery ----------------------------------------------------------------------------
ALL_ROUTERS = "ff02::2"


def solicits(mac: str, address: str, target: str) -> Ether:
    head = Ether(src=mac, dst="33:33:ff:00:00:01") / IPv6(src=address, dst="ff02::1:ff00:1")
    message = head / ICMPv6ND_NS(tgt=target)
    return message if address == "::" else message / ICMPv6NDOptSrcLLAddr(lladdr=mac)


def advertises(mac: str, address: str, to: str) -> Ether:
    head = Ether(src=mac, dst=VM_MAC) / IPv6(src=address, dst=to)
    return head / ICMPv6ND_NA(tgt=address) / ICMPv6NDOptDstLLAddr(lladdr=mac)


def asked_in(*packets: Ether) -> tuple[ArpQuestion, ...]:
    content = pcap([(100.0 + number, bytes(packet)) for number, packet in enumerate(packets)])
    return questions(messages_in(content, "c1", "tap1"))


def test_a_solicitation_that_nobody_answers() -> None:
    (question,) = asked_in(*[solicits(VM_MAC, NEAR, ROUTER)] * 3)
    assert question == ArpQuestion(
        target=ROUTER, asker=NEAR, asker_mac=VM_MAC, node="c1", interface="tap1",
        seen=("c1 tap1",), times=3, answers=(),
    )  # fmt: skip


def test_one_owner_and_two() -> None:
    one, two = asked_in(
        solicits(VM_MAC, NEAR, ROUTER),
        advertises(NEAR_PORT, ROUTER, NEAR),
        advertises(NEAR_PORT, ROUTER, NEAR),
        solicits(VM_MAC, NEAR, "2001:db8:8::11"),
        advertises(SIX_MAC, "2001:db8:8::11", NEAR),
        advertises(FAR_PORT, "2001:db8:8::11", NEAR),
    )
    assert [answer.mac for answer in one.answers] == [NEAR_PORT]
    assert [answer.mac for answer in two.answers] == [SIX_MAC, FAR_PORT]


def test_what_asks_for_nobody_elses_address() -> None:
    """Whether the own address is free; who is a router; what is inside a tunnel."""
    geneve = Ether() / IP() / UDP(dport=6081) / GENEVE()
    assert not asked_in(
        solicits(VM_MAC, "::", NEAR),
        Ether() / IPv6(dst=ALL_ROUTERS) / ICMPv6ND_RS(),
        geneve / solicits(VM_MAC, NEAR, ROUTER),
    )


# -- ovn-trace -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "words"),
    [({}, "icmp6.type == 128 && icmp6.code == 0"),
     ({"kind": "reply"}, "icmp6.type == 129 && icmp6.code == 0"),
     ({"kind": "1", "code": 4}, "icmp6.type == 1 && icmp6.code == 4"),
     ({"protocol": "udp", "source_port": 5, "destination_port": 53},
      "udp && udp.src == 5 && udp.dst == 53")],
)  # fmt: skip
def test_a_packet_as_ovn_writes_it(given: dict[str, Any], words: str) -> None:
    assert microflow("p", frame(TAP1, 1.0, **given)) == (
        f'inport == "p" && eth.src == {VM_MAC} && eth.dst == {NEAR_PORT} && ip6.src == {NEAR}'
        f" && ip6.dst == {FAR} && ip.ttl == 255 && {words}"
    )


def test_a_solicitation_as_ovn_writes_it() -> None:
    question = ArpQuestion("2001:db8:8::12:ab34", NEAR, VM_MAC, "c1", "tap1", (), 1, ())
    assert arp_command("n1", "p", question)[-1] == (
        f'inport == "p" && eth.src == {VM_MAC} && eth.dst == 33:33:ff:12:ab:34'
        f" && ip6.src == {NEAR} && ip6.dst == ff02::1:ff12:ab34 && ip.ttl == 255 && nd_ns"
        f" && nd.target == 2001:db8:8::12:ab34 && nd.sll == {VM_MAC}"
    )


# -- words -----------------------------------------------------------------------------------------
def test_words_of_ipv6() -> None:
    sent = frame(TAP1, 1.0)
    assert (kind_of(sent), name_of_ttl(sent)) == ("ICMPv6 echo request", "hop limit")
    assert with_port(NEAR, 22) == f"[{NEAR}]:22"
    assert with_port(NEAR, None) == NEAR
    assert with_port("10.0.2.15", 22) == "10.0.2.15:22"
    quoted = Quoted(NEAR, FAR, "udp", 0, 40000, 9999, None, None)
    errors = {
        (kind, code): kind_of(replace(sent, kind=kind, code=code, quoted=quoted))
        for kind, code in (("1", 4), ("2", 0), ("3", 0), ("9", 7))
    }
    assert list(errors.values()) == [
        "ICMPv6 port unreachable", "ICMPv6 packet too big", "ICMPv6 time exceeded",
        "ICMPv6 type 9 code 7",
    ]  # fmt: skip
