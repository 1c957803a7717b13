"""What a walk listens to and sends, for each pair of ends."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.walks.plan import Endpoint, ExternalNetwork, exit_of, plan, send_command
from tests.unit.walks.sending import expect_heard

VM = Endpoint("vm_1", "instance", "172.16.100.10", "c1", "tap1")
VM2 = Endpoint("vm_2", "instance", "172.16.100.11", "c2", "tap2")
NEAR = Endpoint("vm_3", "instance", "172.16.100.12", "c1", "tap3")
FLOATING = Endpoint("vm_1", "instance", "10.0.2.210", "c1", "tap1", inner="172.16.100.10")
GW, C1 = Endpoint("gw", "node", "10.0.2.15", "gw"), Endpoint("c1", "node", "10.0.2.15", "c1")
WORLD = Endpoint("8.8.8.8", "address", "8.8.8.8")
SPACE = Endpoint("ns1", "instance", "192.168.100.10", "c1", "tap-ns1", namespace="ns1")
NETWORK = ExternalNetwork("gw", {"gw": ("br-ex", "eth0"), "c1": ("eth0",)}, "nat0")


@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        (VM, WORLD, ["c1 tap1", "c1 eth1", "gw eth1", "gw eth0", "internet nat0"]),
        (GW, FLOATING, ["gw br-ex", "gw eth1", "c1 eth1", "c1 tap1"]),
        (C1, FLOATING, ["c1 eth0", "gw eth0", "gw eth1", "c1 eth1", "c1 tap1"]),
        (GW, WORLD, ["gw br-ex", "gw eth0", "internet nat0"]),
        (C1, WORLD, ["c1 eth0", "internet nat0"]),
        (VM, VM2, ["c1 tap1", "c1 eth1", "c2 eth1", "c2 tap2"]),
        (VM, NEAR, ["c1 tap1", "c1 tap3"]),
        (VM2, FLOATING, ["c2 tap2", "c2 eth1", "gw eth1", "gw eth1", "c1 eth1", "c1 tap1"]),
        (VM, GW, ["c1 tap1", "c1 eth1", "gw eth1", "gw br-ex"]),
        (GW, C1, ["gw eth1", "c1 eth1"]),
    ],
    ids=lambda end: end.name if isinstance(end, Endpoint) else "",
)
def test_the_way(source: Endpoint, target: Endpoint, way: list[str]) -> None:
    made = plan(source, target, "ping", None, NETWORK)
    assert [f"{point.node} {point.interface}" for point in made.expected] == way
    listened = [(point.node, point.interface) for point in made.listen]
    assert len(set(listened)) == len(listened)
    assert {(point.node, point.interface) for point in made.expected} <= set(listened)
    # Whatever happens on the gateway is seen.
    assert {("gw", "eth1"), ("gw", "br-ex"), ("gw", "eth0")} <= set(listened)


def test_a_client_comes_in_by_the_gateways_eth0() -> None:
    client = Endpoint("client-01", "node", "198.51.100.10", "client-01")
    network = replace(NETWORK, clients=frozenset({"client-01"}))
    assert exit_of(client, "gw", network.clients) == "gw"
    assert exit_of(C1, "gw", network.clients) == "c1"
    way_in = ["client-01 eth0", "internet nat0", "gw eth0"]
    router = replace(WORLD, address="10.0.2.100", mac="02:00:00:00:02:64")
    for target, way in (
        (FLOATING, [*way_in, "gw eth1", "c1 eth1", "c1 tap1"]),
        (router, way_in),
        (WORLD, ["client-01 eth0"]),
    ):
        made = plan(client, target, "ping", None, network)
        assert [f"{point.node} {point.interface}" for point in made.expected] == way
        # It has no other card to listen at.
        assert {p.interface for p in made.listen if p.node == "client-01"} == {"eth0"}


def test_a_client_is_the_last_that_sees_what_is_sent_to_it() -> None:
    client = Endpoint("client-01", "address", "198.51.100.10", "client-01")
    network = replace(NETWORK, clients=frozenset({"client-01"}))
    made = plan(VM, client, "ping", None, network)
    assert [f"{point.node} {point.interface}" for point in made.expected] == [
        "c1 tap1", "c1 eth1", "gw eth1", "gw eth0", "internet nat0", "client-01 eth0",
    ]  # fmt: skip
    assert {p.interface for p in made.listen if p.node == "client-01"} == {"eth0"}


def test_without_a_far_side_nobody_listens_there() -> None:
    made = plan(VM, WORLD, "ping", None, ExternalNetwork("gw", {"gw": ("eth0",)}))
    assert all(point.node != "internet" for point in made.listen)


def test_filters() -> None:
    made = plan(VM, WORLD, "tcp", 22, NETWORK)
    by_place = {(point.node, point.interface): point.filter for point in made.listen}
    assert by_place["c1", "tap1"] == "arp or icmp or tcp port 22"
    assert by_place["gw", "eth1"] == "udp port 6081 or arp or icmp or tcp port 22 or vlan"
    assert plan(VM, WORLD, "ping", None, NETWORK).expected[0].filter == "arp or icmp"


def test_a_workload_in_a_namespace_is_listened_to_there() -> None:
    assert plan(SPACE, WORLD, "ping", None, NETWORK).expected[0].namespace == "ns1"


# -- sending ---------------------------------------------------------------------------------------
def test_a_ping_is_known_by_its_size() -> None:
    sizes = set()
    for mark in range(64):
        send = send_command(VM, WORLD, "ping", None, mark)
        size = int(send.shown.split(" -s ")[1].split()[0])
        assert send.probe.length == size + 28
        sizes.add(size)
        assert 56 not in sizes, "the size everybody's ping has"
        assert 24 not in sizes, "the size of the one that goes before"
    assert len(sizes) == 64


@pytest.mark.parametrize("source", [VM, GW, SPACE])
@pytest.mark.parametrize(("protocol", "port"), [("ping", None), ("tcp", 22), ("udp", 9999)])
def test_scripts_are_shell(
    source: Endpoint, protocol: str, port: int | None, tmp_path: Path
) -> None:
    """Run with stand-ins for what sends: first the warm-up, then one probe to the right place."""
    send = send_command(source, WORLD, protocol, port, 7)  # type: ignore[arg-type]
    for tool in ("ping", "nc", "traceroute", "timeout", "python3", "bash"):
        run_it = '\nshift; exec "$@"\n' if tool == "timeout" else "\n"
        (tmp_path / tool).write_text(f'#!/bin/sh\necho {tool} "$@" >>{tmp_path}/log{run_it}')
        (tmp_path / tool).chmod(0o755)
    if source is VM:
        (tmp_path / "bash").unlink()  # the built-in image has none
    subprocess.run(
        ["/bin/sh", "-c", send.script], env={"PATH": str(tmp_path)}, check=True, timeout=20
    )
    warm, *probes = (tmp_path / "log").read_text().splitlines()
    assert warm == "ping -c 1 -W 1 -s 24 8.8.8.8"
    said = " ".join(probes)
    assert "8.8.8.8" in said
    if protocol == "udp" and source is VM:
        assert "-p 9998 8.8.8.8" in said, "busybox counts up from there"
    elif port is not None:
        assert str(port) in said


def test_a_node_tells_its_source_port_and_its_text() -> None:
    udp = send_command(GW, FLOATING, "udp", 9999, 7).probe
    assert bytes.fromhex(udp.marker) == b"labctl-07"
    assert (udp.target, udp.port) == ("10.0.2.210", 9999)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_client_of_a_node_really_sends(kind: str) -> None:
    import socket

    family = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(type=family) as server:
        server.bind(("127.0.0.1", 0))
        if kind == "tcp":
            server.listen()
        port = server.getsockname()[1]
        target = Endpoint("here", "address", "127.0.0.1")
        send = send_command(GW, target, kind, port, 7)  # type: ignore[arg-type]
        expect_heard(send, server, kind)
