"""Parts of a lesson that stand for one of each node or instance, and commands on other nodes."""

from pathlib import Path
from typing import Any

import pytest

from labctl.lessons.load import parse_lesson
from labctl.lessons.loops import expand
from labctl.lessons.model import PROBES, Lesson
from labctl.spec.problems import SpecError
from tests.unit.fakes import LocalGuest, topology
from tests.unit.lessons.bench import COMPUTE, CONTROLLER, Bench, lesson

EACH = """
  - id: one
    WORDS
    run:
      - for_each: nodes
        node: "{{ item.name }}"
        run: echo {{ item.eth1.address.ip }} >>made
      - {for_each: nodes, run: "echo for {{ item.name }} >>made"}
      - echo plain >>made
    claims:
      - id: there
        for_each: nodes
        text: "{{ item.name }} is there"
        probe: test.rows
        where: {name: "{{ item.name }}"}
        count: 1
        each: {address: "{{ item.eth1.address.ip }}"}
        within: 0
    undo: rm -f made
"""
WHOLE = """
id: whole
title: Whole
goal: All.
checkpoints:
  - id: one
    title: One
    explain: x
    run: ["true"]
    background:
      - {for_each: KIND, node: controller, run: "sleep {{ item.name }}"}
    capture:
      - {for_each: KIND, node: gateway, interface: eth1, filter: "host {{ item.name }}"}
    claims:
      - {id: c, for_each: KIND, text: T, probe: ovn.chassis, where: {name: "{{ item.name }}"}}
faults:
  - {id: f, text: F, node: controller, stop: ovn-controller, fails: [c]}
"""
LAB = """
name: x
nodes: {network-controller: , compute-01: , compute-02: }
instances: {vm_1: , vm_2: }
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("LABCTL_LANG", "en")
    made = Bench(tmp_path)
    made.guests[COMPUTE] = LocalGuest(tmp_path / "compute", COMPUTE)
    monkeypatch.setitem(PROBES, "test.rows", made.probe)
    made.rows["rows"] = [
        {"name": node.name, "address": str(node.eth1.address.ip)} for node in made.topology.nodes
    ]
    return made


def test_commands_and_claims_run_once_for_each_node(bench: Bench) -> None:
    what = lesson(EACH)
    what.require(bench.topology)
    report, result = bench.replay(what)
    assert result.ok
    addresses = {node.name: str(node.eth1.address.ip) for node in bench.topology.nodes}
    assert bench.text("made").splitlines() == [
        addresses[CONTROLLER], f"for {CONTROLLER}", f"for {COMPUTE}", "plain",
    ]  # fmt: skip
    compute = bench.guests[COMPUTE]
    assert isinstance(compute, LocalGuest)
    assert (compute.root / "made").read_text(encoding="utf-8").split() == [addresses[COMPUTE]]
    (point,) = report.checkpoints
    assert [claim.id for claim in point.claims] == [f"there-{CONTROLLER}", f"there-{COMPUTE}"]
    assert [claim.text for claim in point.claims] == [
        f"{CONTROLLER} is there", f"{COMPUTE} is there",
    ]  # fmt: skip
    assert [command.node for command in point.commands] == [
        CONTROLLER, COMPUTE, CONTROLLER, CONTROLLER, CONTROLLER,
    ]  # fmt: skip


def test_the_claim_of_one_node_fails_alone(bench: Bench) -> None:
    bench.rows["rows"][-1]["address"] = "192.0.2.1"
    report, _ = bench.replay(lesson(EACH))
    assert [(claim.id, claim.holds) for claim in report.checkpoints[0].claims] == [
        (f"there-{CONTROLLER}", True), (f"there-{COMPUTE}", False),
    ]  # fmt: skip


def test_each_kind_is_written_out_with_captures_background_and_faults() -> None:
    def whole(kind: str) -> Lesson:
        text = WHOLE.replace("KIND", kind)
        return parse_lesson(text.encode(), "whole.yaml")

    expected = {
        "nodes": ["network-controller", "compute-01", "compute-02"],
        "computes": ["compute-01", "compute-02"],
        "gateways": ["network-controller"],
        "instances": ["vm_1", "vm_2"],
    }
    for kind, names in expected.items():
        read = whole(kind)
        read.require(topology(LAB))
        (point,) = (made := expand(read, topology(LAB))).checkpoints
        number = len(names)
        assert (len(point.background), len(point.capture), len(point.claims)) == (number,) * 3
        assert made.faults[0].fails == [f"c-{name.replace('_', '-')}" for name in names]
        assert made.file == read.file


def test_a_template_of_a_loop_that_cannot_be_filled_in_is_told_as_it_was_written(
    bench: Bench,
) -> None:
    what = lesson(EACH.replace("echo plain", "echo {{ lab.router.x }}").replace(
        "for {{ item.name }}", "for {{ item.name.x }}"))  # fmt: skip
    _, result = bench.replay(what)
    (failed,) = result.failed
    assert str(failed).startswith(
        "Step: test.yaml:14: checkpoints[0].run[1].run: cannot fill in 'echo for {{ item.name.x }}"
    )


def test_a_lesson_without_loops_is_the_same_object() -> None:
    what = lesson("""
  - id: one
    WORDS
    run: ["true"]
    claims: [{id: c, text: T, probe: ovn.chassis}]
""")
    assert expand(what, topology()) is what


def point(part: str) -> str:
    return f"""
  - id: one
    WORDS
    {part}
"""


@pytest.mark.parametrize(
    ("part", "path", "message"),
    [
        ('run: [{for_each: routers, run: x}]\n    claims: [HOLDS]', "run[0].for_each",
         "must be nodes, computes, gateways or instances"),
        ('run: [{for_each: nodes, run: "{{ item.eht1 }}"}]\n    claims: [HOLDS]', "run[0].run",
         "asks for item.eht1, which does not exist"),
        ('run: [{for_each: instances, run: "{{ item.eth1 }}"}]\n    claims: [HOLDS]', "run[0].run",
         "asks for item.eth1, which does not exist"),
        ('run: ["{{ item.name }}"]\n    claims: [HOLDS]', "run[0]", "asks for 'item'"),
        ('run: [{nod: x, run: x}]\n    claims: [HOLDS]', "run[0].nod", "unknown key"),
        ('run: [{node: x}]\n    claims: [HOLDS]', "run[0].run", "is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_loop_is_told_at_its_line(
    part: str, path: str, message: str, bench: Bench
) -> None:
    with pytest.raises(SpecError) as error:
        lesson(point(part))
    problems: Any = error.value.problems
    assert [(problem.path, problem.line) for problem in problems] == [
        (f"checkpoints[0].{path}", 10)
    ]
    assert problems[0].message == message


def test_a_node_that_a_command_names_and_the_lab_lacks_is_told(bench: Bench) -> None:
    what = lesson(point("run: [{node: compute-77, run: x}]\n    claims: [HOLDS]"))
    with pytest.raises(SpecError, match=r"run\[0\].node: this lab has no node 'compute-77'"):
        what.require(topology())
