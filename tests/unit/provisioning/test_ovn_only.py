"""A lab without OpenStack: what it waits for, what must be active, which lessons it can have."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest

import labctl.provisioning.ovn_ready
from labctl.access.guest import GuestError, GuestResult
from labctl.actions.status import collect
from labctl.engine.wait import NotYet, WaitTimeout
from labctl.errors import EXIT_USAGE, LabError
from labctl.lab import Lab
from labctl.lessons.claims import ClaimChecker
from labctl.lessons.load import available, load_lesson
from labctl.lessons.model import FIRST, PROBES, Claim, Text
from labctl.probes import ProbeContext
from labctl.provisioning.ovn_ready import chassis_ready, wait_for_chassis
from labctl.provisioning.seed import Seed
from labctl.provisioning.services import units_of
from labctl.provisioning.stages import scripts_of
from labctl.snapshots.health import troubles_between_nodes
from labctl.state import LabState
from labctl.topology import Node, Topology
from tests.unit.fakes import FakeGuest, healthy, no_cloud, topology

LAB = topology("name: first-week\nstack: ovn\n")
OPENSTACK = topology()


def controller(*registered: str) -> FakeGuest:
    """A controller whose southbound database has these chassis."""
    chassis = ",".join(f'["{name}",["uuid","u-{name}"]]' for name in registered)
    encaps = ",".join(f'[["uuid","u-{name}"],"geneve","192.168.33.1"]' for name in registered)
    return (
        FakeGuest()
        .on("list Chassis", f'{{"headings": ["hostname", "encaps"], "data": [{chassis}]}}')
        .on("list Encap", f'{{"headings": ["_uuid", "type", "ip"], "data": [{encaps}]}}')
        .on("sync")
    )


# -- waiting ---------------------------------------------------------------------------------------
def test_ovn_is_ready_when_every_node_is_a_chassis_and_has_caught_up() -> None:
    guest = controller("network-controller", "compute-01")
    assert chassis_ready(LAB, guest, no_cloud)
    assert guest.ran[-1].command == "ovn-nbctl --timeout=15 --wait=hv sync"


def test_who_is_missing_is_named() -> None:
    with pytest.raises(NotYet, match=r"^compute-01 not yet registered$"):
        chassis_ready(LAB, controller("network-controller"), no_cloud)


def test_a_row_of_a_node_that_is_gone_is_no_chassis() -> None:
    guest = controller("network-controller", "compute-01").on("sync", exit=1)
    with pytest.raises(NotYet, match="not caught up"):
        chassis_ready(LAB, guest, no_cloud)


def test_databases_that_do_not_answer_yet_are_asked_again() -> None:
    guest = controller("network-controller", "compute-01")
    guest.on("list Chassis", raises=GuestError("connection refused"), once=True)
    wait_for_chassis(LAB, guest, no_cloud, lambda: False)
    assert len([one for one in guest.ran if "list Chassis" in one.command]) == 2
    assert guest.ran[-1].command.endswith("sync")


def test_a_chassis_that_never_comes_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(what: str, probe: Any, **options: Any) -> None:
        try:
            probe()
        except NotYet as seen:
            raise WaitTimeout(what, 0, str(seen), options["hint"]) from None

    monkeypatch.setattr(labctl.provisioning.ovn_ready, "wait_until", at_once)
    with pytest.raises(LabError, match="last seen: compute-01 not yet registered"):
        wait_for_chassis(LAB, controller("network-controller"), no_cloud, lambda: False)


def yesterday(lab: Topology) -> Seed:
    return Seed(cast(Lab, SimpleNamespace(topology=lab)))


def test_nothing_was_made_on_the_days_before() -> None:
    (step,) = yesterday(LAB).steps()
    assert (step.id, set(step.needs)) == (
        "chassis", {"ovn-host:network-controller", "ovn-host:compute-01"},
    )  # fmt: skip
    made = {f"{one.name}:{node.name}" for node in LAB.nodes for one in scripts_of(node, "ovn")}
    assert set(step.needs) <= made


def test_after_up_services_and_chassis_are_waited_for() -> None:
    steps = yesterday(LAB).ready_steps()
    assert [(step.id, step.needs) for step in steps] == [
        ("services", ("boot:network-controller", "boot:compute-01")),
        ("chassis", ("services",)),
    ]


# -- units and status ------------------------------------------------------------------------------
def test_units_are_those_of_ovn() -> None:
    boss, compute = ({*units_of(node, "ovn")} for node in LAB.nodes)
    everywhere = {"ovs-vswitchd", "ovsdb-server", "ovn-controller", "labctl-workloads"}
    assert compute == everywhere
    assert boss == everywhere | {"ovn-northd", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb"}
    for node in OPENSTACK.nodes:
        assert "labctl-workloads" not in units_of(node, "openstack")


def test_status_asks_no_cloud(tmp_path: Path) -> None:
    guests = {node.name: controller(*(one.name for one in LAB.nodes)) for node in LAB.nodes}
    for node in LAB.nodes:
        guests[node.name].on("^bash -c .*list-br", healthy(node, LAB))
        guests[node.name].on("^ip -4 -o address show", "1: eth0 inet 10.0.2.15/24 scope global")
    address = '{"headings": ["external_ip"], "data": [["10.0.2.200"]]}'
    guests[LAB.controller.name].on("list NAT", address)
    state = LabState(tmp_path)
    state.begin("first-week", "nspawn")
    state.created.touch()
    lab = SimpleNamespace(
        topology=LAB, file=tmp_path / "lab.yaml", state=state, cloud=no_cloud,
        controller=guests[LAB.controller.name],
        provider=SimpleNamespace(
            running=lambda node: True, guest=lambda node: guests[node.name]
        ),
    )  # fmt: skip
    report = collect(cast(Any, lab))
    assert (report["state"], report["stack"], report["instances"]) == ("up", "ovn", [])
    assert set(report["login"]) == {"network-controller", "compute-01"}
    # An address that a node took as well, which only this look finds.
    mine = address.replace("10.0.2.200", "10.0.2.15")
    guests[LAB.controller.name].on("list NAT", mine)
    for node in LAB.nodes:  # their clocks have stood still, on a busy machine for too long
        guests[node.name].on("^bash -c .*list-br", healthy(node, LAB))
    report = collect(cast(Any, lab))
    assert (report["state"], len(report["troubles"])) == ("degraded", 1)
    assert "10.0.2.15 on eth0, which is OVN's" in report["troubles"][0]


def test_status_asks_the_nodes_for_their_addresses_at_once() -> None:
    """Each node shows its own when the other has been asked as well."""
    all_asked = Barrier(len(LAB.nodes))

    def guest(node: Node) -> Any:
        def run(command: Sequence[str], **options: Any) -> GuestResult:
            all_asked.wait(timeout=30)
            return GuestResult(0, "1: eth0 inet 10.0.2.15/24 scope global", "", 0.0)

        return SimpleNamespace(run=run)

    boss = controller(*(node.name for node in LAB.nodes))
    boss.on("list NAT", '{"headings": ["external_ip"], "data": [["10.0.2.15"]]}')
    lab = SimpleNamespace(
        topology=LAB, cloud=no_cloud, controller=boss, provider=SimpleNamespace(guest=guest)
    )
    (trouble,) = troubles_between_nodes(cast(Any, lab))
    assert "10.0.2.15 on eth0, which is OVN's" in trouble


# -- lessons ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("stack", ["openstack", "ovn"])
def test_the_first_lesson_fits_its_stack(stack: str) -> None:
    assert load_lesson(FIRST[stack]).stack == stack


def test_every_built_in_lesson_says_its_stack() -> None:
    assert all(load_lesson(name).stack in FIRST for name in available())


def test_a_lesson_on_the_wrong_stack_is_wrong_use() -> None:
    with pytest.raises(LabError) as refused:
        load_lesson("floating-ip").require(LAB)
    assert refused.value.code == EXIT_USAGE
    assert "needs a lab with `stack: openstack`; first-week has `stack: ovn`" in str(
        refused.value.message
    )
    assert "ovn-snat-dnat" in (refused.value.hint or "")
    with pytest.raises(LabError, match="has `stack: openstack`"):
        load_lesson("ovn-snat-dnat").require(OPENSTACK)
    load_lesson("ovn-snat-dnat").require(LAB)


def test_a_lesson_without_a_stack_fits_every_lab() -> None:
    lesson = load_lesson("floating-ip")
    with pytest.raises(LabError):
        lesson.require(LAB)
    lesson = lesson.model_copy(update={"stack": None})
    lesson.require(LAB)
    lesson.require(OPENSTACK)


def lesson_words() -> Iterator[str]:
    for checkpoint in load_lesson("ovn-snat-dnat").checkpoints:
        yield from (*checkpoint.scripts, checkpoint.undo)


def test_the_lesson_needs_no_openstack_and_takes_no_address_for_granted() -> None:
    words = "\n".join(lesson_words())
    assert "openstack" not in words
    literals = "10.0.2. 192.168. vm_1 extnet0 network-controller compute-01"
    for literal in literals.split():
        assert literal not in words
    probes = {
        one.probe for point in load_lesson("ovn-snat-dnat").checkpoints for one in point.claims
    }
    assert not any(probe.startswith("openstack.") for probe in probes)


def test_without_openstack_the_hypervisor_is_the_first_compute() -> None:
    lab = topology("name: x\nstack: ovn\nnodes: {boss: , a: , b: }\n")
    assert (
        ClaimChecker({}, lab, lambda name: FakeGuest(name), no_cloud).node_name("hypervisor") == "a"
    )


def test_a_ping_out_of_a_namespace() -> None:
    guest = FakeGuest().on(
        "^ip netns exec vm_1 ping -n -c 1 .* 8.8.8.8$", "1 packets transmitted, 1 received"
    )
    context = ProbeContext(LAB, no_cloud, lambda name: guest)
    rows = PROBES["wire.ping"](context, {"from": "x", "namespace": "vm_1", "to": "8.8.8.8"})
    assert rows == [{"to": "8.8.8.8", "sent": 1, "received": 1, "answered": True}]


def test_facts_of_claims_come_from_ovn() -> None:
    claim = Claim(
        id="x", text=Text(en="x", zh_tw="x"), probe="ovn.chassis",
        where={"name": "{{ node.hypervisor.name }}"}, count=1,
    )  # fmt: skip
    guest = controller("compute-01")
    proved = ClaimChecker({}, LAB, lambda name: guest, no_cloud).prove(claim, [])
    assert proved.holds
