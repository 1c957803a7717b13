"""Turns sightings of a packet into hops, with what changed from one hop to the next. Pure."""

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
    PacketPath,
    Point,
    Role,
    Sighting,
    sender,
)


@dataclass(frozen=True)
class Clocks:
    """What is needed to compare times of several nodes."""

    began: float
    """Time of the first hop, by its node's clock."""
    skews: Mapping[str, float]
    """By node: seconds by which its clock is ahead of the first hop's."""

    def since(self, frame: Frame) -> float:
        """Seconds from the first hop to a sighting."""
        return round(frame.time - self.skews.get(frame.node, 0.0) - self.began, 6)


def packet_path(
    direction: Direction,
    on_path: Sequence[Sighting],
    astray: Sequence[Sighting],
    points: Sequence[Point],
    names: Names,
    clocks: Clocks,
) -> PacketPath:
    """The hops of one packet. `on_path` has its sightings in order, `astray` the flooded copies."""
    roles = {(point.node, point.interface): point.role for point in points}

    def hop(sighting: Sighting, before: Sighting | None) -> Hop:
        role = roles.get(sighting.place, "external")
        return _hop(sighting, before, direction, role, names, clocks)

    return PacketPath(
        direction,
        tuple(
            hop(sighting, on_path[number - 1] if number else None)
            for number, sighting in enumerate(on_path)
        ),
        tuple(hop(sighting, None) for sighting in astray),
    )


def split_astray(
    sightings: Sequence[Sighting], points: Sequence[Point], names: Names
) -> tuple[list[Sighting], list[Sighting]]:
    """(sightings on the packet's path, flooded copies off it)."""
    roles = {(point.node, point.interface): point.role for point in points}
    astray = [item for item in sightings if _is_astray(item, roles.get(item.place), names)]
    on_path = [item for item in sightings if item not in astray]
    return (on_path, astray) if on_path else (list(sightings), [])


def _is_astray(sighting: Sighting, role: Role | None, names: Names) -> bool:
    """Whether this is a flooded copy, off the packet's path.

    A bridge that does not know a MAC address sends the frame to all its ports. So on the external
    network a frame may appear at an interface that leads neither to its sender nor to its receiver:
    br-ex leads to the node itself, eth0 to the Internet, and to other nodes where they share that
    network.
    """
    if sighting.frame.tunnel or role not in ("host", "external", "internet"):
        return False
    macs = (sighting.frame.src_mac, sighting.frame.dst_mac)
    if role == "internet":
        return all(_behind(mac, names) != "internet" for mac in macs)
    if role == "host":
        return not any(_is_host(mac, sighting.node, names) for mac in macs)
    return all(_is_on(mac, sighting.node, names) for mac in macs)


def _is_host(mac: str, node: str, names: Names) -> bool:
    """Whether a MAC address is that of the node itself; where its owner is not known, of any."""
    return mac in names.hosts and names.owners.get(mac, node) == node


def _is_on(mac: str, node: str, names: Names) -> bool:
    """Whether a MAC address is behind the bridges of a node, and not behind its eth0."""
    unknown = node if _behind(mac, names) != "internet" else ""
    return names.owners.get(mac, unknown) == node


def _behind(mac: str, names: Names) -> str:
    if mac in names.hosts:
        return "host"
    return "ovn" if mac in names.inside else "internet"


def _hop(
    sighting: Sighting,
    before: Sighting | None,
    direction: Direction,
    role: Role,
    names: Names,
    clocks: Clocks,
) -> Hop:
    frame = sighting.frame
    if before is not None:
        leaves = before.node == sighting.node
    else:  # sent by the node itself, or by something behind the interface
        leaves = role not in ("host", "instance") and sender(frame, names) == sighting.node
        # A router of OVN answers on the node of who asks.
        leaves = leaves or (role == "instance" and frame.src_mac in names.routers)
    return Hop(
        node=sighting.node,
        interface=frame.interface,
        role=role,
        time=frame.time,
        offset=clocks.since(frame),
        direction="out" if leaves else "in",
        frame=frame,
        encap=_encap(frame, names),
        changes=tuple(_changes(before.frame, frame, direction, names)) if before else (),
        copies=sighting.copies,
    )


_OVN_CLASS = 0x102
"""Class of OVN's Geneve option, 4 bytes: 0, ingress key (15 bits), egress key (16 bits). Source:
ovn-architecture(7), "Tunnel Encapsulations"."""


def _encap(frame: Frame, names: Names) -> Encap | None:
    if not frame.tunnel or frame.vni is None:
        return None
    ingress = egress = None
    if frame.option_class == _OVN_CLASS and frame.option_data and len(frame.option_data) == 8:
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
    """The change of an address, with the NAT rule that explains it, if there is one."""
    of_request = {"src": "snat", "dst": "dnat"}
    of_reply = {"src": "undnat", "dst": "unsnat"}  # conntrack translates the answer back
    why = (of_request if direction == "request" else of_reply)[field]
    for rule in names.nat:
        # First a rule that names both addresses. An snat rule for a whole network names only the
        # external one; the second loop looks for that.
        if rule.external in (was, now) and rule.logical in (was, now):
            return _by_rule(field, was, now, why, rule)
    for rule in names.nat:
        if rule.type == "snat" and rule.external in (was, now):
            return _by_rule(field, was, now, why, rule)
    return Change(field, was, now, why, "")


def _by_rule(field: str, was: str, now: str, why: str, rule: NatRule) -> Change:
    text = f"{rule.type} {rule.external} {rule.logical}"
    return Change(field, was, now, why, rule.router, text)
