"""Makes the graph of a running lab: reads all nodes, OVN's databases and OpenStack in parallel.

What does not answer is drawn as such, with a note, because users look at the graph of a lab that is
partly broken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from itertools import combinations
from typing import TYPE_CHECKING, Literal, TypeVar

from labctl.access.guest import Guest
from labctl.errors import LabError
from labctl.graph import ovn, ovs
from labctl.graph.model import Graph, Host, Interface, Switch, Tunnel, Vm
from labctl.graph.ovn import ObservedNetwork
from labctl.graph.ovs import NodeFacts
from labctl.graph.planned import client_host, planned, planned_host, segments
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.topology import Machine, Node, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

_T = TypeVar("_T")


@dataclass(frozen=True)
class Server:
    """An instance as Nova knows it."""

    id: str
    name: str
    status: str
    host: str
    """The node it runs on; empty: none."""
    fixed: str = ""
    floating: str = ""


@dataclass(frozen=True)
class Addresses:
    """What was read from Neutron."""

    subnets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By ID of the network: its address ranges."""
    floating: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By ID of the external network: its floating IPs that belong to no port."""


@dataclass(frozen=True)
class CloudFacts:
    """What was read from OpenStack's APIs."""

    servers: tuple[Server, ...] = ()
    addresses: Addresses = field(default_factory=Addresses)


@dataclass
class Answers:
    """What a lab answered, for who looks at it again and knows what has changed since.

    A part that is empty is asked for.
    """

    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    """By name."""
    ovn: str = ""
    servers: tuple[Server, ...] | None = None
    addresses: Addresses | None = None

    def forget(self, part: str) -> None:
        """Ask anew for a node, by its name, or for `OVN`, `NOVA`, `NEUTRON`; any other: for all."""
        if part == OVN:
            self.ovn = ""
        elif part == NOVA:
            self.servers = None
        elif part == NEUTRON:
            self.addresses = None
        elif self.nodes.pop(part, None) is None:
            self.nodes.clear()
            self.ovn, self.servers, self.addresses = "", None, None


OVN, NOVA, NEUTRON = ":ovn", ":nova", ":neutron"
"""Parts of a lab that are no nodes, whose names have no colon."""


@dataclass(frozen=True)
class LabReadings:
    """What was read from a lab, as far as it answered."""

    nodes: Mapping[str, NodeFacts]
    """By name; nodes that do not answer are missing."""
    states: Mapping[str, Literal["running", "silent", "down"]]
    ovn: ObservedNetwork = field(default_factory=ObservedNetwork)
    cloud: CloudFacts = field(default_factory=CloudFacts)
    notes: tuple[str, ...] = ()


def live(lab: Lab, known: Answers | None = None) -> Graph:
    """The graph of the lab as it is now. What does not answer becomes a note.

    What is `known` is not asked again; what was asked is known then.
    """
    return assemble(lab.topology, read_lab(lab, known or Answers()))


# -- reading -------------------------------------------------------------------------------------
def read_lab(lab: Lab, known: Answers) -> LabReadings:
    """Read in parallel what is not known."""
    topology = lab.topology
    notes: list[str] = []
    states: dict[str, Literal["running", "silent", "down"]] = {}
    with ThreadPoolExecutor(max_workers=min(len(topology.nodes), 16) + 3) as pool:
        states_of_nodes = pool.map(
            lambda node: node.name in known.nodes or _running(lab, node), topology.nodes
        )
        running = dict(zip(topology.nodes, states_of_nodes, strict=True))
        node_readings = {
            node: pool.submit(_read_node, lab.guest(node.name))
            for node in topology.nodes
            if running[node] and node.name not in known.nodes
        }
        controller_runs = running[topology.controller]
        openstack = controller_runs and topology.stack == "openstack"
        servers = addresses = databases = None
        if openstack and known.servers is None:
            servers = pool.submit(_answer, lambda: read_servers(lab.cloud()))
        if openstack and known.addresses is None:
            addresses = pool.submit(_answer, lambda: read_addresses(lab.cloud()))
        if controller_runs and not known.ovn:
            controller = topology.controller.name
            databases = pool.submit(_answer, lambda: _read_ovn(lab.guest(controller)))
        for node in topology.nodes:
            if node in node_readings:
                facts, trouble = node_readings[node].result()
                if facts is not None:
                    known.nodes[node.name] = facts
                if trouble:
                    notes.append(trouble)
            elif not running[node]:
                notes.append(tr("{name} is not running", name=node.name))
            states[node.name] = "running" if node.name in known.nodes else "silent"
            if not running[node]:
                states[node.name] = "down"
        for client in topology.clients:  # that it runs is all there is to know
            states[client.name] = "running" if _running(lab, client) else "down"
            if states[client.name] == "down":
                notes.append(tr("{name} is not running", name=client.name))
        trouble = ""
        if servers is not None:
            known.servers, trouble = servers.result()
        if addresses is not None:
            known.addresses, trouble_too = addresses.result()
            trouble = trouble or trouble_too
        if trouble:
            notes.append(tr("OpenStack does not answer: {said}", said=trouble))
        cloud = CloudFacts(known.servers or (), known.addresses or Addresses())
        trouble = ""
        if databases is not None:
            output, trouble = databases.result()
            known.ovn = output or ""
        logical = ObservedNetwork()
        if known.ovn:
            logical, trouble = _logical(known.ovn, cloud, topology)
        if trouble:
            known.ovn = ""
            notes.append(tr("OVN's databases do not answer: {error}", error=trouble))
    names = [node.name for node in topology.nodes]
    nodes = {name: known.nodes[name] for name in names if name in known.nodes}
    for name, facts in nodes.items():
        if not facts.switching:  # it is asked again, and the note is made again
            del known.nodes[name]
    return LabReadings(nodes, states, logical, cloud, tuple(notes))


