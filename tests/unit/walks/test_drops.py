"""What drops a packet, from OVN's and Open vSwitch's own answers.

The answers in tests/golden/ovn-trace are those of OVN 25.03 (ovn-northd, ovn-trace, ovn-nbctl,
ovn-sbctl, ovn-controller) and Open vSwitch 3.5 to one northbound database: switches n1 and n2,
router r between them with an IPv6 address in each, port security on all ports, and ACLs as Neutron
makes them.
"""

import pytest

from labctl.access.guest import GuestError
from labctl.access.ovsdb import parse_tables
from labctl.walks.drops import OpenFlow, parse_flows, port_of, read, understand
from labctl.walks.ovntrace import Trace, TraceEvent, events, parse
from tests.unit.fakes import FakeGuest
from tests.unit.golden import GOLDEN

ANSWERS = GOLDEN / "ovn-trace"
TABLES = (ANSWERS / "ipv6-denied.tables").read_text()
FLOWS = (ANSWERS / "ipv6-denied.flows").read_text()
"""ovs-ofctl's answer after ovn-controller had made its flows, and three packets had come."""
N1, N2 = 1, 2  # their tunnel keys


def trace(name: str) -> Trace:
    return parse((ANSWERS / f"{name}.txt").read_text())


def last(name: str) -> TraceEvent:
    return events(trace(name))[-1]


@pytest.mark.parametrize(
    ("name", "kind", "table", "port"),
    [
        ("ipv6-denied", "denied", "ls_out_acl_eval", "vm_six"),
        ("ipv6-denied-by-a-logged-acl", "denied", "ls_out_acl_eval", "vm_six"),
        ("ipv6-rejected", "rejected", "ls_out_acl_eval", "vm_six"),
        ("ipv6-no-route", "dropped", "lr_in_ip_routing", "r-n1v6"),
        ("ipv6-port-security", "dropped", "ls_in_apply_port_sec", "vm_1"),
        ("ipv6-solicitation-port-security", "dropped", "ls_in_apply_port_sec", "vm_1"),
        ("ipv6-routed-by-a-route", "dropped", "ls_out_apply_port_sec", "vm_six"),
    ],
)
def test_the_flow_that_drops_is_named(name: str, kind: str, table: str, port: str) -> None:
    event = last(name)
    assert (event.kind, event.table) == (kind, table)
    assert len(event.uuid) == 8
    assert f"uuid {event.uuid}" in (ANSWERS / f"{name}.txt").read_text()
    assert port_of(event, trace(name)) == port


@pytest.mark.parametrize(
    ("name", "routes"),
    [("ipv6-routed", ["2001:db8:9::/64"]),
     ("ipv6-routed-by-a-route", ["2001:db8:5::/48 via 2001:db8:9::10"]),
     ("ipv6-router-answers", ["2001:db8:8::/64"])],
)  # fmt: skip
def test_routes_of_ipv6(name: str, routes: list[str]) -> None:
    assert [event.detail for event in events(trace(name)) if event.kind == "routed"] == routes


@pytest.mark.parametrize("name", ["ipv6-routed", "ipv6-router-answers"])
def test_what_passes_is_no_drop(name: str) -> None:
    assert trace(name).verdict == "output"
    assert last(name).kind == "output"


def test_nothing_after_a_rejection_is_told_of_the_packet() -> None:
    assert [event.kind for event in events(trace("ipv6-rejected"))].count("rejected") == 1


# -- what it comes from ----------------------------------------------------------------------------
def test_the_acl_and_the_groups_and_the_flow() -> None:
    controller = FakeGuest().on("Logical_Flow", TABLES)
    node = FakeGuest("c2").on("ovs-ofctl", FLOWS)
    event = last("ipv6-denied")
    drop = read(controller, node, event, trace("ipv6-denied"), N2)
    assert drop is not None
    assert drop.acl is not None
    assert (drop.acl.direction, drop.acl.priority, drop.acl.match, drop.acl.action) == (
        "to-lport", 1001, "outport == @neutron_pg_drop && ip", "drop",
    )  # fmt: skip
    assert (drop.acl.group, drop.acl.name, drop.acl.rule) == ("neutron_pg_drop", "", "")
    assert drop.groups == ("neutron_pg_drop", "pg_sg")
    assert drop.port_security == ("fa:16:3e:00:00:03 2001:db8:9::10",)
    assert (drop.node, drop.port) == ("c2", "vm_six")
    assert [(flow.table, flow.priority, flow.packets) for flow in drop.flows] == [(51, 2001, 3)]
    assert f"list Logical_Flow {event.uuid}" in controller.ran[0].command
    assert node.ran[0].command == f"ovs-ofctl dump-flows br-int cookie=0x{event.uuid}/-1"


def test_a_name_and_a_rule_of_a_security_group() -> None:
    tables = parse_tables(TABLES)
    for row in tables["ACL"]:
        row["name"] = "no-icmp"
        row["external_ids"] = {"neutron:security_group_rule_id": "1234"}
    acl = understand("c2", last("ipv6-denied"), "vm_six", tables, "").acl
    assert acl is not None
    assert (acl.name, acl.rule) == ("no-icmp", "1234")


def test_what_is_not_made_of_an_acl() -> None:
    tables = parse_tables(TABLES)
    (flow,) = tables["Logical_Flow"]
    del flow["external_ids"]["stage-hint"]
    assert understand("c2", last("ipv6-no-route"), "r-n1v6", tables, "").acl is None


def test_who_does_not_answer_is_left_out() -> None:
    event = last("ipv6-denied")
    silent = FakeGuest("c2").on("", raises=GuestError("no such node"))
    drop = read(silent, silent, event, trace("ipv6-denied"), N2)
    assert drop is not None
    assert (drop.acl, drop.groups, drop.flows) == (None, (), ())
    assert drop.logical_flow == event.uuid
    garbage = FakeGuest("c2").on("", "Logical_Flow {\n")
    assert read(garbage, garbage, event, trace("ipv6-denied"), N2) == drop
    unnamed = TraceEvent("dropped", "n1", "")
    assert read(silent, silent, unnamed, trace("ipv6-denied"), N2) is None


def test_the_flows_are_those_of_the_switch_and_the_matched_ones_come_first() -> None:
    flows = parse_flows(FLOWS)
    assert flows[0] == OpenFlow(
        51, 2001, "0xe9ebda2e", 0, "ip,reg0=0x200/0x200,reg15=0x3,metadata=0x1",
        "load:0x1->OXM_OF_PKT_REG4[49],resubmit(,52)",
    )  # fmt: skip
    event = last("ipv6-denied")

    def named(key: int | None, printed: str = FLOWS) -> list[tuple[str, int]]:
        drop = understand("c2", event, "vm_six", {}, printed, key)
        return [(flow.match.split(",")[0], flow.packets) for flow in drop.flows]

    assert named(N2) == named(None) == [("ipv6", 3)]
    assert named(N1) == [("ip", 0), ("ipv6", 0)]
    assert named(N2, FLOWS.replace("n_packets=3", "n_packets=0")) == [("ipv6", 0), ("ip", 0)]
    everywhere = (
        " cookie=0x1, duration=1s, table=9, n_packets=7, n_bytes=9, priority=0 actions=drop"
    )
    assert named(N2, everywhere) == [("", 7)]
