"""A client out on the simulated Internet: it opens connections into real labs of OVN alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import Cli, claims, on

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CLIENT, GATEWAY = "client-01", "network-controller"
ADDRESS, ROUTER, FLOATING = "198.51.100.10", "10.0.2.100", "10.0.2.200"
SPEC = f"""
name: seen-outside
provider: nspawn
stack: ovn
internet: {{clients: {{{CLIENT}: }}}}
"""

# As an author would write it: docs/lessons.md shows part of it.
LESSON = """
id: from-outside
title: Seen from outside
goal: Reach the workload from beyond the gateway.
stack: ovn
needs: [ovn-snat-dnat]
requires: {clients: 1}
checkpoints:
  - id: way-in
    title: The way in
    explain: >-
      {{ node.client.name }} is out on the Internet. Its ping comes to eth0 of
      {{ node.gateway.name }} through the far end of that cable, {{ lab.nat_gateway }}.
    node: client
    run:
      - ping -c 2 {{ lab.pool.end }}
    capture:
      - {node: client, interface: eth0, filter: icmp}
      - {node: gateway, interface: eth0, filter: icmp}
      - {node: hypervisor, interface: "{{ instance.name }}/tap-{{ instance.name }}", filter: icmp}
    claims:
      - id: arrives-with-its-own-address
        text: "eth0 of {{ node.gateway.name }} sees {{ node.client.eth0.address.ip }}, one hop away"
        probe: wire.packets
        where: {node: "{{ node.gateway.name }}", interface: eth0, kind: request}
        count: 2
        each: {src: "{{ node.client.eth0.address.ip }}", dst: "{{ lab.pool.end }}", ttl: 63}
      - id: nobody-translates-the-sender
        text: "The workload sees who asks, and answers {{ node.client.name }} itself"
        probe: wire.packets
        where:
          node: "{{ node.hypervisor.name }}"
          interface: "{{ instance.name }}/tap-{{ instance.name }}"
          kind: request
        count: 2
        each: {src: "{{ node.client.eth0.address.ip }}", dst: "{{ instance.address }}", ttl: 62}
      - id: what-the-internet-sees
        text: The answer comes from the floating IP
        probe: wire.packets
        where: {node: "{{ node.client.name }}", interface: eth0, kind: reply}
        count: 2
        each: {src: "{{ lab.pool.end }}", dst: "{{ node.client.eth0.address.ip }}", ttl: 62}
      - id: answers
        text: "{{ lab.pool.end }} answers {{ node.client.name }}"
        probe: wire.ping
        with: {from: client, to: "{{ lab.pool.end }}"}
        each: {answered: true}
    undo: "true"
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("seen-outside", SPEC)
    cli("create")
    return cli


@pytest.fixture(scope="module")
def replayed(lab: Cli) -> Cli:
    assert lab.json("replay", "ovn-snat-dnat")["ok"] is True
    return lab


def reaches(lab: Cli, address: str, node: str = CLIENT) -> bool:
    said = on(lab, node, f"ping -c 2 -i 0.3 -W 2 {address} || true")
    return " 0 received" not in said and "received" in said


def test_a_client_is_a_machine_with_nothing_of_the_lab_on_it(lab: Cli) -> None:
    status = lab.json("status")
    assert status["state"] == "up"
    (client,) = [node for node in status["nodes"] if node["roles"] == ["client"]]
    assert (client["name"], client["eth0"], client["eth1"], client["chassis"]) == (
        CLIENT, f"{ADDRESS}/24", "", None,
    )  # fmt: skip
    assert len(on(lab, GATEWAY, "ovn-sbctl --bare --columns=name list chassis").split()) == 2
    assert on(lab, CLIENT, "hostname").strip() == CLIENT
    assert on(lab, CLIENT, "ls /sys/class/net").split() == ["eth0", "lo"]
    running = on(lab, CLIENT, "systemctl list-units --plain --state=running --type=service")
    assert not [word for word in ("ovs", "ovn", "ovsdb", "neutron") if word in running]
    assert on(lab, CLIENT, "systemctl is-system-running").strip() == "running"
    assert "SECRET" not in on(lab, CLIENT, "cat /etc/labctl/lab.env")


def test_it_is_behind_the_far_end_and_not_in_the_lab(lab: Cli) -> None:
    assert reaches(lab, "10.0.2.15")
    assert f"You come from {ADDRESS}." in on(lab, CLIENT, "curl -s --max-time 5 http://8.8.8.8/")
    assert "8.8.8.8" in on(lab, CLIENT, "getent hosts example.com")
    for inside in ("192.168.33.10", "192.168.100.10"):
        assert not reaches(lab, inside)
    # compute-01 has a NAT network of its own, with another Internet behind it.
    assert not reaches(lab, ADDRESS, "compute-01")
    assert reaches(lab, ADDRESS, GATEWAY)


def test_the_gateway_sees_the_clients_own_address(replayed: Cli) -> None:
    listen = "timeout 20 tcpdump -nvi eth0 -c 2 'icmp[icmptype] = icmp-echo' 2>/dev/null"
    replayed(
        "ssh", GATEWAY, "--", "sh", "-c",
        f"setsid {listen} </dev/null >/run/seen 2>&1 & sleep 2",
    )  # fmt: skip
    assert "2 received" in on(replayed, CLIENT, f"ping -c 2 -W 5 {FLOATING}")
    seen = on(replayed, GATEWAY, "sleep 1; cat /run/seen")
    assert seen.count(f"{ADDRESS} > {FLOATING}: ICMP echo request") == 2
    assert seen.count("ttl 63") == 2


