"""Interfaces and Open vSwitch of one node: the script that reads them, and the parser."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.access.ovsdb import (
    Row,
    Rows,
    as_list,
    by_uuid,
    list_command,
    parse_tables,
    referenced,
)
from labctl.graph.model import Bridge, Interface, Kind
from labctl.i18n import tr

_TABLES = {
    "switch": ("Open_vSwitch", "external_ids"),
    "bridges": ("Bridge", "name,ports"),
    "ports": ("Port", "_uuid,interfaces"),
    "interfaces": ("Interface", "_uuid,name,type,options,external_ids,mac_in_use"),
}
_ADDRESSES = "addresses"
# Each command may fail alone: a node whose Open vSwitch is down still has interfaces.
QUESTION = "\n".join(
    [
        """ask() { printf '%s ' "$1"; shift; "$@" 2>/dev/null | tr -d '\\n'; echo; }""",
        *(
            f"ask {name} {shlex.join(list_command('ovs-vsctl', table, columns, timeout=30))}"
            for name, (table, columns) in _TABLES.items()
        ),
        f"ask {_ADDRESSES} ip -j addr",
    ]
)
"""A script for bash. It prints "NAME JSON" lines, without JSON where the command failed."""

_TUNNELS = frozenset({"geneve", "vxlan", "stt", "gre"})
_NIC = re.compile(r"(eth|en[opsx])\w+")


@dataclass(frozen=True)
class NodeFacts:
    """What was read from a node."""

    interfaces: tuple[Interface, ...]
    bridges: tuple[Bridge, ...]
    ids: Mapping[str, str]
    """By name of the interface: its iface-id, which is the name of the logical port."""
    workloads: Mapping[str, str]
    """By name of the interface: address of the namespace that acts as an instance."""
    mappings: Mapping[str, str]
    """By physical network: name of the bridge."""
    switching: bool
    """Whether Open vSwitch answered."""


def understand(output: str) -> NodeFacts:
    """Parse the output of `QUESTION`. Raises ValueError when the interfaces are missing."""
    addresses = {row["ifname"]: row for row in _addresses(output)}
    answered = parse_tables(output)
    tables = {name: answered.get(name, []) for name in _TABLES}
    settings = tables["switch"][0]["external_ids"] if tables["switch"] else {}
    mappings = _mappings(settings.get("ovn-bridge-mappings", ""))
    bridge_of = _bridges(tables["bridges"], tables["ports"])
    known = {row["name"] for row in tables["interfaces"]}
    interfaces = [
        _interface(row, bridge_of.get(row["_uuid"], ""), addresses.get(row["name"], {}))
        for row in tables["interfaces"]
    ]
    interfaces += [
        Interface(name, "nic", _address(row), str(row.get("address", "")))
        for name, row in addresses.items()
        if name not in known and _NIC.fullmatch(name)
    ]
    ids_of = {row["name"]: row["external_ids"] for row in tables["interfaces"]}
    networks = {bridge: network for network, bridge in mappings.items()}
    return NodeFacts(
        interfaces=tuple(sorted(interfaces, key=lambda nic: (nic.kind != "nic", nic.name))),
        bridges=tuple(
            Bridge(name, networks.get(name, ""))
            for name in sorted(str(row["name"]) for row in tables["bridges"])
        ),
        ids={name: ids["iface-id"] for name, ids in ids_of.items() if "iface-id" in ids},
        workloads={name: ids.get("address", "") for name, ids in ids_of.items() if "netns" in ids},
        mappings=mappings,
        switching="bridges" in answered,
    )


def _addresses(output: str) -> list[dict[str, Any]]:
    """The interfaces of the kernel, as `ip -j addr` prints them."""
    for line in output.splitlines():
        name, _, text = line.partition(" ")
        if name == _ADDRESSES and text.strip():
            interfaces: list[dict[str, Any]] = json.loads(text)
            return interfaces
    raise ValueError(tr("no answer from `{command}`", command="ip addr"))


def _bridges(bridges: Rows, ports: Rows) -> dict[str, str]:
    """By UUID of an interface: name of its bridge."""
    known = by_uuid(ports)
    return {
        interface: str(bridge["name"])
        for bridge in bridges
        for port in referenced(bridge["ports"], known)
        for interface in as_list(port["interfaces"])
    }


def _interface(row: Row, bridge: str, address: Mapping[str, Any]) -> Interface:
    options = row["options"]
    mac = row["mac_in_use"] if isinstance(row["mac_in_use"], str) else ""
    return Interface(
        name=str(row["name"]),
        kind=_kind(row, bridge),
        address=_address(address),
        mac=mac or str(address.get("address", "")),
        bridge=bridge,
        peer=options.get("peer", "") or options.get("remote_ip", ""),
    )


def _kind(row: Row, bridge: str) -> Kind:
    name, kind = str(row["name"]), str(row["type"] or "")
    if name == bridge:
        return "bridge"
    if kind == "patch":
        return "patch"
    if kind in _TUNNELS:
        return "tunnel"
    if "iface-id" in row["external_ids"]:
        return "vif"
    return "nic" if kind in ("", "system") and _NIC.fullmatch(name) else "other"


def _address(row: Mapping[str, Any]) -> str:
    """The first IPv4 address with its prefix length."""
    for address in row.get("addr_info", []):
        if address.get("family") == "inet":
            return f"{address['local']}/{address['prefixlen']}"
    return ""


def _mappings(text: str) -> dict[str, str]:
    pairs = (mapping.partition(":") for mapping in text.split(",") if ":" in mapping)
    return {network.strip(): bridge.strip() for network, _, bridge in pairs}
