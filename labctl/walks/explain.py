"""What OVN says about a packet that was seen, and where one that got lost should have been next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labctl.access.guest import Guest
from labctl.access.packets import Frame
from labctl.i18n import tr
from labctl.walks.logical_network import LogicalNetwork, Port
from labctl.walks.model import Direction, Hop, Joined, NatRule, Path, Point
from labctl.walks.ovntrace import Event, Trace, command, events, parse
from labctl.walks.plan import End


@dataclass(frozen=True)
class Traced:
    """What ovn-trace says about one direction."""

    trace: Trace | None
    events: tuple[Event, ...]
    error: str = ""
    """Why there is no trace; for people."""


@dataclass(frozen=True)
class Loss:
    """Where a packet that did not arrive was seen last."""

    direction: Direction
    node: str
    interface: str
    role: str
    expected: Point | None
    """Where it should have been seen next."""
    reason: Event | None
    """What the logical pipeline says against it, if it does."""
    untranslated: str = ""
    """The floating IP it was sent to, if OVN has no rule for that."""


def traced(controller: Guest, network: LogicalNetwork, path: Path) -> Traced:
    """Ask ovn-trace about the packet as it entered OVN. Raises GuestError."""
    entered = entry(network, path)
    if entered is None:
        return Traced(None, (), tr("this packet did not pass OVN's logical network"))
    inport, frame = entered
    first = _ask(controller, inport, frame, path.direction)
    if first.verdict == "drop" and (later := _translated_back(path, frame)):
        # conntrack has given it the address that it had before: ovn-trace has to be told.
        port = network.port(first.pipelines[-1].inport)
        if port is not None and port.datapath.router:
            there = replace(later, dst_mac=next(iter(port.macs), later.dst_mac))
            second = _ask(controller, port, there, path.direction)
            first = replace(
                second,
                pipelines=(*first.pipelines[:-1], *second.pipelines),
                assumed=f"{frame.dst} > {later.dst}",
            )
    return Traced(first, tuple(events(first)))


def entry(network: LogicalNetwork, path: Path) -> tuple[Port, Frame] | None:
    """The logical port by which a packet came in, and what it looked like there."""
    for hop in path.hops:
        if hop.frame.tunnel:
            continue
        sender = network.by_mac(hop.frame.src_mac)
        if hop.role == "instance" and sender is not None and sender.type == "":
            return sender, hop.frame
        receiver = network.by_mac(hop.frame.dst_mac)
        if hop.role == "instance" or receiver is None or sender is not None:
            continue
        peer = network.port(receiver.peer)
        switch = peer.datapath if receiver.datapath.router and peer else receiver.datapath
        if (outside := network.localnet(switch)) is not None:
            return outside, hop.frame
    return None


def _ask(controller: Guest, inport: Port, frame: Frame, direction: Direction) -> Trace:
    state = "new"
    if direction == "reply":
        state = "rel,rpl" if frame.quoted is not None else "est,rpl"
    argv = command(inport.datapath.uuid, inport.name, frame, state)
    return parse(controller.run(argv, timeout=30).stdout, argv)


def _translated_back(path: Path, frame: Frame) -> Frame | None:
    """The frame with the destination that it was seen with later on its way."""
    if path.direction != "reply":
        return None
    for hop in path.hops:
        if hop.frame.dst != frame.dst:
            return replace(frame, dst=hop.frame.dst, destination_port=hop.frame.destination_port)
    return None


def loss(
    joined: Joined, way: Sequence[Point], found: dict[Direction, Traced], target: End,
    nat: Sequence[NatRule],
) -> Loss:  # fmt: skip
    """Where the probe, or else its answer, was seen last."""
    assert joined.request is not None
    path = joined.reply or joined.request
    order = list(way) if path.direction == "request" else list(way)[::-1]
    last = path.last
    said = found.get(path.direction)
    known = {rule.external for rule in nat if rule.type.startswith("dnat")}
    against = [e for e in (said.events if said else ()) if e.kind in _AGAINST]
    return Loss(
        direction=path.direction,
        node=last.node,
        interface=last.interface,
        role=last.role,
        expected=_next(last, order),
        reason=against[-1] if against and said and _is_dropped(said) else None,
        untranslated="" if not target.inner or target.address in known else target.address,
    )


_AGAINST = ("denied", "rejected", "dropped")


def _is_dropped(said: Traced) -> bool:
    return said.trace is not None and said.trace.verdict == "drop"


def _next(last: Hop, order: Sequence[Point]) -> Point | None:
    places = [(point.node, point.interface) for point in order]
    # Twice on the same interface, in and out: the later place counts.
    here = [n for n, place in enumerate(places) if place == (last.node, last.interface)]
    if not here or here[-1] + 1 >= len(order):
        return None
    return order[here[-1] + 1]
