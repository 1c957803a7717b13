"""Faults are noted before they are made, and taken back whatever happened meanwhile."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.actions import faults as verbs
from labctl.actions.faults import judge_secret
from labctl.engine.events import NoteLevel
from labctl.errors import EXIT_USAGE, LabError
from labctl.faults import catalogue, keeper
from labctl.faults.model import Fault, Mechanism
from labctl.faults.records import read_records
from labctl.lab import Lab
from labctl.state import LabState
from labctl.topology import Node
from tests.unit.fakes import topology

CONTROLLER, COMPUTE = "network-controller", "compute-01"


class Killed(BaseException):
    """What kill -9 does to us: nothing after it runs."""


@dataclass
class World:
    """What outlives labctl: what is broken, which nodes run, and when labctl is killed."""

    broken: list[str] = field(default_factory=list)
    up: set[str] = field(default_factory=lambda: {CONTROLLER, COMPUTE})
    kill_before: str = ""
    kill_after: str = ""
    refuses: str = ""
    did: list[str] = field(default_factory=list)

    def act(self, what: str) -> None:
        if what == self.kill_before:
            self.kill_before = ""
            raise Killed
        if what == self.refuses:
            raise LabError(f"{what} is not possible")
        self.did.append(what)


class Breaks(Mechanism):
    """Breaks a thing of that name."""

    def __init__(
        self, world: World, name: str, *, gone_at_boot: bool = True, on_host: bool = False
    ) -> None:
        self.world, self.name = world, name
        self.gone_at_boot, self.on_host = gone_at_boot, on_host

    def plan(self, lab: Lab, node: Node) -> Mapping[str, Any]:
        return {"thing": f"{self.name} of {node.name}"}

    def inject(self, lab: Lab, node: Node, plan: Mapping[str, Any]) -> None:
        assert [record.fault for record in read_records(lab.state)][-1] == self.name
        self.world.act(f"inject {self.name}")
        self.world.broken.append(plan["thing"])
        if self.world.kill_after == f"inject {self.name}":
            raise Killed

    def undo(self, lab: Lab, node: Node, plan: Mapping[str, Any]) -> None:
        assert self.on_host or node.name in self.world.up
        self.world.act(f"undo {self.name}")
        if plan["thing"] in self.world.broken:
            self.world.broken.remove(plan["thing"])

    def present(self, lab: Lab, node: Node, plan: Mapping[str, Any]) -> bool:
        return plan["thing"] in self.world.broken


class NoPower(Breaks):
    """A node that is off; a boot mends what is in it."""

    node_down = True

    def inject(self, lab: Lab, node: Node, plan: Mapping[str, Any]) -> None:
        super().inject(lab, node, plan)
        self.world.up.discard(node.name)

    def undo(self, lab: Lab, node: Node, plan: Mapping[str, Any]) -> None:
        super().undo(lab, node, plan)
        self.world.up.add(node.name)


@dataclass
class FakeLab:
    """What the keeper asks of a lab."""

    state: LabState
    world: World
    notes: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topology = topology()
        self.node = self.topology.node
        self.provider_name = "toy"
        self.provider = SimpleNamespace(running=lambda node: node.name in self.world.up)

    def note(self, level: NoteLevel, text: str) -> None:
        self.notes.append((level, text))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def lab(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("LABCTL_LANG", "en")
    entries = (
        Fault("leak", Breaks(world, "leak"), "", "", "", exercise=True),
        Fault("noise", Breaks(world, "noise"), "", "", "", exercise=True),
        Fault("row", Breaks(world, "row", gone_at_boot=False), "", "", "", place="controller"),
        Fault("wire", Breaks(world, "wire", gone_at_boot=False, on_host=True), "", "", ""),
        Fault("power", NoPower(world, "power", on_host=True), "", "", ""),
    )
    monkeypatch.setattr(catalogue, "FAULTS", entries)
    return cast(Lab, FakeLab(LabState(tmp_path), world))


def test_a_fault_is_put_in_and_taken_back(lab: Lab, world: World) -> None:
    record = keeper.inject(lab, "leak")
    assert (record.node, record.complete) == (COMPUTE, True)
    assert world.broken == ["leak of compute-01"]
    ((_, there),) = keeper.with_presence(lab, read_records(lab.state))
    assert there is True
    assert keeper.clear(lab) == [record]
    assert world.broken == []
    assert not lab.state.faults.exists()
    assert keeper.clear(lab) == []


@pytest.mark.parametrize("moment", ["kill_before", "kill_after"])
def test_what_a_killed_labctl_has_broken_is_taken_back(lab: Lab, world: World, moment: str) -> None:
    keeper.inject(lab, "wire")
    setattr(world, moment, "inject leak")
    with pytest.raises(Killed):
        keeper.inject(lab, "leak")
    assert [record.complete for record in read_records(lab.state)] == [True, False]
    assert {record.fault for record in keeper.clear(lab)} == {"wire", "leak"}
    assert world.broken == []


def test_a_clear_that_was_killed_is_finished_by_the_next(lab: Lab, world: World) -> None:
    for fault in ("leak", "wire"):
        keeper.inject(lab, fault)
    world.kill_before = "undo leak"
    with pytest.raises(Killed):
        keeper.clear(lab)
    assert world.broken == ["leak of compute-01"]
    assert [record.fault for record in keeper.clear(lab)] == ["leak"]
    assert world.broken == []


def test_what_cannot_be_injected_leaves_nothing(lab: Lab, world: World) -> None:
    world.refuses = "inject leak"
    with pytest.raises(LabError, match="not possible"):
        keeper.inject(lab, "leak")
    assert (world.broken, read_records(lab.state)) == ([], [])


def test_one_fault_is_not_twice_on_a_node(lab: Lab) -> None:
    keeper.inject(lab, "leak")
    with pytest.raises(LabError, match="leak is on compute-01 already") as refused:
        keeper.inject(lab, "leak", COMPUTE)
    assert refused.value.code == EXIT_USAGE
    keeper.inject(lab, "leak", CONTROLLER)
    assert len(read_records(lab.state)) == 2


def test_nothing_is_broken_on_a_node_that_is_down(lab: Lab, world: World) -> None:
    keeper.inject(lab, "power")
    with pytest.raises(LabError, match="compute-01 does not run"):
        keeper.inject(lab, "leak")
    assert world.broken == ["power of compute-01"]


def test_nodes_without_power_come_last_and_mend_what_a_boot_mends(lab: Lab, world: World) -> None:
    keeper.inject(lab, "leak")
    keeper.inject(lab, "noise", CONTROLLER)
    keeper.inject(lab, "power")
    assert len(keeper.clear(lab)) == 3
    # Not the leak: the node was off, and has booted since.
    assert world.did[3:] == ["undo noise", "undo power"]
    assert read_records(lab.state) == []


def test_what_needs_a_node_without_power_is_mended_when_it_is_back(lab: Lab, world: World) -> None:
    keeper.inject(lab, "row")
    keeper.inject(lab, "power", CONTROLLER)
    assert {record.fault for record in keeper.clear(lab)} == {"row", "power"}
    assert world.broken == []
    assert world.did[2:] == ["undo power", "undo row"]


def test_what_cannot_be_taken_back_is_named_and_kept(lab: Lab, world: World) -> None:
    keeper.inject(lab, "leak")
    keeper.inject(lab, "wire")
    world.refuses = "undo leak"
    with pytest.raises(LabError, match=r"not taken back: leak \(compute-01\): undo leak is not"):
        keeper.clear(lab)
    assert [record.fault for record in read_records(lab.state)] == ["leak"]
    world.refuses = ""
    keeper.clear(lab)
    assert world.broken == []


def test_a_restore_of_files_needs_only_what_is_outside_of_the_nodes(lab: Lab, world: World) -> None:
    for fault in ("leak", "wire", "power"):
        keeper.inject(lab, fault, CONTROLLER if fault == "leak" else COMPUTE)
    world.refuses = "undo leak"
    assert keeper.without_power(lab) is True
    assert keeper.clear_for_restore(lab, files=True) is False
    assert world.broken == ["leak of network-controller", "power of compute-01"]
    with pytest.raises(LabError, match="leak"):
        keeper.clear_for_restore(lab, files=False)
    world.refuses = ""
    assert keeper.clear_for_restore(lab, files=False) is True
    assert (world.broken, keeper.without_power(lab)) == ([], False)


def test_a_cable_that_stays_broken_ends_a_restore(lab: Lab, world: World) -> None:
    keeper.inject(lab, "wire")
    world.refuses = "undo wire"
    with pytest.raises(LabError, match=r"wire \(compute-01\)"):
        keeper.clear_for_restore(lab, files=True)


def test_random_takes_another_where_one_cannot_be_had(lab: Lab, world: World) -> None:
    chosen = {keeper.inject_random(lab, random.Random(5), COMPUTE).fault for _ in range(2)}
    assert chosen == {"leak", "noise"}
    with pytest.raises(LabError, match="no fault can be injected now"):
        keeper.inject_random(lab, random.Random(5), COMPUTE)


def test_the_judge_tells_what_was_mended_and_that_something_is_left(lab: Lab, world: World) -> None:
    keeper.inject(lab, "leak", secret=True)
    keeper.inject(lab, "noise", secret=True)
    keeper.inject(lab, "wire")
    notes = cast(FakeLab, lab).notes
    judge_secret(lab)
    assert notes == [("warning", "a secret fault is still in the lab")]
    world.broken.remove("leak of compute-01")  # the learner has found it
    notes.clear()
    judge_secret(lab)
    assert [text for _, text in notes] == [
        "mended: leak (compute-01)", "a secret fault is still in the lab",
    ]  # fmt: skip
    assert [record.fault for record in read_records(lab.state)] == ["noise", "wire"]
    assert "undo leak" in world.did  # what it had left behind


def test_secret_ones_are_counted_and_not_named(lab: Lab) -> None:
    keeper.inject(lab, "leak", secret=True)
    keeper.inject(lab, "wire")
    cast(Any, lab).state.begin("ovn-tutorial", "nspawn")
    found = verbs.faults(lab)
    assert [fault.fault for fault in found.injected] == ["wire"]
    assert found.secret == 1
    with pytest.raises(LabError, match="would be saved with it"):
        verbs.refuse_injected(lab)
