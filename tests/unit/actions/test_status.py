"""The state of a lab: what is asked, what is made of it, and how it is shown."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.access.guest import GuestError
from labctl.actions import status
from labctl.actions.status import Report, collect, show
from labctl.faults.records import Record, write_records
from labctl.i18n import set_language
from labctl.provisioning.services import inactive_units, units_of
from labctl.state import LabState
from labctl.topology import Node, Topology
from tests.documents import expect_document
from tests.unit.fakes import FakeGuest, PlainPage, healthy, no_cloud, topology

CONTROLLER, COMPUTE = "network-controller", "compute-01"
CHASSIS = '{"headings": ["hostname", "encaps"], "data": [ROWS]}'
ENCAPS = '{"headings": ["_uuid", "type", "ip"], "data": [ROWS]}'


HEALTH = "^bash -c .*list-br"


@dataclass
class FakeLab:
    """What `collect` asks of a lab. As it is made, everything is well."""

    directory: Path
    topology: Topology = field(default_factory=topology)
    up: set[str] = field(default_factory=lambda: {CONTROLLER, COMPUTE})
    cloud: Callable[[], Any] = no_cloud

    def __post_init__(self) -> None:
        self.file = self.directory / "lab.yaml"
        self.state = LabState(self.directory)
        self.guests = {}
        for node in self.topology.nodes:
            self.guests[node.name] = FakeGuest(node.name).on(HEALTH, healthy(node, self.topology))
        self.registered(CONTROLLER, COMPUTE)
        server = {
            "name": "vm_1", "status": "ACTIVE", "compute_host": COMPUTE, "security_groups": [],
            "addresses": {"n1": [
                {"addr": "172.16.100.10", "OS-EXT-IPS:type": "fixed"},
                {"addr": "10.0.2.213", "OS-EXT-IPS:type": "floating"},
            ]},
        }  # fmt: skip
        self.servers = [SimpleNamespace(**server)]
        self.cloud = lambda: SimpleNamespace(compute=SimpleNamespace(servers=lambda: self.servers))

    def registered(self, *names: str) -> None:
        addresses = {node.name: node.eth1.address.ip for node in self.topology.nodes}
        chassis = ",".join(f'["{name}", ["uuid", "u-{name}"]]' for name in names)
        encaps = ",".join(
            f'[["uuid", "u-{name}"], "geneve", "{addresses[name]}"]' for name in names
        )
        self.controller.on("ovn-sbctl .* list Chassis$", CHASSIS.replace("ROWS", chassis))
        self.controller.on("ovn-sbctl .* list Encap$", ENCAPS.replace("ROWS", encaps))

    def create(self) -> "FakeLab":
        self.state.begin("ovn-tutorial", "nspawn")
        self.state.created.touch()
        return self

    @property
    def controller(self) -> FakeGuest:
        return self.guests[CONTROLLER]

    @property
    def provider(self) -> Any:
        return SimpleNamespace(
            running=lambda node: node.name in self.up, guest=lambda node: self.guests[node.name]
        )

    def report(self) -> Report:
        report = collect(cast(Any, self))
        expect_document("status", report)
        return report

    def shown(self) -> str:
        page = PlainPage()
        show(self.report(), page, "labctl")
        return page.text


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is wrong between nodes, which OVN, Neutron and Nova are asked for."""
    troubles: list[str] = []
    monkeypatch.setattr(status, "troubles_between_nodes", lambda lab: troubles)
    return troubles


@pytest.fixture
def lab(tmp_path: Path, between: list[str]) -> FakeLab:
    return FakeLab(tmp_path).create()


def test_where_no_lab_is_nothing_is_asked(tmp_path: Path) -> None:
    fake = FakeLab(tmp_path)
    report = fake.report()
    assert (report["state"], report["lab"], report["nodes"]) == ("absent", "ovn-tutorial", [])
    assert all(guest.ran == [] for guest in fake.guests.values())
    assert "labctl create" in fake.shown()


def test_a_lab_that_is_well(lab: FakeLab) -> None:
    report = lab.report()
    assert report["state"] == "up"
    assert report["id"] == lab.state.identity().lab_id
    controller, compute = report["nodes"]
    assert (controller["name"], controller["roles"]) == (CONTROLLER, ["controller", "gateway"])
    assert compute["chassis"] == "geneve 192.168.33.20"
    assert (compute["eth0"], compute["eth1"]) == ("10.0.2.15/24", "192.168.33.20/24")
    assert compute["services"]["nova-compute"] == "active"
    assert compute["failed"] == []
    assert report["instances"] == [
        {
            "name": "vm_1", "status": "ACTIVE", "host": COMPUTE, "fixed": ["172.16.100.10"],
            "floating": ["10.0.2.213"], "security_groups": [],
        }
    ]  # fmt: skip
    assert report["login"] == {name: f"labctl ssh {name}" for name in (CONTROLLER, COMPUTE)}
    assert report["lesson"] is None


