"""Asks ovn-trace about a packet that was captured, and finds where a lost one disappeared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labctl.access.guest import Guest, GuestError
from labctl.access.packets import Frame
from labctl.i18n import tr
from labctl.walks.arp import ArpQuestion
from labctl.walks.drops import Drop
from labctl.walks.logical_network import LogicalNetwork, OvnPort
from labctl.walks.model import Direction, Hop, Joined, NatRule, PacketPath, Point
from labctl.walks.ovntrace import DROP_KINDS, Trace, TraceEvent, arp_command, command, events, parse
from labctl.walks.plan import Endpoint


@dataclass(frozen=True)
class Traced:
    """The answer of ovn-trace about the packet of one direction."""

    trace: Trace | None
    events: tuple[TraceEvent, ...]
    error: str = ""
    """Why there is no trace; for people."""


@dataclass(frozen=True)
class Loss:
    """Where a packet that did not arrive was seen last, and why, as far as OVN tells."""

    direction: Direction
    node: str
    interface: str
    role: str
    expected: Point | None
    """Where it should have been seen next."""
    reason: TraceEvent | None
    """The step of ovn-trace that drops it, if there is one."""
    untranslated: str = ""
    """The floating IP it was sent to, if OVN has no rule for that."""
    drop: Drop | None = None
    """What `reason` comes from: the ACL, the flows of the node."""


def trace_path(controller: Guest, network: LogicalNetwork, path: PacketPath) -> Traced:
    """Ask ovn-trace about the packet as it entered OVN. Raises GuestError."""
    entry = entry_of(network, path)
    if entry is None and path.direction == "reply" and _is_from_router(network, path.hops[0]):
        return Traced(None, (), tr("OVN made this packet itself: see what it did with the request"))
    if entry is None:
        return Traced(None, (), tr("this packet did not pass OVN's logical network"))
    inport, frame = entry
    trace = _ask(controller, network, inport, frame, path.direction)
    if trace.verdict == "drop" and (translated := _translated_back(path, frame)):
        # ovn-trace cannot know that conntrack translates this reply back. Trace it again from where
        # it stopped, with the translated destination.
        port = network.port(trace.pipelines[-1].inport)
        if port is not None and port.datapath.router:
            at_router = replace(translated, dst_mac=next(iter(port.macs), translated.dst_mac))
            rest = _ask(controller, network, port, at_router, path.direction)
            trace = replace(
                rest,
                pipelines=(*trace.pipelines[:-1], *rest.pipelines),
                assumed=f"{frame.dst} > {translated.dst}",
            )
    return Traced(trace, tuple(events(trace)))


def trace_question(
    controller: Guest, network: LogicalNetwork, question: ArpQuestion, gateway: str
) -> Traced:
    """Ask ovn-trace what OVN does with somebody's question for an address. Raises GuestError.

    What is asked outside comes into OVN on the node `gateway` only.
    """
    port = network.by_mac(question.asker_mac)
    if port is None or port.type:
        outside = (port for port in network.ports if port.type == "localnet")
        port = next(outside, None) if question.node == gateway else None
    if port is None:
        return Traced(None, (), tr("this question did not come to OVN's logical network"))
    argv = arp_command(port.datapath.uuid, port.name, question)
    done = controller.run(argv, timeout=30, check=False)
    if "OVNACT_ND_NA" in done.stderr:
        # That of OVN 25.03 fails an assertion where OVN answers for one of its routers.
        return Traced(
            None, (), tr("OVN answers this question; ovn-trace of this version ends there")
        )
    if not done.ok:
        raise GuestError(tr("ovn-trace failed: {reason}", reason=done.stderr.strip()))
    trace = parse(done.stdout, argv)
    return Traced(trace, tuple(events(trace)))


def entry_of(network: LogicalNetwork, path: PacketPath) -> tuple[OvnPort, Frame] | None:
    """The logical port where a packet entered OVN, and the frame captured there."""
    for hop in path.hops:
        if hop.frame.tunnel:
            continue
        sender = network.by_mac(hop.frame.src_mac)
        if hop.role == "instance" and sender is not None and sender.type == "":
            return sender, hop.frame
        receiver = network.receiver(hop.frame.dst_mac)
        if hop.role == "instance" or receiver is None or sender is not None:
            continue
        peer = network.port(receiver.peer)
        switch = peer.datapath if receiver.datapath.router and peer else receiver.datapath
        if (outside := network.localnet(switch)) is not None:
            return outside, hop.frame
    return None


def _is_from_router(network: LogicalNetwork, first: Hop) -> bool:
    """Whether a packet was seen first when it came from a router of OVN."""
    port = network.by_mac(first.frame.src_mac)
    is_inside = first.role == "instance" or first.frame.tunnel
    return is_inside and port is not None and port.datapath.router


def _ask(
    controller: Guest, network: LogicalNetwork, inport: OvnPort, frame: Frame, direction: Direction
) -> Trace:
    state = "new"
    if direction == "reply":
        state = "rel,rpl" if frame.quoted is not None else "est,rpl"
    elif inport.type == "" and network.is_router(frame.dst):
        # The router answers, and what conntrack sees for the second time is the answer.
        argv = command(inport.datapath.uuid, inport.name, frame, state, "est,rpl")
        return parse(controller.run(argv, timeout=30).stdout, argv)
    argv = command(inport.datapath.uuid, inport.name, frame, state)
    return parse(controller.run(argv, timeout=30).stdout, argv)


def _translated_back(path: PacketPath, frame: Frame) -> Frame | None:
    """The frame of a reply with the destination that a later hop shows; None if unchanged."""
    if path.direction != "reply":
        return None
    for hop in path.hops:
        if hop.frame.dst != frame.dst:
            return replace(frame, dst=hop.frame.dst, destination_port=hop.frame.destination_port)
    return None


def never_left(
    source: Endpoint, expected: Sequence[Point], asked: ArpQuestion | None, traced: Traced | None
) -> Loss:
    """The loss of a packet that its sender did not even send; `asked` is the sender's question."""
    return Loss(
        direction="request",
        node=source.node,
        interface=asked.interface if asked is not None else source.interface,
        role="instance" if source.kind == "instance" else "host",
        expected=expected[0] if expected else None,
        reason=_reason(traced),
    )


