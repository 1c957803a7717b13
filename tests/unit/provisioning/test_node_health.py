"""Whether a node works, from what it tells of itself."""

import json
from dataclasses import replace
from typing import Any

import pytest

from labctl.provisioning.node_health import NodeHealth, ask_node, node_troubles, parse_node_health
from tests.unit.fakes import FakeGuest, topology

LAB = topology()
GATEWAY, COMPUTE = LAB.nodes
GOOD = NodeHealth(
    clock_behind=0.1,
    inactive={},
    mtu={"eth0": 1500, "eth1": 1500, "br-ex": 1500},
    addresses={"10.0.2.15": "br-ex", "192.168.33.10": "br-phy", "127.0.0.1": "lo"},
    settings={
        "ovn-remote": "tcp:192.168.33.10:6642",
        "ovn-encap-ip": "192.168.33.10",
        "ovn-encap-type": "geneve",
        "ovn-bridge-mappings": "flat0:br-eth2,extnet0:br-ex",
    },
    bridges={"br-ex": frozenset({"eth0", "patch-provnet"}), "br-int": frozenset()},
    tunnels={"192.168.33.20": 3},
    in_ports=frozenset({1, 3}),
    empty=frozenset({"br-mine"}),
    answering=frozenset({"192.168.33.20", "10.0.2.2"}),
)


def set_to(key: str, value: str) -> dict[str, str]:
    return {**(GOOD.settings or {}), key: value}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"clock_behind": 3.04}, ["its clock is 3.0 s off"]),
        ({"clock_behind": -9}, ["its clock is -9.0 s off"]),
        ({"inactive": {"mariadb": "failed"}}, ["mariadb failed"]),
        ({"inactive": {"ovn-northd": "stopped"}}, ["ovn-northd is stopped (SIGSTOP)"]),
        ({"tunnels": {}}, ["no tunnel to 192.168.33.20"]),
        (
            {"tunnels": {"192.168.33.20": 3, "192.168.33.99": 1}},
            ["a tunnel to 192.168.33.99, where no node is"],
        ),
        ({"in_ports": frozenset({1})}, ["br-int has no flows for its tunnels"]),
        ({"empty": frozenset({"br-ex"})}, ["br-ex has no flows"]),
        ({"settings": None}, ["Open vSwitch does not answer"]),
        (
            {"settings": set_to("ovn-bridge-mappings", "")},
            ["ovn-bridge-mappings is nothing, and lacks extnet0:br-ex"],
        ),
        (
            {"settings": set_to("ovn-remote", "tcp:192.0.2.1:6642")},
            ["ovn-remote is tcp:192.0.2.1:6642, and lacks tcp:192.168.33.10:6642"],
        ),
        (
            {"settings": set_to("ovn-encap-ip", "192.168.33.99")},
            ["ovn-encap-ip is 192.168.33.99, and lacks 192.168.33.10"],
        ),
        ({"bridges": {"br-ex": frozenset()}}, ["eth0 is not a port of br-ex"]),
        ({"mtu": {"eth0": 1500, "eth1": 1000}}, ["eth1 has MTU 1000, not 1500"]),
        ({"mtu": {"eth0": 1500}}, ["eth1 is missing or down"]),
        ({"full": frozenset({"/run"})}, ["/run is full: nothing can be written there"]),
        (
            {"addresses": {"10.0.2.15": "eth0", "192.168.33.10": "eth1"}},
            ["br-ex lacks its address 10.0.2.15"],
        ),
        (
            {"answering": frozenset({"10.0.2.2"})},
            ["compute-01 (192.168.33.20) does not answer 1500 bytes on eth1"],
        ),
        (
            {"answering": frozenset({"192.168.33.20"})},
            ["the gateway 10.0.2.2 does not answer on eth0"],
        ),
    ],
)
def test_what_is_wrong_with_a_node(change: dict[str, Any], said: list[str]) -> None:
    assert list(node_troubles(replace(GOOD, **change), GATEWAY, LAB, LAB.nodes)) == said


def test_a_node_that_is_down_is_not_expected_to_answer() -> None:
    alone = replace(GOOD, answering=frozenset({"10.0.2.2"}))
    assert list(node_troubles(alone, GATEWAY, LAB, [GATEWAY])) == []


