"""Puts a walk into words, for the terminal and the report. Pure.

The texts may contain what a guest sent, unchanged: the caller must sanitize or escape them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from labctl.access.packets import Frame, is_ipv6
from labctl.i18n import tr, tr_list, tr_n
from labctl.walks.arp import ArpQuestion
from labctl.walks.causes import Cause
from labctl.walks.drops import Acl, Drop, openflow_command
from labctl.walks.explain import Traced
from labctl.walks.model import Change, Encap, Hop, PacketPath
from labctl.walks.ovntrace import DROP_KINDS, TraceEvent
from labctl.walks.walk import Walk


def verdict(walk: Walk) -> str:
    """The outcome in one or two sentences."""
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
    if not walk.request.hops:
        return _never_left(walk)
    seen = {"interface": lost.interface, "node": place_name(lost.node)}
    rejected = lost.reason is not None and lost.reason.kind == "rejected"
    if walk.answer == "error" and walk.reply is not None and not rejected:
        sender = walk.reply.hops[0].frame.src
        return tr("{who} answered with an ICMP error: {what}", who=named(sender, walk),
                  what=kind_of(walk.reply.hops[0].frame))  # fmt: skip
    if lost.direction == "reply":
        text = tr("the answer got lost; last seen on {interface} of {node}", **seen)
    else:
        text = tr("no answer; the packet was last seen on {interface} of {node}", **seen)
    if lost.expected is not None and lost.expected.role != "internet":
        text += tr(
            ", not on {interface} of {node}",
            interface=lost.expected.interface,
            node=place_name(lost.expected.node),
        )
    if (dropped := _by_trace(walk)) is not None:
        if rejected and walk.reply is not None:
            dropped += tr(". ") + tr("OVN answers in place of the target: {what}",
                                     what=kind_of(walk.reply.hops[0].frame))  # fmt: skip
        return text + tr(". ") + dropped
    if lost.untranslated:
        return text + tr(". ") + tr("OVN has no NAT rule for {address}", address=lost.untranslated)
    if (reason := _first_reason(walk)) is not None:
        return text + tr(". ") + reason
    traced = walk.traced.get(lost.direction)
    if traced is None or traced.trace is None or not traced.trace.outputs:
        return text
    return text + tr(". ") + tr("OVN's logical flows let it pass: look below them, and at the end")


def _never_left(walk: Walk) -> str:
    """The outcome of a packet that did not leave its sender, with the first reason."""
    text = tr("the packet did not leave {source}", source=walk.source.name)
    reason = _by_trace(walk) or _first_reason(walk)
    return text + tr(". ") + reason if reason is not None else text


def _by_trace(walk: Walk) -> str | None:
    """What ovn-trace says against the packet.

    None where a cause says more: that a table of OVN's drops it follows from the cause. That a
    router has no route does not.
    """
    reason = walk.lost.reason if walk.lost is not None else None
    follows = reason is not None and reason.kind == "dropped" and reason.table != _ROUTES
    if reason is None or (follows and walk.causes):
        return None
    where = walk.labels.datapaths.get(reason.datapath, reason.datapath)
    return where + tr(": ") + decision(reason, walk)


def _first_reason(walk: Walk) -> str | None:
    """The first cause, else the first question that nobody answered."""
    for cause in walk.causes:
        return cause_of(cause, walk)
    return next(
        (question_of(question, walk) for question in walk.arp if not question.answers), None
    )


def reasons_of(walk: Walk) -> Iterator[tuple[str, str]]:
    """(what is wrong, a command about it or ""), in order.

    What drops the packet, ARP that is not as it should be, causes.
    """
    if walk.lost is not None and walk.lost.drop is not None:
        yield from _drop_reasons(walk.lost.drop, walk)
    for question in walk.arp:
        doubled = len(question.answers) > 1
        if doubled or not (question.answers or walk.answered):
            yield question_of(question, walk), ""
    for cause in walk.causes:
        yield cause_of(cause, walk), fix_of(cause)


def _drop_reasons(drop: Drop, walk: Walk) -> Iterator[tuple[str, str]]:
    """By which ACL, or what port security, and by which flow of the node a packet is dropped."""
    reason = walk.lost.reason if walk.lost is not None else None
    port = walk.labels.ports.get(drop.port, drop.port)
    if drop.acl is not None:
        yield _acl_of(drop.acl, walk), ""
        if drop.acl.group == _DROP_GROUP:
            # `neutron_pg_drop` holds all ports whose security is on, and is no security group.
            groups = [walk.labels.groups.get(group, group) for group in drop.groups
                      if group != _DROP_GROUP]  # fmt: skip
            text = tr("{port} is in no security group", port=port)
            if groups:
                text = tr(
                    "{port} has these security groups, of which no rule allows it: {groups}",
                    port=port,
                    groups=tr_list(groups),
                )
            yield text, ""
    is_disabled = any(cause.kind == "port-disabled" for cause in walk.causes)
    if reason is not None and "port_sec" in reason.table and drop.port_security and not is_disabled:
        yield tr(
            "port security of {port} allows only {addresses}",
            port=port, addresses=tr_list(drop.port_security),
        ), ""  # fmt: skip
    for flow in drop.flows:
        text = tr(
            "OpenFlow on {node}: table {table}, priority {priority}, match {match}",
            node=drop.node, table=flow.table, priority=flow.priority, match=flow.match or "*",
        )  # fmt: skip
        counted = tr_n("{n} packet so far", "{n} packets so far", n=flow.packets)
        yield tr("{text} ({detail})", text=text, detail=counted), ""
    if drop.flows:
        command = " ".join(openflow_command(drop.flows[0].cookie))
        yield (
            tr("these flows come from OVN's logical flow {uuid}", uuid=drop.logical_flow),
            tr("on {node}: `{command}`", node=drop.node, command=command),
        )


def _acl_of(acl: Acl, walk: Walk) -> str:
    words = {"uuid": acl.uuid[:8], "direction": acl.direction, "priority": acl.priority,
             "match": acl.match, "action": acl.action}  # fmt: skip
    text = tr("ACL {uuid}: {direction}, priority {priority}, {match}, {action}", **words)
    details = []
    if acl.name:
        details.append(tr("name {name}", name=acl.name))
    if acl.group in walk.labels.groups:
        details.append(tr("security group {name}", name=walk.labels.groups[acl.group]))
    elif acl.group:
        details.append(tr("port group {name}", name=acl.group))
    if acl.rule:
        details.append(tr("rule {id}", id=acl.rule))
    return tr("{text} ({detail})", text=text, detail=tr_list(details)) if details else text


def question_of(question: ArpQuestion, walk: Walk) -> str:
    """A question of ARP, or of IPv6's neighbor discovery, and its answers."""
    name = walk.labels.macs.get(question.asker_mac) or walk.labels.addresses.get(question.asker)
    asker = question.asker
    if name:
        asker = tr("{text} ({detail})", text=name, detail=question.asker)
    places = tr_list(
        tr("{interface} of {node}", interface=interface, node=place_name(node))
        for node, _, interface in (place.partition(" ") for place in question.seen)
    )
    words = {"asker": asker, "address": question.target, "places": places}
    ipv6 = is_ipv6(question.target)
    if not question.answers and ipv6:
        return tr(
            "neighbor discovery: {asker} asks who has {address}, on {places}; nobody answers",
            **words,
        )
    if not question.answers:
        return tr("ARP: {asker} asks who has {address}, on {places}; nobody answers", **words)
    owners = tr_list(mac_label(answer.mac, walk) for answer in question.answers)
    words["owners"] = owners
    if ipv6:
        return tr(
            "neighbor discovery: {asker} asks who has {address}, on {places}; answered by {owners}",
            **words,
        )
    return tr("ARP: {asker} asks who has {address}, on {places}; answered by {owners}", **words)


