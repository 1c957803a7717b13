"""The hops of a packet walk: what they are, and what happened from one to the next. Pure.

`joining` finds out which frames are the same packet, and their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.access.packets import Frame

Role = Literal["host", "instance", "underlay", "external", "internet"]
Direction = Literal["request", "reply"]
Answer = Literal["reply", "refused", "error"]


@dataclass(frozen=True)
class Point:
    """An interface that is listened to."""

    node: str
    """A node's name, or `internet` for the far end of the gateway's eth0."""
    interface: str
    role: Role
    filter: str = ""
    """What tcpdump is asked for there."""
    namespace: str = ""
    """Network namespace on the node that holds the interface; empty: the node's own."""


@dataclass(frozen=True)
class Probe:
    """The one packet that is sent, and how it is known among others."""

    protocol: str
    """`icmp`, `tcp` or `udp`."""
    source: str
    """Address it is sent from."""
    target: str
    """Address it is sent to."""
    port: int | None = None
    """Destination port of tcp and udp."""
    source_port: int | None = None
    """If it is known."""
    length: int | None = None
    """Bytes of the IP packet, if they mark it."""
    marker: str = ""
    """Hexadecimal digits that its payload holds."""

    def is_sent_as(self, frame: Frame) -> bool:
        """Whether a frame is this probe as it left its sender: not yet rewritten."""
        return (
            frame.protocol == self.protocol
            and (frame.src, frame.dst) == (self.source, self.target)
            and not frame.tunnel
            and (frame.kind == "request" or self.protocol != "icmp")
            and (self.protocol != "tcp" or ("S" in frame.flags and "A" not in frame.flags))
            and frame.destination_port == self.port
            and self.source_port in (None, frame.source_port)
            and self.length in (None, frame.length)
            and self.marker in frame.payload
        )


@dataclass(frozen=True)
class Names:
    """What the lab knows about the numbers in a frame."""

    owners: Mapping[str, str] = field(default_factory=dict)
    """Node (or `internet`) at whose interface a MAC address or underlay address is."""
    macs: Mapping[str, str] = field(default_factory=dict)
    """Whose a MAC address is, for people."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Whose an IP address is, for people."""
    datapaths: Mapping[int, str] = field(default_factory=dict)
    """Name of the logical switch or router by its tunnel key, which is the VNI."""
    ports: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Name of a logical port by the keys of its datapath and its own."""
    routers: Mapping[str, str] = field(default_factory=dict)
    """Name of the router by the MAC address of one of its ports."""
    hosts: frozenset[str] = frozenset()
    """MAC addresses of the nodes themselves on the external network."""
    inside: frozenset[str] = frozenset()
    """MAC addresses of OVN's logical ports."""
    nat: Sequence["NatRule"] = ()


@dataclass(frozen=True)
class NatRule:
    """A rule of a logical router."""

    type: str
    """snat, dnat or dnat_and_snat."""
    external: str
    logical: str
    router: str


@dataclass(frozen=True)
class Encap:
    """The Geneve tunnel around a packet, and what OVN wrote on it."""

    src: str
    dst: str
    src_mac: str | None
    dst_mac: str | None
    ttl: int | None
    source_port: int | None
    vni: int
    datapath: str
    """The logical datapath that the VNI is the key of; empty if it is not known."""
    option_class: int | None
    option_data: str | None
    ingress_key: int | None
    ingress_port: str
    egress_key: int | None
    egress_port: str


@dataclass(frozen=True)
class Change:
    """One header field that is not what it was at the hop before."""

    field: str
    before: str | int | None
    after: str | int | None
    why: str
    """snat, dnat, unsnat, undnat, routed, encapsulated, decapsulated or rewritten."""
    by: str
    """The router that did it, or Geneve; empty if it is not known."""
    rule: str = ""
    """The NAT rule: its type, external and logical address."""


