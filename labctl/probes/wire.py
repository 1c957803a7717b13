"""Probes of what passes the network: pings, TCP and SSH connections, captured packets."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from labctl.access.flows import own_frames
from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.probes.context import Probe, ProbeContext, entering
from labctl.probes.in_instance import instance_of, run_in_instance

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")


def parse_ping(text: str) -> tuple[int, int]:
    """(sent, received) of ping's summary, of iputils or busybox; (0, 0) when there is none."""
    summary = _COUNTS.search(text)
    return (int(summary[1]), int(summary[2])) if summary else (0, 0)


def ping(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """sent, received, answered; `from` a node, `to` an address, `count` echo requests (1).

    With `namespace` it is sent from that network namespace of the node. `from` may be the name
    of an instance, or `instance` for the first: then it is sent inside, with or without a floating
    IP.
    """
    count = arguments.get("count", "1")
    if (instance := instance_of(context, arguments["from"])) is not None:
        command = f"ping -c {int(count)} -W 2 {shlex.quote(arguments['to'])}"
        return [
            _ping_row(arguments["to"], run_in_instance(context, command, instance=instance).stdout)
        ]
    result = context.guest(arguments["from"]).run(
        [*entering(arguments), "ping", "-n", "-c", count, "-i", "0.3", "-W", "2", arguments["to"]],
        timeout=30,
        check=False,
    )
    return [_ping_row(arguments["to"], result.stdout)]


def _ping_row(to: str, output: str) -> dict[str, Any]:
    sent, received = parse_ping(output)
    return {"to": to, "sent": sent, "received": received, "answered": received > 0}


_TIMEOUT = 124  # exit code of timeout(1)


def tcp(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """to, port, state; `from` a node, `to` an address, `port` a number: tries to connect.

    `state` is `open`, `refused`, `silent` (no answer within `timeout` seconds (2)) or
    `unreachable`. With `namespace` it is tried from that network namespace of the node.
    """
    guest = context.guest(arguments["from"])
    seconds = int(arguments.get("timeout", "2")) * guest.timeout_factor
    connect = [
        "timeout", str(seconds), "env", "LC_ALL=C",
        "bash", "-c", 'exec 2>&1; exec 3<>"/dev/tcp/$0/$1"', arguments["to"], arguments["port"],
    ]  # fmt: skip
    result = guest.run([*entering(arguments), *connect], timeout=seconds + 10, check=False)
    if result.ok:
        state = "open"
    elif "Connection refused" in result.stdout:
        state = "refused"
    else:
        state = "silent" if result.returncode == _TIMEOUT else "unreachable"
    return [{"to": arguments["to"], "port": arguments["port"], "state": state}]


def ssh(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """login, address, hostname: read inside an instance, by SSH with the Nova keypair.

    `to` is an address; the controller connects to it. No row when there is no answer within
    `timeout` seconds (8) or the key is refused.
    """
    controller = context.guest("controller")
    deadline = int(arguments.get("timeout", "8")) * controller.timeout_factor
    target = f"{context.topology.image.user}@{arguments['to']}"
    result = controller.run(
        ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={deadline}", target,
         "id -un; ip -4 -o addr show scope global; hostname"],
        timeout=40,
        check=False,
    )  # fmt: skip
    lines = result.stdout.split("\n")
    if not result.ok or len(lines) < 3:
        return []
    address = re.search(r"inet ([0-9.]+)", result.stdout)
    return [{"login": lines[0], "address": address and address[1], "hostname": lines[-2]}]


def packets(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """One row per frame that the checkpoint's captures saw, in time order: see packets.Frame.

    Without pings and TCP connections that began before the captures did: see flows.own_frames.
    """
    return [asdict(frame) for frame in own_frames(context.frames)]


def arp(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """One row per ARP message that the checkpoint's captures saw: see packets.ArpMessage.

    node, interface, time, tunnel; asks, sender, sender_mac, target.
    """
    return [asdict(message) for message in context.arp]


def neighbors(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """One row per message of IPv6's neighbor discovery that the checkpoint's captures saw: see
    neighbors.NeighborMessage.

    node, interface, time, tunnel; kind, src, dst, src_mac, target, mac; of a router advertisement
    prefixes (a list), managed, other.
    """
    return [{**asdict(message), "prefixes": [*message.prefixes]} for message in context.neighbors]


_COMPARED = (
    "tunnel", "tunnel_src", "tunnel_dst", "vni", "option_class", "option_data", "src_mac",
    "dst_mac", "src", "dst", "ttl", "protocol", "kind", "identifier", "sequence", "ip_id",
)  # fmt: skip


def pairs(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """kind, src, dst, sequence, same, differs: the tunnelled packets captured at `first`.

    `same` is true when `second` captured a packet that is equal in every field of `_COMPARED`, and
    `differs` has the fields in which the most similar one is not. A packet that passed `second`
    before or after the capture there is left out. `first` and `second` are "NODE INTERFACE".
    """
    own = own_frames(context.frames)

    def tunnelled_at(place: str) -> list[Frame]:
        tunnelled = [frame for frame in own if frame.tunnel]
        return [frame for frame in tunnelled if [frame.node, frame.interface] == place.split()]

    first, second = (tunnelled_at(arguments[name]) for name in ("first", "second"))
    at_second = {_compared(frame): frame.time for frame in second}
    delays = [
        at_second[key] - frame.time for frame in first if (key := _compared(frame)) in at_second
    ]
    node, _, interface = " ".join(arguments["second"].split()).partition(" ")
    window = context.windows.get((node, interface))

    def covered(frame: Frame) -> bool:
        """Whether the capture at `second` must have seen it.

        Nodes may have different clocks. How far they are apart is known from packets that were
        seen at both ends.
        """
        if window is None or not delays:
            return True
        return window[0] < frame.time + median(delays) < window[1] - _ON_THE_WAY

    return [
        {
            "kind": frame.kind,
            "src": frame.src,
            "dst": frame.dst,
            "sequence": frame.sequence,
            "same": same,
            "differs": [] if same else _difference(frame, second),
        }
        for frame in first
        if (same := _compared(frame) in at_second) or covered(frame)
    ]


_ON_THE_WAY = 0.05
"""Seconds that one packet may take longer than others from one node to the next; our choice."""


def _compared(frame: Frame) -> tuple[object, ...]:
    return tuple(getattr(frame, name) for name in _COMPARED)


def _difference(frame: Frame, others: Sequence[Frame]) -> list[str]:
    """The fields in which the most similar frame is not equal; none when none is similar."""
    differing = [
        [name for name in _COMPARED if getattr(frame, name) != getattr(other, name)]
        for other in others
        if (other.kind, other.sequence) == (frame.kind, frame.sequence)
    ]
    return min(differing, key=len, default=[])


PROBES: dict[str, Probe] = {
    "wire.ping": ping,
    "wire.tcp": tcp,
    "wire.ssh": ssh,
    "wire.packets": packets,
    "wire.pairs": pairs,
    "wire.arp": arp,
    "wire.neighbors": neighbors,
}