def cause_of(cause: Cause, walk: Walk) -> str:
    """What is not as it must be, and what follows."""
    words = {"node": cause.node, "subject": cause.subject, "found": cause.found,
             "expected": cause.expected}  # fmt: skip
    match cause.kind:
        case "address-on-node":
            text = tr(
                "{node} itself has {subject}, on {found}: its own packets there never leave it, "
                "and it answers ARP beside OVN's router",
                **words,
            )
        case "port-disabled":
            name = walk.labels.ports.get(cause.subject, cause.subject)
            text = tr(
                "the port of {name} is disabled ({found} in OVN's northbound database): OVN drops "
                "all that it sends and all that is for it",
                **{**words, "name": name},
            )
        case "no-router" if cause.expected:
            text = tr(
                "no router of OVN has a port with an address of {expected} in network {subject}",
                **words,
            )
        case "no-router":
            text = tr("no router of OVN has a port in network {subject}", **words)
        case "no-nat-rule" if cause.expected == "snat":
            text = tr(
                "OVN has no NAT rule for packets from {subject}: they leave with that address, and "
                "no answer finds its way back",
                **words,
            )
        case "no-nat-rule":
            text = tr("OVN has no NAT rule for {address}", address=cause.subject)
        case "no-mapping":
            text = tr(
                "ovn-bridge-mappings of {node} does not name {subject}: what OVN sends to that "
                "physical network goes nowhere",
                **words,
            )
        case "no-bridge":
            text = tr(
                "{node} has no bridge {subject}, which its ovn-bridge-mappings names", **words
            )
        case "uplink-not-in-bridge":
            text = tr(
                "{expected} of {node} is not a port of {subject}: nothing gets out or in there",
                **words,
            )
        case "other-remote":
            text = tr(
                "ovn-remote of {node} is {found} instead of {expected}: its ovn-controller hears "
                "of no change, and other nodes hear of none there",
                **words,
            )
        case "not-connected":
            text = tr("ovn-controller of {node} is not connected to {subject}", **words)
        case "other-encap-ip":
            text = tr(
                "ovn-encap-ip of {node} is {found} instead of {expected}: the other nodes send "
                "their tunnels to an address that is not its own",
                **words,
            )
        case "other-segment":
            text = tr(
                "{found} of {node} is a network of its own; {subject} is on that of {expected}",
                **words,
            )
        case "other-source":
            words["name"] = walk.labels.ports.get(cause.subject, cause.subject)
            words["expected"] = tr_list(cause.expected.split(", "))
            text = tr(
                "{name} sends from {found}, which is no address of its port; these are: {expected}",
                **words,
            )
        case "two-owners":
            words["found"] = tr_list(cause.found.split(", "))
            text = tr("{subject} has more than one owner: {found}", **words)
    return text


