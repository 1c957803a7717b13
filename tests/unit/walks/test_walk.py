"""Walks that were recorded in a real lab, walked again: see scripts/record-walk.py.

A case is a directory of tests/golden/walk; its walk.json and its terminal.*.txt are what is
expected of it. Adding a case is recording one.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.access.guest import GuestError
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.terminal.text import cell_width
from labctl.walks.describe import verdict
from labctl.walks.walk import Walk
from labctl.walks.walker import check_protocol
from tests.documents import expect_document
from tests.unit.golden import expect_json, expect_text
from tests.unit.walks.walks import CASES, WALKS, RecordedLab, shown, without_times


def lab(case: str, monkeypatch: pytest.MonkeyPatch) -> RecordedLab:
    return RecordedLab(WALKS / case, monkeypatch)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda case: lab(case, monkeypatch).walk()


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, walks: Any) -> None:
    expect_json(WALKS / case / "walk.json", without_times(json_of(walks(case))))


def json_of(walk: Walk) -> Any:
    return expect_document("walk", walk)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("language", "width"), [("en", 80), ("en", 120), ("zh-TW", 80)])
def test_terminal(case: str, language: str, width: int, walks: Any) -> None:
    set_language(language)
    text = shown(walks(case), width)
    assert max(cell_width(line) for line in text.splitlines()) <= width
    expect_text(WALKS / case / f"terminal.{language}.{width}.txt", text)


def places(path: Any) -> list[str]:
    return [f"{hop.node} {hop.interface}" for hop in path.hops]


def changes(path: Any) -> list[tuple[str, str]]:
    return [(change.field, change.why) for hop in path.hops for change in hop.changes]


TAP = "compute-01 tap7be16941-da"


def test_out_through_tunnel_and_nat(walks: Any) -> None:
    """The tutorial's picture: eth1 of both nodes, then eth0 with the floating IP as the source."""
    walk: Walk = walks("out")
    assert walk.answered
    assert places(walk.request) == [
        TAP, "compute-01 eth1", "network-controller eth1", "network-controller eth0",
        "internet nat0",
    ]  # fmt: skip
    assert walk.reply is not None
    assert places(walk.reply) == places(walk.request)[::-1]
    assert [hop.frame.src for hop in walk.request.hops] == [
        *["172.16.100.10"] * 3,
        *["10.0.2.210"] * 2,
    ]
    assert [hop.frame.ttl for hop in walk.request.hops] == [64, 63, 63, 63, 63]
    tunnel = walk.request.hops[1].encap
    assert tunnel is not None
    assert (tunnel.src, tunnel.dst, tunnel.datapath) == ("192.168.33.20", "192.168.33.10", "r")
    assert (tunnel.option_class, tunnel.ingress_key, tunnel.egress_key) == (0x102, 1, 3)
    assert (tunnel.ingress_port, tunnel.egress_port) == ("r:n1", "r on network-controller")
    (snat,) = [change for change in walk.request.hops[3].changes if change.field == "src"]
    assert (snat.why, snat.by) == ("snat", "r")
    assert snat.rule == "dnat_and_snat 10.0.2.210 172.16.100.10"
    assert ("dst", "unsnat") in changes(walk.reply)
    assert [event.kind for event in walk.traced["request"].events if event.kind == "snat"]


def test_in_to_the_floating_ip(walks: Any) -> None:
    walk: Walk = walks("in")
    assert places(walk.request) == [
        "network-controller br-ex", "network-controller eth1", "compute-01 eth1", TAP,
    ]  # fmt: skip
    assert ("dst", "dnat") in changes(walk.request)
    assert walk.reply is not None
    assert ("src", "undnat") in changes(walk.reply)
    assert walk.reply.last.frame.src == "10.0.2.210"


