"""Renders a graph as a Mermaid flowchart, for Markdown. Pure.

Mermaid does its own layout, which gets crowded. So it shows less than the SVG: only ports that
connect something.
"""

import re
from collections.abc import Iterator

from labctl.graph.layout import tunnels_word
from labctl.graph.machines import INSIDE, INTEGRATION, OUTSIDE
from labctl.graph.model import Graph, Host
from labctl.graph.shapes import clean
from labctl.i18n import tr, tr_list

_MESH = 4
"""With more nodes than this, tunnels are drawn to one shared box, not between all pairs."""
# Characters that have no meaning in labels, HTML and Markdown, and need no escape.
_PLAIN = re.compile(
    r"[^\W_]|[ ,:@()→⇄·]"
    r"|(?<=[^\W_])[-_./](?=[^\W_])"  # inside a word: 10.0.2.0/24, vm_1
)


def mermaid(graph: Graph) -> str:
    """The graph, in the current language."""
    return "\n".join(_lines(graph)) + "\n"


def quoted(*lines: str) -> str:
    """Lines of text as one label. Everything that Mermaid or HTML would interpret is escaped."""
    # Mermaid rejects an empty label, so it gets a space.
    return '"' + ("<br/>".join(_escape(clean(line)) for line in lines if clean(line)) or " ") + '"'


def _escape(text: str) -> str:
    plain = {match.start() for match in _PLAIN.finditer(text)}
    return "".join(
        letter if number in plain else f"#{ord(letter)};" for number, letter in enumerate(text)
    )


def _lines(graph: Graph) -> Iterator[str]:
    yield "flowchart TB"
    yield from _logical(graph)
    for number, host in enumerate(graph.hosts):
        yield from _host(number, host)
    ids = {host.name: f"h{number}" for number, host in enumerate(graph.hosts)}
    yield from _networks(graph, ids)
    yield from _tunnels(graph, ids)
    yield from _bindings(graph, ids)


def _logical(graph: Graph) -> Iterator[str]:
    if not graph.switches and not graph.routers:
        return
    yield f"    subgraph logical[{quoted(tr('Logical network (OVN)'))}]"
    order = sorted(
        range(len(graph.switches)), key=lambda number: bool(graph.switches[number].localnet)
    )
    for number in order:  # inner switches first: Mermaid draws in this order
        switch = graph.switches[number]
        local = tr("localnet: {network}", network=switch.localnet) if switch.localnet else ""
        free = tr("floating IPs without a port") + tr(": ") + tr_list(switch.floating)
        texts = [switch.label, tr_list(switch.cidrs), local, free if switch.floating else ""]
        yield f"        s{number}[{quoted(*texts)}]"
    for number, router in enumerate(graph.routers):
        nat = [f"{rule.type} {rule.external} ⇄ {rule.logical}" for rule in router.nat]
        shown = nat if len(nat) <= 6 else [*nat[:5], f"… +{len(nat) - 5}"]
        yield f"        r{number}{{{{{quoted(router.label, *shown)}}}}}"
    switches = {switch.name: number for number, switch in enumerate(graph.switches)}
    for number, router in enumerate(graph.routers):
        for port in router.ports:
            if port.peer in switches:
                label = quoted(*port.addresses)
                line = f"|{label}|" if port.addresses else ""
                ends = f"s{switches[port.peer]}", f"r{number}"
                above, below = reversed(ends) if port.kind == "gateway" else ends
                yield f"        {above} ---{line} {below}"
    yield "    end"


def _host(number: int, host: Host) -> Iterator[str]:
    id = f"h{number}"
    chassis = f"chassis {host.chassis}" if host.chassis else ""
    yield f"    subgraph {id}[{quoted(host.name, tr_list(host.roles), chassis)}]"
    bridges = [bridge.name for bridge in host.bridges]
    for place, bridge in enumerate(bridges):
        own = host.interface(bridge)
        address = own.address if own is not None else ""
        network = host.bridges[place].physical_network
        yield f"        {id}b{place}[{quoted(bridge, address, network)}]"
    for name in (OUTSIDE, INSIDE):
        nic = host.interface(name)
        if nic is not None:
            yield f"        {id}{name}([{quoted(name, nic.address)}])"
            if nic.bridge in bridges:
                yield f"        {id}{name} --- {id}b{bridges.index(nic.bridge)}"
    if INTEGRATION in bridges:
        inner = bridges.index(INTEGRATION)
        for place, bridge in enumerate(bridges):
            patched = any(
                interface.kind == "patch" and interface.bridge == bridge
                for interface in host.interfaces
            )
            if patched and place != inner:
                yield f"        {id}b{inner} --- {id}b{place}"
        for place, vm in enumerate(host.vms):
            floating = f"⇄ {vm.floating}" if vm.floating else ""
            status = vm.status if vm.status != "ACTIVE" else ""
            yield f"        {id}v{place}[{quoted(vm.name, vm.address, floating, status)}]"
            yield f"        {id}v{place} --- {id}b{inner}"
    yield "    end"


def _networks(graph: Graph, ids: dict[str, str]) -> Iterator[str]:
    outward = [
        number for number, segment in enumerate(graph.segments) if segment.kind == "internet"
    ]
    for number, segment in enumerate(graph.segments):
        word = {
            "private": tr("private network"), "nat": "NAT", "internet": tr("Internet"),
            "outside": tr("network outside"),
        }[segment.kind]  # fmt: skip
        yield f"    net{number}([{quoted(word, segment.cidr)}])"
        for place in segment.members if segment.kind != "internet" else ():
            host, _, interface = place.rpartition("/")
            if host in ids:
                yield f"    {ids[host]}{interface} --- net{number}"
    for number in outward:
        members = set(graph.segments[number].members)
        for other, segment in enumerate(graph.segments):
            behind = segment.kind == "nat" and members & set(segment.members)
            if behind or segment.kind == "outside":
                yield f"    net{other} --- net{number}"


def _tunnels(graph: Graph, ids: dict[str, str]) -> Iterator[str]:
    inner = {
        host.name: f"{ids[host.name]}b{place}"
        for host in graph.hosts
        for place, bridge in enumerate(host.bridges)
        if bridge.name == INTEGRATION
    }
    tunnels = [tunnel for tunnel in graph.tunnels if all(name in inner for name in tunnel.hosts)]
    if len(graph.hosts) <= _MESH:
        for tunnel in tunnels:
            yield f"    {inner[tunnel.hosts[0]]} -. Geneve .- {inner[tunnel.hosts[1]]}"
        return
    if tunnels:
        yield f"    tunnels([{quoted(tunnels_word(graph.tunnels, graph.hosts))}])"
        for name in dict.fromkeys(name for tunnel in tunnels for name in tunnel.hosts):
            yield f"    {inner[name]} -.- tunnels"


def _bindings(graph: Graph, ids: dict[str, str]) -> Iterator[str]:
    """Lines from switches to their instances, and to the bridges of their localnet."""
    instances = {
        vm.port: f"{ids[host.name]}v{place}"
        for host in graph.hosts
        if any(bridge.name == INTEGRATION for bridge in host.bridges)
        for place, vm in enumerate(host.vms)
        if vm.port
    }
    for number, switch in enumerate(graph.switches):
        for port in switch.ports:
            if port.name in instances:
                yield f"    s{number} -.- {instances[port.name]}"
        for host in graph.hosts:
            for place, bridge in enumerate(host.bridges):
                if switch.localnet and bridge.physical_network == switch.localnet:
                    yield f"    s{number} -. localnet .- {ids[host.name]}b{place}"
