"""spec -> topology: everything that follows, and always the same."""

import re
import tracemalloc
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl import topology
from labctl.errors import LabError
from labctl.spec.load import parse_spec
from labctl.spec.model import BoxSpec, FlavorSpec, ImageSpec, PoolSpec
from labctl.topology import Instance, Topology, build_topology


def build(text: str) -> Topology:
    return build_topology(parse_spec(text.encode(), "lab.yaml"))


def test_the_tutorials_lab() -> None:
    lab = build("name: ovn-tutorial")
    assert [node.name for node in lab.nodes] == ["network-controller", "compute-01"]
    controller, compute = lab.nodes
    assert controller.roles == {"controller", "gateway"}
    assert compute.roles == {"compute"}
    assert (controller.spec.cpus, controller.spec.memory) == (2, 4096)
    for node, eth1 in ((controller, "192.168.33.10/24"), (compute, "192.168.33.20/24")):
        assert (node.eth0.name, node.eth1.name) == ("eth0", "eth1")
        assert node.eth0.address == IPv4Interface("10.0.2.15/24")
        assert node.eth0.gateway == IPv4Address("10.0.2.2")
        assert node.eth1.address == IPv4Interface(eth1)
        assert node.eth1.gateway is None
    assert lab.nat == IPv4Network("10.0.2.0/24")
    assert lab.nat_gateway == IPv4Address("10.0.2.2")
    assert lab.private == IPv4Network("192.168.33.0/24")
    assert (lab.physical_network, lab.external_network) == ("extnet0", "ext_n2")
    assert (lab.external_subnet, lab.tenant_network) == ("extsubnet", "n1")
    assert (lab.tenant_subnet, lab.router) == ("subnet1", "r")
    assert lab.pool == PoolSpec(start=IPv4Address("10.0.2.210"), end=IPv4Address("10.0.2.220"))
    assert lab.tenant_cidr == IPv4Network("172.16.100.0/24")
    assert lab.tenant_gateway == IPv4Address("172.16.100.1")
    assert lab.dns == (IPv4Address("8.8.8.8"),)
    address = IPv4Address("172.16.100.10")
    assert lab.instances == (Instance("vm_1", address, "n1", "", lab.image, lab.flavor),)
    assert lab.image == ImageSpec(name="cirros", source="builtin", user="cirros")
    assert lab.flavor == FlavorSpec(name="m1.nano", vcpus=1, memory=128, disk=1)
    assert (lab.security_group, lab.keypair, lab.uplink) == (
        "allow-icmp-ssh",
        "lab",
        "simulated",
    )


def test_every_written_value_arrives() -> None:
    lab = build(
        """
name: other
nodes:
  boss: {roles: [gateway, controller], eth1: 10.5.0.4, cpus: 3, memory: 5000}
  worker: {roles: [compute], eth1: 10.5.0.5, cpus: 5, memory: 6000}
nat: {subnet: 10.4.0.0/25, gateway: 10.4.0.1, address: 10.4.0.9, uplink: host}
private: {subnet: 10.5.0.0/28}
external: {physical_network: p, network: en, subnet: es, pool: {start: 10.4.0.50, end: 10.4.0.60}}
tenant: {network: tn, subnet: ts, cidr: 10.6.0.0/26, gateway: 10.6.0.62, dns: [1.1.1.1, 9.9.9.9],
         router: tr}
instances: {web: {address: 10.6.0.20}, db: {address: 10.6.0.21}}
image: {name: i, source: ./i.img, user: u}
flavor: {name: f, vcpus: 2, memory: 256, disk: 3}
security_group: sg
keypair: kp
"""
    )
    boss, worker = lab.nodes
    assert (boss.spec.cpus, boss.spec.memory, str(boss.eth1.address)) == (3, 5000, "10.5.0.4/28")
    assert (worker.spec.cpus, worker.spec.memory, str(worker.eth1.address)) == (
        5,
        6000,
        "10.5.0.5/28",
    )
    assert (str(boss.eth0.address), str(boss.eth0.gateway)) == ("10.4.0.9/25", "10.4.0.1")
    assert (lab.lab, lab.uplink, str(lab.nat)) == ("other", "host", "10.4.0.0/25")
    assert (str(lab.nat_gateway), str(lab.private)) == ("10.4.0.1", "10.5.0.0/28")
    assert (lab.physical_network, lab.external_network, lab.external_subnet) == ("p", "en", "es")
    assert (str(lab.pool.start), str(lab.pool.end)) == ("10.4.0.50", "10.4.0.60")
    assert (lab.tenant_network, lab.tenant_subnet, lab.router) == ("tn", "ts", "tr")
    assert (str(lab.tenant_cidr), str(lab.tenant_gateway)) == ("10.6.0.0/26", "10.6.0.62")
    assert [str(server) for server in lab.dns] == ["1.1.1.1", "9.9.9.9"]
    assert [(i.name, str(i.address)) for i in lab.instances] == [
        ("web", "10.6.0.20"),
        ("db", "10.6.0.21"),
    ]
    assert lab.image == ImageSpec(name="i", source="./i.img", user="u")
    assert lab.flavor == FlavorSpec(name="f", vcpus=2, memory=256, disk=3)
    assert (lab.security_group, lab.keypair) == ("sg", "kp")


