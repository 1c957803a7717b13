"""Who can be walked to: an instance on the external network has an address there of its own."""

import json
from collections.abc import Callable

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
def finder(monkeypatch: pytest.MonkeyPatch) -> EndpointFinder:
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
    table = {"headings": ["name", "external_ids"], "data": [["tap1", ["map", []]]]}
    node = FakeGuest("compute-01")
    node.on("ovs-vsctl", stdout=json.dumps(table))
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


def test_ipv6_is_refused_in_plain_words(
    finder: EndpointFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = finder.source("network-controller")
    with pytest.raises(LabError, match="2001:db8::1 is an IPv6 address") as refused:
        finder.target("2001:db8::1", node)
    assert refused.value.code == EXIT_USAGE
    assert "labctl capture" in refused.value.hint
    only_ipv6 = OvnPort(
        "six", "", INSIDE, 70, ("02:00:00:00:00:70",), (), "compute-01", "", "", "", ""
    )
    network = LogicalNetwork((OUTSIDE, INSIDE), (only_ipv6,))
    monkeypatch.setattr(finder, "network", network)
    refusals: tuple[Callable[[], object], ...] = (
        lambda: finder.source("six"), lambda: finder.target("six", node)
    )  # fmt: skip
    for refuse in refusals:
        with pytest.raises(LabError, match="six has no IPv4 address") as refused:
            refuse()
        assert refused.value.code == EXIT_USAGE


def test_a_vlan_tag_that_is_put_on_is_told_as_one_that_was_not_there() -> None:
    walk: object = None  # no address or name of it is shown
    said = change_of(Change("vlan", None, 3001, "rewritten", ""), walk)  # type: ignore[arg-type]
    assert said == "vlan none → 3001"
