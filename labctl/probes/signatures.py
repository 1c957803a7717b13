"""What each probe takes and gives, so that a lesson can be checked before anything runs.

A misspelt column or value is a claim that never holds or, with `count: 0`, always does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from labctl.access.neighbors import NeighborMessage
from labctl.access.packets import ArpMessage, Frame

BOOLEAN = "true|false"
_NUMBER = "[0-9]+"
_DISCOVERY = "(router|neighbor)-(solicitation|advertisement)"


@dataclass(frozen=True)
class Signature:
    """Arguments and columns of one probe."""

    columns: tuple[str, ...]
    needed: tuple[str, ...] = ()
    """Arguments that must be given."""
    others: tuple[str, ...] = ()
    """Arguments that may be given."""
    counters: tuple[str, ...] = ()
    """Columns that grow, of which a claim may want the difference."""
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


_IPV6_MODES = "slaac|dhcpv6-stateful|dhcpv6-stateless"


_LINK_COUNTERS = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped",
)  # fmt: skip


SIGNATURES: Mapping[str, Signature] = {
    "openstack.networks": _of(
        "name type physical_network external status mtu port_security",
        "external",
        "port_security",
        type="flat|vlan|geneve|vxlan|gre|local",
        status=_STATUS,
    ),
    "openstack.subnets": _of(
        "name network cidr gateway dhcp dns pool_start pool_end ra_mode address_mode",
        "dhcp",
        ra_mode=_IPV6_MODES,
        address_mode=_IPV6_MODES,
    ),
    "openstack.routers": _of("name external_network gateway_address snat", "snat"),
    "openstack.ports": _of(
        "name owner router address ipv6_address addresses network mac status security_groups"
        " allowed_addresses port_security",
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
    "ovn.switch_ports": _of("name type addresses port_security switch"),
    "ovn.static_routes": _of("prefix nexthop router"),
    "ovn.nat": _of(
        "type external_ip logical_ip external_mac logical_port router router_name",
        type="snat|dnat|dnat_and_snat",
    ),
    "ovn.router_ports": _of("name mac networks router router_name"),
    "ovn.router_advertisements": _of(
        "port mac networks address_mode mtu periodic router router_name",
        "periodic",
        address_mode="slaac|dhcpv6_stateful|dhcpv6_stateless",
    ),
    "ovn.qos": _of(
        "direction match priority rate burst dscp port switch switch_name",
        direction="from-lport|to-lport",
    ),
    "ovn.port_bindings": _of("port type chassis mac tunnel_key up", "up", type="[a-z0-9-]+"),
    "ovn.chassis": _of("name encapsulation address"),
    "ovn.localnet_ports": _of("physical_network switch switch_name tag"),
    "ovn.datapaths": Signature(("name", "kind", "tunnel_key"), values={"kind": "switch|router"}),
    "ovn.logical_flows": _of(
        "cookie datapaths pipeline table stage priority match actions", pipeline="ingress|egress"
    ),
    "ovn.dhcp_options": _of("cidr router dns mtu port"),
    "ovn.acls": _of(
        "direction action match",
        direction="from-lport|to-lport",
        action="allow|allow-related|allow-stateless|drop|reject|pass",
    ),
    "ovn.port_groups": _of("name security_group acls port addresses"),
    "ovn.gateway_chassis": _of("router_name port chassis priority rank"),
    "ovn.bfd": Signature(
        ("address", "state", "forwarding"),
        needed=("from",),
        values={"state": "admin_down|down|init|up", "forwarding": BOOLEAN},
    ),
    "wire.gaps": _of("node interface tunnel src dst replies longest", "tunnel"),
    "ovn.conntrack": Signature(
        (
            "protocol",
            "src",
            "dst",
            "source_port",
            "destination_port",
            "reply_src",
            "reply_dst",
            "reply_port",
            "zone",
            "mark",
            "state",
        ),
        needed=("from",),
    ),
    "ovn.acl_log": Signature(
        (
            "name",
            "verdict",
            "severity",
            "direction",
            "protocol",
            "src",
            "dst",
            "source_port",
            "destination_port",
            "flags",
        ),
        needed=("from",),
        others=("seconds",),
        values={
            "verdict": "allow|drop|reject|pass",
            "direction": "from-lport|to-lport",
            "seconds": "[1-9][0-9]?",
        },
    ),
    "ovn.load_balancers": Signature(
        ("name", "vip", "backends", "protocol", "switches", "routers", "health_checks"),
        values={"protocol": "tcp|udp|sctp"},
    ),
    "ovn.service_monitors": Signature(
        ("port", "address", "service_port", "protocol", "status"),
        values={"status": "online|offline|error"},
    ),
    "ovn.dns_records": Signature(("name", "addresses", "switches")),
    "wire.addresses": Signature(
        ("interface", "mac", "address", "scope", "mtu"),
        needed=("from",),
        others=("namespace", "family"),
        values={"family": "ipv4|ipv6", "scope": f"global|site|link|host|{_NUMBER}"},
    ),
    "wire.lookup": Signature(("name", "address"), needed=("from", "name"), others=("namespace",)),
    "wire.http": Signature(
        ("url", "status", "body"),
        needed=("from", "url"),
        others=("namespace", "count"),
        values={"count": "[1-9][0-9]?", "status": "[0-9]{1,3}"},
    ),
    "node.interfaces": Signature(
        ("name", "mac", "mtu", "up", *_LINK_COUNTERS),
        needed=("node",),
        others=("namespace",),
        counters=_LINK_COUNTERS,
        values={"up": BOOLEAN},
    ),
    "ovs.flows": Signature(
        ("table", "priority", "match", "actions", "cookie", "packets", "bytes"),
        needed=("node",),
        others=("bridge",),
        counters=("packets", "bytes"),
    ),
    "run.commands": _of("node command background seconds exit_code output", "background"),
    "run.pings": _of("node to background sent received lost longest_gap", "background"),
    "run.transfers": _of("node command background bytes seconds rate share", "background"),
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
            "protocol": f"icmp|icmp6|tcp|udp|{_NUMBER}",
            "kind": f"request|reply|{_DISCOVERY}|{_NUMBER}|",
            "flags": "[A-Z]*",
        },
    ),
    "wire.pairs": Signature(
        ("kind", "src", "dst", "sequence", "same", "differs"),
        needed=("first", "second"),
        values={"same": BOOLEAN, "kind": f"request|reply|{_DISCOVERY}|{_NUMBER}|"},
    ),
    "wire.arp": Signature(
        tuple(field.name for field in fields(ArpMessage)),
        values={"tunnel": BOOLEAN, "asks": BOOLEAN},
    ),
    "wire.neighbors": Signature(
        tuple(field.name for field in fields(NeighborMessage)),
        values={
            "tunnel": BOOLEAN,
            "managed": BOOLEAN,
            "other": BOOLEAN,
            "kind": _DISCOVERY,
        },
    ),
}
"""By the name of the probe."""