def test_who_does_what() -> None:
    lab = build("name: x\nnodes: {c1: , c2: , the-controller: }")
    assert lab.controller.name == "the-controller"
    assert [node.name for node in lab.gateways] == ["the-controller"]
    assert [node.name for node in lab.computes] == ["c1", "c2"]
    assert lab.controller.is_controller
    assert lab.controller.is_gateway
    assert not lab.controller.is_compute
    assert lab.node("c2").is_compute
    assert not lab.node("c2").is_controller
    assert not lab.node("c2").is_gateway
    with pytest.raises(KeyError, match="c3"):
        lab.node("c3")


def test_the_box_and_what_virtual_machines_are_told() -> None:
    lab = build("name: x")
    assert (lab.stack, lab.box, lab.attach, lab.nested) == (
        "openstack", BoxSpec(name="auto", version=""), "internal", False,
    )  # fmt: skip
    lab = build(
        """
name: x
stack: ovn
box: {name: debian/trixie64, version: 13.1}
private: {subnet: 192.168.56.0/24, attach: hostonly}
nested: true
"""
    )
    assert (lab.stack, lab.box, lab.attach, lab.nested) == (
        "ovn", BoxSpec(name="debian/trixie64", version="13.1"), "hostonly", True,
    )  # fmt: skip


def test_an_ovn_lab_has_the_values_of_the_first_week() -> None:
    lab = build("name: x\nstack: ovn")
    assert [node.spec.memory for node in lab.nodes] == [512, 512]
    assert (str(lab.tenant_cidr), str(lab.tenant_gateway)) == (
        "192.168.100.0/24",
        "192.168.100.254",
    )
    assert (str(lab.pool.start), str(lab.pool.end)) == ("10.0.2.100", "10.0.2.200")
    small = build("name: x\nstack: ovn\nnat: {subnet: 10.9.0.0/28}")
    assert (str(small.pool.start), str(small.pool.end)) == ("10.9.0.4", "10.9.0.14")


# --- forwarded ports ------------------------------------------------------------------------------


def forwards(lab: Topology) -> dict[str, int]:
    return {f"{node.name}/{one.id}": one.host for node in lab.nodes for one in node.forwards}


def test_forwarded_ports_are_the_same_for_ever() -> None:
    # Literals on purpose: Vagrantfiles of existing labs and notes of their users hold them.
    lab = build("name: ovn-tutorial")
    assert forwards(lab) == {
        "network-controller/ssh": 20085,
        "network-controller/keystone": 20080,
        "network-controller/glance": 20081,
        "network-controller/placement": 20082,
        "network-controller/nova": 20083,
        "network-controller/neutron": 20084,
        "compute-01/ssh": 20086,
    }
    assert {one.id: one.guest for one in lab.controller.forwards} == {
        "ssh": 22, "keystone": 5000, "glance": 9292, "placement": 8778, "nova": 8774,
        "neutron": 9696,
    }  # fmt: skip


def test_without_openstack_only_ssh_is_forwarded_and_by_the_same_ports() -> None:
    with_it, without = build("name: x"), build("name: x\nstack: ovn")
    assert forwards(without) == {k: v for k, v in forwards(with_it).items() if k.endswith("/ssh")}


def test_a_node_added_at_the_end_moves_no_port() -> None:
    small = forwards(build("name: x\nnodes: {network-controller: , a: }"))
    large = forwards(build("name: x\nnodes: {network-controller: , a: , b: }"))
    assert small.items() < large.items()


@given(st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True), st.integers(1, 60))
def test_forwarded_ports_differ_and_stay_below_the_ephemeral_ones(name: str, computes: int) -> None:
    nodes = "".join(f"  c{number}:\n" for number in range(computes))
    ports = list(forwards(build(f"name: {name!r}\nnodes:\n  boss:\n{nodes}")).values())
    assert len(set(ports)) == len(ports) == computes + 6
    assert 20000 <= min(ports) <= max(ports) <= 29999


