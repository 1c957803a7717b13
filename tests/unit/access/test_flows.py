"""Whose packets: a learner's ping that runs all the time is not what a checkpoint sent."""

from dataclasses import replace

from labctl.access.capture import Captured
from labctl.access.flows import own_frames
from labctl.access.ip_layers import Quoted
from labctl.access.packets import Frame
from labctl.probes import ProbeContext
from labctl.probes.wire import PROBES
from tests.unit.fakes import FakeGuest, no_cloud, topology

ONE, TWO = ("compute-01", "eth1"), ("network-controller", "eth1")
ECHO = Frame(
    node=ONE[0], interface=ONE[1], time=0.0, tunnel=True, tunnel_src="192.168.33.20",
    tunnel_dst="192.168.33.10", vni=2, option_class=258, option_data="00010002", src_mac="a",
    dst_mac="b", src="172.16.100.10", dst="8.8.8.8", ttl=63, protocol="icmp", kind="request",
    identifier=1, sequence=0,
)  # fmt: skip


def echo(time: float, identifier: int, sequence: int, at: tuple[str, str] = ONE) -> Frame:
    return replace(
        ECHO, node=at[0], interface=at[1], time=time, identifier=identifier, sequence=sequence,
        ip_id=identifier * 1000 + sequence,
    )  # fmt: skip


def test_a_ping_that_was_under_way_is_somebody_elses() -> None:
    own = [echo(n, 1, n) for n in range(3)]
    foreign = [echo(n + 0.5, 2, 90 + n) for n in range(3)]
    assert own_frames([*own, *foreign]) == own
    # iputils counts from 1.
    own = [echo(n, 1, n + 1) for n in range(3)]
    assert own_frames([*foreign, *own]) == own
    # The error that somebody else's packet caused is somebody else's.
    error = replace(ECHO, kind="3", identifier=None, sequence=None,
                    quoted=Quoted("a", "b", "icmp", 1, None, None, 2, 91))  # fmt: skip
    assert own_frames([*own, *foreign, error]) == own


def test_a_sequence_that_begins_again_is_no_beginning() -> None:
    # After 65,536 packets, at an interval of 0.05 s within the hour.
    around = [echo(n, 2, (65534 + n) % 65536) for n in range(5)]
    own = echo(9, 1, 0)
    assert own_frames([*around, own]) == [own]


def test_a_first_packet_that_is_lost_on_the_way_was_seen_where_it_was_sent() -> None:
    sent = [echo(n, 1, n) for n in range(3)]
    arrived = [echo(n + 0.001, 1, n, TWO) for n in (1, 2)]
    assert own_frames([*sent, *arrived]) == [*sent, *arrived]


def test_when_nothing_began_all_that_is_under_way_is_seen() -> None:
    foreign = [echo(n, 2, 90 + n) for n in range(3)]
    assert own_frames(foreign) == foreign
    assert own_frames([]) == []


def test_a_connection_begins_with_syn_and_udp_tells_nothing() -> None:
    segment = replace(ECHO, protocol="tcp", kind="", identifier=None, sequence=None,
                      source_port=40000, destination_port=22)  # fmt: skip
    opened = [replace(segment, flags=flags) for flags in ("S", "A", "PA")]
    old = [replace(segment, source_port=50000, flags="PA")]
    datagram = replace(segment, protocol="udp", source_port=53)
    assert own_frames([*opened, *old, datagram]) == [*opened, datagram]


# -- the same packet at both ends ------------------------------------------------------------------
def pairs(frames: list[Frame], windows: dict[tuple[str, str], tuple[float, float]]) -> list[bool]:
    captured = Captured(frames)
    captured.windows = windows
    context = ProbeContext(
        topology(), no_cloud, lambda name: FakeGuest(), captured, windows=captured.windows
    )
    with_ = {"first": " ".join(ONE), "second": " ".join(TWO)}
    return [row["same"] for row in PROBES["wire.pairs"](context, with_)]


def test_only_the_time_that_both_captures_covered_is_compared() -> None:
    # The second capture ends while a ping goes on; its node's clock is 100 s ahead.
    first = [echo(n, 1, n) for n in range(6)]
    second = [echo(n + 100.001, 1, n, TWO) for n in (1, 2, 4)]
    windows = {ONE: (-1.0, 9.0), TWO: (100.5, 104.5)}
    # 0 and 5 passed when nobody listened there; 3 was lost.
    assert pairs([*first, *second], windows) == [True, True, False, True]


def test_where_nothing_arrives_everything_is_missing() -> None:
    assert pairs([echo(n, 1, n) for n in range(3)], {ONE: (0, 9), TWO: (0, 9)}) == [False] * 3


def test_what_differs_is_named() -> None:
    frames = [echo(0, 1, 0), replace(echo(0, 1, 0, TWO), ttl=62, vni=3)]
    context = ProbeContext(topology(), no_cloud, lambda name: FakeGuest(), frames)
    (row,) = PROBES["wire.pairs"](context, {"first": " ".join(ONE), "second": " ".join(TWO)})
    assert (row["same"], row["differs"]) == (False, ["vni", "ttl"])
