"""What OVN's databases say of the logical network: a question, and its answer parsed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from labctl.access.ovsdb import Rows, parse_table
from labctl.graph.model import LogicalPort, NatRule, PortKind, Router, Switch
from labctl.i18n import tr

_TABLES = (
    ("nb", "Logical_Switch", "name,ports,external_ids"),
    ("nb", "Logical_Switch_Port", "_uuid,name,type,addresses,options,external_ids"),
    ("nb", "Logical_Router", "name,ports,nat,static_routes,external_ids"),
    ("nb", "Logical_Router_Port", "_uuid,name,mac,networks"),
    ("nb", "NAT", "_uuid,type,external_ip,logical_ip"),
    ("nb", "Logical_Router_Static_Route", "_uuid,ip_prefix,nexthop"),
    ("sb", "Chassis", "_uuid,name,hostname,encaps"),
    ("sb", "Encap", "_uuid,ip"),
    ("sb", "Port_Binding", "logical_port,type,chassis"),
)
QUESTION = "set -e\n" + "".join(
    f"printf '{table} '; ovn-{database}ctl --timeout=60 --format=json --columns={columns}"
    f" list {table} | tr -d '\\n'; echo\n"
    for database, table, columns in _TABLES
)
"""A script for bash; every line of what it prints is a table's name and the table as JSON."""


@dataclass(frozen=True)
class OvnFacts:
    """The logical network, and where it is."""

    switches: tuple[Switch, ...] = ()
    routers: tuple[Router, ...] = ()
    chassis: Mapping[str, tuple[str, str]] | None = None
    """(name, address of its tunnels) by host name; None: nobody asked."""

    def port(self, name: str) -> LogicalPort | None:
        """The switch's port of that name."""
        ports = (port for switch in self.switches for port in switch.ports)
        return next((port for port in ports if port.name == name), None)


def understand(said: str, instances: Mapping[str, str], *, openstack: bool) -> OvnFacts:
    """What `QUESTION` prints -> facts; `instances` has names by ID.

    Raises ValueError when a table is missing.
    """
    tables = {
        name: parse_table(text)
        for name, _, text in (line.partition(" ") for line in said.splitlines())
        if text.startswith("{")
    }
    if missing := [table for _, table, _ in _TABLES if table not in tables]:
        raise ValueError(tr("no {tables}", tables=", ".join(missing)))
    return _Databases(tables, instances, openstack).facts()


