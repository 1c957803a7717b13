"""Probes that ask OpenStack's APIs, by openstacksdk."""

from collections.abc import Mapping
from typing import Any

from labctl.access.instance import ipv4_first
from labctl.access.ovsdb import Rows
from labctl.probes.context import Probe, ProbeContext


def _list(context: ProbeContext, service: str, noun: str) -> list[Any]:
    """All objects of one kind, e.g. of `network`, `ports`. Asked once for all probes of a round."""

    def ask() -> list[Any]:
        return list(getattr(getattr(context.cloud(), service), noun)())

    return list(context.get_or_ask((service, noun), ask))


def _names(context: ProbeContext, noun: str) -> dict[str, str]:
    """{id: name} of `networks`, `routers` or `security_groups`."""
    return {item.id: item.name for item in _list(context, "network", noun)}


def _addresses(fixed_ips: list[dict[str, Any]] | None) -> list[str]:
    """Those of IPv4 first: a port may have an address of each."""
    return ipv4_first(ip["ip_address"] for ip in fixed_ips or [] if ip.get("ip_address"))


def networks(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, type, physical_network, external, status, mtu, port_security."""
    return [
        {
            "name": net.name,
            "type": net.provider_network_type,
            "physical_network": net.provider_physical_network,
            "external": bool(net.is_router_external),
            "status": net.status,
            "mtu": net.mtu,
            "port_security": bool(net.is_port_security_enabled),
        }
        for net in _list(context, "network", "networks")
    ]


def subnets(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, network, cidr, gateway, dhcp, dns (a list), pool_start, pool_end, and two modes.

    `ra_mode` and `address_mode` are those of IPv6; None in IPv4.
    """
    names = _names(context, "networks")
    return [
        {
            "name": subnet.name,
            "network": names.get(subnet.network_id),
            "cidr": subnet.cidr,
            "gateway": subnet.gateway_ip,
            "dhcp": bool(subnet.is_dhcp_enabled),
            "dns": list(subnet.dns_nameservers or []),
            "pool_start": pool["start"],
            "pool_end": pool["end"],
            "ra_mode": subnet.ipv6_ra_mode,
            "address_mode": subnet.ipv6_address_mode,
        }
        for subnet in _list(context, "network", "subnets")
        for pool in subnet.allocation_pools
    ]


def routers(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, external_network, gateway_address, snat."""
    names = _names(context, "networks")
    rows = []
    for router in _list(context, "network", "routers"):
        gateway = router.external_gateway_info or {}
        rows.append(
            {
                "name": router.name,
                "external_network": names.get(gateway.get("network_id", "")),
                "gateway_address": next(iter(_addresses(gateway.get("external_fixed_ips"))), None),
                "snat": gateway.get("enable_snat"),
            }
        )
    return rows


def ports(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, owner, router, address, ipv6_address, addresses, network, mac, status, and more.

    `router` is the name of the router that has it, if one does. `address` is its first
    address, one of IPv4 if there is one, `ipv6_address` the first of IPv6. Lists: `addresses` (all
    of its own), `security_groups` (names), `allowed_addresses` (from which it may send, besides its
    own). `port_security` is a boolean.
    """
    routers_ = _names(context, "routers")
    names = _names(context, "networks")
    groups = _names(context, "security_groups")
    return [
        {
            "name": port.name,
            "owner": port.device_owner,
            "router": routers_.get(port.device_id),
            "address": next(iter(_addresses(port.fixed_ips)), None),
            "ipv6_address": next((a for a in _addresses(port.fixed_ips) if ":" in a), None),
            "addresses": _addresses(port.fixed_ips),
            "network": names.get(port.network_id),
            "mac": port.mac_address,
            "status": port.status,
            "security_groups": [groups.get(id, id) for id in port.security_group_ids or []],
            "allowed_addresses": [pair["ip_address"] for pair in port.allowed_address_pairs or []],
            "port_security": bool(port.is_port_security_enabled),
        }
        for port in _list(context, "network", "ports")
    ]


def floating_ips(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """address, fixed_address, network, router, status."""
    names = _names(context, "networks")
    routers_ = _names(context, "routers")
    return [
        {
            "address": ip.floating_ip_address,
            "fixed_address": ip.fixed_ip_address,
            "network": names.get(ip.floating_network_id),
            "router": routers_.get(ip.router_id),
            "status": ip.status,
        }
        for ip in _list(context, "network", "ips")
    ]


def servers(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, status, host, fixed (addresses), floating (addresses), security_groups (names)."""
    rows = []
    for server in _list(context, "compute", "servers"):
        by_network = (server.addresses or {}).values()
        addresses = [address for listed in by_network for address in listed]
        rows.append(
            {
                "name": server.name,
                "status": server.status,
                "host": server.compute_host,
                "fixed": [a["addr"] for a in addresses if a["OS-EXT-IPS:type"] == "fixed"],
                "floating": [a["addr"] for a in addresses if a["OS-EXT-IPS:type"] == "floating"],
                "security_groups": sorted({g["name"] for g in server.security_groups or []}),
            }
        )
    return rows


def security_group_rules(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """group, group_id, direction, protocol, port_min, port_max, remote."""
    return [
        {
            "group": group.name,
            "group_id": group.id,
            "direction": rule["direction"],
            "protocol": rule["protocol"],
            "port_min": rule["port_range_min"],
            "port_max": rule["port_range_max"],
            "remote": rule["remote_ip_prefix"],
        }
        for group in _list(context, "network", "security_groups")
        for rule in group.security_group_rules or []
    ]


PROBES: dict[str, Probe] = {
    f"openstack.{probe.__name__}": probe
    for probe in (
        networks, subnets, routers, ports, floating_ips, servers, security_group_rules,
    )
}  # fmt: skip
