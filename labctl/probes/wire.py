"""What the wire says: pings, an SSH session into an instance, captured packets."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.probes import Probe, Sight
from labctl.probes.in_instance import run_inside

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")


def parse_ping(text: str) -> tuple[int, int]:
    """(sent, received) of ping's summary, of iputils or busybox; (0, 0) when there is none."""
    found = _COUNTS.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ping(sight: Sight, arguments: Mapping[str, str]) -> Rows:
    """sent, received, answered; `from` a node, `to` an address, `count` echo requests (1).

    With `namespace` it goes out from that network namespace of the node. `from` may be `instance`:
    inside the first one, with or without a floating IP.
    """
    count = arguments.get("count", "1")
    if arguments["from"] == "instance":
        said = run_inside(sight, f"ping -c {int(count)} -W 2 {shlex.quote(arguments['to'])}")
        sent, received = parse_ping(said.stdout)
        return [_pinged(arguments["to"], sent, received)]
    inside = ["ip", "netns", "exec", arguments["namespace"]] if "namespace" in arguments else []
    result = sight.guest(arguments["from"]).run(
        [*inside, "ping", "-n", "-c", count, "-i", "0.3", "-W", "2", arguments["to"]],
        timeout=30,
        check=False,
    )
    sent, received = parse_ping(result.stdout)
    return [_pinged(arguments["to"], sent, received)]


def _pinged(to: str, sent: int, received: int) -> dict[str, Any]:
    return {"to": to, "sent": sent, "received": received, "answered": received > 0}


def ssh(sight: Sight, arguments: Mapping[str, str]) -> Rows:
    """login, address, hostname: what an instance says of itself to SSH with the Nova keypair.

    `to` an address, from the controller. No row when nobody answers within `timeout` seconds (8) or
    the key is refused.
    """
    controller = sight.guest("controller")
    deadline = int(arguments.get("timeout", "8")) * controller.patience
    target = f"{sight.topology.image.user}@{arguments['to']}"
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


def packets(sight: Sight, _: Mapping[str, str]) -> Rows:
    """One row per frame that the checkpoint's captures saw, in time order: see packets.Frame."""
    return [asdict(frame) for frame in sight.frames]


_ALIKE = (
    "tunnel", "tunnel_src", "tunnel_dst", "vni", "option_class", "option_data", "src_mac",
    "dst_mac", "src", "dst", "ttl", "protocol", "kind", "identifier", "sequence", "ip_id",
)  # fmt: skip


def pairs(sight: Sight, arguments: Mapping[str, str]) -> Rows:
    """kind, src, dst, sequence, same: each tunnelled packet at `first`; did `second` see it too?

    `first` and `second` are a node and an interface with a space between. `same`: with the same
    addresses of tunnel, Ethernet and IP, VNI, option, TTL, IP identification and ICMP echo.
    """

    def seen(place: str) -> list[Frame]:
        return [
            frame
            for frame in sight.frames
            if frame.tunnel and [frame.node, frame.interface] == place.split()
        ]

    def marks(frame: Frame) -> tuple[object, ...]:
        return tuple(getattr(frame, name) for name in _ALIKE)

    there = {marks(frame) for frame in seen(arguments["second"])}
    return [
        {
            "kind": frame.kind,
            "src": frame.src,
            "dst": frame.dst,
            "sequence": frame.sequence,
            "same": marks(frame) in there,
        }
        for frame in seen(arguments["first"])
    ]


PROBES: dict[str, Probe] = {
    "wire.ping": ping,
    "wire.ssh": ssh,
    "wire.packets": packets,
    "wire.pairs": pairs,
}
