"""Why a packet does not arrive, as far as settings, OVN's tables and ARP tell. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from labctl.access.packets import is_ipv6
from labctl.topology import Topology
from labctl.walks.arp import ArpQuestion
from labctl.walks.logical_network import LogicalNetwork, OvnPort
from labctl.walks.node_settings import NodeSettings
from labctl.walks.plan import Endpoint

CauseKind = Literal[
    "address-on-node", "port-disabled", "no-router", "no-nat-rule", "no-mapping", "no-bridge",
    "uplink-not-in-bridge", "other-remote", "not-connected", "other-encap-ip", "other-segment",
    "two-owners", "other-source",
]  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """One thing that is not as it must be for this packet to pass."""

    kind: CauseKind
    node: str
    """The node that it is to be mended on; empty: in OVN's northbound database."""
    subject: str
    """What it is about: an address, an interface, a bridge, a physical network, a logical port."""
    found: str = ""
    """The value that is there, where one is."""
    expected: str = ""
    """The value that must be there, where one must."""


def find_causes(
    source: Endpoint,
    target: Endpoint,
    topology: Topology,
    network: LogicalNetwork,
    settings: Mapping[str, NodeSettings],
    asked: Sequence[ArpQuestion],
    gateway: str,
    sent_from: str = "",
) -> tuple[Cause, ...]:
    """All of them, those first that stop the packet first.

    `settings` has the nodes that could be asked, by name; `gateway` is the node by which packets
    leave OVN; `sent_from` is the address that the packet really left its sender with, if it did.
    """
    read = bool(network.ports)  # else nothing can be said of what is missing in OVN
    causes = [
        *_other_sources(source, network, asked, sent_from),
        *_addresses_on_nodes(network, settings),
        *(_disabled((source, target), network, settings)),
        *(_routers(source, target, network) if read else ()),
        *_chassis(topology, settings),
    ]
    if _uses_gateway(source, target):
        causes += _way_out(topology, network, settings.get(gateway))
    causes += _segments(source, topology, asked, gateway)
    causes += [
        Cause("two-owners", "", question.target, ", ".join(a.mac for a in question.answers))
        for question in asked
        if len(question.answers) > 1
    ]
    return tuple(causes)


def _uses_gateway(source: Endpoint, target: Endpoint) -> bool:
    """Whether the packet passes from the logical network to the external one, or back."""
    if source.kind == "node":
        return target.kind == "instance"
    return _goes_out(source, target) or bool(target.inner)


def _goes_out(source: Endpoint, target: Endpoint) -> bool:
    """Whether an instance sends to somebody outside. A router of OVN is inside, with its MAC."""
    outside = target.kind == "node" or (target.kind == "address" and not target.mac)
    return source.kind == "instance" and outside


def _other_sources(
    source: Endpoint, network: LogicalNetwork, asked: Sequence[ArpQuestion], sent_from: str
) -> Iterator[Cause]:
    """An instance that uses an address which is not its port's."""
    port = network.by_mac(source.mac) if source.kind == "instance" and source.mac else None
    if port is None or not port.addresses:
        return
    used = [sent_from, *(question.asker for question in asked if question.asker_mac == source.mac)]
    for address in dict.fromkeys(used):
        # A link-local address is made by the instance itself, and allowed by port security.
        link_local = bool(address) and ipaddress.ip_address(address).is_link_local
        if address and not link_local and address not in (*port.addresses, *source.addresses):
            yield Cause("other-source", "", port.name, address, ", ".join(port.addresses))


def _router_addresses(network: LogicalNetwork) -> set[str]:
    """The addresses that OVN's routers answer for: of their ports, and those they translate."""
    own = {address for port in _router_ports(network) for address in port.addresses}
    return own | {rule.external for rule in network.nat}


def _router_ports(network: LogicalNetwork) -> Iterator[OvnPort]:
    return (port for port in network.ports if port.datapath.router)


def _addresses_on_nodes(
    network: LogicalNetwork, settings: Mapping[str, NodeSettings]
) -> Iterator[Cause]:
    of_ovn = _router_addresses(network)
    for node in settings.values():
        for address, interface in node.addresses.items():
            if address in of_ovn:
                yield Cause("address-on-node", node.node, address, interface)


