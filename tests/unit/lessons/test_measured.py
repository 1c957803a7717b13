"""Claims about what is measured: time, the gap of a ping, counters, and packets that are not seen.

The commands really run, on a node that is this machine's shell.
"""

from typing import Any

import pytest

from labctl.engine.steps import StepContext
from labctl.errors import EXIT_CLAIM
from labctl.lessons import prove
from labctl.lessons.model import PROBES
from labctl.lessons.prove import Prover
from labctl.lessons.results import CheckpointResult, LessonOutcome
from labctl.probes import ProbeContext
from labctl.probes.counters import parse_flows
from labctl.probes.run import parse_pings, parse_transfers
from tests.documents import expect_document
from tests.unit.fakes import FakeGuest, no_cloud, topology
from tests.unit.lessons.bench import Bench, lesson

ANSWER = "64 bytes from 192.0.2.1: icmp_seq={} ttl=64 time=0.5 ms"
TO = "PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data."


def summary(sent: int, received: int) -> str:
    return f"{sent} packets transmitted, {received} received, 0% packet loss, time 814ms"


def ping(*lines: str) -> str:
    return "\n".join((TO, *lines))


# -- the gap of a ping -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "output", "sent", "received", "gap"),
    [
        # By the numbers that are missing.
        ("ping -i 0.2 X", ping(*map(ANSWER.format, (1, 2, 3)), summary(3, 3)), 3, 3, 0.2),
        ("ping -i 0.2 X", ping(*map(ANSWER.format, (1, 12, 13)), summary(13, 3)), 13, 3, 2.2),
        ("ping X", ping(*map(ANSWER.format, (1, 2)), summary(2, 2)), 2, 2, 1),
        ("ping -ni0.5 X", ping(*map(ANSWER.format, (1, 4)), summary(4, 2)), 4, 2, 1.5),
        # Nobody answered at the beginning, or at the end.
        ("ping -i 0.5 X", ping(*map(ANSWER.format, (7, 8)), summary(8, 2)), 8, 2, 3),
        ("ping -i 0.5 X", ping(*map(ANSWER.format, (1, 2)), summary(10, 2)), 10, 2, 4),
        # By the times that `ping -D` prints, whatever the numbers say.
        ("ping -D -i 0.2 X", ping(f"[100.5] {ANSWER.format(1)}", f"[100.7] {ANSWER.format(2)}",
                                  f"[104.95] {ANSWER.format(9)}", summary(9, 3)), 9, 3, 4.25),
        # Nobody at all; a ping that was killed; an answer twice.
        ("ping X", ping(summary(5, 0)), 5, 0, None),
        ("ping X", ping(*map(ANSWER.format, (1, 2, 3))), 3, 3, 1),
        ("ping X", ping(ANSWER.format(1), ANSWER.format(1) + " (DUP!)", ANSWER.format(2),
                        summary(2, 2)), 2, 2, 1),
        # busybox counts from 0.
        ("ping X", "PING 192.0.2.1 (192.0.2.1): 56 data bytes\n"
                   "64 bytes from 192.0.2.1: seq=0 ttl=64 time=0.1 ms\n"
                   "64 bytes from 192.0.2.1: seq=1 ttl=64 time=0.1 ms\n"
                   "2 packets transmitted, 2 packets received, 0% packet loss", 2, 2, 1),
    ],
)  # fmt: skip
def test_a_ping_is_read(
    command: str, output: str, sent: int, received: int, gap: float | None
) -> None:
    expected = {"to": "192.0.2.1", "sent": sent, "received": received, "lost": sent - received,
                "longest_gap": gap}  # fmt: skip
    assert list(parse_pings(command, output)) == [expected]


def test_each_ping_of_a_script_is_a_row() -> None:
    both = ping(ANSWER.format(1), ANSWER.format(5), summary(5, 2))
    other = both.replace("192.0.2.1", "192.0.2.2")
    rows = list(parse_pings("ping -i 0.2 A; ping -i 0.5 B", f"{both}\n{other}"))
    assert [(row["to"], row["longest_gap"]) for row in rows] == [
        ("192.0.2.1", 0.8), ("192.0.2.2", 2.0),
    ]  # fmt: skip
    assert list(parse_pings("echo", "no ping at all")) == []