def test_a_client_is_well_without_a_chassis(lab: FakeLab) -> None:
    lab.topology = topology("name: ovn-tutorial\ninternet: {clients: {client-01: }}\n")
    said = "time {}\nstates active\nmtu eth0 1500\naddress eth0 198.51.100.10\nanswer {}\n"
    now = time.time()
    client = FakeGuest("client-01").on(HEALTH, said.format(now, "198.51.100.1"))
    lab.guests["client-01"] = client
    lab.up.add("client-01")
    lab.create()
    report = lab.report()
    assert report["state"] == "up"
    node = report["nodes"][-1]
    assert (node["name"], node["roles"], node["eth0"]) == (
        "client-01", ["client"], "198.51.100.10/24",
    )  # fmt: skip
    assert (node["eth1"], node["chassis"], node["services"]) == (
        "", None, {"labctl-network": "active"},
    )  # fmt: skip
    assert report["login"]["client-01"] == "labctl ssh client-01"
    (row,) = [line for line in lab.shown().splitlines() if "client-01  " in line]
    assert row.split() == ["✓", "client-01", "client", "198.51.100.10", "-", "-"]
    client.on(HEALTH, said.format(now, "203.0.113.1"))
    assert lab.report()["state"] == "degraded"


def test_shown_to_a_person(lab: FakeLab) -> None:
    lab.state.write_json(
        lab.state.lesson_position,
        place("floating-ip", attempted=["external-network", "x"], passed=["external-network"]),
    )
    assert (
        lab.shown()
        == """
ovn-tutorial: up
   node                roles               eth0       eth1           chassis
✓  network-controller  controller+gateway  10.0.2.15  192.168.33.10  geneve
✓  compute-01          compute             10.0.2.15  192.168.33.20  geneve

   instance  status  on          fixed          floating
✓  vm_1      ACTIVE  compute-01  172.16.100.10  10.0.2.213

lesson floating-ip: 1 of 11 checkpoints passed
next: labctl next (external-subnet)
log in: labctl ssh network-controller
log in: labctl ssh compute-01"""
    )


def test_a_service_that_is_not_active_is_named(lab: FakeLab) -> None:
    compute = lab.topology.node(COMPUTE)
    lab.guests[COMPUTE].on(HEALTH, healthy(compute, lab.topology, {"nova-compute": "failed"}))
    report = lab.report()
    assert report["state"] == "degraded"
    assert report["nodes"][1]["failed"] == ["nova-compute"]
    assert (report["instances"], report["login"]) == ([], {})
    assert "✗  compute-01" in lab.shown()
    assert "compute-01: nova-compute failed" in lab.shown()


def test_a_node_that_does_not_answer_is_no_reason_to_fail(lab: FakeLab) -> None:
    lab.guests[COMPUTE].on(HEALTH, raises=GuestError("no SSH"))
    report = lab.report()
    assert (report["state"], report["nodes"][1]["failed"]) == ("degraded", ["ssh"])


def test_services_that_run_are_not_all(lab: FakeLab) -> None:
    said = healthy(lab.topology.node(COMPUTE), lab.topology)
    lab.guests[COMPUTE].on(HEALTH, said.replace("mtu eth1 1500", "mtu eth1 1000"))
    report = lab.report()
    assert (report["state"], report["nodes"][1]["failed"]) == ("degraded", [])
    assert report["nodes"][1]["troubles"] == ["eth1 has MTU 1000, not 1500"]
    assert [instance["name"] for instance in report["instances"]] == ["vm_1"]
    shown = lab.shown()
    assert "✗  compute-01" in shown
    assert "compute-01: eth1 has MTU 1000, not 1500" in shown
    assert "to mend it: labctl reset" in shown


def test_what_is_wrong_between_nodes(lab: FakeLab, between: list[str]) -> None:
    between.append("router only in OVN: r")
    assert (lab.report()["state"], lab.report()["troubles"]) == ("degraded", between)
    assert "✗  router only in OVN: r" in lab.shown()


def test_a_database_that_is_stopped_is_not_waited_for(lab: FakeLab) -> None:
    controller = lab.topology.node(CONTROLLER)
    said = healthy(controller, lab.topology) + "\nstopped ovn-ovsdb-server-sb.service\n"
    lab.controller.on(HEALTH, said).on("ovn-sbctl", raises=AssertionError("it was asked"))
    node = lab.report()["nodes"][0]
    assert node["services"]["ovn-ovsdb-server-sb"] == "stopped"
    assert node["troubles"] == ["ovn-ovsdb-server-sb is stopped (SIGSTOP)"]


def test_a_chassis_that_is_missing(lab: FakeLab) -> None:
    lab.registered(CONTROLLER)
    report = lab.report()
    assert (report["state"], report["nodes"][1]["chassis"]) == ("degraded", None)


@pytest.mark.parametrize("answer", ["", "ovn-sbctl: unix:/run/ovn/ovnsb_db.sock: failed"])
def test_a_database_that_does_not_answer(lab: FakeLab, answer: str) -> None:
    lab.controller.on("ovn-sbctl", answer)
    assert [node["chassis"] for node in lab.report()["nodes"]] == [None, None]
    lab.controller.on("ovn-sbctl", exit=1, stderr="no connection")
    assert lab.report()["state"] == "degraded"


