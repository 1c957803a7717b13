"""The logical network as a walk needs it: switches, routers, ports, their keys and NAT rules.

`read` asks the databases, the rest is pure. It works for networks of OpenStack and for networks
that were made with `ovn-nbctl`.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl.access.guest import Guest
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
from labctl.access.packets import is_ipv6
from labctl.topology import Topology
from labctl.walks.model import Names, NatRule

TABLES: tuple[tuple[Tool, str, str], ...] = (
    ("ovn-sbctl", "Chassis", "_uuid,hostname"),
    ("ovn-sbctl", "Datapath_Binding", "_uuid,tunnel_key,external_ids"),
    ("ovn-sbctl", "Port_Binding",
     "logical_port,type,datapath,tunnel_key,mac,chassis,options,external_ids"),
    ("ovn-nbctl", "NAT", "_uuid,type,external_ip,logical_ip,external_mac,logical_port"),
    ("ovn-nbctl", "Logical_Router", "name,nat,external_ids"),
    ("ovn-nbctl", "Port_Group", "name,external_ids"),
)  # fmt: skip
"""(tool, table, columns) of every table that a walk needs."""


@dataclass(frozen=True)
class Datapath:
    """A logical switch or router."""

    uuid: str
    """Of its row in the northbound database; ovn-trace prints it."""
    name: str
    router: bool
    key: int
    """Its tunnel key: the VNI of Geneve."""


@dataclass(frozen=True)
class OvnPort:
    """A logical port."""

    name: str
    type: str
    """Empty for an instance's; else patch, localnet, localport, chassisredirect, …"""
    datapath: Datapath
    key: int
    macs: tuple[str, ...]
    addresses: tuple[str, ...]
    """Without their prefix lengths; those of IPv4 first."""
    chassis: str | None
    """Name of the node it is bound to."""
    peer: str
    """Of a patch port: name of the port at its other side."""
    device: str
    """With OpenStack: ID of the server or router that it belongs to."""
    owner: str
    physical_network: str


