"""What each probe takes and gives, so that a lesson can be checked before anything runs.

A misspelt column or value is a claim that never holds or, with `count: 0`, always does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from labctl.access.packets import Frame

BOOLEAN = "true|false"
_NUMBER = "[0-9]+"


@dataclass(frozen=True)
class Signature:
    """Arguments and columns of one probe."""

    columns: tuple[str, ...]
    needed: tuple[str, ...] = ()
    """Arguments that must be given."""
    others: tuple[str, ...] = ()
    """Arguments that may be given."""
    values: Mapping[str, str] | None = None
    """For columns and arguments with few values: a regular expression for all of them."""

    def may_be(self, name: str, value: str) -> bool:
        """Whether a column or argument can have this value at all."""
        pattern = (self.values or {}).get(name)
        return pattern is None or re.fullmatch(pattern, value) is not None


def _of(columns: str, *booleans: str, **values: str) -> Signature:
    return Signature(tuple(columns.split()), values=dict.fromkeys(booleans, BOOLEAN) | values)


_STATUS = "[A-Z_/]+"
"""Of Neutron and Nova: in capitals. There are many."""


SIGNATURES: Mapping[str, Signature] = {
    "openstack.networks": _of(
        "name type physical_network external status mtu port_security",
        "external",
        "port_security",
        type="flat|vlan|geneve|vxlan|gre|local",
        status=_STATUS,
    ),
    "openstack.subnets": _of("name network cidr gateway dhcp dns pool_start pool_end", "dhcp"),
    "openstack.routers": _of("name external_network gateway_address snat", "snat"),
    "openstack.ports": _of(
        "owner router address network mac status security_groups allowed_addresses port_security",
        "port_security",
        status=_STATUS,
    ),
    "openstack.floating_ips": _of("address fixed_address network router status", status=_STATUS),
    "openstack.servers": _of("name status host fixed floating security_groups", status=_STATUS),
    "openstack.security_group_rules": _of(
        "group group_id direction protocol port_min port_max remote",
        direction="ingress|egress",
        protocol="[a-z0-9-]+",
    ),
    "ovn.switch_ports": _of("name type addresses switch"),
    "ovn.static_routes": _of("prefix nexthop router"),
    "ovn.nat": _of(
        "type external_ip logical_ip external_mac logical_port router router_name",
        type="snat|dnat|dnat_and_snat",
    ),
    "ovn.router_ports": _of("name mac networks router router_name"),
    "ovn.port_bindings": _of("port type chassis mac tunnel_key up", "up", type="[a-z0-9-]+"),
    "ovn.chassis": _of("name encapsulation address"),
    "ovn.localnet_ports": _of("physical_network switch switch_name"),
    "ovn.datapaths": Signature(("name", "kind", "tunnel_key"), values={"kind": "switch|router"}),
    "ovn.dhcp_options": _of("cidr router dns mtu port"),
    "ovn.acls": _of(
        "direction action match",
        direction="from-lport|to-lport",
        action="allow|allow-related|allow-stateless|drop|reject|pass",
    ),
    "ovn.port_groups": _of("name security_group acls port addresses"),
    "wire.ping": Signature(
        ("to", "sent", "received", "answered"),
        needed=("from", "to"),
        others=("count", "namespace"),
        values={"answered": BOOLEAN, "count": "[1-9][0-9]?"},
    ),
    "wire.tcp": Signature(
        ("to", "port", "state"),
        needed=("from", "to", "port"),
        others=("namespace", "timeout"),
        values={
            "state": "open|refused|silent|unreachable",
            "port": "[1-9][0-9]{0,4}",
            "timeout": "[1-9][0-9]?",
        },
    ),
    "wire.ssh": Signature(
        ("login", "address", "hostname"),
        needed=("to",),
        others=("timeout",),
        values={"timeout": "[1-9][0-9]?"},
    ),
    "wire.packets": Signature(
        tuple(field.name for field in fields(Frame)),
        values={
            "tunnel": BOOLEAN,
            "protocol": f"icmp|tcp|udp|{_NUMBER}",
            "kind": f"request|reply|{_NUMBER}|",
            "flags": "[A-Z]*",
        },
    ),
    "wire.pairs": Signature(
        ("kind", "src", "dst", "sequence", "same", "differs"),
        needed=("first", "second"),
        values={"same": BOOLEAN, "kind": f"request|reply|{_NUMBER}|"},
    ),
}
"""By the name of the probe."""
