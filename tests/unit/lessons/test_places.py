"""Where a checkpoint's commands and captures are, and what runs in the background meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from labctl.access.capture import Captured, Tap
from labctl.access.guest import GuestResult
from labctl.lessons import runner as runner_module
from labctl.lessons.model import PROBES, first_client
from labctl.spec.problems import SpecError
from labctl.topology import Instance
from tests.unit.fakes import LocalGuest, topology
from tests.unit.lessons.bench import COMPUTE, CONTROLLER, Bench, lesson


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    (made.node.root / "run").mkdir()
    monkeypatch.setitem(PROBES, "test.rows", made.probe)
    return made


def on(node: str, more: str = "", run: str = "[echo hello]") -> str:
    return f"""
  - id: one
    WORDS
    node: {node}
    {more}
    run: {run}
    claims: [HOLDS]
"""


# -- names as templates ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("node", "host"),
    [
        ('"{{ lab.computes[0].name }}"', COMPUTE),
        ('"{{ node.gateway.name }}"', CONTROLLER),
        ('"{% if lab.computes %}controller{% endif %}"', CONTROLLER),
        ('"{{ fact.host }}"', COMPUTE),
    ],
)
def test_a_template_names_the_node(bench: Bench, tmp_path: Path, node: str, host: str) -> None:
    bench.rows["rows"] = [{"n": 1, "host": COMPUTE}]
    compute = bench.guests[COMPUTE] = LocalGuest(tmp_path / "compute", COMPUTE)
    checkpoint = on(node, "undo: touch undone", "[touch done]")
    what = lesson(checkpoint, "{host: {probe: test.rows, column: host}}")
    what.require(bench.topology)
    report, result = bench.replay(what)
    assert result.ok
    root = compute.root if host == COMPUTE else bench.node.root
    assert (root / "done").exists()
    assert report.checkpoints[0].commands[0].node == host
    # The fact is gone with what it was about: the undo runs where the commands did.
    bench.rows["rows"] = [{"n": 1}]
    bench.classroom(what).goto("test/one")
    assert (root / "undone").exists()
    assert bench.progress()["nodes"] == {}


OUTSIDE = "name: ovn-tutorial\ninternet: {clients: {far-away: , second: }}\n"


@pytest.mark.parametrize("node", ["client", "far-away", '"{{ node.client.name }}"'])
def test_a_checkpoint_works_on_a_client(bench: Bench, tmp_path: Path, node: str) -> None:
    bench.topology = topology(OUTSIDE)
    client = bench.guests["far-away"] = LocalGuest(tmp_path / "client", "far-away")
    bench.rows["rows"] = [{"n": 1}]
    ping = '["touch done-{{ node.client.eth0.address.ip }}"]'
    what = lesson(on(node, run=ping))
    what.require(bench.topology)
    report, result = bench.replay(what)
    assert result.ok
    assert report.checkpoints[0].commands[0].node == "far-away"
    assert (client.root / "done-198.51.100.10").exists()


def test_a_lab_without_a_client_says_so(bench: Bench) -> None:
    with pytest.raises(SpecError, match="this lab has no node 'client'"):
        lesson(on("client")).require(bench.topology)


def test_a_client_of_that_name_is_the_one_that_is_meant() -> None:
    lab = topology("name: x\ninternet: {clients: {a: , client: }}\n")
    assert first_client(lab) == "client"
    assert first_client(topology(OUTSIDE)) == "far-away"


def test_a_fact_that_is_not_known_names_no_node(bench: Bench) -> None:
    what = lesson(on('"{{ fact.host }}"'), "{host: {probe: test.rows, column: host}}")
    _, result = bench.replay(what)
    (failed,) = result.failed
    assert "this lab has no node '-'" in str(failed)
    assert bench.progress()["attempted"] == []


def test_a_position_without_the_nodes_is_read(bench: Bench) -> None:
    what = lesson(on("gateway", "undo: touch undone"))
    bench.begun(what, "one")  # as labctl wrote it before it noted the nodes
    _, result = bench.replay(what)
    assert result.ok
    assert bench.has("undone")


CAPTURING = """
  - id: one
    WORDS
    run: ["true"]
    capture:
      - {node: NODE, interface: INTERFACE, filter: icmp}
    claims:
      - {id: a, text: x, probe: wire.packets, where: {node: WHERE, interface: eth1}, count: 0}
