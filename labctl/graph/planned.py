"""Makes the graph of a lab from lab.yaml alone, before anything is built. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

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
from labctl.topology import Node, Topology

PRIVATE = "private"
"""Name of the segment of all eth1, as in lab.yaml."""
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
        hosts=tuple(planned_host(topology, node) for node in topology.nodes),
        segments=segments(topology),
        tunnels=tuple(mesh(topology)),
        switches=switches,
        routers=routers,
        notes=tuple(_notes(topology)),
    )


def planned_host(topology: Topology, node: Node) -> Host:
    """A node with its interfaces and bridges, and the instances if only this node can run them."""
    bridge = "br-ex" if node.is_gateway else ""
    outside = str(node.eth0.address)
    interfaces = [
        Interface("eth0", "nic", "" if bridge else outside, node.eth0.mac, bridge),
        Interface("eth1", "nic", str(node.eth1.address), node.eth1.mac),
    ]
    if bridge:
        interfaces.append(Interface(bridge, "bridge", outside, node.eth0.mac, bridge))
    interfaces.append(Interface("br-int", "bridge", bridge="br-int"))
    bridges = [Bridge("br-int")]
    if bridge:
        bridges.append(Bridge(bridge, topology.physical_network))
    home = _home(topology)
    return Host(
        name=node.name,
        roles=tuple(sorted(node.roles)),
        interfaces=tuple(interfaces),
        bridges=tuple(bridges),
        vms=tuple(
            Vm(instance.name, interface="", port=instance.name, address=str(instance.address))
            for instance in topology.instances
            if home is not None and home.name == node.name
        ),
        chassis=node.name,
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
    tenant: str
    external: str
    router: str


def _home(topology: Topology) -> Node | None:
    """The node where all instances will run, if there is only one compute node."""
    if topology.stack != "openstack" or len(topology.computes) != 1:
        return None
    return topology.computes[0]


def _logical(topology: Topology) -> tuple[tuple[Switch, ...], tuple[Router, ...]]:
    home = _home(topology)
    gateway = topology.gateways[0].name if len(topology.gateways) == 1 else ""
    # Prefixed, because a network and a router may have the same name.
    names = _Names(
        f"network/{topology.tenant_network}",
        f"network/{topology.external_network}",
        f"router/{topology.router}",
    )
    prefix = topology.tenant_cidr.prefixlen
    tenant = Switch(
        names.tenant,
        topology.tenant_network,
        (str(topology.tenant_cidr),),
        ports=(
            LogicalPort("tenant-router", topology.router, "router", peer=names.router),
            *(
                LogicalPort(
                    instance.name,
                    instance.name,
                    "instance",
                    (str(instance.address),),
                    host=home.name if home is not None else "",
                )
                for instance in topology.instances
            ),
        ),
    )
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
            LogicalPort(
                "router-tenant",
                topology.tenant_network,
                "router",
                (f"{topology.tenant_gateway}/{prefix}",),
                peer=names.tenant,
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
        nat=(NatRule("snat", pool, str(topology.tenant_cidr)),),
        routes=(("0.0.0.0/0", str(topology.nat_gateway)),),
        host=gateway,
    )
    return (tenant, external), (router,)


def _notes(topology: Topology) -> Iterator[str]:
    if topology.stack != "openstack":
        yield tr("The lab begins without a logical network: the lesson makes it, with ovn-nbctl.")
        return
    yield tr("The external network, NAT and floating IPs are what the lessons make.")
    if _home(topology) is None:
        yield tr("Nova chooses the node of each instance.")