def test_labs_seldom_share_a_port() -> None:
    labs = [set(forwards(build(f"name: lab-{number}")).values()) for number in range(100)]
    clashes = sum(bool(one & two) for one, two in combinations(labs, 2))
    assert clashes < 20  # of 4950 pairs; 500 blocks of ports let one in 500 clash


# --- eth0 -----------------------------------------------------------------------------------------


def eth0(text: str) -> dict[str, str]:
    lab = build_topology(parse_spec(text.encode(), "lab.yaml"), shared_nat=True)
    return {node.name: str(node.eth0.address) for node in lab.nodes}


def test_on_a_shared_nat_each_node_has_an_address() -> None:
    assert eth0("name: x\nnodes: {a: , network-controller: , b: }") == {
        "a": "10.0.2.16/24", "network-controller": "10.0.2.15/24", "b": "10.0.2.17/24",
    }  # fmt: skip


def test_what_is_taken_on_a_shared_nat_is_left_alone() -> None:
    text = """
name: x
nat: {subnet: 10.9.0.0/28, gateway: 10.9.0.2, address: 10.9.0.9}
external: {pool: {start: 10.9.0.10, end: 10.9.0.13}}
"""
    nodes = "nodes: {boss: , a: , b: , c: , d: , e: , f: , g: %s}"
    found = eth0(text + nodes % "")
    # 2 is the gateway, 3 the NAT's DNS, 10 to 13 the pool.
    hosts = {name: int(it.split("/")[0].split(".")[3]) for name, it in found.items()}
    assert hosts == {"boss": 9, "a": 14, "b": 1, "c": 4, "d": 5, "e": 6, "f": 7, "g": 8}
    with pytest.raises(LabError, match="no free address left for h's eth0"):
        eth0(text + nodes % ", h: ")


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("{}", ["10.0.0.15", "10.0.0.16", "10.0.0.17"]),
        # Nearly all of the network: what is left is in front of the pool.
        ("{start: 10.0.0.17, end: 10.255.255.254}", ["10.0.0.15", "10.0.0.16", "10.0.0.1"]),
        ("{start: 10.0.0.16, end: 10.255.255.200}",
         ["10.0.0.15", "10.255.255.201", "10.255.255.202"]),
    ],
)  # fmt: skip
def test_a_shared_nat_may_be_large(pool: str, expected: list[str]) -> None:
    text = (
        "name: a\nprovider: libvirt\nnat: {subnet: 10.0.0.0/8}\n"
        f"external: {{pool: {pool}}}\nnodes: {{n1: , n2: , n3: }}\n"
    )
    spec = parse_spec(text.encode(), "lab.yaml")
    tracemalloc.start()
    try:
        lab = build_topology(spec, shared_nat=True)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [str(node.eth0.address.ip) for node in lab.nodes] == expected
    assert most < 1 << 20


def test_a_shared_nat_changes_nothing_else() -> None:
    spec = parse_spec(b"name: x", "lab.yaml")
    own, shared = build_topology(spec), build_topology(spec, shared_nat=True)
    assert own.controller == shared.controller
    assert {node.eth0.address for node in own.nodes} == {own.controller.eth0.address}
    assert own.computes[0].eth1 == shared.computes[0].eth1


def macs(lab: Topology) -> dict[str, str]:
    return {f"{n.name}/{nic.name}": nic.mac for n in lab.nodes for nic in (n.eth0, n.eth1)}


def test_made_macs_are_the_same_everywhere_and_for_ever() -> None:
    # Literals on purpose: captures and snapshots of existing labs hold these addresses.
    assert macs(build("name: ovn-tutorial")) == {
        "network-controller/eth0": "52:54:00:ae:c6:cb",
        "network-controller/eth1": "52:54:00:81:4e:d0",
        "compute-01/eth0": "52:54:00:3e:a4:2e",
        "compute-01/eth1": "52:54:00:ef:b8:f0",
    }


def test_made_macs_do_not_depend_on_other_nodes() -> None:
    small, large = build("name: x"), build("name: x\nnodes: {a: , network-controller: , z: }")
    assert macs(small)["network-controller/eth0"] == macs(large)["network-controller/eth0"]


def test_two_labs_have_different_macs() -> None:
    assert not set(macs(build("name: a")).values()) & set(macs(build("name: b")).values())


