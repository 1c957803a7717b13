"""What the nodes of a walk are set to: Open vSwitch, OVN's chassis, addresses.

`read` asks a node, the rest is pure.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows, as_list, by_uuid, list_command, parse_table, referenced


@dataclass(frozen=True)
class NodeSettings:
    """What one node is set to."""

    node: str
    remote: str = ""
    """`ovn-remote`: where ovn-controller finds the southbound database."""
    connection: str = ""
    """What ovn-controller says of its connection there: `connected` or not; empty: not asked."""
    encap_ip: str = ""
    """`ovn-encap-ip`: the address that other nodes send their tunnels to."""
    mappings: Mapping[str, str] = field(default_factory=dict)
    """`ovn-bridge-mappings`: bridge by physical network."""
    bridges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ports by bridge, both by name."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Interface by IP address, of the node's own network namespace."""
    disabled: frozenset[str] = frozenset()
    """Of the controller: names of the logical ports that are disabled in the northbound database.
    """


_TABLES = {"Open_vSwitch": "external_ids", "Bridge": "name,ports", "Port": "_uuid,name"}
"""Columns by table of Open vSwitch's own database."""


def _script(*, controller: bool) -> str:
    """Prints a line for each thing that can be read: its name, and JSON or text."""
    parts = {
        table: shlex.join(list_command("ovs-vsctl", table, columns, timeout=5))
        for table, columns in _TABLES.items()
    }
    parts["addresses"] = "ip -j addr"
    parts["connection"] = "ovn-appctl -T 5 -t ovn-controller connection-status"
    if controller:
        parts["disabled"] = shlex.join(
            list_command("ovn-nbctl", "Logical_Switch_Port", "name", "enabled=false", timeout=5)
        )
    return "\n".join(
        f"printf '%s ' {name}; {command} 2>/dev/null || echo" for name, command in parts.items()
    )


def read(guest: Guest, *, controller: bool) -> NodeSettings:
    """Ask a node. What it does not answer is left empty. Raises GuestError."""
    return understand(guest.name, guest.run(_script(controller=controller), timeout=30).stdout)


def understand(node: str, output: str) -> NodeSettings:
    """The output of the script -> what it says."""
    texts = {name: text for name, _, text in (line.partition(" ") for line in output.splitlines())}

    def table(name: str) -> Rows:
        return parse_table(texts[name]) if texts.get(name, "").startswith("{") else []

    ids: Mapping[str, str] = {}
    for row in table("Open_vSwitch"):
        ids = row["external_ids"]
    ports = by_uuid(table("Port"))
    links = json.loads(texts.get("addresses", "").strip() or "[]")
    return NodeSettings(
        node=node,
        remote=ids.get("ovn-remote", ""),
        connection=texts.get("connection", "").strip(),
        encap_ip=ids.get("ovn-encap-ip", ""),
        mappings=dict(
            pair.split(":", 1)
            for pair in ids.get("ovn-bridge-mappings", "").split(",")
            if ":" in pair
        ),
        bridges={
            row["name"]: tuple(port["name"] for port in referenced(row["ports"], ports))
            for row in table("Bridge")
        },
        addresses={
            address["local"]: link["ifname"]
            for link in links
            for address in link.get("addr_info", ())
        },
        disabled=frozenset(name for row in table("disabled") for name in as_list(row["name"])),
    )