@dataclass(frozen=True)
class LogicalNetwork:
    """What a walk reads from OVN's databases."""

    datapaths: tuple[Datapath, ...] = ()
    ports: tuple[OvnPort, ...] = ()
    nat: tuple[NatRule, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    """By name of the port group: ID of the security group."""

    def port(self, name: str) -> OvnPort | None:
        """The port of that name."""
        return next((port for port in self.ports if port.name == name), None)

    def by_mac(self, mac: str) -> OvnPort | None:
        """The port with that MAC address. Not a chassisredirect: it has that of its router port."""
        ports = [port for port in self.ports if mac in port.macs]
        return next((port for port in ports if port.type != "chassisredirect"), None)

    def receiver(self, mac: str) -> OvnPort | None:
        """The port that takes frames for that MAC address.

        For a distributed floating IP's it is the gateway port of its router.
        """
        routers = {rule.router for rule in self.nat if rule.mac == mac}
        gateways = (
            port
            for port in self.ports
            if port.datapath.name in routers and self.port(f"cr-{port.name}") is not None
        )
        return self.by_mac(mac) or next(gateways, None)

    def translating_node(self, address: str) -> str | None:
        """The node that translates a floating IP, or the fixed address behind it, by itself.

        None if a gateway does.
        """
        for rule in self.nat:
            if rule.mac and address in (rule.external, rule.logical):
                port = self.port(rule.port)
                return port.chassis if port is not None else None
        return None

    def datapath(self, uuid: str) -> Datapath | None:
        """The logical switch or router of that UUID."""
        return next((datapath for datapath in self.datapaths if datapath.uuid == uuid), None)

    def localnet(self, switch: Datapath) -> OvnPort | None:
        """The port that connects a switch to a physical network."""
        return next(
            (port for port in self.ports if port.datapath == switch and port.type == "localnet"),
            None,
        )

    def is_router(self, address: str) -> bool:
        """Whether a port of a router has that address."""
        return any(port.datapath.router and address in port.addresses for port in self.ports)

    def chassis_of(self, port: OvnPort) -> str | None:
        """The node that a port is bound to; a router's gateway port is bound by its cr- port."""
        redirect = self.port(f"cr-{port.name}")
        return port.chassis or (redirect.chassis if redirect is not None else None)

    def label(self, port: OvnPort, servers: Mapping[str, str]) -> str:
        """A name of a port for people; `servers` has names of instances by ID."""
        if port.device in servers:
            return servers[port.device]
        match port.type:
            case "localnet":
                return f"localnet {port.physical_network}".strip()
            case "localport":
                return f"metadata of {port.datapath.name}" if port.owner else port.name
            case "chassisredirect":
                return f"{port.datapath.name} on {port.chassis}"
            case "patch" if (peer := self.port(port.peer)) is not None:
                return f"{port.datapath.name}:{peer.datapath.name}"
        return port.name

    def names(self, topology: Topology, servers: Mapping[str, str], far_mac: str) -> Names:
        """What addresses and keys in a frame mean; `far_mac`: of the host's end of eth0, or ""."""
        owners: dict[str, str] = {}
        macs: dict[str, str] = {}
        addresses: dict[str, str] = {}
        for node in topology.nodes:
            for nic in (node.eth0, node.eth1):
                owners[nic.mac] = node.name
                macs[nic.mac] = node.name
            owners[str(node.eth1.address.ip)] = node.name
            addresses[str(node.eth1.address.ip)] = node.name
        for client in topology.clients:
            owners[client.eth0.mac] = client.name
            macs[client.eth0.mac] = client.name
            owners[str(client.eth0.address.ip)] = client.name
            addresses[str(client.eth0.address.ip)] = client.name
        for port in self.ports:
            label = self.label(port, servers)
            for mac in port.macs if port.type != "chassisredirect" else ():
                macs.setdefault(mac, label)
                if port.datapath.router and (chassis := self.chassis_of(port)):
                    owners[mac] = chassis
            for address in port.addresses:
                addresses.setdefault(address, label)
        for rule in self.nat:
            if rule.mac:
                macs.setdefault(rule.mac, f"{rule.router} {rule.external}")
                if node_name := self.translating_node(rule.external):
                    owners[rule.mac] = node_name
        if far_mac:
            owners[far_mac] = "internet"
            macs[far_mac] = "Internet"
        return Names(
            owners=owners,
            macs=macs,
            addresses=addresses,
            datapaths={datapath.key: datapath.name for datapath in self.datapaths},
            ports={(port.datapath.key, port.key): self.label(port, servers) for port in self.ports},
            routers={
                **{rule.mac: rule.router for rule in self.nat if rule.mac},
                **{
                    mac: port.datapath.name
                    for port in self.ports
                    if port.datapath.router
                    for mac in port.macs
                },
            },
            hosts=frozenset(machine.eth0.mac for machine in topology.machines),
            inside=frozenset(
                [
                    *(mac for port in self.ports for mac in port.macs),
                    *(rule.mac for rule in self.nat if rule.mac),
                ]
            ),
            nat=self.nat,
        )


def read(controller: Guest) -> LogicalNetwork:
    """Ask both databases. Raises GuestError or ValueError when they do not answer."""
    script = tables_script(
        {table: list_command(tool, table, columns) for tool, table, columns in TABLES}
    )
    output = controller.run(script, timeout=30).stdout
    return understand(parse_tables(output, [table for _, table, _ in TABLES]))


def understand(tables: Mapping[str, Rows]) -> LogicalNetwork:
    """The rows of every table of `TABLES`, by its name -> the network.

    Raises KeyError when a table or a column is missing.
    """
    nodes = {row["_uuid"]: row["hostname"] for row in tables["Chassis"]}
    datapaths = {row["_uuid"]: _datapath(row) for row in tables["Datapath_Binding"]}
    rules = by_uuid(tables["NAT"])
    return LogicalNetwork(
        datapaths=tuple(datapaths.values()),
        ports=tuple(
            OvnPort(
                name=row["logical_port"],
                type=row["type"],
                datapath=datapaths[row["datapath"]],
                key=row["tunnel_key"],
                macs=tuple(word for word in _words(row["mac"]) if _is_mac(word)),
                addresses=tuple(_addresses(row["mac"])),
                chassis=nodes.get(row["chassis"]),
                peer=row["options"].get("peer", ""),
                device=row["external_ids"].get("neutron:device_id", ""),
                owner=row["external_ids"].get("neutron:device_owner", ""),
                physical_network=row["options"].get("network_name", ""),
            )
            for row in tables["Port_Binding"]
            if row["datapath"] in datapaths
        ),
        nat=tuple(
            NatRule(
                rule["type"],
                rule["external_ip"],
                rule["logical_ip"],
                router["external_ids"].get("neutron:router_name") or router["name"],
                rule.get("external_mac") or "",
                rule.get("logical_port") or "",
            )
            for router in tables["Logical_Router"]
            for rule in referenced(router["nat"], rules)
        ),
        groups={
            group["name"]: group["external_ids"].get("neutron:security_group_id", "")
            for group in tables["Port_Group"]
        },
    )


def _datapath(row: Row) -> Datapath:
    ids = row["external_ids"]
    return Datapath(
        uuid=ids.get("logical-router") or ids.get("logical-switch", ""),
        name=ids.get("name2") or ids.get("name", ""),
        router="logical-router" in ids,
        key=row["tunnel_key"],
    )


def _words(mac: object) -> list[str]:
    """The words of the column `mac`, such as "fa:16:3e:84:8b:a2 172.16.100.10 2001:db8::1/64"."""
    return [word for entry in as_list(mac) for word in entry.split()]


def _is_mac(word: str) -> bool:
    pairs = word.split(":")
    return len(pairs) == 6 and all(len(pair) == 2 for pair in pairs)


def _addresses(mac: object) -> list[str]:
    """The IP addresses of the column `mac` as frames have them, those of IPv4 first."""

    def read() -> Iterator[str]:
        for word in _words(mac):
            try:
                yield str(ipaddress.ip_interface(word).ip)
            except ValueError:  # a MAC address, or `unknown`
                continue

    return sorted(read(), key=is_ipv6)
