"""Probes with counters, which grow: of a node's interfaces, and of Open vSwitch's flows."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.probes.context import Probe, ProbeContext


def interfaces(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """name, mac, mtu, up, rx_packets, tx_packets, rx_bytes, tx_bytes, rx_dropped, tx_dropped.

    As `ip -s link` on `node` has them, with `namespace` in that network namespace of the node.
    """
    enter = ["-n", arguments["namespace"]] if "namespace" in arguments else []
    command = ["ip", "-s", "-j", *enter, "link"]
    return parse_links(context.guest(arguments["node"]).run(command, timeout=15).stdout)


def parse_links(text: str) -> Rows:
    """The rows in the JSON of `ip -s -j link`."""
    rows = []
    for link in json.loads(text or "[]"):
        counters = link.get("stats64", {})
        rows.append(
            {
                "name": link.get("ifname"),
                "mac": link.get("address"),
                "mtu": link.get("mtu"),
                "up": "UP" in link.get("flags", ()),
                **{
                    f"{way}_{what}": counters.get(way, {}).get(what)
                    for what in ("packets", "bytes", "dropped")
                    for way in ("rx", "tx")
                },
            }
        )
    return rows


def flows(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """table, priority, match, actions, cookie, packets, bytes: flows of Open vSwitch on `node`.

    Of the bridge `bridge` (br-int). `packets` are those that it has matched: Open vSwitch adds
    them up with some delay, which is waited for (ovs-vswitchd(8), revalidator/wait). The `cookie`
    is that of ovn-controller: the first 32 bits of the UUID of the row in OVN's southbound database
    that the flow is for.
    """
    bridge = arguments.get("bridge", "br-int")
    node = context.guest(arguments["node"])
    node.run(["ovs-appctl", "revalidator/wait"], timeout=30)
    printed = node.run(["ovs-ofctl", "-O", "OpenFlow15", "dump-flows", bridge], timeout=30).stdout
    return list(parse_flows(printed))


_FLOW = re.compile(r"^ *cookie=(?P<cookie>0x[0-9a-f]+), (?P<head>.*?)actions=(?P<actions>.*)$")
_PARTS = re.compile(r",(?![^(]*\))\s*")
_OF_FLOWS = {"duration", "table", "n_packets", "n_bytes", "idle_timeout", "hard_timeout",
             "idle_age", "hard_age", "importance", "flags"}  # fmt: skip


def parse_flows(text: str) -> Iterator[dict[str, Any]]:
    """The rows in what `ovs-ofctl dump-flows` prints."""
    for line in text.splitlines():
        flow = _FLOW.match(line)
        if flow is None:
            continue
        parts = [part.strip() for part in _PARTS.split(flow["head"]) if part.strip()]
        # Words without `=` at the head of the match are protocols, as `ip` or `reset_counts`.
        named = dict(part.partition("=")[::2] for part in parts)
        match = [
            part
            for part in parts
            if part.partition("=")[0] not in (*_OF_FLOWS, "priority", "send_flow_rem")
        ]
        yield {
            "table": int(named.get("table", 0)),
            "priority": int(named.get("priority", 32768)),
            "match": ",".join(match),
            "actions": flow["actions"].strip(),
            "cookie": flow["cookie"],
            "packets": int(named.get("n_packets", 0)),
            "bytes": int(named.get("n_bytes", 0)),
        }


PROBES: dict[str, Probe] = {"node.interfaces": interfaces, "ovs.flows": flows}
