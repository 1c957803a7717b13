"""The logical network in OVN's databases: the script that reads it, and the parser."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from labctl.access.ovsdb import (
    Row,
    Rows,
    Tool,
    as_list,
    by_uuid,
    list_command,
    parse_tables,
    referenced,
    tables_script,
)
from labctl.graph.model import LogicalPort, NatRule, PortKind, Router, Switch

_TABLES: tuple[tuple[Tool, str, str], ...] = (
    ("ovn-nbctl", "Logical_Switch", "name,ports,external_ids"),
    ("ovn-nbctl", "Logical_Switch_Port", "_uuid,name,type,addresses,options,external_ids"),
    ("ovn-nbctl", "Logical_Router", "name,ports,nat,static_routes,external_ids"),
    ("ovn-nbctl", "Logical_Router_Port", "_uuid,name,mac,networks"),
    ("ovn-nbctl", "NAT", "_uuid,type,external_ip,logical_ip"),
    ("ovn-nbctl", "Logical_Router_Static_Route", "_uuid,ip_prefix,nexthop"),
    ("ovn-sbctl", "Chassis", "_uuid,name,hostname,encaps"),
    ("ovn-sbctl", "Encap", "_uuid,ip"),
    ("ovn-sbctl", "Port_Binding", "logical_port,type,chassis"),
)
QUESTION = tables_script(
    {table: list_command(tool, table, columns, timeout=60) for tool, table, columns in _TABLES}
)
"""A script for the controller; `understand` reads what it prints."""


@dataclass(frozen=True)
class ObservedNetwork:
    """The logical network, and the chassis that it is on."""

    switches: tuple[Switch, ...] = ()
    routers: tuple[Router, ...] = ()
    chassis: Mapping[str, tuple[str, str]] | None = None
    """By host name: (name, tunnel address) of the chassis; None: not read."""

    def port(self, name: str) -> LogicalPort | None:
        """The port of that name, of any switch."""
        ports = (port for switch in self.switches for port in switch.ports)
        return next((port for port in ports if port.name == name), None)


def understand(output: str, instances: Mapping[str, str], *, openstack: bool) -> ObservedNetwork:
    """Parse the output of `QUESTION`; `instances` has names by ID.

    Raises ValueError naming the tables that are missing.
    """
    tables = parse_tables(output, [table for _, table, _ in _TABLES])
    return _Databases(tables, instances, openstack).network()


class _Databases:
    """The tables of both databases, with their references resolved."""

    def __init__(
        self, tables: Mapping[str, Rows], instances: Mapping[str, str], openstack: bool
    ) -> None:
        self._tables = tables
        self._instances = instances
        self._openstack = openstack
        self._hosts = {row["_uuid"]: str(row["hostname"]) for row in tables["Chassis"]}
        self._bound = {
            str(row["logical_port"]): self._hosts.get(row["chassis"], "")
            for row in tables["Port_Binding"]
        }
        self._switch_ports = by_uuid(tables["Logical_Switch_Port"])
        self._router_ports = by_uuid(tables["Logical_Router_Port"])
        # By name of a router port: its router, and the switch that it is connected to.
        self._router_of = {
            str(port["name"]): str(router["name"])
            for router in tables["Logical_Router"]
            for port in referenced(router["ports"], self._router_ports)
        }
        self._switch_of = {
            port["options"].get("router-port", ""): switch
            for switch in tables["Logical_Switch"]
            for port in referenced(switch["ports"], self._switch_ports)
            if port["type"] == "router"
        }
        self._labels = {
            str(row["name"]): _label(row, "neutron:router_name") for row in tables["Logical_Router"]
        } | {
            str(row["name"]): _label(row, "neutron:network_name")
            for row in tables["Logical_Switch"]
        }

    def network(self) -> ObservedNetwork:
        encaps = by_uuid(self._tables["Encap"])
        chassis = {
            str(row["hostname"]): (
                str(row["name"]),
                next((str(encap["ip"]) for encap in referenced(row["encaps"], encaps)), ""),
            )
            for row in self._tables["Chassis"]
        }
        switches = [self._switch(row) for row in self._tables["Logical_Switch"]]
        routers = [self._router(row) for row in self._tables["Logical_Router"]]
        return ObservedNetwork(
            tuple(sorted(switches, key=lambda switch: (switch.label, switch.name))),
            tuple(sorted(routers, key=lambda router: (router.label, router.name))),
            chassis,
        )

    # -- switches ----------------------------------------------------------------------------
    def _switch(self, row: Row) -> Switch:
        port_rows = referenced(row["ports"], self._switch_ports)
        localnet = next(
            (port_row["options"].get("network_name", "") for port_row in port_rows
             if port_row["type"] == "localnet"),
            "",
        )  # fmt: skip
        ports = [self._switch_port(port_row, bool(localnet)) for port_row in port_rows]
        order: list[PortKind] = ["router", "gateway", "instance", "workload", "metadata", "other"]
        ports.sort(
            key=lambda port: (
                order.index(port.kind) if port.kind in order else len(order),
                port.label,
                port.name,
            )
        )
        cidrs = dict.fromkeys(
            str(network.network)
            for port_row in port_rows
            for network in self._networks(port_row["options"].get("router-port", ""))
        )
        name = str(row["name"])
        return Switch(name, self._labels[name], tuple(cidrs), localnet, tuple(ports))

    def _switch_port(self, row: Row, outside: bool) -> LogicalPort:
        name, ids = str(row["name"]), row["external_ids"]
        words = [word for entry in as_list(row["addresses"]) for word in entry.split()]
        peer = self._router_of.get(row["options"].get("router-port", ""), "")
        kind, label = self._kind(row, ids, outside)
        addresses = [word for word in words if _is_address(word)]
        if not addresses and kind != "router":
            # OVN may not need the addresses of a port; Neutron keeps them in external_ids, too.
            addresses = [cidr.partition("/")[0] for cidr in ids.get("neutron:cidrs", "").split()]
        return LogicalPort(
            name,
            self._labels[peer] if peer else label,
            kind,
            tuple(addresses),
            next((word for word in words if word.count(":") == 5 and len(word) == 17), ""),
            self._bound.get(name, ""),
            peer,
        )

    def _kind(self, row: Row, ids: Mapping[str, str], outside: bool) -> tuple[PortKind, str]:
        name = str(row["name"])
        match row["type"] or "":
            case "router":
                return "gateway" if outside else "router", name
            case "localnet":
                return "localnet", row["options"].get("network_name", "")
            case "localport":
                return "metadata", "metadata"
            case "":
                device = ids.get("neutron:device_id", "")
                if device in self._instances:
                    return "instance", self._instances[device]
                if ids.get("neutron:device_owner", "").startswith("compute:"):
                    return "instance", ids.get("neutron:port_name") or name
                return "other" if self._openstack else "workload", name
        return "other", name

    # -- routers -----------------------------------------------------------------------------
    def _router(self, row: Row) -> Router:
        ports = [
            self._router_port(port_row) for port_row in referenced(row["ports"], self._router_ports)
        ]
        ports.sort(key=lambda port: (port.kind == "gateway", port.label, port.name))
        rules, routes = (
            by_uuid(self._tables["NAT"]),
            by_uuid(self._tables["Logical_Router_Static_Route"]),
        )
        name = str(row["name"])
        nat = [
            NatRule(rule["type"], str(rule["external_ip"]), str(rule["logical_ip"]))
            for rule in referenced(row["nat"], rules)
        ]
        return Router(
            name,
            self._labels[name],
            tuple(ports),
            tuple(sorted(nat, key=lambda rule: (rule.type != "snat", rule.external, rule.logical))),
            tuple(
                (str(route["ip_prefix"]), str(route["nexthop"]))
                for route in referenced(row["static_routes"], routes)
            ),
            next((port.host for port in ports if port.host), ""),
        )

    def _router_port(self, row: Row) -> LogicalPort:
        name = str(row["name"])
        switch = self._switch_of.get(name)
        outside = switch is not None and any(
            port["type"] == "localnet" for port in referenced(switch["ports"], self._switch_ports)
        )
        peer = str(switch["name"]) if switch is not None else ""
        return LogicalPort(
            name,
            self._labels.get(peer, "") or name,
            "gateway" if outside else "router",
            tuple(as_list(row["networks"])),
            str(row["mac"]),
            self._bound.get(f"cr-{name}", "") or self._bound.get(name, ""),
            peer,
        )

    def _networks(self, router_port: str) -> Iterator[IPv4Interface | IPv6Interface]:
        for row in self._router_ports.values():
            if router_port and row["name"] == router_port:
                yield from (ip_interface(network) for network in as_list(row["networks"]))


def with_localnets(
    switches: Sequence[Switch], mappings: Mapping[str, Sequence[str]]
) -> tuple[Switch, ...]:
    """The switches, with localnet ports bound to the one node that has the physical network.

    OVN does not bind localnet ports: they exist on every node whose bridge mappings name their
    network.
    """
    return tuple(
        replace(
            switch,
            ports=tuple(
                replace(port, host=mappings[port.label][0])
                if port.kind == "localnet" and len(mappings.get(port.label, ())) == 1
                else port
                for port in switch.ports
            ),
        )
        for switch in switches
    )


def _label(row: Row, key: str) -> str:
    return row["external_ids"].get(key) or str(row["name"])


def _is_address(word: str) -> bool:
    try:
        ip_interface(word)
    except ValueError:
        return False
    return True
