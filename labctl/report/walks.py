"""Packet walks as the report plays them: every hop with its header fields and changes. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from pydantic import TypeAdapter, ValidationError

from labctl.access.packets import Frame, is_ipv6
from labctl.graph.model import INTERNET, Graph, Host, Interface
from labctl.i18n import tr, tr_list
from labctl.report.words import Both, both, same, utc
from labctl.walks.describe import (
    change_of,
    decision,
    events_to_show,
    kind_of,
    mac_label,
    notes_on,
    place_name,
    title_of,
    verdict,
    whereabouts,
    why_of,
    with_port,
)
from labctl.walks.explain import Traced
from labctl.walks.model import Change, Encap, Hop, PacketPath, Point
from labctl.walks.ovntrace import DROP_KINDS, Trace
from labctl.walks.walk import Walk

_ADAPTER: TypeAdapter[Walk] = TypeAdapter(Walk)


def walk_of(data: object) -> Walk | None:
    """A walk as `labctl walk` stored it, to be played.

    None where another version of labctl wrote it.
    """
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError:
        return None


# -- on the picture --------------------------------------------------------------------------------
def place_of(node: str, interface: str) -> str:
    """The place in the picture (see graph.model) of an interface."""
    return INTERNET if node == INTERNET else f"{node}/{interface}"


def with_walk(graph: Graph, walk: Walk) -> Graph:
    """The graph, completed by the interfaces that the walk passed or should have passed.

    They may be missing: the instance was deleted since, and its tap device with it, or the graph is
    made from lab.yaml, which knows no tap devices.
    """
    roles = {(hop.node, hop.interface): hop.role for hop in _sightings(walk)}
    for point in (*walk.way, *((walk.lost.expected,) if walk.lost and walk.lost.expected else ())):
        roles.setdefault((point.node, point.interface), point.role)
    if walk.source.interface:
        roles.setdefault((walk.source.node, walk.source.interface), "instance")
    hosts = list(graph.hosts)
    for number, host in enumerate(hosts):
        for (node, interface), role in roles.items():
            if node == host.name:
                host = _with_interface(host, interface, walk, inner=role == "instance")
        hosts[number] = host
    return replace(graph, hosts=tuple(hosts))


def _with_interface(host: Host, name: str, walk: Walk, *, inner: bool) -> Host:
    ends = [
        end.name
        for end in (walk.source, walk.target)
        if (end.node, end.interface) == (host.name, name)
    ]
    vms = tuple(
        replace(vm, interface=name) if not vm.interface and vm.name in ends else vm
        for vm in host.vms
    )
    host = replace(host, vms=vms)
    if host.interface(name) is not None:
        return host
    bridge = "br-int" if inner and any(bridge.name == "br-int" for bridge in host.bridges) else ""
    added = Interface(name, "vif" if inner else "other", bridge=bridge)
    return replace(host, interfaces=(*host.interfaces, added))


def _sightings(walk: Walk) -> Iterator[Hop]:
    for path in (walk.request, walk.reply):
        if path is not None:
            yield from path.hops


# -- steps -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Field:
    """A header field at one hop."""

    id: str
    name: Both
    before: str
    """The value at the hop before; empty if it did not change, or at the first hop."""
    now: str
    why: Both
    changed: bool


@dataclass(frozen=True)
class ReportStep:
    """One hop of the packet."""

    number: int
    """Counted over the whole walk, from 1."""
    direction: str
    place: str
    node: Both
    interface: str
    arrow: str
    offset: str
    whereabouts: Both
    line: str
    """Addresses and TTL in one line, for the label that moves with the packet."""
    outer: str
    """The header of the tunnel around it in one line; empty outside of a tunnel."""
    fields: tuple[Field, ...]
    changes: tuple[Both, ...]
    logical: tuple[str, ...]
    """Names in OVN of the switches and routers that it passed since the hop before."""


@dataclass(frozen=True)
class Passage:
    """The steps of ovn-trace in one logical switch or router."""

    name: str
    kind: Both
    decisions: tuple[tuple[Both, bool], ...]
    """(text, whether it stops the packet)."""


@dataclass(frozen=True)
class Explanation:
    """The answer of ovn-trace about one direction."""

    error: str
    assumed: Both | None
    passages: tuple[Passage, ...]
    verdict: Both
    good: bool
    question: str


@dataclass(frozen=True)
class PathShown:
    """One direction of a walk."""

    direction: str
    title: Both
    steps: tuple[ReportStep, ...]
    explanation: Explanation | None


@dataclass(frozen=True)
class WalkShown:
    """One walk."""

    number: int
    """Counted from 1, the newest first."""
    title: str
    at: str
    answered: bool
    verdict: Both
    command: str
    paths: tuple[PathShown, ...]
    last: str
    """The place where it was seen last; where it did not leave its sender, that."""
    expected: str
    """The place where a lost packet should have been seen next; empty if it was not lost."""
    notes: tuple[Both, ...]


def walk_shown(walk: Walk, graph: Graph, number: int = 1) -> WalkShown:
    """A walk with all its steps, to be played on the picture of that graph."""
    logical = {switch.label: switch.name for switch in graph.switches}
    logical |= {router.label: router.name for router in graph.routers}
    paths: list[PathShown] = []
    hops = 0
    for path in (walk.request, walk.reply):
        if path is None:
            continue
        steps = tuple(_steps(path, walk, hops, logical))
        hops += len(steps)
        title = both(partial(title_of, path))
        paths.append(PathShown(path.direction, title, steps, _explanation(path, walk)))
    expected: Point | None = walk.lost.expected if walk.lost is not None else None
    return WalkShown(
        number=number,
        title=_heading(walk),
        at=utc(walk.began),
        answered=walk.answered,
        verdict=both(lambda: verdict(walk)),
        command=walk.attempts[-1].command if walk.attempts else "",
        paths=tuple(paths),
        last=_last_place(walk),
        expected=place_of(expected.node, expected.interface) if expected is not None else "",
        notes=_notes(walk),
    )


def _last_place(walk: Walk) -> str:
    path = walk.reply or walk.request
    if path.hops:
        return place_of(path.last.node, path.last.interface)
    if walk.source.interface:
        return place_of(walk.source.node, walk.source.interface)
    return next((place_of(point.node, point.interface) for point in walk.way), "")


def _heading(walk: Walk) -> str:
    target = walk.target.name
    if walk.target.name != walk.target.address:
        target = f"{target} ({walk.target.address})"
    port = f" {walk.port}" if walk.port is not None else ""
    return f"{walk.protocol}{port}: {walk.source.name} ({walk.source.address}) → {target}"


def _notes(walk: Walk) -> tuple[Both, ...]:
    # Without paths of captures: they exist only on the machine that made the report.
    without_paths = replace(walk, pcaps={})
    count = len(list(notes_on(without_paths)))

    def note(number: int) -> str:
        return list(notes_on(without_paths))[number]

    return tuple(both(partial(note, number)) for number in range(count))


def _steps(
    path: PacketPath, walk: Walk, before: int, logical: Mapping[str, str]
) -> Iterator[ReportStep]:
    for number, hop in enumerate(path.hops):
        earlier = path.hops[number - 1] if number else None
        yield ReportStep(
            number=before + number + 1,
            direction=path.direction,
            place=place_of(hop.node, hop.interface),
            node=both(partial(place_name, hop.node)),
            interface=hop.interface,
            arrow="→" if hop.direction == "out" else "←",
            offset=f"{hop.offset * 1000:.3f} ms",
            whereabouts=both(partial(whereabouts, hop, walk)),
            line=_line(hop),
            outer=_outer(hop.encap),
            fields=tuple(_fields(hop, earlier, walk)),
            changes=tuple(_change(change, walk) for change in hop.changes),
            logical=tuple(dict.fromkeys(logical[name] for name in _passed(hop) if name in logical)),
        )


def _passed(hop: Hop) -> Iterator[str]:
    """Labels of the switches and routers that a hop shows to have been passed."""
    yield from (change.by for change in hop.changes)
    if hop.encap is not None:
        yield hop.encap.datapath


def _line(hop: Hop) -> str:
    frame = hop.frame
    ends = with_port(frame.src, frame.source_port), with_port(frame.dst, frame.destination_port)
    return f"{' → '.join(ends)}  {_ttl(frame)} {frame.ttl}"


def _ttl(frame: Frame) -> str:
    return "hop limit" if is_ipv6(frame.src) else "TTL"


def _outer(encap: Encap | None) -> str:
    return "" if encap is None else f"{encap.src} → {encap.dst}  Geneve VNI {encap.vni}"


def _change(change: Change, walk: Walk) -> Both:
    def text() -> str:
        because = why_of(change)
        changed = change_of(change, walk)
        return tr("{text} ({detail})", text=changed, detail=because) if because else changed

    return both(text)


def _fields(hop: Hop, earlier: Hop | None, walk: Walk) -> Iterator[Field]:
    now = _values(hop, walk)
    was = _values(earlier, walk) if earlier is not None else now
    reasons = {change.field: change for change in hop.changes}
    for id, (name, value) in now.items():
        old = was.get(id, (name, ""))[1]
        reason = reasons.get(id)
        yield Field(
            id=id,
            name=name,
            before=old if old != value else "",
            now=value,
            why=both(partial(why_of, reason)) if reason is not None else same(""),
            changed=old != value,
        )


def _values(hop: Hop, walk: Walk) -> dict[str, tuple[Both, str]]:
    """The header fields to show: (name for people, value) by name in Frame."""
    frame = hop.frame
    values: dict[str, tuple[Both, str]] = {
        "kind": (both(lambda: tr("Packet")), kind_of(frame)),
        "src": (both(lambda: tr("Source")), frame.src),
        "dst": (both(lambda: tr("Destination")), frame.dst),
        "ttl": (same(_ttl(frame)), str(frame.ttl)),
    }
    if frame.source_port is not None:
        values["source_port"] = (both(lambda: tr("Source port")), str(frame.source_port))
    if frame.destination_port is not None:
        values["destination_port"] = (
            both(lambda: tr("Destination port")),
            str(frame.destination_port),
        )
    if frame.identifier is not None:
        values["identifier"] = (same("ICMP ID"), str(frame.identifier))
    if frame.vlan is not None:
        values["vlan"] = (same("VLAN"), str(frame.vlan))
    values["src_mac"] = (both(lambda: tr("Source MAC")), mac_label(frame.src_mac, walk))
    values["dst_mac"] = (both(lambda: tr("Destination MAC")), mac_label(frame.dst_mac, walk))
    values["tunnel"] = (both(lambda: tr("Geneve tunnel")), _tunnel(hop.encap))
    if hop.encap is not None and hop.encap.ingress_key is not None:
        values["option"] = (both(lambda: tr("OVN's option")), _option(hop.encap))
    return values


def _tunnel(encap: Encap | None) -> str:
    if encap is None:
        return "–"
    where = f" = {encap.datapath}" if encap.datapath else ""
    return f"{encap.src} → {encap.dst}, VNI {encap.vni}{where}"


def _option(encap: Encap) -> str:
    return (
        f"{encap.option_data}: {encap.ingress_key} {encap.ingress_port}"
        f" → {encap.egress_key} {encap.egress_port}"
    )


# -- ovn-trace -------------------------------------------------------------------------------------
def _explanation(path: PacketPath, walk: Walk) -> Explanation | None:
    traced = walk.traced.get(path.direction)
    if traced is None:
        return None
    if traced.trace is None:
        return Explanation(traced.error, None, (), same(""), False, "")
    assumed = traced.trace.assumed
    return Explanation(
        error="",
        assumed=both(lambda: tr("told that conntrack translates {what}", what=assumed))
        if assumed
        else None,
        passages=tuple(_passages(traced, walk)),
        verdict=_verdict(traced.trace, walk.labels.ports),
        good=traced.trace.verdict == "output",
        question=" ".join(traced.trace.command),
    )


def _verdict(trace: Trace, ports: Mapping[str, str]) -> Both:
    if trace.verdict == "output":
        names = dict.fromkeys(ports.get(output.port, output.port) for output in trace.outputs)
        return both(lambda: tr("delivered to {ports}", ports=tr_list(names)))
    if trace.verdict == "drop":
        return both(lambda: tr("dropped"))
    return both(lambda: tr("no verdict"))


def _router() -> str:
    return tr("router")


def _switch() -> str:
    return tr("switch")


def _passages(traced: Traced, walk: Walk) -> Iterator[Passage]:
    for datapath, group in groupby(events_to_show(traced, walk), key=lambda event: event.datapath):
        router = datapath in walk.labels.routers
        yield Passage(
            name=walk.labels.datapaths.get(datapath, datapath),
            kind=both(_router if router else _switch),
            decisions=tuple(
                (both(partial(decision, event, walk)), event.kind in DROP_KINDS) for event in group
            ),
        )