def test_a_cloud_that_does_not_answer(lab: FakeLab) -> None:
    def refused() -> Any:
        raise ConnectionRefusedError

    lab.cloud = refused
    assert (lab.report()["state"], lab.report()["instances"]) == ("up", [])


@pytest.mark.parametrize(
    ("up", "state"),
    [({CONTROLLER, COMPUTE}, "up"), ({CONTROLLER}, "degraded"), ({COMPUTE}, "degraded"),
     (set(), "halted")],
)  # fmt: skip
def test_nodes_that_run(lab: FakeLab, up: set[str], state: str) -> None:
    lab.up = up
    report = lab.report()
    assert report["state"] == state
    for name in {CONTROLLER, COMPUTE} - up:
        assert lab.guests[name].ran == []
        assert f"  {name}: not running" in lab.shown()


def test_a_lab_whose_create_was_interrupted(lab: FakeLab) -> None:
    lab.state.created.unlink()
    assert lab.report()["state"] == "unfinished"
    lab.up = set()
    assert lab.report()["state"] == "unfinished"


def test_where_the_learner_is(lab: FakeLab) -> None:
    position = lab.state.lesson_position
    lab.state.write_json(position, place("floating-ip", practice=True))
    lesson = lab.report()["lesson"]
    assert lesson
    assert (lesson["id"], lesson["practice"], lesson["passed"]) == ("floating-ip", True, [])
    assert (lesson["next"], len(lesson["checkpoints"])) == ("external-network", 11)
    assert "0 of 11 checkpoints passed (practice)" in lab.shown()
    # A lesson of a file that is gone.
    lab.state.write_json(position, place("/nowhere/x.yaml", attempted=["a"], passed=["a"]))
    gone = lab.report()["lesson"]
    assert gone
    assert (gone["passed"], gone["checkpoints"], gone["next"]) == (["a"], [], None)
    assert "1 of ? checkpoints passed" in lab.shown()
    for odd in ({}, {"current": 3}, {"current": "x", "lessons": {}, "practice": False}):
        lab.state.write_json(position, odd)
        assert lab.report()["lesson"] is None


def place(
    source: str, attempted: Sequence[str] = (), passed: Sequence[str] = (), practice: bool = False
) -> dict[str, Any]:
    """A position in one lesson."""
    mine = {"source": source, "attempted": attempted, "passed": passed, "hints": {}, "total": 11,
            "at": 0.0}  # fmt: skip
    return {"current": "floating-ip", "practice": practice, "lessons": {"floating-ip": mine}}


def test_columns_stay_below_each_other_in_chinese(lab: FakeLab) -> None:
    from labctl.terminal.text import cell_width

    set_language("zh-TW")
    lines = lab.shown().splitlines()
    first = next(index for index, line in enumerate(lines) if "192.168.33.10 " in line)
    at = {cell_width(line[: line.index("192.168.33.")]) for line in lines[first : first + 2]}
    head = lines[first - 1]
    assert at == {cell_width(head[: head.index("eth1")])}


# -- units -----------------------------------------------------------------------------------------
def test_units_follow_from_roles() -> None:
    controller, compute = topology().nodes
    assert {"mariadb", "neutron-api", "ovn-controller"} <= set(units_of(controller, "openstack"))
    assert {"nova-compute", "libvirtd", "ovn-controller"} <= set(units_of(compute, "openstack"))
    assert "mariadb" not in units_of(compute, "openstack")
    assert "nova-compute" not in units_of(controller, "openstack")
    for node in (controller, compute):
        assert len(set(units_of(node, "openstack"))) == len(units_of(node, "openstack"))


def inactive(node: Node, said: str) -> dict[str, str]:
    return inactive_units(FakeGuest().on("^systemctl is-active", said, exit=3), node, "openstack")


def test_what_is_not_active_or_not_told_of() -> None:
    node = topology().computes[0]
    units = units_of(node, "openstack")
    assert inactive(node, "\n".join("active" for _ in units)) == {}
    assert inactive(node, "activating\n" + "active\n" * (len(units) - 1)) == {
        units[0]: "activating"
    }
    assert inactive(node, "") == dict.fromkeys(units, "unknown")


def test_an_injected_fault_is_told_unless_it_is_secret(lab: FakeLab) -> None:
    """With whether it is there: here somebody has started the service again."""
    records = [
        Record("ovn-northd-killed", CONTROLLER, 1.0, False, {}, True),
        Record("neutron-api-frozen", CONTROLLER, 2.0, True, {}, True),
        Record("power-cut", COMPUTE, 3.0, False, {}, True),
    ]
    write_records(lab.state, records)
    lab.controller.on("^systemctl is-active --quiet ovn-northd$")
    lab.up.discard(COMPUTE)
    assert lab.report()["faults"] == [
        {"fault": "ovn-northd-killed", "node": CONTROLLER, "present": False},
        {"fault": "power-cut", "node": COMPUTE, "present": True},
    ]
    shown = lab.shown()
    assert "injected, and not there any more: ovn-northd-killed (network-controller)" in shown
    assert "injected: power-cut (compute-01)" in shown
    assert "to mend it: labctl fault clear" in shown
    assert "neutron-api-frozen" not in shown
