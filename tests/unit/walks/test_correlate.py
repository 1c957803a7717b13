"""Joining: whatever order, clocks and strangers the frames come with, the walk is the same."""

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.access.ip_layers import Quoted
from labctl.access.packets import Frame, frames
from labctl.walks.correlate import join
from labctl.walks.model import Joined, Names, NatRule, Point, SentProbe
from tests.unit.walks.walks import CASES, WALKS, RecordedLab

TAP = Point("c1", "tap0", "instance")
C1, GW = Point("c1", "eth1", "underlay"), Point("gw", "eth1", "underlay")
BREX, ETH0 = Point("gw", "br-ex", "host"), Point("gw", "eth0", "external")
NAT0 = Point("internet", "nat0", "internet")
POINTS = [TAP, C1, GW, BREX, ETH0, NAT0]

VM, INSIDE, OUTSIDE = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03"
HOST, FAR = "52:54:00:00:00:01", "0a:00:00:00:00:01"
NAMES = Names(
    owners={"192.168.33.10": "gw", "192.168.33.20": "c1", OUTSIDE: "gw", HOST: "gw",
            FAR: "internet"},
    datapaths={1: "n1", 2: "r"},
    ports={(2, 1): "r:n1", (2, 3): "r on gw"},
    routers={INSIDE: "r", OUTSIDE: "r"},
    hosts=frozenset({HOST}),
    inside=frozenset({VM, INSIDE, OUTSIDE}),
    nat=(NatRule("snat", "10.0.2.220", "172.16.100.0/24", "r"),
         NatRule("dnat_and_snat", "10.0.2.210", "172.16.100.10", "r")),
)  # fmt: skip
PROBE = SentProbe("icmp", "172.16.100.10", "8.8.8.8", length=105)


def frame(point: Point, time: float, **given: Any) -> Frame:
    """An echo request of vm as it leaves it, with what is `given` changed."""
    known: dict[str, Any] = {
        "tunnel": False, "tunnel_src": None, "tunnel_dst": None, "vni": None,
        "option_class": None, "option_data": None, "src_mac": VM, "dst_mac": INSIDE,
        "src": "172.16.100.10", "dst": "8.8.8.8", "ttl": 64, "protocol": "icmp",
        "kind": "request", "identifier": 7, "sequence": 0, "ip_id": 100, "length": 105,
        "payload": "00" * 20, "code": 0,
    }  # fmt: skip
    return Frame(node=point.node, interface=point.interface, time=time, **{**known, **given})


def tunnelled(point: Point, time: float, start: str, end: str, /, **given: Any) -> Frame:
    return frame(
        point, time, tunnel=True, tunnel_src=start, tunnel_dst=end, vni=2, option_class=0x102,
        option_data="00010003", **given,
    )  # fmt: skip


ROUTED = {"src_mac": OUTSIDE, "dst_mac": FAR, "ttl": 63}
SNATED = {**ROUTED, "src": "10.0.2.210"}
BACK = {"kind": "reply", "ip_id": 900, "src": "8.8.8.8"}


def out(clock: float = 0.0) -> list[Frame]:
    """A ping out and its answer; the gateway's clock is off by `clock` seconds."""
    there = ("192.168.33.20", "192.168.33.10")
    return [
        frame(TAP, 1.0),
        tunnelled(C1, 1.001, *there, **ROUTED),
        tunnelled(GW, 1.002 + clock, *there, **ROUTED),
        frame(ETH0, 1.003 + clock, **SNATED),
        frame(NAT0, 1.004, **SNATED),
        frame(NAT0, 1.005, **BACK, dst="10.0.2.210", src_mac=FAR, dst_mac=OUTSIDE),
        frame(ETH0, 1.006 + clock, **BACK, dst="10.0.2.210", src_mac=FAR, dst_mac=OUTSIDE),
        tunnelled(GW, 1.007 + clock, *there[::-1], **BACK, dst="172.16.100.10",
                  src_mac=INSIDE, dst_mac=VM, ttl=63),
        tunnelled(C1, 1.008, *there[::-1], **BACK, dst="172.16.100.10",
                  src_mac=INSIDE, dst_mac=VM, ttl=63),
        frame(TAP, 1.009, **BACK, dst="172.16.100.10", src_mac=INSIDE, dst_mac=VM, ttl=63),
    ]  # fmt: skip


