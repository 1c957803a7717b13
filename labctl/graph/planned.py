"""Makes the graph of a lab from lab.yaml alone, before anything is built. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from labctl.graph.model import (
    INTERNET,
    Bridge,
    Graph,
    Host,
    Interface,
    LogicalPort,
    NatRule,
    Router,
    Segment,
    Switch,
    Tunnel,
    Vm,
)
from labctl.i18n import tr
from labctl.topology import Client, Instance, Node, TenantNetwork, Topology

PRIVATE = "private"
"""Name of the segment of all eth1, as in lab.yaml."""
OUTSIDE = "outside"
"""Name of the segment of the clients."""
NAT = "nat"
"""Name of the NAT network that all nodes share. A node's own one is `nat/NODE`."""


def planned(topology: Topology) -> Graph:
    """The lab as lab.yaml describes it: its nodes, and for OpenStack the network of the tutorial.

    An OVN-only lab starts without a logical network: its lesson makes one.
    """
    switches, routers = _logical(topology) if topology.stack == "openstack" else ((), ())
    return Graph(
        lab=topology.lab,
        live=False,
        hosts=(
            *(planned_host(topology, node) for node in topology.nodes),
            *map(client_host, topology.clients),
        ),
        segments=segments(topology),
        tunnels=tuple(mesh(topology)),
        switches=switches,
        routers=routers,
        notes=tuple(_notes(topology)),
    )


def planned_host(topology: Topology, node: Node) -> Host:
    """A node with its interfaces and bridges, and the instances if only this node can run them."""
    bridge = "br-ex" if node.has_br_ex else ""
    outside = str(node.eth0.address)
    interfaces = [
        Interface("eth0", "nic", "" if bridge else outside, node.eth0.mac, bridge),
        Interface("eth1", "nic", str(node.eth1.address), node.eth1.mac),
    ]
    if bridge:
        interfaces.append(Interface(bridge, "bridge", outside, node.eth0.mac, bridge))
    for nic in node.extra:
        own = str(nic.address or "")
        interfaces.append(
            Interface(nic.name, "nic", "" if nic.bridge else own, nic.mac, nic.bridge)
        )
        if nic.bridge:
            interfaces.append(Interface(nic.bridge, "bridge", own, nic.mac, nic.bridge))
    interfaces.append(Interface("br-int", "bridge", bridge="br-int"))
    bridges = [Bridge("br-int")]
    bridges += [Bridge(nic.bridge, nic.physical_network) for nic in node.extra if nic.bridge]
    if bridge:
        bridges.append(Bridge(bridge, topology.physical_network))
    return Host(
        name=node.name,
        roles=tuple(sorted(node.roles)),
        interfaces=tuple(interfaces),
        bridges=tuple(bridges),
        vms=tuple(
            Vm(instance.name, interface="", port=instance.name, address=str(instance.address))
            for instance in topology.instances
            if _home(topology, instance) == node.name
        ),
        chassis=node.name,
    )


def client_host(client: Client) -> Host:
    """A client, with its one interface."""
    address, mac = str(client.eth0.address), client.eth0.mac
    return Host(
        client.name, tuple(client.roles), interfaces=(Interface("eth0", "nic", address, mac),)
    )


def segments(topology: Topology) -> tuple[Segment, ...]:
    """The networks between the machines, which are the same in a running lab."""
    names = [node.name for node in topology.nodes]
    nat = {"cidr": str(topology.nat), "gateway": str(topology.nat_gateway)}
    # Equal eth0 addresses mean that each node has a NAT network of its own.
    shared = len({node.eth0.address for node in topology.nodes}) > 1
    outside = (
        [Segment(NAT, "nat", members=tuple(f"{name}/eth0" for name in names), **nat)]
        if shared
        else [Segment(f"{NAT}/{name}", "nat", members=(f"{name}/eth0",), **nat) for name in names]
    )
    return (
        Segment(
            PRIVATE,
            "private",
            cidr=str(topology.private),
            members=tuple(f"{name}/eth1" for name in names),
        ),
        *outside,
        Segment(
            INTERNET,
            "internet",
            members=tuple(f"{node.name}/eth0" for node in topology.gateways),
        ),
        *_outside(topology),
    )


