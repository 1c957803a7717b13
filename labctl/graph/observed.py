"""A running lab -> graph: all nodes, OVN's databases and OpenStack asked at once.

What does not answer is drawn as such and said in the notes: a lab that is half broken is the one
that somebody wants to see.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from labctl.access.guest import Guest
from labctl.errors import LabError
from labctl.graph import ovn, ovs
from labctl.graph.model import Graph, Host, Interface, Switch, Tunnel, Vm
from labctl.graph.ovn import ObservedNetwork
from labctl.graph.ovs import NodeFacts
from labctl.graph.planned import planned, planned_host, segments
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.topology import Node, Topology

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
    """Node it runs on; empty: none."""
    fixed: str = ""
    floating: str = ""


@dataclass(frozen=True)
class CloudFacts:
    """What OpenStack's APIs say."""

    servers: tuple[Server, ...] = ()
    subnets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Address ranges by the ID of the network."""


@dataclass(frozen=True)
class Look:
    """Everything that was asked, as far as it answered."""

    nodes: Mapping[str, NodeFacts]
    states: Mapping[str, Literal["running", "silent", "down"]]
    ovn: ObservedNetwork = field(default_factory=ObservedNetwork)
    cloud: CloudFacts = field(default_factory=CloudFacts)
    notes: tuple[str, ...] = ()


def live(lab: Lab) -> Graph:
    """The lab as it is now. Raises nothing for what does not answer."""
    return assemble(lab.topology, look(lab))


# -- asking --------------------------------------------------------------------------------------
def look(lab: Lab) -> Look:
    """Ask everything at once."""
    topology = lab.topology
    notes: list[str] = []
    nodes: dict[str, NodeFacts] = {}
    states: dict[str, Literal["running", "silent", "down"]] = {}
    with ThreadPoolExecutor(max_workers=min(len(topology.nodes), 16) + 2) as pool:
        said_running = pool.map(lambda node: _running(lab, node), topology.nodes)
        running = dict(zip(topology.nodes, said_running, strict=True))
        asked = {
            node: pool.submit(_ask_node, lab.guest(node.name))
            for node in topology.nodes
            if running[node]
        }
        central = running[topology.controller]
        openstack = central and topology.stack == "openstack"
        cloud = pool.submit(_answer, lambda: ask_cloud(lab.cloud())) if openstack else None
        databases = (
            pool.submit(_answer, lambda: _ask_ovn(lab.guest(topology.controller.name)))
            if central
            else None
        )
        for node in topology.nodes:
            states[node.name] = "down"
            if node in asked:
                facts, why = asked[node].result()
                states[node.name] = "running" if facts is not None else "silent"
                if facts is not None:
                    nodes[node.name] = facts
                if why:
                    notes.append(why)
            else:
                notes.append(tr("{name} is not running", name=node.name))
        found, why = cloud.result() if cloud is not None else (None, "")
        if why:
            notes.append(tr("OpenStack does not answer: {said}", said=why))
        said, why = databases.result() if databases is not None else (None, "")
        known = found or CloudFacts()
        logical, trouble = (
            _logical(said, known, topology) if said is not None else (ObservedNetwork(), why)
        )
        if trouble:
            notes.append(tr("OVN's databases do not answer: {error}", error=trouble))
    return Look(nodes, states, logical, known, tuple(notes))


def _running(lab: Lab, node: Node) -> bool:
    try:
        return lab.provider.running(node)
    except LabError:
        return False


def _ask_node(guest: Guest) -> tuple[NodeFacts | None, str]:
    """Its facts, or None; and what is wrong, or an empty text."""
    try:
        facts = ovs.understand(guest.run(ovs.QUESTION, timeout=30).stdout)
    except (LabError, OSError, ValueError, KeyError) as error:
        said = tr("{name} does not answer", name=guest.name)
        return None, f"{said}: {_first_line(error)}"
    if not facts.switching:
        return facts, tr("Open vSwitch does not answer on {node}", node=guest.name)
    return facts, ""


def _ask_ovn(controller: Guest) -> str:
    return controller.run(ovn.QUESTION, timeout=30).stdout


def _answer(ask: Callable[[], _T]) -> tuple[_T | None, str]:
    from labctl.access.cloud import API_ERRORS

    trouble: tuple[type[Exception], ...] = (LabError, ValueError, *API_ERRORS)
    try:
        return ask(), ""
    except trouble as error:
        return None, _first_line(error)


def _logical(said: str, cloud: CloudFacts, topology: Topology) -> tuple[ObservedNetwork, str]:
    names = {server.id: server.name for server in cloud.servers}
    try:
        return ovn.understand(said, names, openstack=topology.stack == "openstack"), ""
    except (ValueError, KeyError) as error:
        return ObservedNetwork(), _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def ask_cloud(cloud: "Connection") -> CloudFacts:
    """Instances with their addresses, and subnets. Raises what openstacksdk raises."""
    servers = []
    for one in cloud.compute.servers(all_projects=True):
        addresses = [its for network in (one.addresses or {}).values() for its in network]
        kinds = {
            kind: next((a["addr"] for a in addresses if a.get("OS-EXT-IPS:type") == kind), "")
            for kind in ("fixed", "floating")
        }
        servers.append(
            Server(one.id, one.name or "", one.status or "", one.compute_host or "", **kinds)
        )
    subnets: dict[str, tuple[str, ...]] = {}
    for subnet in cloud.network.subnets():
        subnets[subnet.network_id] = (*subnets.get(subnet.network_id, ()), subnet.cidr)
    return CloudFacts(tuple(sorted(servers, key=lambda one: (one.name, one.id))), subnets)


# -- putting together ----------------------------------------------------------------------------
def assemble(topology: Topology, seen: Look) -> Graph:
    """What was seen -> graph; of a lab that is halted the plan. Pure."""
    if all(state == "down" for state in seen.states.values()):
        plan = planned(topology)
        return replace(plan, hosts=tuple(replace(one, state="down") for one in plan.hosts))
    placed = _vms(topology, seen)
    hosts = tuple(_host(topology, node, seen, placed) for node in topology.nodes)
    mappings: dict[str, list[str]] = {}
    for name, facts in seen.nodes.items():
        for network in facts.mappings:
            mappings.setdefault(network, []).append(name)
    switches = ovn.with_localnets(seen.ovn.switches, mappings)
    nowhere = [s for s in seen.cloud.servers if s.host not in {host.name for host in hosts}]
    notes = [
        tr("instance {name} is on no node: {status}", name=one.name, status=one.status)
        for one in nowhere
    ]
    return Graph(
        lab=topology.lab,
        live=True,
        hosts=hosts,
        segments=segments(topology),
        tunnels=tuple(_tunnels(topology, seen)),
        switches=tuple(_with_cidrs(one, seen.cloud.subnets) for one in switches),
        routers=seen.ovn.routers,
        notes=(*seen.notes, *notes),
    )


def _host(topology: Topology, node: Node, seen: Look, placed: Mapping[str, Sequence[Vm]]) -> Host:
    plan = planned_host(topology, node)
    facts = seen.nodes.get(node.name)
    chassis = (seen.ovn.chassis or {}).get(node.name, ("", ""))[0]
    state = seen.states.get(node.name, "down")
    vms = tuple(placed.get(node.name, ()))
    if facts is None:  # what it should have, with what others know of it
        return replace(plan, vms=vms, chassis=chassis, state=state)
    nics = {plan_one.mac for plan_one in plan.interfaces if plan_one.kind == "nic"}
    return replace(
        plan,
        interfaces=tuple(_known(one, facts, seen.ovn, nics) for one in facts.interfaces),
        bridges=facts.bridges,
        vms=vms,
        chassis=chassis,
        state=state,
    )


def _known(one: Interface, facts: NodeFacts, logical: ObservedNetwork, nics: set[str]) -> Interface:
    """The interface, with its kind as OVN and lab.yaml know it."""
    if one.kind == "vif":
        port = logical.port(facts.ids.get(one.name, ""))
        if port is not None and port.kind == "metadata":
            return replace(one, kind="other", use="metadata")
    if one.kind == "other" and one.mac in nics and one.name != one.bridge:
        return replace(one, kind="nic")
    return one


def _vms(topology: Topology, seen: Look) -> dict[str, list[Vm]]:
    """The instances of each node: Nova's, and what else is behind a logical port there."""
    found: dict[str, list[Vm]] = {}
    taps = {
        (node, port): name for node, facts in seen.nodes.items() for name, port in facts.ids.items()
    }
    instances = [
        port for switch in seen.ovn.switches for port in switch.ports if port.kind == "instance"
    ]
    drawn: set[str] = set()
    for server in seen.cloud.servers:
        mine = [port for port in instances if port.label == server.name]
        if len(mine) > 1:  # names need not be unique, addresses on a network are
            mine = [port for port in mine if server.fixed in port.addresses] or mine
        port = mine[0].name if mine else ""
        drawn.update(one.name for one in mine[:1])
        found.setdefault(server.host, []).append(
            Vm(
                server.name,
                interface=taps.get((server.host, port), ""),
                port=port,
                address=server.fixed,
                floating=server.floating,
                status=server.status,
            )
        )
    floating = {
        rule.logical: rule.external
        for router in seen.ovn.routers
        for rule in router.nat
        if rule.type == "dnat_and_snat"
    }
    for node, facts in seen.nodes.items():
        for name, id_ in sorted(facts.ids.items()):
            known = seen.ovn.port(id_)
            workload = name in facts.workloads
            if id_ in drawn or not (
                workload or (known is not None and known.kind in ("instance", "workload"))
            ):
                continue
            addresses = known.addresses if known is not None else ()
            address = next(iter(addresses), "") or facts.workloads.get(name, "").partition("/")[0]
            label = known.label if known is not None else id_
            found.setdefault(node, []).append(
                Vm(label, name, id_, address, floating.get(address, ""))
            )
    return found


def _with_cidrs(switch: Switch, subnets: Mapping[str, tuple[str, ...]]) -> Switch:
    known = subnets.get(switch.name.removeprefix("neutron-"), ())
    return replace(switch, cidrs=known) if known else switch


def _tunnels(topology: Topology, seen: Look) -> Iterator[Tunnel]:
    """The tunnels that at least one end has and no end that answers lacks."""
    chassis = seen.ovn.chassis or {}
    address = {
        node.name: chassis.get(node.name, ("", ""))[1] or str(node.eth1.address.ip)
        for node in topology.nodes
    }
    remotes = {
        name: {one.peer for one in facts.interfaces if one.kind == "tunnel"}
        for name, facts in seen.nodes.items()
        if facts.switching
    }
    names = [node.name for node in topology.nodes]
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            views = [
                address[far] in remotes[near]
                for near, far in ((one, other), (other, one))
                if near in remotes
            ]
            if views and all(views):
                yield Tunnel((one, other), (address[one], address[other]))