@dataclass(frozen=True)
class Hop:
    """One sighting of the packet."""

    node: str
    interface: str
    role: Role
    time: float
    """Seconds since the epoch, by the clock of the node."""
    offset: float
    """Seconds since the first hop of the request, clocks made to agree."""
    direction: Literal["in", "out"]
    """Whether the packet comes to the node (from an instance there, too) or leaves it."""
    frame: Frame
    encap: Encap | None
    changes: tuple[Change, ...]
    copies: int = 0
    """How often the same frame was seen here besides."""


@dataclass(frozen=True)
class Path:
    """The way of one packet."""

    direction: Direction
    hops: tuple[Hop, ...]
    aside: tuple[Hop, ...] = ()
    """Sightings of copies that lead nowhere: a bridge that did not know the MAC floods them."""

    @property
    def last(self) -> Hop:
        """Where it was seen last."""
        return self.hops[-1]


@dataclass(frozen=True)
class Joined:
    """One packet's way and its answer's."""

    request: Path | None
    reply: Path | None
    answer: Answer | None
    """What kind of answer: one that was hoped for, a refusal (RST, port unreachable), an error."""
    skews: Mapping[str, float]
    """Seconds by which the clock of a node is ahead of the first hop's, where they disagree."""


@dataclass(frozen=True)
class Sighting:
    """A frame at a place, with how often it was there."""

    frame: Frame
    copies: int = 0

    @property
    def node(self) -> str:
        return self.frame.node

    @property
    def place(self) -> tuple[str, str]:
        return self.frame.node, self.frame.interface


def sender(frame: Frame, names: Names) -> str | None:
    """The node that put the frame on the cable."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_src or "")
    return names.owners.get(frame.src_mac)


def receiver(frame: Frame, names: Names) -> str | None:
    """The node that the frame is meant for on the cable."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_dst or "")
    return names.owners.get(frame.dst_mac)


# -- what happened from hop to hop -----------------------------------------------------------------
@dataclass(frozen=True)
class Clocks:
    """What makes times of several nodes comparable."""

    began: float
    """Time of the first hop, by its node's clock."""
    skews: Mapping[str, float]
    """Seconds by which each node's clock is ahead of that one."""

    def since(self, frame: Frame) -> float:
        """Seconds from the first hop to a sighting."""
        return round(frame.time - self.skews.get(frame.node, 0.0) - self.began, 6)


def path(
    direction: Direction,
    way: Sequence[Sighting],
    aside: Sequence[Sighting],
    points: Sequence[Point],
    names: Names,
    clocks: Clocks,
) -> Path:
    """The hops of one packet, from its sightings in their order."""
    roles = {(point.node, point.interface): point.role for point in points}

    def hop(one: Sighting, before: Sighting | None) -> Hop:
        return _hop(one, before, direction, roles.get(one.place, "external"), names, clocks)

    return Path(
        direction,
        tuple(hop(one, way[number - 1] if number else None) for number, one in enumerate(way)),
        tuple(hop(one, None) for one in aside),
    )


def apart(
    seen: Sequence[Sighting], points: Sequence[Point], names: Names
) -> tuple[list[Sighting], list[Sighting]]:
    """The way, and the copies that lead nowhere."""
    roles = {(point.node, point.interface): point.role for point in points}
    aside = [one for one in seen if _astray(one, roles.get(one.place), names)]
    way = [one for one in seen if one not in aside]
    return (way, aside) if way else (list(seen), [])


def _astray(one: Sighting, role: Role | None, names: Names) -> bool:
    """Whether this is a copy that leads nowhere.

    A bridge that does not know a MAC address sends the frame to all its ports. So on the external
    network a frame may be seen where neither who sent it nor whom it is meant for is: the node
    itself (br-ex), OVN behind the bridge, or the Internet behind eth0.
    """
    if one.frame.tunnel or role not in ("host", "external", "internet"):
        return False
    ends = {_behind(mac, names) for mac in (one.frame.src_mac, one.frame.dst_mac)}
    if role == "host":
        return "host" not in ends
    return "internet" not in ends


def _behind(mac: str, names: Names) -> str:
    if mac in names.hosts:
        return "host"
    return "ovn" if mac in names.inside else "internet"


