"""Probes that read OVN's databases. Each is a command with JSON output and a pure parser."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labctl.access.ovsdb import (
    Row,
    Rows,
    as_list,
    by_uuid,
    referenced,
)
from labctl.probes.context import Probe, ProbeContext


def _owned(
    context: ProbeContext, owners: str, reference: str, owned: str, columns: str
) -> Iterator[tuple[Row, Row]]:
    """(owner, row) for every row of `owned` that a column of a northbound table refers to.

    `owners` is "TABLE COLUMN,COLUMN…", `columns` are those of the rows.
    """
    known = by_uuid(context.table("ovn-nbctl", owned, f"_uuid,{columns}"))
    table, owner_columns = owners.split()
    for owner in context.table("ovn-nbctl", table, owner_columns):
        for row in referenced(owner[reference], known):
            yield owner, row


def nat(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """type, external_ip, logical_ip, external_mac, logical_port, router, router_name.

    `router` is the name in OVN, `router_name` the one that Neutron knows.
    """
    columns = "type,external_ip,logical_ip,external_mac,logical_port"
    return [
        {
            **{name: rule[name] for name in columns.split(",")},
            "router": router["name"],
            "router_name": router["external_ids"].get("neutron:router_name"),
        }
        for router, rule in _owned(
            context, "Logical_Router name,nat,external_ids", "nat", "NAT", columns
        )
    ]


def router_ports(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, mac, networks, router, router_name: ports of logical routers."""
    return [
        {
            "name": port["name"],
            "mac": port["mac"],
            "networks": as_list(port["networks"]),
            "router": router["name"],
            "router_name": router["external_ids"].get("neutron:router_name"),
        }
        for router, port in _owned(
            context, "Logical_Router name,ports,external_ids",
            "ports", "Logical_Router_Port", "name,mac,networks",
        )
    ]  # fmt: skip


