"""Probes of what passes the network: pings, an SSH session into an instance, captured packets."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.probes.context import Probe, ProbeContext
from labctl.probes.in_instance import run_in_instance

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")


def parse_ping(text: str) -> tuple[int, int]:
    """(sent, received) of ping's summary, of iputils or busybox; (0, 0) when there is none."""
    summary = _COUNTS.search(text)
    return (int(summary[1]), int(summary[2])) if summary else (0, 0)


def ping(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """sent, received, answered; `from` a node, `to` an address, `count` echo requests (1).

    With `namespace` it is sent from that network namespace of the node. `from` may be `instance`:
    then it is sent inside the first instance, with or without a floating IP.
    """
    count = arguments.get("count", "1")
    if arguments["from"] == "instance":
        command = f"ping -c {int(count)} -W 2 {shlex.quote(arguments['to'])}"
        return [_ping_row(arguments["to"], run_in_instance(context, command).stdout)]
    enter = ["ip", "netns", "exec", arguments["namespace"]] if "namespace" in arguments else []
    result = context.guest(arguments["from"]).run(
        [*enter, "ping", "-n", "-c", count, "-i", "0.3", "-W", "2", arguments["to"]],
        timeout=30,
        check=False,
    )
    return [_ping_row(arguments["to"], result.stdout)]


def _ping_row(to: str, output: str) -> dict[str, Any]:
    sent, received = parse_ping(output)
    return {"to": to, "sent": sent, "received": received, "answered": received > 0}


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
    """One row per frame that the checkpoint's captures saw, in time order: see packets.Frame."""
    return [asdict(frame) for frame in context.frames]


_COMPARED = (
    "tunnel", "tunnel_src", "tunnel_dst", "vni", "option_class", "option_data", "src_mac",
    "dst_mac", "src", "dst", "ttl", "protocol", "kind", "identifier", "sequence", "ip_id",
)  # fmt: skip


def pairs(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """kind, src, dst, sequence, same: the tunnelled packets captured at `first`.

    `same` is true when `second` captured a packet that is equal in every field of `_COMPARED`.
    `first` and `second` are each "NODE INTERFACE".
    """

    def tunnelled_at(place: str) -> list[Frame]:
        return [
            frame
            for frame in context.frames
            if frame.tunnel and [frame.node, frame.interface] == place.split()
        ]

    def compared(frame: Frame) -> tuple[object, ...]:
        return tuple(getattr(frame, name) for name in _COMPARED)

    at_second = {compared(frame) for frame in tunnelled_at(arguments["second"])}
    return [
        {
            "kind": frame.kind,
            "src": frame.src,
            "dst": frame.dst,
            "sequence": frame.sequence,
            "same": compared(frame) in at_second,
        }
        for frame in tunnelled_at(arguments["first"])
    ]


PROBES: dict[str, Probe] = {
    "wire.ping": ping,
    "wire.ssh": ssh,
    "wire.packets": packets,
    "wire.pairs": pairs,
}