def _running(lab: Lab, node: Machine) -> bool:
    try:
        return lab.provider.running(node)
    except LabError:
        return False


def _read_node(guest: Guest) -> tuple[NodeFacts | None, str]:
    """(facts or None, what is wrong or an empty text) of one node."""
    try:
        facts = ovs.understand(guest.run(ovs.QUESTION, timeout=30).stdout)
    except (LabError, OSError, ValueError, KeyError) as error:
        text = tr("{name} does not answer", name=guest.name)
        return None, text + tr(": ") + _first_line(error)
    if not facts.switching:
        return facts, tr("Open vSwitch does not answer on {node}", node=guest.name)
    return facts, ""


def _read_ovn(controller: Guest) -> str:
    return controller.run(ovn.QUESTION, timeout=30).stdout


def _answer(ask: Callable[[], _T]) -> tuple[_T | None, str]:
    """(answer of `ask` or None, what is wrong or an empty text)."""
    from labctl.access.cloud import API_ERRORS

    trouble: tuple[type[Exception], ...] = (LabError, ValueError, *API_ERRORS)
    try:
        return ask(), ""
    except trouble as error:
        return None, _first_line(error)


def _logical(output: str, cloud: CloudFacts, topology: Topology) -> tuple[ObservedNetwork, str]:
    names = {server.id: server.name for server in cloud.servers}
    try:
        return ovn.understand(output, names, openstack=topology.stack == "openstack"), ""
    except (ValueError, KeyError) as error:
        return ObservedNetwork(), _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_servers(cloud: "Connection") -> tuple[Server, ...]:
    """Instances with their addresses. Raises what openstacksdk raises."""
    servers = []
    for server in cloud.compute.servers(all_projects=True):
        by_network = (server.addresses or {}).values()
        addresses = [address for listed in by_network for address in listed]
        kinds = {
            kind: next((a["addr"] for a in addresses if a.get("OS-EXT-IPS:type") == kind), "")
            for kind in ("fixed", "floating")
        }
        servers.append(
            Server(
                server.id,
                server.name or "",
                server.status or "",
                server.compute_host or "",
                **kinds,
            )
        )
    return tuple(sorted(servers, key=lambda server: (server.name, server.id)))


def read_addresses(cloud: "Connection") -> Addresses:
    """Subnets, and floating IPs without a port. Raises what openstacksdk raises."""
    subnets: dict[str, tuple[str, ...]] = {}
    for subnet in cloud.network.subnets():
        subnets[subnet.network_id] = (*subnets.get(subnet.network_id, ()), subnet.cidr)
    floating: dict[str, list[str]] = {}
    for ip in cloud.network.ips():
        if not ip.port_id:
            floating.setdefault(ip.floating_network_id, []).append(ip.floating_ip_address)
    return Addresses(
        subnets,
        {network: tuple(sorted(ips, key=ip_address)) for network, ips in floating.items()},
    )


# -- graph ---------------------------------------------------------------------------------------
def assemble(topology: Topology, readings: LabReadings) -> Graph:
    """The graph of what was read; the planned graph if no node runs. Pure."""
    if all(state == "down" for state in readings.states.values()):
        plan = planned(topology)
        return replace(plan, hosts=tuple(replace(host, state="down") for host in plan.hosts))
    placed = _vms(readings)
    hosts = (
        *(_host(topology, node, readings, placed) for node in topology.nodes),
        *(
            replace(client_host(client), state=readings.states.get(client.name, "down"))
            for client in topology.clients
        ),
    )
    mappings: dict[str, list[str]] = {}
    for name, facts in readings.nodes.items():
        for network in facts.mappings:
            mappings.setdefault(network, []).append(name)
    switches = ovn.with_localnets(readings.ovn.switches, mappings)
    homeless = [s for s in readings.cloud.servers if s.host not in {host.name for host in hosts}]
    notes = [
        tr("instance {name} is on no node: {status}", name=server.name, status=server.status)
        for server in homeless
    ]
    return Graph(
        lab=topology.lab,
        live=True,
        hosts=hosts,
        segments=segments(topology),
        tunnels=tuple(_tunnels(topology, readings)),
        switches=tuple(_with_addresses(switch, readings.cloud.addresses) for switch in switches),
        routers=readings.ovn.routers,
        notes=(*readings.notes, *notes),
    )