@given(st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True), st.integers(1, 60))
def test_made_macs_are_unicast_local_and_differ(name: str, computes: int) -> None:
    nodes = "".join(f"  c{number}:\n" for number in range(computes))
    made = list(macs(build(f"name: {name!r}\nnodes:\n  boss:\n{nodes}")).values())
    assert len(set(made)) == len(made) == 2 * (computes + 1)
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in made)


def test_two_names_with_the_same_hash_get_two_macs() -> None:
    # 24 bits of sha256("x/c1132/eth1") and sha256("x/c2849/eth1") are the same.
    made = macs(build("name: x\nnodes: {boss: , c1132: , c2849: }"))
    assert made["c1132/eth1"] == "52:54:00:cc:e1:ec"
    assert made["c2849/eth1"] != made["c1132/eth1"]


def test_a_written_mac_stays_and_is_never_made_again() -> None:
    wanted = macs(build("name: x"))["compute-01/eth1"]
    nodes = f"network-controller: {{mac: {{eth0: {wanted}}}}}, compute-01: "
    changed = macs(build(f"name: x\nnodes: {{{nodes}}}"))
    assert changed["network-controller/eth0"] == wanted
    assert changed["compute-01/eth1"] != wanted
    assert len(set(changed.values())) == 4


def test_a_topology_is_a_value() -> None:
    assert build("name: x") == build("name: x")
    with pytest.raises(AttributeError):
        build("name: x").lab = "y"  # type: ignore[misc]


def test_the_public_names_are_documented() -> None:
    for name in (
        "Nic",
        "Forward",
        "Node",
        "Instance",
        "Topology",
    ):
        assert getattr(topology, name).__doc__


def test_gateways_are_what_lab_yaml_says() -> None:
    nodes = "{control: {roles: [controller]}, g: {roles: [gateway]}, c: {roles: [gateway, compute]}"
    lab = build(f"name: x\nnodes: {nodes}, d: }}")
    assert [node.name for node in lab.gateways] == ["g", "c"]
    assert not lab.controller.is_gateway
    assert [node.name for node in lab.computes] == ["c", "d"]
    # A gateway without another role has no service of OpenStack.
    assert lab.node("g").spec.memory == 512
    assert [node.spec.memory for node in lab.nodes] == [4096, 512, 3072, 3072]
    assert len({node.eth0.address for node in lab.nodes}) == 1


def test_a_shared_nat_gives_each_node_an_address() -> None:
    nodes = "{control: {roles: [controller]}, g: {roles: [gateway]}, h: {roles: [gateway]}, c: }"
    lab = build(f"name: x\nnat: {{shared: true}}\nnodes: {nodes}\n")
    # The first gateway has nat.address, whatever its place in lab.yaml.
    assert {node.name: str(node.eth0.address) for node in lab.nodes} == {
        "control": "10.0.2.16/24", "g": "10.0.2.15/24", "h": "10.0.2.17/24", "c": "10.0.2.18/24",
    }  # fmt: skip


def test_clients_are_outside_and_no_nodes() -> None:
    lab = build("name: x\ninternet: {clients: {client-01: , b: {address: 198.51.100.7}}}\n")
    assert [node.name for node in lab.nodes] == ["network-controller", "compute-01"]
    assert [client.name for client in lab.clients] == ["client-01", "b"]
    assert [machine.name for machine in lab.machines] == [
        "network-controller", "compute-01", "client-01", "b",
    ]  # fmt: skip
    first, second = lab.clients
    assert first.eth0.address == IPv4Interface("198.51.100.10/24")
    assert second.eth0.address == IPv4Interface("198.51.100.7/24")
    assert first.eth0.gateway == IPv4Address("198.51.100.1")
    assert first.roles == {"client"}
    assert not first.shared_nics
    assert lab.machine("b") is second
    with pytest.raises(KeyError):
        lab.node("b")
    macs = [machine.eth0.mac for machine in lab.machines]
    assert len(set(macs)) == len(macs)
    # The nodes are what they are without clients.
    assert lab.nodes == build("name: x").nodes


def test_clients_follow_their_network() -> None:
    lab = build("name: x\ninternet: {subnet: 203.0.113.0/28, clients: {a: , b: , c: , d: , e: }}\n")
    addresses = [str(client.eth0.address.ip) for client in lab.clients]
    assert addresses == [f"203.0.113.{number}" for number in (10, 11, 12, 13, 14)]
    assert str(lab.clients[0].eth0.gateway) == "203.0.113.1"