def tables(**rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{name} "
        + json.dumps({"headings": list(found[0]), "data": [list(row.values()) for row in found]})
        for name, found in rows.items()
    )


SAID = """time 1795420886.5
answer 192.168.33.20
states active active failed
stopped nova-api.service sshd.service
mtu eth0 1500
mtu eth1 1000
address lo 127.0.0.1
address br-ex 10.0.2.15
in_port 1
empty br-ex
full /run
answer 10.0.2.2
""" + tables(
    Open_vSwitch=[{"external_ids": ["map", [["ovn-remote", "tcp:192.168.33.10:6642"]]]}],
    Bridge=[{"name": "br-ex", "ports": ["set", [["uuid", "p0"], ["uuid", "p1"]]]}],
    Port=[{"_uuid": ["uuid", "p0"], "name": "eth0"}, {"_uuid": ["uuid", "p1"], "name": "br-ex"}],
    Interface=[
        {"type": "", "options": ["map", []], "ofport": 1},
        {"type": "geneve", "options": ["map", [["remote_ip", "192.168.33.20"]]], "ofport": 2},
    ],
)


def test_what_a_node_tells_of_itself() -> None:
    health = parse_node_health(SAID, ["mariadb", "nova-api", "keystone"], lambda now: 0.5)
    assert health == NodeHealth(
        clock_behind=0.5,
        inactive={"nova-api": "stopped", "keystone": "failed"},
        mtu={"eth0": 1500, "eth1": 1000},
        addresses={"127.0.0.1": "lo", "10.0.2.15": "br-ex"},
        settings={"ovn-remote": "tcp:192.168.33.10:6642"},
        bridges={"br-ex": frozenset({"eth0", "br-ex"})},
        tunnels={"192.168.33.20": 2},
        in_ports=frozenset({1}),
        empty=frozenset({"br-ex"}),
        answering=frozenset({"192.168.33.20", "10.0.2.2"}),
        full=frozenset({"/run"}),
    )


def test_an_open_vswitch_that_does_not_answer() -> None:
    health = parse_node_health("time 1\nstates active\n", ["mariadb"], lambda now: 0.0)
    assert health.settings is None
    with pytest.raises(ValueError, match="tells nothing"):
        parse_node_health("bash: no such thing\n", ["mariadb"], lambda now: 0.0)


def test_only_nodes_that_run_are_sent_a_packet() -> None:
    guest = FakeGuest().on("^bash -c", SAID)
    assert ask_node(guest, COMPUTE, LAB, [COMPUTE]).settings is not None
    ask_node(guest, COMPUTE, LAB, LAB.nodes)
    alone, both = (ran.command.rpartition("bash 10.0.2.2 ")[2].split()[0] for ran in guest.ran)
    assert (alone, both) == ("''", "192.168.33.10")


OUTSIDE = topology("name: x\ninternet: {clients: {client-01: }}\n")
(CLIENT,) = OUTSIDE.clients
AT_CLIENT = replace(
    GOOD,
    mtu={"eth0": 1500},
    addresses={"198.51.100.10": "eth0"},
    settings=None,  # it has no Open vSwitch
    bridges={},
    tunnels={},
    answering=frozenset({"198.51.100.1"}),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"addresses": {}}, ["eth0 lacks its address 198.51.100.10"]),
        ({"mtu": {}}, ["eth0 is missing or down"]),
        ({"answering": frozenset()}, ["the gateway 198.51.100.1 does not answer on eth0"]),
        ({"inactive": {"labctl-network": "failed"}}, ["labctl-network failed"]),
    ],
)
def test_what_is_wrong_with_a_client(change: dict[str, Any], said: list[str]) -> None:
    health = replace(AT_CLIENT, **change)
    assert list(node_troubles(health, CLIENT, OUTSIDE, OUTSIDE.nodes)) == said


def test_a_client_sends_nothing_to_the_nodes() -> None:
    guest = FakeGuest("client-01").on("^bash", "time 1\nstates active\n")
    ask_node(guest, CLIENT, OUTSIDE, OUTSIDE.nodes)
    assert guest.ran[0].command.endswith(" bash 198.51.100.1 '' labctl-network")
