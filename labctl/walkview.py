"""A walk for a person at a terminal: hop by hop, what changed, and what OVN says beside it."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from labctl.console import Console
from labctl.hops import Change, Encap, Hop, Path
from labctl.i18n import tr
from labctl.ovntrace import Event
from labctl.packets import Frame
from labctl.prose import Line, Span, Style, cell_width, hang, sanitize
from labctl.walk import Walk
from labctl.walktrace import Traced

_SIDE_BY_SIDE = 110
"""Cells from which on hops and pipeline stand beside each other."""
_LEAST = 60
_WIDEST = 132


def show(walk: Walk, console: Console) -> None:
    """The whole walk, within the console's width."""
    target = walk.target.name
    if walk.target.name != walk.target.address:
        target = f"{target} ({walk.target.address})"
    port = f" {walk.port}" if walk.port is not None else ""
    console.heading(f"{walk.protocol}{port}: {walk.source.name} ({walk.source.address}) → {target}")
    width = max(_LEAST, min(console.width or 100, _WIDEST))
    for attempt in walk.attempts[:-1]:
        console.say(attempt.outcome)
    for path in (walk.request, walk.reply):
        if path is not None:
            console.write([(), (Span(_title(path, walk), "bold"),)])
            console.write(_beside(_hops(path, walk), _explained(path, walk), width))
    notes = list(_notes(walk))
    if notes:
        console.write([(), *(line for note in notes for line in hang((Span(note, "dim"),), width))])
    console.summary(walk.answered, verdict(walk))


def verdict(walk: Walk) -> str:
    """How it went, in one sentence."""
    last = walk.reply.last if walk.reply is not None else None
    if walk.lost is None and last is not None:
        took = f"{last.offset * 1000:.2f} ms"
        if walk.answer == "refused" and walk.protocol == "tcp":
            return tr("{target} refused the connection after {time}: nobody listens on port {port}",
                      target=walk.target.name, time=took, port=walk.port)  # fmt: skip
        if walk.answer == "refused":
            return tr(
                "{target} answered after {time} that nobody listens on port {port}",
                target=walk.target.name, time=took, port=walk.port,
            )  # fmt: skip
        return tr("answered after {time}", time=took)
    lost = walk.lost
    if lost is None:
        return tr("no answer")
    seen = {"interface": lost.interface, "node": _place(lost.node)}
    if walk.answer == "error" and walk.reply is not None:
        sender = walk.reply.hops[0].frame.src
        return tr("{who} answered with an ICMP error: {what}", who=_named(sender, walk),
                  what=_kind(walk.reply.hops[0].frame))  # fmt: skip
    if lost.direction == "reply":
        said = tr("the answer got lost; last seen on {interface} of {node}", **seen)
    else:
        said = tr("no answer; the packet was last seen on {interface} of {node}", **seen)
    if lost.expected is not None and lost.expected.role != "internet":
        said += tr(
            ", not on {interface} of {node}",
            interface=lost.expected.interface,
            node=_place(lost.expected.node),
        )
    if lost.reason is not None:
        where = walk.labels.datapaths.get(lost.reason.datapath, lost.reason.datapath)
        return f"{said}. {where}: {_decision(lost.reason, walk)}"
    if lost.untranslated:
        return f"{said}. " + tr("OVN has no NAT rule for {address}", address=lost.untranslated)
    explained = walk.traced.get(lost.direction)
    if explained is None or explained.trace is None or not explained.trace.outputs:
        return said
    return f"{said}. " + tr("OVN's logical flows let it pass: look below them, and at the end")


def _title(path: Path, walk: Walk) -> str:
    kind = _kind(path.hops[0].frame)
    if path.direction == "request":
        return tr("there: {what}", what=kind)
    return tr("back: {what}", what=kind)


def _kind(frame: Frame) -> str:
    if frame.quoted is not None:
        codes = {("3", 0): "net unreachable", ("3", 1): "host unreachable",
                 ("3", 3): "port unreachable", ("3", 13): "administratively prohibited",
                 ("11", 0): "time exceeded"}  # fmt: skip
        known = codes.get((frame.kind, frame.code or 0))
        return f"ICMP {known}" if known else f"ICMP type {frame.kind} code {frame.code}"
    if frame.protocol == "icmp":
        return f"ICMP echo {frame.kind}"
    if frame.protocol == "tcp":
        names = {"S": "SYN", "A": "ACK", "R": "RST", "F": "FIN", "P": "PSH"}
        return "TCP " + "+".join(names.get(letter, letter) for letter in frame.flags)
    return frame.protocol.upper()


def _place(node: str) -> str:
    return tr("the Internet") if node == "internet" else node


def _named(address: str, walk: Walk) -> str:
    name = walk.labels.addresses.get(address)
    return f"{name} ({address})" if name else address