def test_a_lesson_works_on_the_client(replayed: Cli, tmp_path: Path) -> None:
    file = tmp_path / "from-outside.yaml"
    file.write_text(LESSON, encoding="utf-8")
    report = replayed.json("replay", str(file))
    assert report["ok"] is True
    proved = claims(report)
    assert [name for name, claim in proved.items() if not claim["holds"]] == []
    assert {frame["src"] for frame in proved["arrives-with-its-own-address"]["seen"]} == {ADDRESS}


def test_an_instance_reaches_the_client_through_the_router(replayed: Cli) -> None:
    # Without its floating IP it has the router's address.
    rule = f"{FLOATING} 192.168.100.10"
    on(replayed, GATEWAY, f"ovn-nbctl --wait=hv lr-nat-del r dnat_and_snat {FLOATING}")
    on(replayed, CLIENT, "setsid timeout 20 tcpdump -ni eth0 -c 1 icmp >/run/seen 2>/dev/null &"
                         " sleep 2")  # fmt: skip
    ping = f"ip netns exec vm_1 ping -c 2 -W 5 {ADDRESS}"
    assert "2 received" in on(replayed, "compute-01", ping)
    assert f"{ROUTER} > {ADDRESS}: ICMP echo request" in on(replayed, CLIENT, "cat /run/seen")
    on(replayed, GATEWAY, f"ovn-nbctl --wait=hv lr-nat-add r dnat_and_snat {rule}")


def places(path: dict[str, Any]) -> list[str]:
    return [f"{hop['node']} {hop['interface']}" for hop in path["hops"]]


def test_a_walk_begins_at_the_client(replayed: Cli) -> None:
    walk = replayed.json("walk", "ping", CLIENT, "vm_1")
    assert walk["answered"] is True
    assert walk["source"]["address"] == ADDRESS
    there = places(walk["request"])
    inside = [
        f"{GATEWAY} eth0", f"{GATEWAY} eth1", "compute-01 eth1", "compute-01 tap-vm_1",
    ]  # fmt: skip
    assert (there[0], there[-4:]) == (f"{CLIENT} eth0", inside)
    back = places(walk["reply"])
    assert (back[:4], back[-1]) == (inside[::-1], f"{CLIENT} eth0")
    assert walk["request"]["hops"][0]["frame"]["ttl"] == 64
    assert walk["request"]["hops"][-1]["frame"]["ttl"] == 62


def test_a_walk_ends_at_the_client(replayed: Cli) -> None:
    walk = replayed.json("walk", "ping", "vm_1", CLIENT)
    assert walk["answered"] is True
    last = walk["request"]["hops"][-1]
    assert (last["node"], last["interface"]) == (CLIENT, "eth0")
    assert (last["frame"]["src"], last["frame"]["ttl"]) == (FLOATING, 62)


def test_the_graph_has_it_behind_the_internet(replayed: Cli) -> None:
    graph = replayed.json("graph")
    (client,) = [host for host in graph["hosts"] if host["roles"] == ["client"]]
    assert (client["name"], client["state"]) == (CLIENT, "running")
    (outside,) = [segment for segment in graph["segments"] if segment["kind"] == "outside"]
    assert outside["members"] == [f"{CLIENT}/eth0"]


def test_snapshots_know_it(replayed: Cli) -> None:
    replayed("snapshot", "save", "whole")
    for cold in ((), ("--cold",)):
        on(replayed, CLIENT, "touch /root/mine; ip addr flush dev eth0")
        assert replayed.json("status")["state"] == "degraded"
        replayed("snapshot", "restore", "whole", *cold)
        assert "mine" not in on(replayed, CLIENT, "ls -a /root")
        assert replayed.json("status")["state"] == "up"
        assert reaches(replayed, FLOATING)


def test_it_comes_back_after_a_halt(replayed: Cli) -> None:
    replayed("halt")
    assert replayed.json("status")["state"] == "halted"
    replayed("up")
    assert reaches(replayed, FLOATING)


# -- one network for all eth0, and clients that come later ----------------------------------------
SHARED = """
name: seen-shared
provider: nspawn
stack: ovn
nodes: {network-controller: {roles: [controller]}, gateway-01: {roles: [gateway]}, compute-01: }
nat: {shared: true}
"""


def test_a_client_joins_a_running_lab_and_reaches_every_eth0(
    make_lab: Callable[[str, str], Cli],
) -> None:
    lab = make_lab("seen-shared", SHARED)
    lab("create")
    done = lab.run("replay", "ovn-snat-dnat", "--json")
    assert done.returncode == 0
    lab("reset", "--to", "base")
    file = lab.directory / "lab.yaml"
    file.write_text(SHARED + "internet: {clients: {far: , farther: }}\n", encoding="utf-8")
    assert "client far is added" in lab("apply")
    status = lab.json("status")
    assert (status["state"], len(status["nodes"])) == ("up", 5)
    addresses = [
        node["eth0"].partition("/")[0] for node in status["nodes"] if "client" not in node["roles"]
    ]
    assert len({*addresses}) == 3
    for client in ("far", "farther"):
        assert all(reaches(lab, address, client) for address in addresses)
    assert reaches(lab, "198.51.100.11", "far")
    assert lab.json("replay", "ovn-snat-dnat")["ok"] is True
    assert reaches(lab, FLOATING, "farther")