def places(joined: Joined) -> list[list[str]]:
    return [
        [f"{hop.node} {hop.interface}" for hop in path.hops]
        for path in (joined.request, joined.reply)
        if path is not None
    ]


WAY = ["c1 tap0", "c1 eth1", "gw eth1", "gw eth0", "internet nat0"]


def test_there_and_back() -> None:
    joined = join(out(), PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.answer == "reply"
    assert joined.skews == {}
    assert joined.request is not None
    assert [hop.direction for hop in joined.request.hops] == ["in", "out", "in", "out", "in"]


def test_each_change_is_named_with_who_did_it() -> None:
    joined = join(out(), PROBE, POINTS, NAMES)
    assert joined.request is not None
    assert joined.reply is not None
    said = [
        (change.field, change.before, change.after, change.why, change.by)
        for hop in joined.request.hops
        for change in hop.changes
    ]
    tunnel = "192.168.33.20 > 192.168.33.10 vni 2"
    assert said == [
        ("tunnel", None, tunnel, "encapsulated", "Geneve"),
        ("ttl", 64, 63, "routed", "r"),
        ("src_mac", VM, OUTSIDE, "routed", "r"),
        ("dst_mac", INSIDE, FAR, "routed", "r"),
        ("tunnel", tunnel, None, "decapsulated", "Geneve"),
        ("src", "172.16.100.10", "10.0.2.210", "snat", "r"),
    ]
    back = [change for hop in joined.reply.hops for change in hop.changes if change.field == "dst"]
    assert [(change.why, change.rule) for change in back] == [
        ("unsnat", "dnat_and_snat 10.0.2.210 172.16.100.10")
    ]


# -- properties ------------------------------------------------------------------------------------
def recorded(case: str) -> tuple[list[Frame], RecordedLab]:
    lab = RecordedLab(WALKS / case, pytest.MonkeyPatch())
    seen = [
        one
        for file in sorted((WALKS / case).glob("*.pcap"))
        for one in frames(file.read_bytes(), *file.stem.split(".", 1))
    ]
    return seen, lab


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_the_frames_does_not_matter(case: str) -> None:
    seen, lab = recorded(case)
    walk = lab.walk()
    lab.monkeypatch.undo()
    for seed in range(3):
        shuffled = random.Random(seed).sample(seen, len(seen))
        lab = RecordedLab(WALKS / case, pytest.MonkeyPatch())
        lab.monkeypatch.setattr("labctl.walks.walker.frames", _of(shuffled))
        again = lab.walk()
        lab.monkeypatch.undo()
        assert (again.request, again.reply) == (walk.request, walk.reply)


def _of(seen: list[Frame]) -> Any:
    """Stands in for reading the captures: the same frames in an order that no capture has."""

    def read(content: bytes, node: str, interface: str) -> list[Frame]:
        return [one for one in seen if (one.node, one.interface) == (node, interface)]

    return read


@given(st.permutations(range(10)), st.floats(-5, 5), st.booleans())
def test_shuffled_frames_and_wrong_clocks_give_the_same_way(
    order: list[int], clock: float, twice: bool
) -> None:
    seen = out(clock)
    joined = join([seen[n] for n in order] + (seen[:3] if twice else []), PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.request is not None
    assert joined.reply is not None
    offsets = [hop.offset for path in (joined.request, joined.reply) for hop in path.hops]
    if joined.skews:
        # Corrected by half of what the two directions differ in: as exact as it can be.
        assert joined.skews["gw"] == pytest.approx(clock, abs=0.01)
    assert all(later >= sooner - 1e-6 for sooner, later in pairwise(offsets))


def strangers() -> list[Frame]:
    """Traffic of others, as near to ours as can be."""
    there = ("192.168.33.20", "192.168.33.10")
    return [
        # another ping of the same instance to the same host, of the same size
        replace(frame(TAP, 1.0005), ip_id=101, identifier=8, payload="11" * 20),
        tunnelled(C1, 1.0011, *there, **ROUTED, ip_id=101, identifier=8, payload="11" * 20),
        frame(NAT0, 1.0042, **SNATED, ip_id=101, identifier=8, payload="11" * 20),
        frame(NAT0, 1.0043, **{**BACK, "ip_id": 901}, dst="10.0.2.210", src_mac=FAR,
              dst_mac=OUTSIDE, identifier=8, payload="11" * 20),
        # the next echo of the same ping
        replace(frame(TAP, 1.0006), ip_id=102, sequence=1),
        # one of the same number, by another instance
        replace(frame(TAP, 1.0007), src="172.16.100.11", ip_id=100, payload="22" * 20),
        # an answer that nobody asked for
        frame(ETH0, 1.0031, **{**BACK, "ip_id": 902}, dst="10.0.2.99", src_mac=FAR,
              dst_mac=OUTSIDE),
        # no ICMP at all
        replace(frame(TAP, 1.0008), protocol="udp", kind="", source_port=5, destination_port=53),
    ]  # fmt: skip


def test_strangers_are_not_mixed_in() -> None:
    alone = join(out(), PROBE, POINTS, NAMES)
    probe = replace(PROBE, marker="00" * 10)
    assert join([*strangers(), *out()], probe, POINTS, NAMES) == join(out(), probe, POINTS, NAMES)
    assert places(alone) == [WAY, WAY[::-1]]


# -- what is odd -----------------------------------------------------------------------------------
def test_the_clocks_of_the_tutorial() -> None:
    """In the tutorial's own captures the controller receives before the compute node sends."""
    seen = out(-0.0015)
    joined = join(seen, PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.skews["gw"] == pytest.approx(-0.0015, abs=0.0005)
    assert joined.request is not None
    offsets = [hop.offset for hop in joined.request.hops]
    assert offsets == sorted(offsets)


def test_one_direction_alone_tells_the_least_skew() -> None:
    joined = join(out(-0.5)[:4], PROBE, POINTS, NAMES)
    assert joined.reply is None
    assert joined.skews["gw"] == pytest.approx(-0.499, abs=1e-6)


def test_clocks_that_agree_are_left_alone() -> None:
    assert join(out(0.0002), PROBE, POINTS, NAMES).skews == {}


def test_snat_may_change_the_icmp_id() -> None:
    seen = [
        replace(one, identifier=4242)
        if (one.node, one.interface) in (("gw", "eth0"), ("internet", "nat0"))
        else one
        for one in out()
    ]
    joined = join(seen, PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.request is not None
    assert joined.reply is not None
    (there,) = [c for h in joined.request.hops for c in h.changes if c.field == "identifier"]
    (back,) = [c for h in joined.reply.hops for c in h.changes if c.field == "identifier"]
    assert (there.before, there.after, there.why) == (7, 4242, "snat")
    assert (back.before, back.after) == (4242, 7)


def test_the_same_frame_twice_at_one_place_is_one_hop() -> None:
    seen = out()
    again = replace(seen[1], time=seen[1].time + 0.00001)
    joined = join([*seen, again], PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.request is not None
    assert [hop.copies for hop in joined.request.hops] == [0, 1, 0, 0, 0]


def test_a_flooded_copy_is_no_hop() -> None:
    """br-ex does not know a MAC address: the node itself sees what goes to the Internet."""
    astray = frame(BREX, 1.0031, **SNATED)
    joined = join([*out(), astray], PROBE, POINTS, NAMES)
    assert places(joined) == [WAY, WAY[::-1]]
    assert joined.request is not None
    assert [(hop.node, hop.interface) for hop in joined.request.aside] == [("gw", "br-ex")]


def test_a_ping_of_the_node_itself_flooded_to_eth0() -> None:
    probe = SentProbe("icmp", "10.0.2.15", "10.0.2.210")
    host = {"src": "10.0.2.15", "dst": "10.0.2.210", "src_mac": HOST, "dst_mac": OUTSIDE}
    inner = {**host, "dst": "172.16.100.10", "src_mac": INSIDE, "dst_mac": VM, "ttl": 63}
    there = ("192.168.33.10", "192.168.33.20")
    seen = [
        frame(BREX, 1.0, **host),
        frame(ETH0, 1.0002, **host),
        frame(NAT0, 1.0003, **host),
        tunnelled(GW, 1.001, *there, **inner),
        tunnelled(C1, 1.002, *there, **inner),
    ]
    for kept in (seen, seen[:3]):  # even when it gets no further
        joined = join(kept, probe, POINTS[::-1], NAMES)
        assert joined.request is not None
        assert joined.request.hops[0].interface == "br-ex"
        assert [hop.interface for hop in joined.request.aside] == ["eth0", "nat0"]


def test_the_node_itself_to_the_internet_passes_both() -> None:
    probe = SentProbe("icmp", "10.0.2.15", "8.8.8.8")
    host = {"src": "10.0.2.15", "src_mac": HOST, "dst_mac": FAR}
    seen = [frame(BREX, 1.0, **host), frame(ETH0, 1.001, **host), frame(NAT0, 1.002, **host)]
    joined = join(seen, probe, [BREX, ETH0, NAT0], NAMES)
    assert places(joined) == [["gw br-ex", "gw eth0", "internet nat0"]]
    assert joined.request is not None
    assert joined.request.aside == ()


def test_a_hairpin_passes_the_gateway_twice() -> None:
    """From one instance to another's floating IP: in by one tunnel, out by the other."""
    tap2 = Point("c2", "tap1", "instance")
    c2 = Point("c2", "eth1", "underlay")
    names = replace(NAMES, owners={**NAMES.owners, "192.168.33.30": "c2"})
    probe = replace(PROBE, target="10.0.2.211")
    first = {**ROUTED, "dst": "10.0.2.211"}
    second = {**ROUTED, "src": "10.0.2.210", "dst": "172.16.100.11", "ttl": 62}
    seen = [
        frame(TAP, 1.0, dst="10.0.2.211"),
        tunnelled(C1, 1.001, "192.168.33.20", "192.168.33.10", **first),
        tunnelled(GW, 1.002, "192.168.33.20", "192.168.33.10", **first),
        tunnelled(GW, 1.003, "192.168.33.10", "192.168.33.30", **second),
        tunnelled(c2, 1.004, "192.168.33.10", "192.168.33.30", **second),
        frame(tap2, 1.005, **second),
    ]
    joined = join(seen[::-1], probe, [TAP, C1, GW, c2, tap2], names)
    assert places(joined) == [["c1 tap0", "c1 eth1", "gw eth1", "gw eth1", "c2 eth1", "c2 tap1"]]


def test_of_two_tries_the_answered_one_counts() -> None:
    first = [replace(one, ip_id=50, time=one.time - 0.5) for one in out()[:2]]
    assert places(join([*first, *out()], PROBE, POINTS, NAMES)) == [WAY, WAY[::-1]]
    # Neither answered: the one that went farther.
    joined = join([*first, *out()[:3]], PROBE, POINTS, NAMES)
    assert places(joined) == [WAY[:3]]


def test_nothing_sent_nothing_joined() -> None:
    assert join([], PROBE, POINTS, NAMES) == Joined(None, None, None, {})
    only_answers = [one for one in out() if one.kind == "reply"]
    assert join(only_answers, PROBE, POINTS, NAMES).request is None


# -- tcp and udp -----------------------------------------------------------------------------------
def tcp(point: Point, time: float, **given: Any) -> Frame:
    known = {
        "protocol": "tcp", "kind": "", "identifier": None, "sequence": None, "code": None,
        "source_port": 40000, "destination_port": 22, "flags": "S", "tcp_sequence": 5,
        "tcp_acknowledged": 0, "payload": "", "length": 60,
    }  # fmt: skip
    return frame(point, time, **{**known, **given})


SYN = SentProbe("tcp", "172.16.100.10", "8.8.8.8", port=22)
ANSWER = {
    "src": "8.8.8.8", "dst": "172.16.100.10", "source_port": 22, "destination_port": 40000,
    "flags": "SA", "tcp_sequence": 99, "tcp_acknowledged": 6, "ip_id": 0,
}  # fmt: skip


def test_tcp_by_sequence_numbers_although_ports_change() -> None:
    seen = [
        tcp(TAP, 1.0),
        tcp(ETH0, 1.001, **SNATED, source_port=61000),
        tcp(ETH0, 1.002, **{**ANSWER, "dst": "10.0.2.210", "destination_port": 61000},
            src_mac=FAR, dst_mac=OUTSIDE),
        tcp(TAP, 1.003, **ANSWER, src_mac=INSIDE, dst_mac=VM),
    ]  # fmt: skip
    joined = join(seen, SYN, POINTS, NAMES)
    assert places(joined) == [["c1 tap0", "gw eth0"], ["gw eth0", "c1 tap0"]]
    assert joined.answer == "reply"


@pytest.mark.parametrize(
    ("given", "answer"),
    [({}, "reply"), ({"flags": "RA"}, "refused"), ({"flags": "A"}, None),
     ({"tcp_acknowledged": 7}, None), ({"destination_port": 40001}, None),
     ({"source_port": 23}, None), ({"src": "8.8.4.4"}, None)],
)  # fmt: skip
def test_what_answers_a_syn(given: dict[str, Any], answer: str | None) -> None:
    seen = [tcp(TAP, 1.0), tcp(TAP, 1.1, **{**ANSWER, **given})]
    assert join(seen, SYN, POINTS, NAMES).answer == answer


def test_the_last_sequence_number_is_followed_by_zero() -> None:
    seen = [
        tcp(TAP, 1.0, tcp_sequence=2**32 - 1),
        tcp(TAP, 1.1, **{**ANSWER, "tcp_acknowledged": 0}),
    ]
    assert join(seen, SYN, POINTS, NAMES).answer == "reply"


def test_a_handshake_is_not_data_on_the_same_connection() -> None:
    data = tcp(TAP, 0.9, flags="PA", tcp_acknowledged=3)
    joined = join([data, tcp(TAP, 1.0)], SYN, POINTS, NAMES)
    assert joined.request is not None
    assert joined.request.hops[0].frame.flags == "S"


@pytest.mark.parametrize(
    ("kind", "code", "ip_id", "answer"),
    [("3", 3, 100, "refused"), ("3", 1, 100, "error"), ("11", 0, 100, "error"),
     ("3", 3, 101, None)],
)  # fmt: skip
def test_icmp_errors_about_udp(kind: str, code: int, ip_id: int, answer: str | None) -> None:
    about = Quoted("172.16.100.10", "8.8.8.8", "udp", ip_id, 40000, 9999, None, None)
    sent = replace(tcp(TAP, 1.0), protocol="udp", flags="", destination_port=9999)
    error = frame(TAP, 1.1, src="10.0.2.2", dst="172.16.100.10", kind=kind, code=code,
                  quoted=about, ip_id=7, identifier=None, sequence=None)  # fmt: skip
    probe = SentProbe("udp", "172.16.100.10", "8.8.8.8", port=9999)
    assert join([sent, error], probe, POINTS, NAMES).answer == answer