# -- hops ------------------------------------------------------------------------------------------
def _hops(path: Path, walk: Walk) -> list[Line]:
    lines: list[Line] = []
    for number, hop in enumerate(path.hops, 1):
        lines += _hop(hop, number, walk)
    return lines


def _hop(hop: Hop, number: int, walk: Walk) -> Iterator[Line]:
    arrow = "→" if hop.direction == "out" else "←"
    yield (
        Span(f"{number:>2} {hop.offset * 1000:>8.3f} ms  ", "dim"),
        Span(_place(hop.node), "bold"),
        Span(f"  {hop.interface} {arrow} "),
        Span(_where(hop, walk), "dim"),
    )
    frame = hop.frame
    changed = {change.field for change in hop.changes}
    ports = [
        "" if port is None else f":{port}" for port in (frame.source_port, frame.destination_port)
    ]
    yield _line(
        (f"{frame.src}{ports[0]}", {"src", "source_port"} & changed),
        (" → ", ()),
        (f"{frame.dst}{ports[1]}", {"dst", "destination_port"} & changed),
        ("  ttl ", ()),
        (str(frame.ttl), {"ttl"} & changed),
        (f"  vlan {frame.vlan}" if frame.vlan is not None else "", {"vlan"} & changed),
    )
    if hop.encap is not None:
        yield from _tunnel(hop.encap)
    if not hop.changes and hop.encap is None:
        yield _line((_macs(frame, walk), ()), style="dim")
    yield from _changes(hop.changes, walk)
    if hop.copies:
        yield _line((tr("seen {n} times more", n=hop.copies), ()), style="dim")


_INDENT = " " * 6


def _line(*parts: tuple[str, object], style: Style = "plain") -> Line:
    """Parts of a line below a hop; what has changed stands out."""
    spans = [Span(text, "code" if changed else style) for text, changed in parts if text]
    return (Span(_INDENT), *spans)


def _where(hop: Hop, walk: Walk) -> str:
    outwards = hop.direction == "out"
    match hop.role:
        case "instance":
            mac = hop.frame.dst_mac if outwards else hop.frame.src_mac
            name = walk.labels.macs.get(mac, mac)
            return tr("to {who}", who=name) if outwards else tr("from {who}", who=name)
        case "underlay":
            return tr("to the other nodes") if outwards else tr("from another node")
        case "host":
            return tr("to the node itself") if outwards else tr("from the node itself")
        case "internet":
            return ""
    return tr("to the outside") if outwards else tr("from outside")


def _macs(frame: Frame, walk: Walk) -> str:
    return f"{_mac(frame.src_mac, walk)} → {_mac(frame.dst_mac, walk)}"


def _mac(mac: str, walk: Walk) -> str:
    name = walk.labels.macs.get(mac)
    return f"{mac} {name}" if name else mac


def _tunnel(encap: Encap) -> Iterator[Line]:
    where = f" = {encap.datapath}" if encap.datapath else ""
    yield _line(("Geneve ", ()), (f"{encap.src} → {encap.dst}  vni {encap.vni}{where}", ()))
    if encap.ingress_key is not None:
        yield _line(
            (
                f"{encap.option_class:#x} {encap.option_data}:"
                f" {encap.ingress_key} {encap.ingress_port}"
                f" → {encap.egress_key} {encap.egress_port}",
                (),
            ),
            style="dim",
        )


def _changes(changes: Sequence[Change], walk: Walk) -> Iterator[Line]:
    for change in changes:
        match change.field:
            case "tunnel" if change.why == "decapsulated":
                text = tr("out of the tunnel")
            case "tunnel" if change.before is not None:
                text = tr("into another tunnel")
            case "tunnel":
                text = tr("into the tunnel")
            case "src_mac" | "dst_mac":
                before, after = (_mac(str(mac), walk) for mac in (change.before, change.after))
                text = f"{_FIELDS[change.field]} {before} → {after}"
            case name:
                text = f"{_FIELDS.get(name, name)} {change.before} → {change.after}"
        yield (Span(f"{_INDENT}• ", "ok"), Span(text), *_why(change))


_FIELDS = {
    "src": "src", "dst": "dst", "source_port": "src port", "destination_port": "dst port",
    "identifier": "ICMP id", "src_mac": "src MAC", "dst_mac": "dst MAC",
}  # fmt: skip


def _why(change: Change) -> Iterator[Span]:
    match change.why:
        case "snat" | "dnat":
            said = change.why.upper()
            if change.rule:
                said = tr(
                    "{kind} of {router}: {rule}",
                    kind=said,
                    router=change.by,
                    rule=change.rule.split()[0],
                )
        case "unsnat" | "undnat":
            said = tr("{kind} taken back by conntrack", kind=change.why[2:].upper())
        case "routed" if change.field == "ttl":
            said = tr("router {name}", name=change.by) if change.by else tr("a router")
        case _:
            return
    yield Span(f"  {said}", "warn")