def fix_of(cause: Cause) -> str:
    """The command that mends it, and where to type it; empty where there is not one for all."""
    match cause.kind:
        case "address-on-node":
            command = f"ip addr del {cause.subject} dev {cause.found}"
        case "no-mapping":
            command = f"ovs-vsctl set open . external-ids:ovn-bridge-mappings={cause.expected}"
        case "uplink-not-in-bridge":
            command = f"ovs-vsctl add-port {cause.subject} {cause.expected}"
        case "other-remote" | "other-encap-ip":
            command = f"ovs-vsctl set open . external-ids:{cause.subject}={cause.expected}"
        case "not-connected":
            command = "systemctl restart ovn-controller"
        case _:
            return ""
    return tr("on {node}: `{command}`", node=cause.node, command=command)


def title_of(path: PacketPath) -> str:
    """Heading of one direction, with the kind of its packet."""
    if not path.hops:
        return tr("there: it did not leave")
    kind = kind_of(path.hops[0].frame)
    if path.direction == "request":
        return tr("there: {what}", what=kind)
    return tr("back: {what}", what=kind)


def kind_of(frame: Frame) -> str:
    """The kind of a packet, e.g. `TCP SYN` or `ICMP echo request`."""
    if frame.quoted is not None:
        codes = {("3", 0): "net unreachable", ("3", 1): "host unreachable",
                 ("3", 3): "port unreachable", ("3", 13): "administratively prohibited",
                 ("11", 0): "time exceeded"}  # fmt: skip
        codes_of_ipv6 = {("1", 0): "no route", ("1", 1): "administratively prohibited",
                         ("1", 3): "address unreachable", ("1", 4): "port unreachable",
                         ("2", 0): "packet too big", ("3", 0): "time exceeded"}  # fmt: skip
        name = "ICMPv6" if frame.protocol == "icmp6" else "ICMP"
        known = (codes_of_ipv6 if frame.protocol == "icmp6" else codes).get(
            (frame.kind, frame.code or 0)
        )
        return f"{name} {known}" if known else f"{name} type {frame.kind} code {frame.code}"
    if frame.protocol in ("icmp", "icmp6"):
        return f"{'ICMP' if frame.protocol == 'icmp' else 'ICMPv6'} echo {frame.kind}"
    if frame.protocol == "tcp":
        names = {"S": "SYN", "A": "ACK", "R": "RST", "F": "FIN", "P": "PSH"}
        return "TCP " + "+".join(names.get(letter, letter) for letter in frame.flags)
    return frame.protocol.upper()


