"""Who can be walked to: an instance on the external network has an address there of its own."""

import json

import pytest

from labctl.errors import EXIT_USAGE, LabError
from labctl.walks import logical_network
from labctl.walks.describe import change_of
from labctl.walks.endpoints import EndpointFinder
from labctl.walks.logical_network import Datapath, LogicalNetwork, OvnPort
from labctl.walks.model import Change
from tests.unit.fakes import FakeGuest, no_cloud, topology

OUTSIDE, INSIDE = Datapath("1", "ext", False, 1), Datapath("2", "n1", False, 2)


def port(name: str, type: str, datapath: Datapath, last: int) -> OvnPort:
    macs, addresses = (f"02:00:00:00:00:{last:02}",), (f"10.0.2.{last}",)
    return OvnPort(name, type, datapath, last, macs, addresses, "compute-01", "", "", "", "extnet0")


@pytest.fixture
def node() -> FakeGuest:
    table = {"headings": ["name", "external_ids"], "data": [["tap1", ["map", []]]]}
    return FakeGuest("compute-01").on("ovs-vsctl", stdout=json.dumps(table))


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch, node: FakeGuest) -> EndpointFinder:
    network = LogicalNetwork(
        (OUTSIDE, INSIDE),
        (
            port("localnet", "localnet", OUTSIDE, 1),
            port("web", "", OUTSIDE, 50),
            port("db", "", INSIDE, 60),
        ),
    )
    monkeypatch.setattr(logical_network, "read", lambda guest: network)
    monkeypatch.setenv("LABCTL_LANG", "en")
    lab = topology("name: first-week\nstack: ovn\n")
    return EndpointFinder(lab, lambda name: node, no_cloud)


def test_an_instance_on_the_external_network_is_reached_at_its_own_address(
    finder: EndpointFinder,
) -> None:
    node = finder.source("network-controller")
    reached = finder.target("web", node)
    assert (reached.address, reached.interface, reached.inner) == ("10.0.2.50", "tap1", "")
    with pytest.raises(LabError, match="has no floating IP"):
        finder.target("db", node)