def _host(
    topology: Topology, node: Node, readings: LabReadings, placed: Mapping[str, Sequence[Vm]]
) -> Host:
    plan = planned_host(topology, node)
    facts = readings.nodes.get(node.name)
    chassis = (readings.ovn.chassis or {}).get(node.name, ("", ""))[0]
    state = readings.states.get(node.name, "down")
    vms = tuple(placed.get(node.name, ()))
    if facts is None:  # the planned node, with what OVN and Nova know of it
        return replace(plan, vms=vms, chassis=chassis, state=state)
    nic_macs = {interface.mac for interface in plan.interfaces if interface.kind == "nic"}
    return replace(
        plan,
        interfaces=tuple(
            _with_kind(interface, facts, readings.ovn, nic_macs) for interface in facts.interfaces
        ),
        bridges=facts.bridges,
        vms=vms,
        chassis=chassis,
        state=state,
    )


def _with_kind(
    interface: Interface, facts: NodeFacts, logical: ObservedNetwork, nic_macs: set[str]
) -> Interface:
    """The interface, with the kind that only OVN (metadata) or lab.yaml (MAC addresses) tells."""
    if interface.kind == "vif":
        port = logical.port(facts.ids.get(interface.name, ""))
        if port is not None and port.kind == "metadata":
            return replace(interface, kind="other", use="metadata")
    if (
        interface.kind == "other"
        and interface.mac in nic_macs
        and interface.name != interface.bridge
    ):
        return replace(interface, kind="nic")
    return interface


def _vms(readings: LabReadings) -> dict[str, list[Vm]]:
    """By node: the instances of Nova, and other workloads with a logical port there."""
    vms: dict[str, list[Vm]] = {}
    taps = {
        (node, port): name
        for node, facts in readings.nodes.items()
        for name, port in facts.ids.items()
    }
    instances = [
        port for switch in readings.ovn.switches for port in switch.ports if port.kind == "instance"
    ]
    floating = {
        rule.logical: rule.external
        for router in readings.ovn.routers
        for rule in router.nat
        if rule.type == "dnat_and_snat"
    }
    drawn: set[str] = set()
    for server in readings.cloud.servers:
        ports = [port for port in instances if port.label == server.name]
        if len(ports) > 1:  # names need not be unique; addresses on a network are
            ports = [port for port in ports if server.fixed in port.addresses] or ports
        port = ports[0].name if ports else ""
        if port:
            drawn.add(port)
        vms.setdefault(server.host, []).append(
            Vm(
                server.name,
                interface=taps.get((server.host, port), ""),
                port=port,
                address=server.fixed,
                floating=server.floating or floating.get(server.fixed, ""),
                status=server.status,
            )
        )
    for node, facts in readings.nodes.items():
        for name, id_ in sorted(facts.ids.items()):
            logical_port = readings.ovn.port(id_)
            workload = name in facts.workloads
            if id_ in drawn or not (
                workload
                or (logical_port is not None and logical_port.kind in ("instance", "workload"))
            ):
                continue
            addresses = logical_port.addresses if logical_port is not None else ()
            address = next(iter(addresses), "") or facts.workloads.get(name, "").partition("/")[0]
            label = logical_port.label if logical_port is not None else id_
            vms.setdefault(node, []).append(
                Vm(label, name, id_, address, floating.get(address, ""))
            )
    return vms


def _with_addresses(switch: Switch, known: Addresses) -> Switch:
    network = switch.name.removeprefix("neutron-")
    cidrs = known.subnets.get(network, ()) or switch.cidrs
    return replace(switch, cidrs=cidrs, floating=known.floating.get(network, ()))


def _tunnels(topology: Topology, readings: LabReadings) -> Iterator[Tunnel]:
    """The tunnels that every answering end has, if at least one end answers."""
    chassis = readings.ovn.chassis or {}
    address = {
        node.name: chassis.get(node.name, ("", ""))[1] or str(node.eth1.address.ip)
        for node in topology.nodes
    }
    remotes = {
        name: {interface.peer for interface in facts.interfaces if interface.kind == "tunnel"}
        for name, facts in readings.nodes.items()
        if facts.switching
    }
    names = [node.name for node in topology.nodes]
    for first, second in combinations(names, 2):
        has_tunnel = [
            address[remote] in remotes[local]
            for local, remote in ((first, second), (second, first))
            if local in remotes
        ]
        if has_tunnel and all(has_tunnel):
            yield Tunnel((first, second), (address[first], address[second]))