def place_name(node: str) -> str:
    """The name of a node, or "the Internet"."""
    return tr("the Internet") if node == "internet" else node


def named(address: str, walk: Walk) -> str:
    """An address with the name of its owner, if known."""
    name = walk.labels.addresses.get(address)
    return f"{name} ({address})" if name else address


def whereabouts(hop: Hop, walk: Walk) -> str:
    """Where a hop comes from or goes to; empty on the host's side of eth0."""
    leaves = hop.direction == "out"
    match hop.role:
        case "instance":
            mac = hop.frame.dst_mac if leaves else hop.frame.src_mac
            name = walk.labels.macs.get(mac, mac)
            return tr("to {who}", who=name) if leaves else tr("from {who}", who=name)
        case "underlay":
            return tr("to the other nodes") if leaves else tr("from another node")
        case "host":
            return tr("to the node itself") if leaves else tr("from the node itself")
        case "internet":
            return ""
    return tr("to the outside") if leaves else tr("from outside")


def mac_label(mac: str, walk: Walk) -> str:
    """A MAC address with the name of its owner, if known."""
    name = walk.labels.macs.get(mac)
    return f"{mac} {name}" if name else mac


def with_port(address: str, port: int | None) -> str:
    """An address and, if there is one, its port; an IPv6 address in brackets then."""
    if port is None:
        return address
    return f"[{address}]:{port}" if is_ipv6(address) else f"{address}:{port}"


def name_of_ttl(frame: Frame) -> str:
    """What the field is called that each router takes one off."""
    return "hop limit" if is_ipv6(frame.src) else "ttl"


FIELDS = {
    "src": "src", "dst": "dst", "source_port": "src port", "destination_port": "dst port",
    "identifier": "ICMP id", "src_mac": "src MAC", "dst_mac": "dst MAC",
}  # fmt: skip
"""Names of header fields for people, by those in Frame; all others are shown as in Frame."""


def change_of(change: Change, walk: Walk) -> str:
    """The change of one field, e.g. `src 172.16.0.5 → 10.0.2.15`."""
    match change.field:
        case "tunnel" if change.why == "decapsulated":
            return tr("out of the tunnel")
        case "tunnel" if change.before is not None:
            return tr("into another tunnel")
        case "tunnel":
            return tr("into the tunnel")
        case "src_mac" | "dst_mac":
            before, after = (mac_label(str(mac), walk) for mac in (change.before, change.after))
            return f"{FIELDS[change.field]} {before} → {after}"
        case name:
            # A VLAN tag may be put on or taken off.
            values = [change.before, change.after]
            texts = [tr("none") if value is None else str(value) for value in values]
            is_hop_limit = name == "ttl" and is_ipv6(walk.target.address)
            shown = "hop limit" if is_hop_limit else FIELDS.get(name, name)
            return f"{shown} {' → '.join(texts)}"


def why_of(change: Change) -> str:
    """What changed the field, e.g. a router or a NAT rule; empty where the change is plain."""
    match change.why:
        case "snat" | "dnat":
            reason = change.why.upper()
            if change.rule:
                reason = tr(
                    "{kind} of {router}: {rule}",
                    kind=reason,
                    router=change.by,
                    rule=change.rule.split()[0],
                )
        case "unsnat" | "undnat":
            reason = tr("{kind} taken back by conntrack", kind=change.why[2:].upper())
        case "routed" if change.field == "ttl":
            reason = tr("router {name}", name=change.by) if change.by else tr("a router")
        case _:
            return ""
    return reason


def events_to_show(traced: Traced, walk: Walk) -> Iterator[TraceEvent]:
    """The events of a trace that have words, without repetitions."""
    shown: set[tuple[str, str]] = set()
    for event in traced.events:
        text = decision(event, walk)
        if text and (event.datapath, text) not in shown:
            shown.add((event.datapath, text))
            yield event


_GROUP = re.compile(r"@(\w+)")
_MEMBERS = re.compile(r"\$(pg_\w+)_ip[46]")
"""OVN's address set with the members of a security group."""


