"""What is named as the cause: a lab as it should be, and then with one thing changed at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from labctl.access.ovsdb import parse_tables
from labctl.walks.arp import ArpAnswer, ArpQuestion
from labctl.walks.causes import Cause, find_causes
from labctl.walks.logical_network import LogicalNetwork, understand
from labctl.walks.node_settings import NodeSettings
from labctl.walks.node_settings import understand as understand_settings
from labctl.walks.plan import Endpoint
from tests.unit.fakes import topology
from tests.unit.walks.walks import WALKS, printed_tables

LAB = topology("name: ovn-tutorial\n")
NETWORK = understand(parse_tables(printed_tables(WALKS / "out")))
FLOATING, FIXED = "10.0.2.210", "172.16.100.10"
(VM_PORT,) = [port for port in NETWORK.ports if FIXED in port.addresses]
VM = Endpoint("vm_1", "instance", FIXED, "compute-01", "tap0", mac=VM_PORT.macs[0])
VM_OUTSIDE = replace(VM, address=FLOATING, inner=FIXED)
INTERNET = Endpoint("8.8.8.8", "address", "8.8.8.8")
GATEWAY = Endpoint("network-controller", "node", "10.0.2.15", "network-controller")
COMPUTE = Endpoint("compute-01", "node", "10.0.2.15", "compute-01")

DATABASE = "tcp:192.168.33.10:6642"
SETTINGS = {
    "network-controller": NodeSettings(
        "network-controller", DATABASE, "connected", "192.168.33.10", {"extnet0": "br-ex"},
        {"br-ex": ("br-ex", "eth0", "patch-x"), "br-int": ()}, {"10.0.2.15": "br-ex"},
    ),
    "compute-01": NodeSettings("compute-01", DATABASE, "connected", "192.168.33.20"),
}  # fmt: skip


def causes(
    source: Endpoint = VM,
    target: Endpoint = INTERNET,
    network: LogicalNetwork = NETWORK,
    settings: Mapping[str, NodeSettings] = SETTINGS,
    asked: Sequence[ArpQuestion] = (),
) -> list[Cause]:
    found = find_causes(source, target, LAB, network, settings, asked, "network-controller")
    return list(found)


WAYS = [(VM, INTERNET), (GATEWAY, VM_OUTSIDE), (COMPUTE, VM_OUTSIDE), (VM, VM), (VM, VM_OUTSIDE),
        (VM, GATEWAY), (GATEWAY, COMPUTE), (COMPUTE, INTERNET)]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_lab_as_it_should_be_has_none(source: Endpoint, target: Endpoint) -> None:
    assert causes(source, target) == []
    assert causes(source, target, settings={}) == []
    assert causes(source, target, network=LogicalNetwork()) == [], "nothing could be read"


def changed(node: str, **values: object) -> dict[str, NodeSettings]:
    return {**SETTINGS, node: replace(SETTINGS[node], **values)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("node", "values", "expected"),
    [
        ("compute-01", {"remote": "tcp:192.168.33.99:6642", "connection": "not connected"},
         ("other-remote", "ovn-remote", "tcp:192.168.33.99:6642", DATABASE)),
        ("compute-01", {"connection": "not connected"},
         ("not-connected", DATABASE, "not connected", "")),
        ("compute-01", {"encap_ip": "192.168.33.99"},
         ("other-encap-ip", "ovn-encap-ip", "192.168.33.99", "192.168.33.20")),
        ("network-controller", {"mappings": {"physnet1": "br-phy"}},
         ("no-mapping", "extnet0", "", "extnet0:br-ex")),
        ("network-controller", {"bridges": {"br-int": ()}}, ("no-bridge", "br-ex", "", "")),
        ("network-controller", {"bridges": {"br-ex": ("br-ex",)}},
         ("uplink-not-in-bridge", "br-ex", "", "eth0")),
        ("network-controller", {"addresses": {FLOATING: "br-ex"}},
         ("address-on-node", FLOATING, "br-ex", "")),
    ],
)  # fmt: skip
def test_a_node_that_is_set_to_something_else(
    node: str, values: dict[str, object], expected: tuple[str, str, str, str]
) -> None:
    (cause,) = causes(settings=changed(node, **values))
    assert cause.node == node
    assert (cause.kind, cause.subject, cause.found, cause.expected) == expected


def test_several_servers_of_the_database_are_no_other_database() -> None:
    remote = f"tcp:192.168.33.99:6642,{DATABASE}"
    assert causes(settings=changed("compute-01", remote=remote)) == []


def test_the_way_out_does_not_matter_inside() -> None:
    broken = changed("network-controller", mappings={})
    assert causes(VM, VM, settings=broken) == []
    assert [cause.kind for cause in causes(VM, INTERNET, settings=broken)] == ["no-mapping"]


def test_a_disabled_port_is_that_of_the_source_or_the_target() -> None:
    disabled = changed("network-controller", disabled=frozenset({VM_PORT.name, "another"}))
    assert causes(settings=disabled) == [Cause("port-disabled", "", VM_PORT.name, "enabled=false")]
    assert [cause.kind for cause in causes(GATEWAY, VM_OUTSIDE, settings=disabled)] == [
        "port-disabled"
    ]
    assert causes(GATEWAY, INTERNET, settings=disabled) == []


def test_rules_that_are_missing() -> None:
    no_rules = replace(NETWORK, nat=())
    assert causes(network=no_rules) == [Cause("no-nat-rule", "", FIXED, expected="snat")]
    assert causes(GATEWAY, VM_OUTSIDE, network=no_rules) == [
        Cause("no-nat-rule", "", FLOATING, expected="dnat_and_snat")
    ]
    assert causes(VM, VM, network=no_rules) == []


def test_a_router_that_is_missing() -> None:
    without = replace(
        NETWORK, ports=tuple(port for port in NETWORK.ports if not port.datapath.router), nat=()
    )
    for source, target in ((VM, INTERNET), (GATEWAY, VM_OUTSIDE)):
        assert causes(source, target, network=without) == [Cause("no-router", "", "n1")]
    assert causes(VM, VM, network=without) == [], "on one switch it needs none"


def question(*owners: str, node: str = "compute-01") -> ArpQuestion:
    answers = tuple(ArpAnswer(mac, node, "eth0") for mac in owners)
    return ArpQuestion(FLOATING, "10.0.2.15", "52:54:00:00:00:01", node, "eth0", (), 1, answers)


def test_each_eth0_is_a_network_of_its_own() -> None:
    assert causes(COMPUTE, VM_OUTSIDE, asked=[question()]) == [
        Cause("other-segment", "compute-01", FLOATING, "eth0", "network-controller")
    ]
    assert causes(COMPUTE, VM_OUTSIDE, asked=[question("fa:16:3e:00:00:01")]) == []
    assert causes(GATEWAY, VM_OUTSIDE, asked=[question(node="network-controller")]) == []


def test_an_address_with_two_owners() -> None:
    (cause,) = causes(
        GATEWAY, VM_OUTSIDE, asked=[question("fa:16:3e:00:00:01", "52:54:00:00:00:02")]
    )
    assert (cause.kind, cause.found) == ("two-owners", "fa:16:3e:00:00:01, 52:54:00:00:00:02")


def test_a_node_that_answers_little() -> None:
    """Every part may be missing: that OVS or ovn-controller is down is what one looks for."""
    nothing = "Open_vSwitch \nBridge \nPort \naddresses \nconnection \ndisabled \n"
    assert understand_settings("compute-01", nothing) == NodeSettings("compute-01")
    assert understand_settings("compute-01", "") == NodeSettings("compute-01")
    assert causes(settings={**SETTINGS, "compute-01": NodeSettings("compute-01")}) == []


# -- IPv6 ------------------------------------------------------------------------------------------
def with_ipv6(*names: str) -> LogicalNetwork:
    """The network with IPv6 addresses for the ports of that name."""
    ports = [
        replace(port, addresses=(*port.addresses, f"2001:db8:8::{port.key}"))
        if port.name in names
        else port
        for port in NETWORK.ports
    ]
    return replace(NETWORK, ports=tuple(ports))


(ROUTER_PORT,) = [port for port in NETWORK.ports if "172.16.100.1" in port.addresses]
SIX = replace(VM, address=f"2001:db8:8::{VM_PORT.key}")
OUTSIDE = Endpoint("2001:db8:ffff::1", "address", "2001:db8:ffff::1")
OF_ROUTER = Endpoint("r:n1", "address", "2001:db8:8::1", mac=ROUTER_PORT.macs[0])


@pytest.mark.parametrize("target", [OUTSIDE, OF_ROUTER])
def test_ipv6_needs_a_port_of_the_router_and_no_nat(target: Endpoint) -> None:
    complete = with_ipv6(VM_PORT.name, ROUTER_PORT.name)
    assert causes(SIX, target, network=complete) == []
    assert causes(SIX, target, network=with_ipv6(VM_PORT.name)) == [
        Cause("no-router", "", "n1", expected="IPv6")
    ]


def test_a_routers_own_address_needs_no_nat() -> None:
    own = Endpoint("r:n1", "address", "172.16.100.1", mac=ROUTER_PORT.macs[0])
    assert causes(VM, own, network=replace(NETWORK, nat=())) == []


def test_an_address_that_is_not_the_ports() -> None:
    def found(sent_from: str, *asked: ArpQuestion) -> list[Cause]:
        return list(
            find_causes(
                VM, INTERNET, LAB, NETWORK, SETTINGS, asked, "network-controller", sent_from
            )
        )

    expected = Cause("other-source", "", VM_PORT.name, "172.16.100.99", FIXED)
    assert found("172.16.100.99") == [expected]
    asks = replace(question(), asker="172.16.100.99", asker_mac=VM.mac)
    assert found("", asks) == [expected]
    assert found(FIXED, replace(asks, asker=FIXED)) == []
    assert found("", replace(asks, asker="fe80::1")) == []
    assert found("", replace(asks, asker_mac="fa:16:3e:00:00:77")) == []