def find_loss(
    joined: Joined, expected: Sequence[Point], traces: dict[Direction, Traced], target: Endpoint,
    nat: Sequence[NatRule],
) -> Loss:  # fmt: skip
    """Where the answer, or the probe if there is no answer, was seen last.

    What answers a rejected probe in place of the target counts as no answer.
    """
    assert joined.request is not None
    path = joined.reply or joined.request
    if is_rejected(joined.request, traces.get("request"), target):
        path = joined.request
    order = list(expected) if path.direction == "request" else list(expected)[::-1]
    last = path.last
    traced = traces.get(path.direction)
    translated = {rule.external for rule in nat if rule.type.startswith("dnat")}
    return Loss(
        direction=path.direction,
        node=last.node,
        interface=last.interface,
        role=last.role,
        expected=_next(last, order),
        reason=_reason(traced),
        untranslated="" if not target.inner or target.address in translated else target.address,
    )


def is_rejected(request: PacketPath, traced: Traced | None, target: Endpoint) -> bool:
    """Whether an ACL rejects the request: then OVN answers, and the target never sees it."""
    if any((hop.node, hop.interface) == (target.node, target.interface) for hop in request.hops):
        return False
    return traced is not None and any(event.kind == "rejected" for event in traced.events)


def _reason(traced: Traced | None) -> TraceEvent | None:
    """The event that stops the packet, if there is one."""
    if traced is None or traced.trace is None:
        return None
    drops = [event for event in traced.events if event.kind in DROP_KINDS]
    # What OVN answers a rejected packet with passes, and the trace goes on with that.
    rejected = [event for event in drops if event.kind == "rejected"]
    if rejected:
        return rejected[0]
    return drops[-1] if drops and traced.trace.verdict == "drop" else None


def _next(last: Hop, order: Sequence[Point]) -> Point | None:
    places = [(point.node, point.interface) for point in order]
    # A packet may pass an interface twice, in and out: the later passage counts.
    here = [number for number, place in enumerate(places) if place == (last.node, last.interface)]
    if not here or here[-1] + 1 >= len(order):
        return None
    return order[here[-1] + 1]
