"""An object of the drawing: which rows of four sources are about it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.errors import LabError
from labctl.page.objects import Kind, ask
from tests.unit.fakes import FakeGuest, topology

EVIL = "<img src=x onerror=alert(1)>\x1b]52;c;eA==\x07"


def table(name: str, *rows: dict[str, Any]) -> str:
    headings = list(rows[0]) if rows else []
    data = [[row[key] for key in headings] for row in rows]
    return f"{name} " + json.dumps({"headings": headings, "data": data})


def uuid(name: str) -> list[str]:
    return ["uuid", name]


def a_map(**pairs: str) -> list[Any]:
    return ["map", [[key.replace("_", "-"), value] for key, value in pairs.items()]]


NAT = {"type": "snat", "external_ip": "10.0.2.100", "logical_ip": "192.168.100.0/24"}
DATABASES = "\n".join([
    table("Logical_Switch", {"_uuid": uuid("s1"), "name": "n1"}),
    table("Logical_Switch_Port", {"_uuid": uuid("p1"), "name": "vm_1", "type": EVIL},
          {"_uuid": uuid("p2"), "name": "vm_2", "type": ""}),
    table("Logical_Router", {"_uuid": uuid("r1"), "name": "r", "nat": uuid("nat1")},
          {"_uuid": uuid("r2"), "name": "other", "nat": uuid("nat2")}),
    table("Logical_Router_Port"),
    table("NAT", {"_uuid": uuid("nat1"), **NAT}, {"_uuid": uuid("nat2"), **NAT}),
    table("Datapath_Binding", {"_uuid": uuid("d1"), "tunnel_key": 7,
                               "external_ids": a_map(name="n1")}),
    table("Port_Binding", {"_uuid": uuid("b1"), "logical_port": "vm_1", "chassis": uuid("c1")}),
    table("Chassis", {"_uuid": uuid("c1"), "name": "compute-01", "hostname": "compute-01"},
          {"_uuid": uuid("c2"), "name": "elsewhere", "hostname": "elsewhere"}),
    table("Encap", {"_uuid": uuid("e1"), "ip": "192.168.33.20", "chassis_name": "compute-01"}),
])  # fmt: skip
INTERFACES = {
    "compute-01": table(
        "Interface",
        {"_uuid": uuid("i1"), "name": "tap-vm_1", "external_ids": a_map(iface_id="vm_1"),
         "options": ["map", []]},
    ),
    "network-controller": table(
        "Interface",
        {"_uuid": uuid("i2"), "name": "ovn-1", "external_ids": ["map", []],
         "options": ["map", [["remote_ip", "192.168.33.20"]]]},
    ),
}  # fmt: skip
BRIDGES = {
    name: "\n".join([
        interfaces,
        table("Port", {"_uuid": uuid("o"), "name": "o", "interfaces": uuid("i1")}),
        table("Bridge", {"_uuid": uuid("br"), "name": "br-int", "ports": uuid("o")}),
    ])
    for name, interfaces in INTERFACES.items()
}  # fmt: skip


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LABCTL_LANG", "en")
    guests = {name: FakeGuest(name).on("ovs-vsctl", text) for name, text in BRIDGES.items()}
    guests["network-controller"].on("ovn-nbctl", DATABASES)
    flow = "  table=5 (lr_in_unsnat), match=(ip4.dst == 10.0.2.100), action=(ct_snat;)"
    guests["network-controller"].on("lflow-list r ", flow)
    for guest in guests.values():
        guest.on("dump-flows", f" cookie=0x1, duration=5s table=9,nw_dst=10.0.2.100 {EVIL}")
    return SimpleNamespace(
        topology=topology("name: x\nstack: ovn\n"),
        require_created=lambda: None,
        controller=guests["network-controller"],
        guest=guests.__getitem__,
    )


def told(lab: Any, kind: Kind, name: str, router: str = "") -> dict[str, list[str]]:
    """By column: the titles of its sections, with one value each that tells the row."""
    return {
        column["name"]: [
            section["title"] + " " + dict(section["fields"]).get("_uuid", "")
            if "fields" in section
            else section["title"]
            for section in column["sections"]
        ]
        for column in ask(lab, kind, name, router)["columns"]
    }


def test_an_interface_leads_to_its_logical_port_and_its_chassis(lab: Any) -> None:
    assert told(lab, "interface", "compute-01/tap-vm_1") == {
        "OpenStack": [],
        "OVN northbound": ["Logical_Switch_Port p1"],
        "OVN southbound": ["Port_Binding b1", "Chassis c1"],
        "Open vSwitch": [
            "Interface (compute-01) i1", "Port (compute-01) o", "Bridge (compute-01) br",
        ],
    }  # fmt: skip
    assert told(lab, "port", "vm_1")["Open vSwitch"][0] == "Interface (compute-01) i1"


def test_a_tunnel_leads_to_the_chassis_at_its_far_end(lab: Any) -> None:
    columns = told(lab, "interface", "network-controller/ovn-1")
    assert columns["OVN southbound"] == ["Encap e1", "Chassis c1"]
    assert columns["Open vSwitch"] == ["Interface (network-controller) i2"]


def test_a_switch_has_its_datapath(lab: Any) -> None:
    columns = told(lab, "logical", "n1")
    assert columns["OVN northbound"] == ["Logical_Switch s1"]
    assert columns["OVN southbound"] == ["Datapath_Binding d1"]


def test_a_nat_rule_is_that_of_its_router_with_the_flows_that_name_it(lab: Any) -> None:
    columns = told(lab, "nat", "snat 10.0.2.100 192.168.100.0/24", "r")
    assert columns == {
        "OpenStack": [],
        "OVN northbound": ["NAT nat1"],
        "OVN southbound": ["Logical_Flow (network-controller)"],
        "Open vSwitch": ["br-int (network-controller)", "br-int (compute-01)"],
    }


@pytest.mark.parametrize("kind", ["interface", "port", "logical", "nat", "floating"])
def test_what_is_not_there_any_more_is_said_and_reaches_no_other_command(
    lab: Any, kind: Kind
) -> None:
    with pytest.raises(LabError, match="there is no"):
        ask(lab, kind, "snat --option=1 $(touch x)", "--db=evil")
    asked = [ran.command for ran in lab.controller.ran]
    assert not [command for command in asked if "evil" in command or "touch" in command]


def test_what_a_guest_wrote_is_text_without_control_characters(lab: Any) -> None:
    for kind, name, router in (("port", "vm_1", ""), ("nat", f"{' '.join(NAT.values())}", "r")):
        text = json.dumps(ask(lab, kind, name, router))  # type: ignore[arg-type]
        assert "onerror" in text, "text is shown; the page puts it in as text"
        assert "\\u001b" not in text
        assert "\\u0007" not in text


def test_a_floating_ip_without_a_port_is_known_to_neutron_alone(lab: Any) -> None:
    address = SimpleNamespace(to_dict=lambda **_: {"floating_ip_address": "10.0.2.214"})
    asked: list[str] = []

    def ips(floating_ip_address: str) -> list[Any]:
        asked.append(floating_ip_address)
        return [address]

    lab.topology = topology("name: x\n")
    lab.cloud = lambda: SimpleNamespace(network=SimpleNamespace(ips=ips))
    assert told(lab, "floating", "10.0.2.214") == {
        "OpenStack": ["floating IP "],
        "OVN northbound": [],
        "OVN southbound": [],
        "Open vSwitch": [],
    }
    assert asked == ["10.0.2.214"]
