"""What the wire says: pings, an SSH session into an instance, captured packets."""

import re
from collections.abc import Mapping
from dataclasses import asdict

from labctl.probes import Probe, Rows, Sight

_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")


def parse_ping(text: str) -> tuple[int, int]:
    """(sent, received) of ping's summary, of iputils or busybox; (0, 0) when there is none."""
    found = _COUNTS.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ping(sight: Sight, arguments: Mapping[str, str]) -> Rows:
    """sent, received, answered; `from` a node, `to` an address, `count` echo requests (1)."""
    count = arguments.get("count", "1")
    result = sight.guest(arguments["from"]).run(
        ["ping", "-n", "-c", count, "-i", "0.3", "-W", "2", arguments["to"]],
        timeout=30,
        check=False,
    )
    sent, received = parse_ping(result.stdout)
    return [{"to": arguments["to"], "sent": sent, "received": received, "answered": received > 0}]


def ssh(sight: Sight, arguments: Mapping[str, str]) -> Rows:
    """login, address, hostname: what an instance says of itself to SSH with the Nova keypair.

    `to` an address, from the controller. No row when nobody answers or the key is refused.
    """
    target = f"{sight.topology.image.user}@{arguments['to']}"
    result = sight.guest("controller").run(
        ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=8", target,
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


PROBES: dict[str, Probe] = {
    "wire.ping": ping,
    "wire.ssh": ssh,
    "wire.packets": packets,
}
