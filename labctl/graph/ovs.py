"""What one node says of its interfaces and of Open vSwitch: a question, and its answer parsed."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.access.ovsdb import Rows, parse_table
from labctl.graph.model import Bridge, Interface, Kind
from labctl.i18n import tr

# Each part by itself: a node whose Open vSwitch is down still has interfaces.
QUESTION = """ask() { printf '%s ' "$1"; shift; "$@" 2>/dev/null | tr -d '\\n'; echo; }
vs() { ovs-vsctl --timeout=30 --format=json --columns="$2" list "$1"; }
ask switch vs Open_vSwitch external_ids
ask bridges vs Bridge name,ports
ask ports vs Port _uuid,interfaces
ask interfaces vs Interface _uuid,name,type,options,external_ids,mac_in_use
ask addresses ip -j addr
"""
"""A script for bash; every line of what it prints is a word and a JSON document, or the word."""

_TUNNELS = frozenset({"geneve", "vxlan", "stt", "gre"})
_NIC = re.compile(r"(eth|en[opsx])\w+")


@dataclass(frozen=True)
class NodeFacts:
    """A node as it is."""

    interfaces: tuple[Interface, ...]
    bridges: tuple[Bridge, ...]
    ids: Mapping[str, str]
    """iface-id by the name of the interface: which logical port it is."""
    workloads: Mapping[str, str]
    """Address by the name of the interface, of namespaces that stand for instances."""
    mappings: Mapping[str, str]
    """Bridge by physical network."""
    switching: bool
    """Whether Open vSwitch answered."""


def understand(said: str) -> NodeFacts:
    """What `QUESTION` prints -> facts. Raises ValueError when it is none of that."""
    parts = dict(_documents(said))
    if "addresses" not in parts:
        raise ValueError(tr("no answer from `{command}`", command="ip addr"))
    addresses = {row["ifname"]: row for row in json.loads(parts["addresses"])}
    tables = {
        name: parse_table(parts[name]) if name in parts else []
        for name in ("switch", "bridges", "ports", "interfaces")
    }
    settings = _map(tables["switch"][0]["external_ids"]) if tables["switch"] else {}
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
    about = {row["name"]: _map(row["external_ids"]) for row in tables["interfaces"]}
    networks = {bridge: network for network, bridge in mappings.items()}
    return NodeFacts(
        interfaces=tuple(sorted(interfaces, key=lambda one: (one.kind != "nic", one.name))),
        bridges=tuple(
            Bridge(name, networks.get(name, ""))
            for name in sorted(str(row["name"]) for row in tables["bridges"])
        ),
        ids={name: its["iface-id"] for name, its in about.items() if "iface-id" in its},
        workloads={name: its.get("address", "") for name, its in about.items() if "netns" in its},
        mappings=mappings,
        switching="bridges" in parts,
    )


def _documents(said: str) -> Iterator[tuple[str, str]]:
    for line in said.splitlines():
        name, _, text = line.partition(" ")
        if text.strip():
            yield name, text


def _bridges(bridges: Rows, ports: Rows) -> dict[str, str]:
    """Name of the bridge by the UUID of an interface."""
    of_port = {uuid: str(row["name"]) for row in bridges for uuid in _listed(row["ports"])}
    return {
        uuid: of_port[row["_uuid"]]
        for row in ports
        if row["_uuid"] in of_port
        for uuid in _listed(row["interfaces"])
    }


def _interface(row: Mapping[str, Any], bridge: str, address: Mapping[str, Any]) -> Interface:
    options = _map(row["options"])
    mac = row["mac_in_use"] if isinstance(row["mac_in_use"], str) else ""
    return Interface(
        name=str(row["name"]),
        kind=_kind(row, bridge),
        address=_address(address),
        mac=mac or str(address.get("address", "")),
        bridge=bridge,
        peer=options.get("peer", "") or options.get("remote_ip", ""),
    )


def _kind(row: Mapping[str, Any], bridge: str) -> Kind:
    name, kind = str(row["name"]), str(row["type"] or "")
    if name == bridge:
        return "bridge"
    if kind == "patch":
        return "patch"
    if kind in _TUNNELS:
        return "tunnel"
    if "iface-id" in _map(row["external_ids"]):
        return "vif"
    return "nic" if kind in ("", "system") and _NIC.fullmatch(name) else "other"


def _address(row: Mapping[str, Any]) -> str:
    """The first IPv4 address with its prefix length."""
    for one in row.get("addr_info", []):
        if one.get("family") == "inet":
            return f"{one['local']}/{one['prefixlen']}"
    return ""


def _mappings(text: str) -> dict[str, str]:
    pairs = (one.partition(":") for one in text.split(",") if ":" in one)
    return {network.strip(): bridge.strip() for network, _, bridge in pairs}


def _map(value: object) -> dict[str, str]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return [] if value is None else [str(value)]