def decision(event: TraceEvent, walk: Walk) -> str:
    """One event in words; empty for an event that is not shown."""
    port = walk.labels.ports.get(event.detail, event.detail)
    match event.kind:
        case "enters":
            return tr("in by {port}", port=port)
        case "output":
            return tr("out by {port}", port=port)
        case "routed" if is_ipv6(event.detail):
            return tr("route {route}, hop limit -1", route=event.detail)
        case "routed":
            return tr("route {route}, ttl -1", route=event.detail)
        case "snat" | "dnat":
            return tr("{kind} to {address}", kind=event.kind.upper(), address=event.detail)
        case "unsnat" | "undnat":
            return ""  # OVN looks up every packet; the hops show whether it was translated
        case "redirected":
            return tr("goes to {where}", where=port)
        case "allowed":
            return tr("allowed by {what}", what=_acl(event, walk))
        case "denied":
            return tr("denied by {what}", what=_acl(event, walk))
        case "rejected":
            return tr("rejected by {what}", what=_acl(event, walk))
    match event.table:
        case "ls_in_apply_port_sec":
            return tr("dropped by port security ({table})", table=event.table)
        case "ls_out_apply_port_sec":
            return tr("dropped by port security of the receiver ({table})", table=event.table)
        case table if table == _ROUTES:
            return tr("dropped: no route to its destination ({table})", table=event.table)
    return tr("dropped in {table}: {match}", table=event.table, match=event.detail)


_ROUTES = "lr_in_ip_routing"
"""The stage of a router that looks for a route."""
_DROP_GROUP = "neutron_pg_drop"
"""Neutron's port group of all ports whose port security is on. Its ACLs drop what no rule of a
security group allows."""


def _acl(event: TraceEvent, walk: Walk) -> str:
    if _DROP_GROUP in event.detail:
        if "_out_" in event.table:
            return tr("default: no security group rule lets it in")
        return tr("default: no security group rule lets it out")
    if group := _GROUP.search(event.detail):
        name = walk.labels.groups.get(group[1], group[1])
        rest = re.sub(r"reg0\[\d+\] == 1 && |[()]|(in|out)port == @\w+ && ", "", event.detail)
        rest = _MEMBERS.sub(lambda match: walk.labels.groups.get(match[1], match[1]), rest)
        return tr("security group {name} ({match})", name=name, match=rest)
    if "ct.rpl" in event.detail or event.detail == "reg0[17] == 1":
        return tr("connection tracking: an answer")
    return event.detail


def notes_on(walk: Walk) -> Iterator[str]:
    """Remarks: what could not be read, clocks that differ, flooded copies, files of captures."""
    yield from walk.notes
    for node, skew in walk.skews.items():
        yield tr(
            "the clock of {node} is {ms} ms off; the times are corrected",
            node=place_name(node),
            ms=f"{skew * 1000:+.3f}",
        )
    astray = {
        f"{place_name(hop.node)} {hop.interface}"
        for path in (walk.request, walk.reply)
        if path is not None
        for hop in path.aside
    }
    if astray:
        yield tr(
            "a copy was flooded to {places}: br-ex did not know the MAC address yet",
            places=tr_list(sorted(astray)),
        )
    if walk.pcaps:
        yield tr("captures: {files}", files=tr_list(walk.pcaps.values()))


def target_label(walk: Walk) -> str:
    """Whom the packet was sent to: the name, and the address where that is another word."""
    target = walk.target
    return target.name if target.name == target.address else f"{target.name} ({target.address})"


def tunnel_texts(encap: Encap) -> list[str]:
    """The outer addresses and VNI of a tunnelled packet, then its option, if it has one."""
    where = f" = {encap.datapath}" if encap.datapath else ""
    texts = [f"Geneve {encap.src} → {encap.dst}  vni {encap.vni}{where}"]
    if encap.ingress_key is not None:
        texts.append(
            f"{encap.option_class:#x} {encap.option_data}: {encap.ingress_key}"
            f" {encap.ingress_port} → {encap.egress_key} {encap.egress_port}"
        )
    return texts


@dataclass(frozen=True)
class Passed:
    """A logical router or switch on the packet's way, and what ovn-trace says it decides there."""

    datapath: str
    label: str
    kind: str
    """In the reader's language."""
    decisions: Sequence[tuple[str, bool]]
    """(text, whether it drops the packet)"""


def datapaths_to_show(traced: Traced, walk: Walk) -> Iterator[Passed]:
    """The logical routers and switches that the packet passes, in its order."""
    for datapath, group in groupby(events_to_show(traced, walk), key=lambda event: event.datapath):
        yield Passed(
            datapath,
            walk.labels.datapaths.get(datapath, datapath),
            tr("router") if datapath in walk.labels.routers else tr("switch"),
            [(decision(event, walk), event.kind in DROP_KINDS) for event in group],
        )
