"""From sightings to hops: what happened to the packet between two of them; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.access.packets import Frame
from labctl.walks.model import (
    Change,
    Direction,
    Encap,
    Hop,
    Names,
    NatRule,
    Path,
    Point,
    Role,
    Sighting,
    sender,
)


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