# -- what OVN says -----------------------------------------------------------------------------
def _explained(path: Path, walk: Walk) -> list[Line]:
    said = walk.traced.get(path.direction)
    if said is None:
        return []
    if said.trace is None:
        return [(Span("ovn-trace  ", "dim"), Span(said.error, "dim"))]
    lines: list[Line] = [(Span("ovn-trace", "bold"),)]
    if said.trace.assumed:
        told = tr("told that conntrack translates {what}", what=said.trace.assumed)
        lines.append((Span(f"  {told}", "dim"),))
    for datapath, group in groupby(_telling(said, walk), key=lambda event: event.datapath):
        kind = tr("router") if datapath in walk.labels.routers else tr("switch")
        name = walk.labels.datapaths.get(datapath, datapath)
        lines.append((Span("  "), Span(name, "bold"), Span(f"  {kind}", "dim")))
        for event in group:
            bad = event.kind in ("denied", "rejected", "dropped")
            lines.append((Span("    "), Span(_decision(event, walk), "bad" if bad else "plain")))
    return lines


def _telling(said: Traced, walk: Walk) -> Iterator[Event]:
    """The events that say something a person does not know yet."""
    before: set[tuple[str, str]] = set()
    for event in said.events:
        text = _decision(event, walk)
        if text and (event.datapath, text) not in before:
            before.add((event.datapath, text))
            yield event


_GROUP = re.compile(r"@(\w+)")
_MEMBERS = re.compile(r"\$(pg_\w+)_ip4")
"""The set of addresses of a security group's members."""


def _decision(event: Event, walk: Walk) -> str:
    """One event in words; empty if it is not worth any."""
    port = walk.labels.ports.get(event.detail, event.detail)
    match event.kind:
        case "enters":
            return tr("in by {port}", port=port)
        case "output":
            return tr("out by {port}", port=port)
        case "routed":
            return tr("route {route}, ttl -1", route=event.detail)
        case "snat" | "dnat":
            return tr("{kind} to {address}", kind=event.kind.upper(), address=event.detail)
        case "unsnat" | "undnat":
            return ""  # every packet is looked up; what comes of it the hops show
        case "redirected":
            return tr("goes to {where}", where=port)
        case "allowed":
            return tr("allowed by {what}", what=_acl(event, walk))
        case "denied":
            return tr("denied by {what}", what=_acl(event, walk))
        case "rejected":
            return tr("rejected by {what}", what=_acl(event, walk))
    return tr("dropped in {table}: {match}", table=event.table, match=event.detail)


def _acl(event: Event, walk: Walk) -> str:
    if "neutron_pg_drop" in event.detail:
        if "_out_" in event.table:
            return tr("default: no security group rule lets it in")
        return tr("default: no security group rule lets it out")
    if group := _GROUP.search(event.detail):
        name = walk.labels.groups.get(group[1], group[1])
        rest = re.sub(r"reg0\[\d+\] == 1 && |[()]|(in|out)port == @\w+ && ", "", event.detail)
        rest = _MEMBERS.sub(lambda one: walk.labels.groups.get(one[1], one[1]), rest)
        return tr("security group {name} ({match})", name=name, match=rest)
    if "ct.rpl" in event.detail or event.detail == "reg0[17] == 1":
        return tr("connection tracking: an answer")
    return event.detail


# -- layout ------------------------------------------------------------------------------------
def _beside(left: list[Line], right: list[Line], width: int) -> list[Line]:
    """Both blocks beside each other where there is room, else one below the other."""
    if width < _SIDE_BY_SIDE or not right:
        below = [(Span(" " * 4), *line) for line in right]
        return [*_fitted(left, width), *_fitted(below, width)]
    column = width * 62 // 100
    lines: list[Line] = []
    both = zip_longest(_fitted(left, column - 2), _fitted(right, width - column), fillvalue=())
    for one, other in both:
        used = sum(cell_width(span.text) for span in one)
        lines.append((*one, Span(" " * (column - used)), *other) if other else one)
    return lines


def _fitted(lines: Sequence[Line], width: int) -> list[Line]:
    clean = [tuple(Span(sanitize(text), style) for text, style in line) for line in lines]
    return [part for line in clean for part in hang(line, width)]


def _notes(walk: Walk) -> Iterator[str]:
    yield from walk.notes
    for node, skew in walk.skews.items():
        yield tr(
            "the clock of {node} is {ms} ms off; the times are corrected",
            node=_place(node),
            ms=f"{skew * 1000:+.3f}",
        )
    astray = {
        f"{_place(hop.node)} {hop.interface}"
        for path in (walk.request, walk.reply)
        if path is not None
        for hop in path.aside
    }
    if astray:
        yield tr(
            "a copy was flooded to {places}: br-ex did not know the MAC address yet",
            places=", ".join(sorted(astray)),
        )
    if walk.pcaps:
        yield tr("captures: {files}", files=", ".join(walk.pcaps.values()))