def _outside(topology: Topology) -> Iterator[Segment]:
    if topology.clients:
        yield Segment(
            OUTSIDE,
            "outside",
            cidr=str(topology.spec.internet.subnet),
            gateway=str(topology.clients[0].eth0.gateway),
            members=tuple(f"{client.name}/eth0" for client in topology.clients),
        )


def mesh(topology: Topology) -> Iterator[Tunnel]:
    """A tunnel between every two nodes."""
    for first, second in combinations(topology.nodes, 2):
        yield Tunnel(
            (first.name, second.name),
            (str(first.eth1.address.ip), str(second.eth1.address.ip)),
        )


@dataclass(frozen=True)
class _Names:
    external: str
    router: str


def _home(topology: Topology, instance: Instance) -> str:
    """The node where the instance will run: lab.yaml's, or the only compute; "" if Nova chooses."""
    if topology.stack != "openstack":
        return ""
    only = topology.computes[0].name if len(topology.computes) == 1 else ""
    return instance.compute or only


def _logical(topology: Topology) -> tuple[tuple[Switch, ...], tuple[Router, ...]]:
    gateway = topology.gateways[0].name if len(topology.gateways) == 1 else ""
    # Prefixed, because a network and a router may have the same name.
    names = _Names(f"network/{topology.external_network}", f"router/{topology.router}")
    tenants = tuple(_tenant(topology, network, names) for network in topology.tenant_networks)
    external = Switch(
        names.external,
        topology.external_network,
        (str(topology.nat),),
        localnet=topology.physical_network,
        ports=(
            LogicalPort("external-router", topology.router, "router", peer=names.router),
            LogicalPort("localnet", topology.physical_network, "localnet", host=gateway),
        ),
    )
    pool = f"{topology.pool.start} … {topology.pool.end}"
    router = Router(
        names.router,
        topology.router,
        ports=(
            *(
                LogicalPort(
                    _port("router", topology, network),
                    network.name,
                    "router",
                    (f"{network.gateway}/{network.cidr.prefixlen}",),
                    peer=f"network/{network.name}",
                )
                for network in topology.tenant_networks
            ),
            LogicalPort(
                "router-external",
                topology.external_network,
                "gateway",
                (pool,),
                host=gateway,
                peer=names.external,
            ),
        ),
        nat=tuple(NatRule("snat", pool, str(network.cidr)) for network in topology.tenant_networks),
        routes=(("0.0.0.0/0", str(topology.nat_gateway)),),
        host=gateway,
    )
    return (*tenants, external), (router,)


def _tenant(topology: Topology, network: TenantNetwork, names: _Names) -> Switch:
    """A network of instances, with the router's port and theirs."""
    return Switch(
        f"network/{network.name}",
        network.name,
        (str(network.cidr),),
        ports=(
            LogicalPort(
                _port("switch", topology, network), topology.router, "router", peer=names.router
            ),
            *(
                LogicalPort(
                    instance.name,
                    instance.name,
                    "instance",
                    (str(instance.address),),
                    host=_home(topology, instance),
                )
                for instance in topology.instances
                if instance.network == network.name
            ),
        ),
    )


def _port(side: Literal["router", "switch"], topology: Topology, network: TenantNetwork) -> str:
    """The id of one end of the link between the router and a network."""
    ends = {"router": "router-tenant", "switch": "tenant-router"}
    first = network.name == topology.tenant_network
    return ends[side] if first else f"{ends[side]}/{network.name}"


def _notes(topology: Topology) -> Iterator[str]:
    if topology.stack != "openstack":
        yield tr("The lab begins without a logical network: the lesson makes it, with ovn-nbctl.")
        return
    yield tr("The external network, NAT and floating IPs are what the lessons make.")
    if not all(_home(topology, instance) for instance in topology.instances):
        yield tr("Nova chooses the node of each instance.")
