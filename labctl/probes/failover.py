"""Probes of a gateway that fails: which chassis may be it, BFD between them, gaps in a ping."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from labctl.access.flows import own_frames
from labctl.access.ovsdb import Rows, by_uuid, referenced
from labctl.probes.context import Probe, ProbeContext


def gateway_chassis(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """router_name, port, chassis, priority, rank: where a router's gateway port may be.

    `rank` is 1 for the chassis of the highest priority, which has the port while it is alive.
    Neutron writes them as a router port's gateway chassis or as its HA chassis group; both are
    read.
    """
    chassis = by_uuid(context.table("ovn-nbctl", "Gateway_Chassis", "_uuid,chassis_name,priority"))
    members = by_uuid(context.table("ovn-nbctl", "HA_Chassis", "_uuid,chassis_name,priority"))
    groups = by_uuid(context.table("ovn-nbctl", "HA_Chassis_Group", "_uuid,ha_chassis"))
    ports = by_uuid(
        context.table("ovn-nbctl", "Logical_Router_Port",
            "_uuid,name,gateway_chassis,ha_chassis_group",
        )
    )  # fmt: skip
    rows: Rows = []
    for router in context.table("ovn-nbctl", "Logical_Router", "ports,external_ids"):
        for port in referenced(router["ports"], ports):
            candidates = [
                *referenced(port["gateway_chassis"], chassis),
                *(
                    member
                    for group in referenced(port["ha_chassis_group"], groups)
                    for member in referenced(group["ha_chassis"], members)
                ),
            ]
            candidates.sort(key=lambda candidate: -candidate["priority"])
            rows += [
                {
                    "router_name": router["external_ids"].get("neutron:router_name"),
                    "port": port["name"],
                    "chassis": candidate["chassis_name"],
                    "priority": candidate["priority"],
                    "rank": rank,
                }
                for rank, candidate in enumerate(candidates, start=1)
            ]
    return rows


def bfd(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """address, state, forwarding: the BFD sessions of `from`, a node, over its tunnels.

    `address` is the other end's. Tunnels without BFD have no row.
    """
    return [
        {
            "address": row["options"].get("remote_ip"),
            "state": row["bfd_status"].get("state"),
            "forwarding": row["bfd_status"].get("forwarding"),
        }
        for row in context.table(
            "ovs-vsctl", "Interface", "options,bfd,bfd_status", arguments["from"]
        )
        if row["bfd"].get("enable") == "true"
    ]


def gaps(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """node, interface, tunnel, src, dst, replies, longest: pauses in the replies to a ping.

    A row for each ping whose replies a capture saw at an interface. `longest` is the time in
    seconds between two replies that came one after the other there, the longest of them, with two
    decimals; with a ping every second it is 1 when none is lost. No row for fewer than two.
    """
    pings = defaultdict(list)
    for frame in own_frames(context.frames):
        if frame.kind == "reply":
            place = (frame.node, frame.interface, frame.tunnel, frame.src, frame.dst)
            pings[*place, frame.identifier].append(frame.time)
    return [
        {
            "node": node,
            "interface": interface,
            "tunnel": tunnel,
            "src": src,
            "dst": dst,
            "replies": len(times),
            "longest": round(max(b - a for a, b in pairwise(times)), 2),
        }
        for (node, interface, tunnel, src, dst, _), times in (
            (key, sorted(seen)) for key, seen in pings.items()
        )
        if len(times) > 1
    ]


PROBES: dict[str, Probe] = {
    "ovn.gateway_chassis": gateway_chassis,
    "ovn.bfd": bfd,
    "wire.gaps": gaps,
}