def test_blocked_is_said_where_and_why(walks: Any) -> None:
    walk: Walk = walks("blocked")
    assert not walk.answered
    assert walk.reply is None
    assert walk.lost is not None
    assert (walk.lost.node, walk.lost.interface) == ("compute-01", "eth1")
    assert walk.lost.expected is not None
    assert f"{walk.lost.expected.node} {walk.lost.expected.interface}" == TAP
    assert walk.lost.reason is not None
    assert walk.lost.reason.kind == "denied"
    assert "neutron_pg_drop" in walk.lost.reason.detail
    assert len(walk.attempts) == 2
    assert "sent again" in walk.attempts[0].outcome
    said = verdict(walk)
    assert "eth1 of compute-01" in said
    assert "security group" in said


def test_tcp_is_known_by_its_handshake(walks: Any) -> None:
    walk: Walk = walks("tcp-in")
    assert walk.reply is not None
    assert {hop.frame.flags for hop in walk.request.hops} == {"S"}
    assert {hop.frame.flags for hop in walk.reply.hops} == {"SA"}
    assert walk.answer == "reply"


def test_a_refusal_is_an_answer(walks: Any) -> None:
    walk: Walk = walks("refused")
    assert (walk.answer, walk.answered) == ("refused", True)
    assert "refused" in verdict(walk)


def test_udp_is_answered_by_an_icmp_error_about_it(walks: Any) -> None:
    walk: Walk = walks("udp-out")
    assert walk.reply is not None
    assert (walk.answer, walk.answered) == ("refused", True)
    first, last = walk.reply.hops[0].frame, walk.reply.last.frame
    assert first.quoted is not None
    assert last.quoted is not None
    # What is quoted is translated back as well.
    assert (first.quoted.src, last.quoted.src) == ("10.0.2.210", "172.16.100.10")


def test_snat_alone_is_taken_back_by_conntrack(walks: Any) -> None:
    walk: Walk = walks("snat")
    traced = walk.traced["reply"]
    assert traced.trace is not None
    assert traced.trace.assumed == "10.0.2.220 > 172.16.100.10"
    assert traced.trace.verdict == "output"
    assert {walk.labels.datapaths[event.datapath] for event in traced.events} == {
        "ext_n2", "r", "n1",
    }  # fmt: skip


def test_captures_are_kept_by_node_and_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded = lab("out", monkeypatch)
    walk = recorded.walk(keep=tmp_path / "captures")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "captures").iterdir()}
    assert kept["compute-01-eth1.pcap"] == recorded.pcap("compute-01", "eth1")
    assert kept["internet-nat0.pcap"] == recorded.pcap("internet", "nat0")
    assert sorted(Path(path).name for path in walk.pcaps.values()) == sorted(kept)


def test_captures_that_cannot_be_written_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="is not a directory"):
        lab("out", monkeypatch).walk(keep=tmp_path / "file")


# -- when something is missing ---------------------------------------------------------------------
def test_a_probe_that_never_left_is_no_lost_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("in", monkeypatch)
    recorded.case["asked"][1:3] = ["network-controller", "10.0.2.99"]
    recorded.guests["network-controller"].on("sh -c", "ping: sendmsg: Network is down\n")
    with pytest.raises(LabError, match=r"no probe has left.*Network is down") as caught:
        recorded.walk()
    assert "ping -c 1" in caught.value.hint


def test_databases_that_do_not_answer_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("out", monkeypatch)
    recorded.guests["network-controller"].on("ovn-sbctl", raises=GuestError("no such socket"))
    walk = recorded.walk()
    assert walk.answered
    assert any("no such socket" in note for note in walk.notes)
    assert walk.traced["request"].trace is None
    assert "no such socket" in shown(walk, 80)


def test_a_trace_that_fails_is_said_beside_the_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("out", monkeypatch)
    recorded.guests["network-controller"].on("ovn-trace", raises=GuestError("syntax error"))
    walk = recorded.walk()
    assert walk.answered
    assert walk.traced["reply"].error == "syntax error"
    assert "syntax error" in shown(walk, 80)