"""


def capturing(node: str, interface: str, where: str = COMPUTE) -> str:
    text = CAPTURING.replace("NODE", node).replace("INTERFACE", interface)
    return text.replace("WHERE", where)


def test_templates_name_where_to_capture(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    listened: list[Tap] = []

    class Listening:
        def __init__(self, taps: list[Tap], *_: Any) -> None:
            listened.extend(taps)

        def __enter__(self) -> Captured:
            captured = Captured()
            captured.windows = {(tap.node, tap.interface): (0.0, 1.0) for tap in listened}
            return captured

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(runner_module, "_capturing", Listening)
    what = lesson(
        capturing('"{{ fact.host }}"', '"eth{{ fact.number }}"'),
        "{host: {probe: test.rows, column: host}, number: {probe: test.rows, column: n}}",
    )
    bench.rows["rows"] = [{"n": 1, "host": COMPUTE}]
    what.require(bench.topology)
    _, result = bench.replay(what)
    assert result.ok
    assert listened == [Tap(COMPUTE, "eth1", "icmp")]
    # Elsewhere nobody listens for the claim, which is found while it runs.
    bench.rows["rows"] = [{"n": 2, "host": COMPUTE}]
    listened.clear()
    report, result = bench.replay(what)
    assert not result.ok
    said = report.checkpoints[0].claims[0].error
    assert said == f"no capture of this checkpoint listens on eth1 of {COMPUTE}"


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (on('"{{ lab.computes[0].name }}x"'), "node: this lab has no node 'compute-01x'"),
        (on("vm_9"), "node: this lab has no node 'vm_9'"),
        (
            on("controller", 'background: [{run: sleep 1, node: "{{ lab.lab }}"}]'),
            "background[0].node: this lab has no node 'ovn-tutorial'",
        ),
        (
            capturing('"{{ lab.controller.name }}"', '"eth{{ 1 }}"'),
            "where.node: no capture of this checkpoint listens on 'compute-01'",
        ),
        (
            on("controller").replace(
                "[HOLDS]",
                "[{id: l, text: x, probe: wire.lookup, with: {from: compute-09, name: x}}]",
            ),
            "with.from: this lab has no node 'compute-09'",
        ),
    ],
)
def test_what_the_labs_description_tells_is_told_at_once(checkpoint: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        lesson(checkpoint).require(topology())
    assert message in str(error.value)


def test_a_filter_that_tcpdump_refuses_is_told_before_anything_changes(bench: Bench) -> None:
    # What Debian's tcpdump 4.99 says, and its exit code.
    bench.node.stub(
        "tcpdump",
        """[ "$1" = -d ] || exit 9
        echo 'Warning: assuming Ethernet' >&2
        case $2 in icmp*) exit;; esac
        echo "tcpdump: can't parse filter expression: syntax error" >&2; exit 1
        """,
    )
    first = on("controller", "undo: rm done", "[touch done]")
    listening = capturing("gateway", "eth1", CONTROLLER).replace("id: one", "id: two")
    good, unknown = listening, listening.replace("filter: icmp", 'filter: "imcp {{ fact.n }}"')
    bad = listening.replace("filter: icmp", 'filter: "imcp and host {{ lab.nat_gateway }}"')
    bench.rows["rows"] = [{"n": 1}]
    what = lesson(first + bad)
    with pytest.raises(SpecError) as error:
        bench.classroom(what).replay("test")
    assert str(error.value) == (
        "test.yaml:20: checkpoints[1].capture[0].filter: is no filter of tcpdump's:"
        " can't parse filter expression: syntax error"
    )
    assert not bench.has("done")
    facts = "{n: {probe: test.rows, column: n}}"
    for other in (lesson(first + good), lesson(first + unknown, facts)):
        bench.classroom(other).goto("test/two")
        assert bench.has("done")


def test_a_checkpoint_may_work_in_any_instance(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def run_in_instance(_: object, command: str, *, instance: Instance, **__: Any) -> GuestResult:
        asked.append((instance.name, command))
        return GuestResult(0, "PING\n3 packets transmitted, 3 received\n", "", 0.1)

    for place in ("labctl.lessons.commands", "labctl.probes.wire"):
        monkeypatch.setattr(f"{place}.run_in_instance", run_in_instance)
    bench.topology = topology("name: lab\ninstances: {vm_1: , vm_2: }")
    ping = "[{id: p, text: x, probe: wire.ping, with: {from: vm_2, to: 10.0.0.1}}]"
    what = lesson(on("vm_2").replace("[HOLDS]", ping))
    what.require(bench.topology)
    _, result = bench.replay(what)
    assert result.ok
    assert asked == [("vm_2", "echo hello"), ("vm_2", "ping -c 1 -W 2 10.0.0.1")]
    assert bench.position()["lessons"]["test"]["nodes"] == {"one": CONTROLLER}


# -- in the background -----------------------------------------------------------------------------
TICKS = (
    "trap 'echo stopped; exit 3' INT; echo {{ lab.router }}; while sleep 0.1; do echo tick; done"
)


def test_a_command_runs_while_the_others_work_and_is_ended(bench: Bench) -> None:
    what = lesson(on("controller", f'background: ["{TICKS}"]', "[sleep 0.5; echo a, sleep 0.5]"))
    report, result = bench.replay(what)
    assert result.ok
    ticking, first, second = report.checkpoints[0].commands
    assert ticking.command.startswith("trap 'echo stopped")
    assert ticking.command.endswith("&")
    lines = ticking.output.split()
    assert lines[0] == bench.topology.router
    assert lines[1:4] == ["tick"] * 3
    assert lines[-1] == "stopped"
    assert first.output == "a\n"
    assert second.exit_code == ticking.exit_code == 0
    assert not list((bench.node.root / "run").glob("labctl-*")), "nothing is left"
    assert "tick" in bench.page.text


def test_it_is_ended_when_a_command_fails(bench: Bench) -> None:
    what = lesson(on("controller", f'background: ["{TICKS} >>ticks"]', "['false']"))
    _, result = bench.replay(what)
    assert "`false` failed" in str(result.failed[0])
    before = bench.text("ticks")
    assert not list((bench.node.root / "run").glob("labctl-*"))
    bench.node.run("sleep 0.4")
    assert bench.text("ticks") == before


def test_one_that_fails_before_the_others_are_over_fails_the_checkpoint(bench: Bench) -> None:
    what = lesson(on("controller", 'background: ["echo nothing to ping; exit 4"]', "[sleep 0.5]"))
    report, result = bench.replay(what)
    (failed,) = result.failed
    assert "`echo nothing to ping; exit 4 &` failed on network-controller (exit 4)" in str(failed)
    assert "nothing to ping" in bench.page.text
    assert not report.checkpoints[0].claims


def test_one_that_ignores_being_told_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.lessons.background._GRACE", 1)
    stubborn = "trap '' INT TERM; while sleep 0.1; do echo on; done"
    what = lesson(on("controller", f'background: ["{stubborn}"]', "[sleep 0.3]"))
    report, result = bench.replay(what)
    assert result.ok
    assert report.checkpoints[0].commands[0].output.startswith("on\n")


def test_what_a_killed_labctl_left_is_ended_with_the_undo(bench: Bench) -> None:
    what = lesson(on("controller", "background: [sleep 1000]\n    undo: 'true'"))
    left = bench.node.run(
        "set -m; sleep 1000 </dev/null >/dev/null 2>&1 &"
        " echo $! | tee /run/labctl-background-one-0.pid"
    ).stdout.strip()
    bench.begun(what, "one")
    bench.classroom(what).goto("test/one")
    assert bench.node.run(f"kill -0 {left}", check=False).returncode != 0


def test_in_an_instance_nothing_runs_in_the_background(bench: Bench) -> None:
    what = lesson(on("instance", "background: [sleep 1000]"))
    _, result = bench.replay(what)
    assert "in an instance nothing runs in the background" in str(result.failed[0])


def test_another_node_may_have_it(bench: Bench, tmp_path: Path) -> None:
    compute = bench.guests[COMPUTE] = LocalGuest(tmp_path / "compute", COMPUTE)
    (compute.root / "run").mkdir()
    there = "background: [{node: compute-01, run: touch there; sleep 9}]"
    what = lesson(on("controller", there, "[sleep 0.4]"))
    _, result = bench.replay(what)
    assert result.ok
    assert (compute.root / "there").exists()