def _disabled(
    ends: Sequence[Endpoint], network: LogicalNetwork, settings: Mapping[str, NodeSettings]
) -> Iterator[Cause]:
    names = frozenset[str]().union(*(node.disabled for node in settings.values()))
    for end in ends:
        port = network.by_mac(end.mac) if end.mac else None
        if port is not None and port.name in names:
            yield Cause("port-disabled", "", port.name, "enabled=false")


def _routers(source: Endpoint, target: Endpoint, network: LogicalNetwork) -> Iterator[Cause]:
    """What is missing of the router between the two."""
    switches = [
        port.datapath
        for end in (source, target)
        if end.kind == "instance" and end.mac and (port := network.by_mac(end.mac)) is not None
    ]
    ipv6 = is_ipv6(target.address)
    routed = {
        peer.datapath
        for port in _router_ports(network)
        if (peer := network.port(port.peer)) and any(is_ipv6(own) == ipv6 for own in port.addresses)
    }
    outward = _goes_out(source, target)
    translated = bool(target.inner)
    to_router = target.kind == "address" and bool(target.mac)
    if not (outward or translated or to_router) and len(set(switches)) < 2:
        return  # on one switch
    for switch in dict.fromkeys(switches):
        if switch not in routed and network.localnet(switch) is None:
            yield Cause("no-router", "", switch.name, expected="IPv6" if ipv6 else "")
            return
    if ipv6:
        return  # it is routed as it is
    if translated and not any(
        rule.type.startswith("dnat") and rule.external == target.address for rule in network.nat
    ):
        yield Cause("no-nat-rule", "", target.address, expected="dnat_and_snat")
    if (outward or (translated and source.kind == "instance")) and not any(
        rule.type.endswith("snat") and _covers(rule.logical, source.address) for rule in network.nat
    ):
        yield Cause("no-nat-rule", "", source.address, expected="snat")


def _covers(logical: str, address: str) -> bool:
    """Whether a NAT rule's logical address or network holds an address."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(logical, strict=False)
    except ValueError:
        return False


def _chassis(topology: Topology, settings: Mapping[str, NodeSettings]) -> Iterator[Cause]:
    """What keeps a node out of OVN's network."""
    database = f"tcp:{topology.controller.eth1.address.ip}:6642"
    for node in topology.nodes:
        found = settings.get(node.name)
        if found is None or not found.remote:
            continue
        if database not in found.remote.split(","):
            yield Cause("other-remote", node.name, "ovn-remote", found.remote, database)
        elif found.connection == "not connected":
            yield Cause("not-connected", node.name, database, found.connection)
        address = str(node.eth1.address.ip)
        if found.encap_ip != address:
            yield Cause("other-encap-ip", node.name, "ovn-encap-ip", found.encap_ip, address)


def _way_out(
    topology: Topology, network: LogicalNetwork, gateway: NodeSettings | None
) -> Iterator[Cause]:
    """What interrupts the way from OVN's localnet port to the gateway's eth0."""
    wanted = {port.physical_network for port in network.ports if port.type == "localnet"}
    physical = topology.physical_network
    if gateway is None or not gateway.remote or physical not in wanted:
        return
    bridge = gateway.mappings.get(physical)
    if bridge is None:
        yield Cause("no-mapping", gateway.node, physical, expected=f"{physical}:br-ex")
    elif bridge not in gateway.bridges:
        yield Cause("no-bridge", gateway.node, bridge)
    elif "eth0" not in gateway.bridges[bridge]:
        yield Cause("uplink-not-in-bridge", gateway.node, bridge, expected="eth0")


def _segments(
    source: Endpoint, topology: Topology, asked: Sequence[ArpQuestion], gateway: str
) -> Iterator[Cause]:
    """A node that looks on its own eth0 for an address behind the gateway's."""
    if source.kind != "node" or source.node == gateway:
        return
    for question in asked:
        here = question.asker == source.address and question.node == source.node
        if here and not question.answers and question.interface in ("eth0", "br-ex"):
            yield Cause("other-segment", source.node, question.target, question.interface, gateway)