# -- the speed of a transfer -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("output", "transfers"),
    [
        ("32+0 records in\n32+0 records out\n"
         "2097152 bytes (2.1 MB, 2.0 MiB) copied, 0.525 s, 4.0 MB/s\n", [(2097152, 0.525)]),
        ("4096 bytes (4.1 kB, 4.0 KiB) copied, 3.1e-05 s, 132 MB/s", [(4096, 3.1e-05)]),
        # busybox
        ("2097152 bytes (2.0MB) copied, 16.250000 seconds, 126.0KB/s", [(2097152, 16.25)]),
        ("100 bytes copied, 2 s\n900 bytes copied, 3 s\n", [(100, 2.0), (900, 3.0)]),
        # Nothing was sent, or it was over at once: that has no rate.
        ("0 bytes copied, 0.000000 seconds, 0B/s", []),
        ("dd: failed to open 'x': No such file or directory", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_transfer_is_read(output: str, transfers: list[tuple[int, float]]) -> None:
    assert parse_transfers(output) == transfers


def test_a_transfer_is_told_as_a_part_of_the_fastest() -> None:
    commands = [
        {"node": "vm_1", "command": "dd", "background": False, "output": "800 bytes copied, 2 s"},
        {"node": "gw", "command": "dd &", "background": True, "output": "100 bytes copied, 4 s"},
        {"node": "gw", "command": "true", "background": False, "output": ""},
    ]
    context = ProbeContext(topology(), no_cloud, lambda name: FakeGuest(), commands=commands)
    rows = PROBES["run.transfers"](context, {})
    assert [(row["node"], row["rate"], row["share"]) for row in rows] == [
        ("vm_1", 400, 1.0), ("gw", 25, 0.0625),
    ]  # fmt: skip
    nothing = ProbeContext(topology(), no_cloud, lambda name: FakeGuest(), commands=commands[2:])
    assert PROBES["run.transfers"](nothing, {}) == []


def test_flows_are_read_with_commas_in_parentheses() -> None:
    line = (
        " cookie=0x1f, duration=5.1s, table=8, n_packets=3, n_bytes=294, idle_age=1, "
        "priority=100,ct_state=+est,ip,nw_src=10.0.0.0/8 actions=ct(commit,zone=reg1),drop"
    )
    assert list(parse_flows(f"OFPST_FLOW reply (OF1.5) (xid=0x2):\n{line}\n")) == [
        {"table": 8, "priority": 100, "match": "ct_state=+est,ip,nw_src=10.0.0.0/8",
         "actions": "ct(commit,zone=reg1),drop", "cookie": "0x1f", "packets": 3, "bytes": 294}
    ]  # fmt: skip


# -- claims ----------------------------------------------------------------------------------------
LOOK = """
  - id: look
    WORDS
    run: [sleep 0.3, cat ping.txt, "echo 3 >counter"]
    claims:
      - {id: quick, text: Quick, probe: run.commands, where: {command: sleep 0.3}, count: 1,
         each: {seconds: {at_least: 0.3, at_most: SECONDS}}, within: 0}
      - {id: gap, text: Gap, probe: run.pings, count: 1, each: {longest_gap: {at_most: GAP}}}
      - {id: grows, text: Grows, probe: test.rows, where: {name: eth1}, within: 0,
         delta: {packets: DELTA}}
"""
RIGHT = {"SECONDS": "20", "GAP": "5", "DELTA": "{at_least: 3}"}
CHANGES = """
  - id: change
    WORDS
    run: [cat ping.txt, touch changed]
    claims:
      - {id: gap, text: Gap, probe: run.pings, count: 1, each: {longest_gap: {at_most: 5}}}
      - {id: there, text: There, probe: test.rows, where: {name: eth1}, within: 0}
    undo: rm -f changed
"""


@pytest.fixture
def node(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose probe reads a counter that the commands move, and that has a ping to print."""
    text = ping(*map(ANSWER.format, (1, 4)), summary(4, 2))
    (bench.node.root / "ping.txt").write_text(text, encoding="utf-8")

    def rows(context: ProbeContext, arguments: object) -> list[dict[str, Any]]:
        path = bench.node.root / "counter"
        moved = int(path.read_text(encoding="utf-8")) if path.exists() else 0
        return [{"name": "eth1", "packets": 10 + moved}, {"name": "lo", "packets": 1000}]

    monkeypatch.setitem(PROBES, "test.rows", rows)
    return bench


def look(**changes: str) -> Any:
    text = LOOK
    for name, value in {**RIGHT, **changes}.items():
        text = text.replace(name, value)
    return lesson(text)


def claims(outcome: LessonOutcome) -> dict[str, Any]:
    return {claim.id: claim for result in outcome.checkpoints for claim in result.claims}


def test_what_is_measured_holds_and_shows_its_figures(node: Bench) -> None:
    outcome, _ = node.replay(look())
    proved = claims(outcome)
    assert [claim.holds for claim in proved.values()] == [True, True, True]
    assert proved["grows"].evidence[0] == "packets +3 (10 → 13)"
    assert proved["gap"].seen[0]["longest_gap"] == 3
    assert proved["quick"].seen[0]["seconds"] >= 0.3
    expect_document("outcome", outcome.to_json())


@pytest.mark.parametrize(
    ("change", "claim", "said"),
    [
        ({"SECONDS": "0.2"}, "quick", "✗ seconds="),
        ({"GAP": "2.5"}, "gap", "✗ longest_gap=3"),
        ({"DELTA": "0"}, "grows", "✗ packets +3 (10 → 13)"),
        ({"DELTA": "{at_least: 4}"}, "grows", "✗ packets +3 (10 → 13)"),
        ({"eth1": "eth9"}, "grows", "nothing of the kind; there is: ✗ name=eth1 | ✗ name=lo"),
        ({"delta: {packets": "delta: {name"}, "grows", "name is no number"),
    ],
)
def test_what_is_measured_fails_with_its_figures(
    node: Bench, change: dict[str, str], claim: str, said: str
) -> None:
    outcome, _ = node.replay(look(**change))
    assert outcome.result is not None
    assert getattr(outcome.result.failed[0].cause, "code", None) == EXIT_CLAIM
    failed = [each for each in claims(outcome).values() if not each.holds]
    assert [each.id for each in failed] == [claim]
    assert said in failed[0].seen_text


def test_check_measures_again_where_nothing_changes(node: Bench) -> None:
    room = node.classroom(look())
    room.replay("test")
    (node.node.root / "counter").write_text("0", encoding="utf-8")
    outcome = room.check()
    assert outcome.failure is None
    assert claims(outcome)["grows"].delta == {"packets": [10, 13]}


def test_check_leaves_out_what_cannot_be_measured_again(node: Bench) -> None:
    room = node.classroom(lesson(CHANGES))
    room.replay("test")
    (node.node.root / "changed").unlink()
    outcome = room.check()
    assert list(claims(outcome)) == ["there"]
    assert "not asked again" in node.page.text
    assert not node.has("changed"), "its commands were not run again"


def test_a_counter_that_nobody_read_before_is_no_proof(node: Bench) -> None:
    runner = node.runner(look(DELTA="0"))
    result = CheckpointResult("look", "")
    frames = runner.capture_again(runner.lesson.checkpoints[0], [], result, StepContext("x"))
    proof = runner.checker.prove(runner.lesson.checkpoints[0].claims[2], frames)
    assert (proof.holds, "could not be read" in proof.seen_text) == (False, True)


def test_prove_asks_what_is_measured_only_after_the_run(node: Bench) -> None:
    there = CHANGES.replace("within: 0}", "within: 0, holds_before: x}")
    bench = prove.Bench(
        node.topology, node.state, node.guests.__getitem__, node.cloud, lambda _: lesson(there)
    )
    prover = Prover("test", bench)
    proof = prover.end(node.engine("prove", prover.steps()))
    asked = {(each.claim, each.phase) for each in proof.asked}
    assert {phase for claim, phase in asked if claim == "gap"} == {"after", "solved"}
    assert {phase for claim, phase in asked if claim == "there"} >= {"before", "undone"}
    assert (proof.failure, proof.wrong) == ("", [])