def test_without_the_far_side_the_way_ends_at_eth0(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("out", monkeypatch)
    recorded.case["far"] = None
    walk = recorded.walk()
    assert walk.answered
    assert places(walk.request)[-1] == "network-controller eth0"
    assert walk.reply is not None
    assert places(walk.reply)[0] == "network-controller eth0"


@pytest.mark.parametrize(
    ("protocol", "port", "said"),
    [("ping", 5, "no port"), ("tcp", None, "which port"), ("udp", 0, "is no port"),
     ("udp", 70000, "is no port"), ("sctp", 5, "cannot walk a sctp packet")],
)  # fmt: skip
def test_wrong_use(protocol: str, port: int | None, said: str) -> None:
    with pytest.raises(LabError, match=said) as caught:
        check_protocol(protocol, port)
    assert caught.value.code == EXIT_USAGE


@pytest.mark.parametrize("target", ["nonsense", "10.0.2", "::g", "vm_2", ""])
def test_an_end_that_is_not_there(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("out", monkeypatch)
    recorded.case["asked"][2] = target

    with pytest.raises(LabError, match="no instance") as caught:
        recorded.walk()
    assert "compute-01" in caught.value.hint


# -- what a guest says cannot command the terminal -------------------------------------------------
def test_names_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("out", monkeypatch)
    recorded.case["servers"] = dict.fromkeys(recorded.case["servers"], "vm\x1b[31m\u202e<script>")
    text = shown(recorded.walk(), 80)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_lab_of_ovn_alone_has_namespaces_for_instances(walks: Any) -> None:
    walk: Walk = walks("ovn-only-tcp")
    assert (walk.source.namespace, walk.source.interface) == ("vm_1", "tap-vm_1")
    assert walk.way[0].namespace == "vm_1"
    assert {hop.frame.flags for hop in walk.request.hops} == {"S"}
    names = {walk.labels.datapaths[event.datapath] for event in walk.traced["request"].events}
    assert names == {"n1", "r", "ext_n2"}


def test_a_rule_that_is_missing_in_ovn_is_named(walks: Any) -> None:
    """OpenStack still has the floating IP; somebody has deleted its rule behind its back."""
    walk: Walk = walks("no-nat-rule")
    assert walk.target.inner == "172.16.100.10"
    assert walk.lost is not None
    assert (walk.lost.node, walk.lost.interface) == ("network-controller", "br-ex")
    assert "OVN has no NAT rule for 10.0.2.210" in verdict(walk)


def test_an_instance_that_is_bound_nowhere_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = lab("blocked", monkeypatch)
    tables = recorded.tables()
    chassis = json.loads(tables.splitlines()[0].removeprefix("Chassis "))
    compute = next(row[0][1] for row in chassis["data"] if row[1] == "compute-01")
    unbound = tables.replace(json.dumps(["uuid", compute], separators=(",", ":")), '["set",[]]')
    assert unbound != tables
    first = tables.splitlines()[0]
    recorded.guests["network-controller"].on(
        "ovn-sbctl", "\n".join([first, *unbound.splitlines()[1:]])
    )
    walk = recorded.walk()
    assert any("not bound to any node" in note for note in walk.notes)


def test_to_another_instances_floating_ip_it_turns_round_at_the_gateway(walks: Any) -> None:
    walk: Walk = walks("hairpin")
    assert walk.reply is not None
    assert [hop.node for hop in walk.request.hops] == [
        "compute-02", "compute-02", "network-controller", "network-controller", "compute-01",
        "compute-01",
    ]  # fmt: skip
    assert [hop.node for hop in walk.reply.hops] == [hop.node for hop in walk.request.hops][::-1]
    assert {("src", "snat"), ("dst", "dnat")} <= set(changes(walk.request))
    assert {("src", "undnat"), ("dst", "unsnat")} <= set(changes(walk.reply))
    assert [hop.frame.ttl for hop in walk.request.hops] == [64, 63, 63, 62, 62, 62]
    for direction in ("request", "reply"):
        trace = walk.traced[direction].trace
        assert trace is not None
        assert trace.verdict == "output"


def test_between_computes_there_is_no_router(walks: Any) -> None:
    walk: Walk = walks("east-west")
    assert {hop.frame.ttl for hop in walk.request.hops} == {64}
    assert {field for field, _ in changes(walk.request)} == {"tunnel"}
    assert {e.datapath for e in walk.traced["request"].events} == {
        uuid for uuid, name in walk.labels.datapaths.items() if name == "n1"
    }