def test_a_client_is_an_end_outside(
    finder: EndpointFinder, node: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = topology("name: x\nstack: ovn\ninternet: {clients: {client-01: }}\n")
    network = finder.network
    monkeypatch.setattr(logical_network, "read", lambda guest: network)
    outside = EndpointFinder(lab, lambda name: node, no_cloud)
    source = outside.source("client-01")
    assert (source.kind, source.node) == ("node", "client-01")
    with pytest.raises(LabError, match="has no floating IP"):
        outside.target("db", source)
    with pytest.raises(LabError, match="which client-01 does not reach") as refused:
        outside.target("compute-01", source)
    assert "10.0.2.15" in refused.value.hint
    target = outside.target("client-01", outside.source("network-controller"))
    assert (target.kind, target.address, target.node) == ("address", "198.51.100.10", "client-01")
    names = outside.names("")
    assert names.addresses["198.51.100.10"] == "client-01"
    assert names.owners[lab.clients[0].eth0.mac] == "client-01"


# -- IPv4 and IPv6 ---------------------------------------------------------------------------------
def dual(name: str, last: int, *addresses: str) -> OvnPort:
    macs = (f"02:00:00:00:00:{last:02}",)
    return OvnPort(name, "", INSIDE, last, macs, addresses, "compute-01", "", "", "", "")


ROUTER = Datapath("3", "r", True, 3)
OF_ROUTER = OvnPort(
    "lrp", "patch", ROUTER, 1, ("02:00:00:00:01:01",), ("10.9.0.1", "2001:db8:8::1"), None, "", "",
    "", "",
)  # fmt: skip


@pytest.fixture
def both(finder: EndpointFinder, monkeypatch: pytest.MonkeyPatch) -> EndpointFinder:
    ports = (
        dual("a", 70, "10.9.0.70", "2001:db8:8::70"), dual("b", 71, "10.9.0.71", "2001:db8:8::71"),
        dual("six", 72, "2001:db8:8::72"), dual("four", 73, "10.9.0.73"), dual("none", 74),
        OF_ROUTER,
    )  # fmt: skip
    monkeypatch.setattr(finder, "network", LogicalNetwork((INSIDE, ROUTER), ports))
    return finder


@pytest.mark.parametrize(
    ("source", "target", "ipv6", "addresses"),
    [
        ("a", "b", False, ("10.9.0.70", "10.9.0.71")),
        ("a", "b", True, ("2001:db8:8::70", "2001:db8:8::71")),
        ("a", "six", False, ("2001:db8:8::70", "2001:db8:8::72")),
        ("six", "a", False, ("2001:db8:8::72", "2001:db8:8::70")),
        ("a", "2001:db8:8::71", False, ("2001:db8:8::70", "2001:db8:8::71")),
        ("a", "2001:0DB8:8:0::71", False, ("2001:db8:8::70", "2001:db8:8::71")),
        ("a", "10.9.0.71", False, ("10.9.0.70", "10.9.0.71")),
        ("six", "2001:db8:ffff::1", False, ("2001:db8:8::72", "2001:db8:ffff::1")),
        ("a", "internet", False, ("10.9.0.70", "8.8.8.8")),
    ],
)
def test_both_ends_have_addresses_of_one_kind_of_ip(
    both: EndpointFinder, source: str, target: str, ipv6: bool, addresses: tuple[str, str]
) -> None:
    sender, receiver = both.ends(source, target, ipv6=ipv6)
    assert (sender.address, receiver.address) == addresses


@pytest.mark.parametrize(
    ("source", "target", "ipv6", "reason"),
    [
        ("four", "six", False, "four has no IPv6 address"),
        ("six", "four", False, "six has no IPv4 address"),
        ("a", "four", True, "four has no IPv6 address"),
        ("four", "b", True, "four has no IPv6 address"),
        ("six", "10.9.0.71", False, "six has no IPv4 address"),
        ("a", "10.9.0.71", True, "b has no IPv6 address|10.9.0.71 is an IPv4 address"),
        ("a", "8.8.8.8", True, "8.8.8.8 is an IPv4 address"),
        ("a", "internet", True, "8.8.8.8 is an IPv4 address"),
        ("a", "compute-01", True, "compute-01 has no IPv6 address"),
        ("six", "compute-01", False, "six has no IPv4 address"),
        ("none", "a", False, "none has no IP address"),
        ("a", "none", False, "none has no IP address"),
        ("a", "fe80::1", False, "cannot follow a packet to fe80::1"),
        ("a", "ff02::1", False, "cannot follow a packet to ff02::1"),
        ("a", "::", False, "cannot follow a packet to ::"),
    ],
)
def test_no_kind_of_ip_that_both_have(
    both: EndpointFinder, source: str, target: str, ipv6: bool, reason: str
) -> None:
    with pytest.raises(LabError, match=reason) as refused:
        both.ends(source, target, ipv6=ipv6)
    assert refused.value.code == EXIT_USAGE
    assert refused.value.hint


def test_a_routers_own_address_is_known_as_one(both: EndpointFinder) -> None:
    for address in ("10.9.0.1", "2001:db8:8::1"):
        _, receiver = both.ends("a", address)
        assert (receiver.kind, receiver.mac) == ("address", "02:00:00:00:01:01")
    assert both.ends("a", "2001:db8:ffff::1")[1].mac == ""


@pytest.mark.parametrize(
    ("target", "family"), [("2001:db8:8::72", "-6"), ("six", "-6"), ("8.8.8.8", "-4")]
)
def test_a_node_sends_with_the_address_that_its_routes_choose(
    both: EndpointFinder, target: str, family: str, node: FakeGuest
) -> None:
    node.on(f"ip -j {family} route get", json.dumps([{"prefsrc": "2001:db8:7::2"}]))
    sender, _ = both.ends("compute-01", target)
    assert sender.address == "2001:db8:7::2"


def test_a_vlan_tag_that_is_put_on_is_told_as_one_that_was_not_there() -> None:
    walk: object = None  # no address or name of it is shown
    said = change_of(Change("vlan", None, 3001, "rewritten", ""), walk)  # type: ignore[arg-type]
    assert said == "vlan none → 3001"