class _Databases:
    """The tables of both, with what refers to what."""

    def __init__(
        self, tables: Mapping[str, Rows], instances: Mapping[str, str], openstack: bool
    ) -> None:
        self._t = tables
        self._instances = instances
        self._openstack = openstack
        self._hosts = {row["_uuid"]: str(row["hostname"]) for row in tables["Chassis"]}
        self._bound = {
            str(row["logical_port"]): self._hosts.get(row["chassis"], "")
            for row in tables["Port_Binding"]
        }
        self._switch_ports = _by_uuid(tables["Logical_Switch_Port"])
        self._router_ports = _by_uuid(tables["Logical_Router_Port"])
        # Which router's port a switch's port leads to, and back.
        self._router_of = {
            str(self._router_ports[uuid]["name"]): str(row["name"])
            for row in tables["Logical_Router"]
            for uuid in _listed(row["ports"])
            if uuid in self._router_ports
        }
        self._switch_of = {
            _map(self._switch_ports[uuid]["options"]).get("router-port", ""): row
            for row in tables["Logical_Switch"]
            for uuid in _listed(row["ports"])
            if uuid in self._switch_ports and self._switch_ports[uuid]["type"] == "router"
        }
        self._labels = {
            str(row["name"]): _label(row, "neutron:router_name") for row in tables["Logical_Router"]
        } | {
            str(row["name"]): _label(row, "neutron:network_name")
            for row in tables["Logical_Switch"]
        }

    def facts(self) -> OvnFacts:
        addresses = {row["_uuid"]: str(row["ip"]) for row in self._t["Encap"]}
        chassis = {
            str(row["hostname"]): (
                str(row["name"]),
                next((addresses[u] for u in _listed(row["encaps"]) if u in addresses), ""),
            )
            for row in self._t["Chassis"]
        }
        switches = [self._switch(row) for row in self._t["Logical_Switch"]]
        routers = [self._router(row) for row in self._t["Logical_Router"]]
        return OvnFacts(
            tuple(sorted(switches, key=lambda one: (one.label, one.name))),
            tuple(sorted(routers, key=lambda one: (one.label, one.name))),
            chassis,
        )

    # -- switches ----------------------------------------------------------------------------
    def _switch(self, row: Mapping[str, Any]) -> Switch:
        mine = [self._switch_ports[u] for u in _listed(row["ports"]) if u in self._switch_ports]
        localnet = next(
            (_map(one["options"]).get("network_name", "") for one in mine
             if one["type"] == "localnet"),
            "",
        )  # fmt: skip
        ports = [self._switch_port(one, bool(localnet)) for one in mine]
        order: list[PortKind] = ["router", "gateway", "instance", "workload", "metadata", "other"]
        ports.sort(
            key=lambda one: (
                order.index(one.kind) if one.kind in order else len(order),
                one.label,
                one.name,
            )
        )
        cidrs = dict.fromkeys(
            str(network.network)
            for one in mine
            for network in self._networks(_map(one["options"]).get("router-port", ""))
        )
        name = str(row["name"])
        return Switch(name, self._labels[name], tuple(cidrs), localnet, tuple(ports))

    def _switch_port(self, row: Mapping[str, Any], outside: bool) -> LogicalPort:
        name, about = str(row["name"]), _map(row["external_ids"])
        words = [word for one in _listed(row["addresses"]) for word in one.split()]
        peer = self._router_of.get(_map(row["options"]).get("router-port", ""), "")
        kind, label = self._kind(row, about, outside)
        addresses = [word for word in words if _is_address(word)]
        if not addresses and kind != "router":
            # Neutron tells the addresses of a port whose MAC OVN need not answer for.
            addresses = [one.partition("/")[0] for one in about.get("neutron:cidrs", "").split()]
        return LogicalPort(
            name,
            self._labels[peer] if peer else label,
            kind,
            tuple(addresses),
            next((word for word in words if word.count(":") == 5 and len(word) == 17), ""),
            self._bound.get(name, ""),
            peer,
        )

    def _kind(
        self, row: Mapping[str, Any], about: Mapping[str, str], outside: bool
    ) -> tuple[PortKind, str]:
        name = str(row["name"])
        match row["type"] or "":
            case "router":
                return "gateway" if outside else "router", name
            case "localnet":
                return "localnet", _map(row["options"]).get("network_name", "")
            case "localport":
                return "metadata", "metadata"
            case "":
                device = about.get("neutron:device_id", "")
                if device in self._instances:
                    return "instance", self._instances[device]
                if about.get("neutron:device_owner", "").startswith("compute:"):
                    return "instance", about.get("neutron:port_name") or name
                return "other" if self._openstack else "workload", name
        return "other", name

    # -- routers -----------------------------------------------------------------------------
    def _router(self, row: Mapping[str, Any]) -> Router:
        ports = [
            self._router_port(self._router_ports[uuid])
            for uuid in _listed(row["ports"])
            if uuid in self._router_ports
        ]
        ports.sort(key=lambda one: (one.kind == "gateway", one.label, one.name))
        rules, routes = _by_uuid(self._t["NAT"]), _by_uuid(self._t["Logical_Router_Static_Route"])
        name = str(row["name"])
        nat = [
            NatRule(rule["type"], str(rule["external_ip"]), str(rule["logical_ip"]))
            for rule in (rules[uuid] for uuid in _listed(row["nat"]) if uuid in rules)
        ]
        return Router(
            name,
            self._labels[name],
            tuple(ports),
            tuple(sorted(nat, key=lambda one: (one.type != "snat", one.external, one.logical))),
            tuple(
                (str(routes[uuid]["ip_prefix"]), str(routes[uuid]["nexthop"]))
                for uuid in _listed(row["static_routes"])
                if uuid in routes
            ),
            next((one.host for one in ports if one.host), ""),
        )

    def _router_port(self, row: Mapping[str, Any]) -> LogicalPort:
        name = str(row["name"])
        switch = self._switch_of.get(name)
        outside = switch is not None and any(
            self._switch_ports[uuid]["type"] == "localnet"
            for uuid in _listed(switch["ports"])
            if uuid in self._switch_ports
        )
        peer = str(switch["name"]) if switch is not None else ""
        return LogicalPort(
            name,
            self._labels.get(peer, "") or name,
            "gateway" if outside else "router",
            tuple(_listed(row["networks"])),
            str(row["mac"]),
            self._bound.get(f"cr-{name}", "") or self._bound.get(name, ""),
            peer,
        )

    def _networks(self, router_port: str) -> Iterator[IPv4Interface | IPv6Interface]:
        for row in self._router_ports.values():
            if router_port and row["name"] == router_port:
                yield from (ip_interface(one) for one in _listed(row["networks"]))


def with_localnets(
    switches: Sequence[Switch], mappings: Mapping[str, Sequence[str]]
) -> tuple[Switch, ...]:
    """The switches, with localnet ports bound to the one node that has the physical network.

    OVN binds them nowhere: they are on every node whose mappings name their network.
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


def _label(row: Mapping[str, Any], key: str) -> str:
    return _map(row["external_ids"]).get(key) or str(row["name"])


def _is_address(word: str) -> bool:
    try:
        ip_interface(word)
    except ValueError:
        return False
    return True


def _by_uuid(rows: Rows) -> dict[str, dict[str, Any]]:
    return {str(row["_uuid"]): row for row in rows}


def _map(value: object) -> dict[str, str]:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return [] if value is None else [str(value)]