def router_advertisements(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """port, mac, networks, address_mode, mtu, periodic, router, router_name: the router ports that
    advertise themselves to hosts with IPv6.

    `address_mode` is what Neutron's ipv6_address_mode has become; `periodic` whether OVN advertises
    without being asked, too. `networks` is a list.
    """
    return [
        {
            "port": port["name"],
            "mac": port["mac"],
            "networks": as_list(port["networks"]),
            "address_mode": port["ipv6_ra_configs"].get("address_mode"),
            "mtu": port["ipv6_ra_configs"].get("mtu"),
            "periodic": port["ipv6_ra_configs"].get("send_periodic") == "true",
            "router": router["name"],
            "router_name": router["external_ids"].get("neutron:router_name"),
        }
        for router, port in _owned(
            context, "Logical_Router name,ports,external_ids",
            "ports", "Logical_Router_Port", "name,mac,networks,ipv6_ra_configs",
        )
        if port["ipv6_ra_configs"]
    ]  # fmt: skip


def qos(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """direction, match, priority, rate, burst, dscp, port, switch, switch_name: QoS rules.

    `rate` is in kbit/s and `burst` in kbit, None where nothing is limited; `dscp` is the mark that
    packets get, or None; `port` is the ID of the port that Neutron made the rule for.
    """
    return [
        {
            "direction": rule["direction"],
            "match": rule["match"],
            "priority": rule["priority"],
            "rate": rule["bandwidth"].get("rate"),
            "burst": rule["bandwidth"].get("burst"),
            "dscp": rule["action"].get("dscp"),
            "port": rule["external_ids"].get("neutron:port_id"),
            "switch": switch["name"],
            "switch_name": switch["external_ids"].get("neutron:network_name"),
        }
        for switch, rule in _owned(
            context, "Logical_Switch name,qos_rules,external_ids",
            "qos_rules", "QoS", "direction,match,priority,bandwidth,action,external_ids",
        )
    ]  # fmt: skip


def port_bindings(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """port, type, chassis (host name), mac, tunnel_key, up: the southbound database."""
    rows = context.table("ovn-sbctl", "Chassis", "_uuid,hostname")
    chassis = {row["_uuid"]: row["hostname"] for row in rows}
    return [
        {
            "port": row["logical_port"],
            "type": row["type"] or "vif",
            "chassis": chassis.get(row["chassis"]),
            "mac": " ".join(as_list(row["mac"])),
            "tunnel_key": row["tunnel_key"],
            "up": row["up"],
        }
        for row in context.table(
            "ovn-sbctl", "Port_Binding", "logical_port,type,chassis,mac,tunnel_key,up"
        )
    ]


def chassis(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, encapsulation, address: a row for each encapsulation of a chassis."""
    encaps = by_uuid(context.table("ovn-sbctl", "Encap", "_uuid,type,ip"))
    return [
        {
            "name": row["hostname"],
            "encapsulation": encap["type"],
            "address": encap["ip"],
        }
        for row in context.table("ovn-sbctl", "Chassis", "hostname,encaps")
        for encap in referenced(row["encaps"], encaps)
    ]


def localnet_ports(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """physical_network, switch, switch_name, tag (VLAN): where switches meet a physical network."""
    return [
        {
            "physical_network": port["options"].get("network_name"),
            "switch": switch["name"],
            "switch_name": switch["external_ids"].get("neutron:network_name"),
            "tag": port["tag"],
        }
        for switch, port in _owned(
            context, "Logical_Switch name,ports,external_ids",
            "ports", "Logical_Switch_Port", "type,options,tag",
        )
        if port["type"] == "localnet"
    ]  # fmt: skip


def switch_ports(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, type (`vif` where OVN leaves it empty), addresses, port_security, switch."""
    return [
        {
            "name": port["name"],
            "type": port["type"] or "vif",
            "addresses": as_list(port["addresses"]),
            "port_security": as_list(port["port_security"]),
            "switch": switch["name"],
        }
        for switch, port in _owned(
            context, "Logical_Switch name,ports",
            "ports", "Logical_Switch_Port", "name,type,addresses,port_security",
        )
    ]  # fmt: skip


def static_routes(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """prefix, nexthop, router: static routes of logical routers."""
    return [
        {"prefix": route["ip_prefix"], "nexthop": route["nexthop"], "router": router["name"]}
        for router, route in _owned(
            context, "Logical_Router name,static_routes",
            "static_routes", "Logical_Router_Static_Route", "ip_prefix,nexthop",
        )
    ]  # fmt: skip


def _datapath_name(row: Row) -> Any:
    """The name of a row of Datapath_Binding, in Neutron if it has one, else in OVN."""
    ids = row["external_ids"]
    return ids.get("name2") or ids.get("name")


def datapaths(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name (in Neutron, or OVN), kind (switch or router), tunnel_key: what a VNI stands for."""
    return [
        {
            "name": _datapath_name(row),
            "kind": "router" if "logical-router" in row["external_ids"] else "switch",
            "tunnel_key": row["tunnel_key"],
        }
        for row in context.table("ovn-sbctl", "Datapath_Binding", "tunnel_key,external_ids")
    ]


def logical_flows(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """cookie, datapaths (names), pipeline, table, stage, priority, match, actions: logical flows.

    `cookie` is that of the flows which ovn-controller makes of it, as the column of `ovs.flows`:
    the first 32 bits of the UUID. `stage` is the table's name, as `ls_in_check_port_sec`. A logical
    flow may be for many datapaths (ovn-sb(5), Logical_DP_Group).
    """
    bindings = by_uuid(context.table("ovn-sbctl", "Datapath_Binding", "_uuid,external_ids"))
    groups = by_uuid(context.table("ovn-sbctl", "Logical_DP_Group", "_uuid,datapaths"))

    def names(flow: Row) -> list[Any]:
        uuids = as_list(flow["logical_datapath"])
        for group in referenced(flow["logical_dp_group"], groups):
            uuids = [*uuids, *as_list(group["datapaths"])]
        return [_datapath_name(binding) for binding in referenced(uuids, bindings)]

    columns = "_uuid,logical_datapath,logical_dp_group,pipeline,table_id,priority,match,actions"
    return [
        {
            "cookie": f"0x{int(row['_uuid'][:8], 16):x}",
            "datapaths": names(row),
            "pipeline": row["pipeline"],
            "table": row["table_id"],
            "stage": row["external_ids"].get("stage-name"),
            "priority": row["priority"],
            "match": row["match"],
            "actions": row["actions"],
        }
        for row in context.table("ovn-sbctl", "Logical_Flow", f"{columns},external_ids")
    ]


def dhcp_options(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """cidr, router, dns (a list), mtu: what OVN's DHCP gives to the instances of a subnet.

    `port` is the one that a row is for, if Neutron has made a row for a single port.
    """
    return [
        {
            "cidr": row["cidr"],
            "router": row["options"].get("router"),
            "dns": re.findall(r"[0-9a-f.:]+", row["options"].get("dns_server", "")),
            "mtu": row["options"].get("mtu"),
            "port": row["external_ids"].get("port_id"),
        }
        for row in context.table("ovn-nbctl", "DHCP_Options", "cidr,options,external_ids")
    ]


def acls(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """direction, action, match: the access control lists that security groups become."""
    return context.table("ovn-nbctl", "ACL", "direction,action,match")


def port_groups(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, security_group, acls, port, addresses: a row for each port of a group.

    A group without ports has one row, whose `port` is None. `security_group` is the ID that Neutron
    knows, None where Neutron did not make the group; `acls` is how many the group has.
    """
    ports = by_uuid(context.table("ovn-nbctl", "Logical_Switch_Port", "_uuid,name,addresses"))
    nobody: Row = {"name": None, "addresses": None}
    return [
        {
            "name": group["name"],
            "security_group": group["external_ids"].get("neutron:security_group_id"),
            "acls": len(as_list(group["acls"])),
            "port": port["name"],
            "addresses": as_list(port["addresses"]),
        }
        for group in context.table("ovn-nbctl", "Port_Group", "name,ports,acls,external_ids")
        for port in referenced(group["ports"], ports) or [nobody]
    ]


PROBES: dict[str, Probe] = {
    f"ovn.{probe.__name__}": probe
    for probe in (
        nat, router_ports, router_advertisements, qos, port_bindings, chassis, localnet_ports,
        switch_ports, static_routes, datapaths, logical_flows, dhcp_options, acls, port_groups,
    )
}  # fmt: skip
