"""What OVN's databases say. Each probe is a command with JSON output and a pure parser."""

import json
from collections.abc import Mapping
from typing import Any

from labctl.probes import Probe, Rows, Sight


def parse_table(text: str) -> Rows:
    """The rows of `ovn-nbctl --format=json list TABLE` (RFC 7047 values made plain).

    A set becomes its one element, None when it is empty, or a list; a map becomes a dict.
    """
    data = json.loads(text)
    return [
        dict(zip(data["headings"], (_plain(cell) for cell in row), strict=True))
        for row in data["data"]
    ]


def _plain(cell: Any) -> Any:
    match cell:
        case ["uuid", str(value)]:
            return value
        case ["set", list(items)]:
            values = [_plain(item) for item in items]
            return values[0] if len(values) == 1 else values or None
        case ["map", list(pairs)]:
            return {key: _plain(value) for key, value in pairs}
        case _:
            return cell


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _table(sight: Sight, tool: str, table: str, columns: str) -> Rows:
    command = [tool, "--timeout=10", "--format=json", f"--columns={columns}", "list", table]
    return parse_table(sight.guest("controller").run(command, timeout=15).stdout)


def nat(sight: Sight, _: Mapping[str, str]) -> Rows:
    """type, external_ip, logical_ip, external_mac, logical_port, router, router_name.

    `router` is the name in OVN, `router_name` the one that Neutron knows.
    """
    rules = {row["_uuid"]: row for row in _table(
        sight, "ovn-nbctl", "NAT", "_uuid,type,external_ip,logical_ip,external_mac,logical_port"
    )}  # fmt: skip
    rows = []
    for router in _table(sight, "ovn-nbctl", "Logical_Router", "name,nat,external_ids"):
        for uuid in _as_list(router["nat"]):
            if rule := rules.get(uuid):
                rows.append(
                    {
                        "type": rule["type"],
                        "external_ip": rule["external_ip"],
                        "logical_ip": rule["logical_ip"],
                        "external_mac": rule["external_mac"],
                        "logical_port": rule["logical_port"],
                        "router": router["name"],
                        "router_name": router["external_ids"].get("neutron:router_name"),
                    }
                )
    return rows


def router_ports(sight: Sight, _: Mapping[str, str]) -> Rows:
    """name, mac, networks, router, router_name: ports of logical routers."""
    known = {row["_uuid"]: row for row in _table(
        sight, "ovn-nbctl", "Logical_Router_Port", "_uuid,name,mac,networks"
    )}  # fmt: skip
    return [
        {
            "name": known[uuid]["name"],
            "mac": known[uuid]["mac"],
            "networks": _as_list(known[uuid]["networks"]),
            "router": router["name"],
            "router_name": router["external_ids"].get("neutron:router_name"),
        }
        for router in _table(sight, "ovn-nbctl", "Logical_Router", "name,ports,external_ids")
        for uuid in _as_list(router["ports"])
        if uuid in known
    ]


def port_bindings(sight: Sight, _: Mapping[str, str]) -> Rows:
    """port, type, chassis (host name), mac, tunnel_key, up: the southbound database."""
    chassis = {row["_uuid"]: row["hostname"] for row in _table(
        sight, "ovn-sbctl", "Chassis", "_uuid,hostname"
    )}  # fmt: skip
    return [
        {
            "port": row["logical_port"],
            "type": row["type"] or "vif",
            "chassis": chassis.get(row["chassis"]),
            "mac": " ".join(_as_list(row["mac"])),
            "tunnel_key": row["tunnel_key"],
            "up": row["up"],
        }
        for row in _table(
            sight, "ovn-sbctl", "Port_Binding", "logical_port,type,chassis,mac,tunnel_key,up"
        )
    ]


def chassis(sight: Sight, _: Mapping[str, str]) -> Rows:
    """name, encapsulation, address: every chassis of the southbound database."""
    encaps = {row["_uuid"]: row for row in _table(sight, "ovn-sbctl", "Encap", "_uuid,type,ip")}
    return [
        {
            "name": row["hostname"],
            "encapsulation": encaps[uuid]["type"],
            "address": encaps[uuid]["ip"],
        }
        for row in _table(sight, "ovn-sbctl", "Chassis", "hostname,encaps")
        for uuid in _as_list(row["encaps"])
        if uuid in encaps
    ]


def localnet_ports(sight: Sight, _: Mapping[str, str]) -> Rows:
    """physical_network, switch, switch_name: where logical switches join the world outside."""
    known = {row["_uuid"]: row for row in _table(
        sight, "ovn-nbctl", "Logical_Switch_Port", "_uuid,type,options"
    )}  # fmt: skip
    return [
        {
            "physical_network": known[uuid]["options"].get("network_name"),
            "switch": switch["name"],
            "switch_name": switch["external_ids"].get("neutron:network_name"),
        }
        for switch in _table(sight, "ovn-nbctl", "Logical_Switch", "name,ports,external_ids")
        for uuid in _as_list(switch["ports"])
        if uuid in known and known[uuid]["type"] == "localnet"
    ]


def switch_ports(sight: Sight, _: Mapping[str, str]) -> Rows:
    """name, type (`vif` where OVN leaves it empty), addresses, switch: logical switches' ports."""
    known = {row["_uuid"]: row for row in _table(
        sight, "ovn-nbctl", "Logical_Switch_Port", "_uuid,name,type,addresses"
    )}  # fmt: skip
    return [
        {
            "name": known[uuid]["name"],
            "type": known[uuid]["type"] or "vif",
            "addresses": _as_list(known[uuid]["addresses"]),
            "switch": switch["name"],
        }
        for switch in _table(sight, "ovn-nbctl", "Logical_Switch", "name,ports")
        for uuid in _as_list(switch["ports"])
        if uuid in known
    ]


def static_routes(sight: Sight, _: Mapping[str, str]) -> Rows:
    """prefix, nexthop, router: the routes that somebody gave to logical routers."""
    known = {row["_uuid"]: row for row in _table(
        sight, "ovn-nbctl", "Logical_Router_Static_Route", "_uuid,ip_prefix,nexthop"
    )}  # fmt: skip
    return [
        {
            "prefix": known[uuid]["ip_prefix"],
            "nexthop": known[uuid]["nexthop"],
            "router": router["name"],
        }
        for router in _table(sight, "ovn-nbctl", "Logical_Router", "name,static_routes")
        for uuid in _as_list(router["static_routes"])
        if uuid in known
    ]


def datapaths(sight: Sight, _: Mapping[str, str]) -> Rows:
    """name (in Neutron, or OVN), kind (switch or router), tunnel_key: what a VNI stands for."""
    rows = []
    for row in _table(sight, "ovn-sbctl", "Datapath_Binding", "tunnel_key,external_ids"):
        ids = row["external_ids"]
        rows.append(
            {
                "name": ids.get("name2") or ids.get("name"),
                "kind": "router" if "logical-router" in ids else "switch",
                "tunnel_key": row["tunnel_key"],
            }
        )
    return rows


def acls(sight: Sight, _: Mapping[str, str]) -> Rows:
    """direction, action, match: the access control lists that security groups become."""
    return _table(sight, "ovn-nbctl", "ACL", "direction,action,match")


PROBES: dict[str, Probe] = {
    f"ovn.{probe.__name__}": probe
    for probe in (
        nat, router_ports, port_bindings, chassis, localnet_ports, switch_ports, static_routes,
        datapaths, acls,
    )
}  # fmt: skip