def _hop(
    one: Sighting,
    before: Sighting | None,
    direction: Direction,
    role: Role,
    names: Names,
    clocks: Clocks,
) -> Hop:
    frame = one.frame
    if before is not None:
        leaves = before.node == one.node
    else:  # sent by this node itself, or by somebody behind the interface
        leaves = role not in ("host", "instance") and sender(frame, names) == one.node
    return Hop(
        node=one.node,
        interface=frame.interface,
        role=role,
        time=frame.time,
        offset=clocks.since(frame),
        direction="out" if leaves else "in",
        frame=frame,
        encap=_encap(frame, names),
        changes=tuple(_changes(before.frame, frame, direction, names)) if before else (),
        copies=one.copies,
    )


_OVN = 0x102


def _encap(frame: Frame, names: Names) -> Encap | None:
    if not frame.tunnel or frame.vni is None:
        return None
    ingress = egress = None
    if frame.option_class == _OVN and frame.option_data and len(frame.option_data) == 8:
        keys = int(frame.option_data, 16)
        ingress, egress = keys >> 16 & 0x7FFF, keys & 0xFFFF
    return Encap(
        src=frame.tunnel_src or "",
        dst=frame.tunnel_dst or "",
        src_mac=frame.outer_src_mac,
        dst_mac=frame.outer_dst_mac,
        ttl=frame.outer_ttl,
        source_port=frame.tunnel_port,
        vni=frame.vni,
        datapath=names.datapaths.get(frame.vni, ""),
        option_class=frame.option_class,
        option_data=frame.option_data,
        ingress_key=ingress,
        ingress_port=names.ports.get((frame.vni, ingress or 0), ""),
        egress_key=egress,
        egress_port=names.ports.get((frame.vni, egress or 0), ""),
    )


_REWRITTEN = (
    "src", "dst", "source_port", "destination_port", "identifier", "ttl", "src_mac", "dst_mac",
    "vlan",
)  # fmt: skip


def _changes(before: Frame, after: Frame, direction: Direction, names: Names) -> Iterator[Change]:
    tunnels = [_tunnel(frame) for frame in (before, after)]
    if tunnels[0] != tunnels[1]:
        why = "encapsulated" if tunnels[1] else "decapsulated"
        yield Change("tunnel", tunnels[0], tunnels[1], why, "Geneve")
    router = names.routers.get(after.src_mac, "")
    for name in _REWRITTEN:
        was, now = getattr(before, name), getattr(after, name)
        if was == now:
            continue
        if name in ("src", "dst"):
            yield _translated(name, was, now, direction, names)
        elif name in ("source_port", "destination_port", "identifier"):
            kind = "snat" if (name != "destination_port") == (direction == "request") else "dnat"
            yield Change(name, was, now, kind, "")
        elif name in ("ttl", "src_mac", "dst_mac"):
            yield Change(name, was, now, "routed", router)
        else:
            yield Change(name, was, now, "rewritten", "")


def _tunnel(frame: Frame) -> str | None:
    return f"{frame.tunnel_src} > {frame.tunnel_dst} vni {frame.vni}" if frame.tunnel else None


def _translated(field: str, was: str, now: str, direction: Direction, names: Names) -> Change:
    """A changed address, with the rule that changes it."""
    forth = {"src": "snat", "dst": "dnat"}
    back = {"src": "undnat", "dst": "unsnat"}  # the answer is translated back by conntrack
    why = (forth if direction == "request" else back)[field]
    for rule in names.nat:
        # A rule for one address is nearer than one for a network, which only the type tells.
        if rule.external in (was, now) and rule.logical in (was, now):
            return _by_rule(field, was, now, why, rule)
    for rule in names.nat:
        if rule.type == "snat" and rule.external in (was, now):
            return _by_rule(field, was, now, why, rule)
    return Change(field, was, now, why, "")


def _by_rule(field: str, was: str, now: str, why: str, rule: NatRule) -> Change:
    said = f"{rule.type} {rule.external} {rule.logical}"
    return Change(field, was, now, why, rule.router, said)
