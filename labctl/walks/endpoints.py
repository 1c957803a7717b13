"""The two ends of a walk, found in a running lab: nodes, instances, addresses."""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labctl.access.cloud import API_ERRORS
from labctl.access.guest import Guest
from labctl.access.instance import find_instance
from labctl.access.ovsdb import list_command, parse_table
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.providers.nspawn.uplink import INTERNET_HOST
from labctl.topology import Topology
from labctl.walks import logical_network
from labctl.walks.logical_network import LogicalNetwork, Port
from labctl.walks.model import Names
from labctl.walks.plan import End

if TYPE_CHECKING:
    from openstack.connection import Connection


@dataclass(frozen=True)
class Labels:
    """Names for the UUIDs, addresses and keys in a walk."""

    datapaths: Mapping[str, str]
    """By UUID."""
    routers: tuple[str, ...]
    """UUIDs of those datapaths that are routers."""
    ports: Mapping[str, str]
    macs: Mapping[str, str]
    addresses: Mapping[str, str]
    groups: Mapping[str, str]
    """Name of the security group by that of its port group in OVN."""


class Ends:
    """What a lab has that packets can go between."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
    ) -> None:
        """Asks OVN's databases and OpenStack, at once. What does not answer is a note."""
        self._topology = topology
        self._guest = guest
        self._cloud = cloud
        self.notes: list[str] = []
        with ThreadPoolExecutor(max_workers=2) as pool:
            asked = pool.submit(logical_network.read, guest(topology.controller.name))
            self.servers, self._groups, self._floating_ips = self._openstack()
            try:
                self.network = asked.result()
            except (LabError, ValueError) as error:
                self.network = LogicalNetwork()
                self.notes.append(tr("OVN's databases do not answer: {error}", error=str(error)))

    def _openstack(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Names of instances and of security groups by ID; fixed addresses by floating IP."""
        if self._topology.stack != "openstack":
            return {}, {}, {}
        try:
            cloud = self._cloud()
            servers = {server.id: server.name for server in cloud.compute.servers()}
            groups = {group.id: group.name for group in cloud.network.security_groups()}
            ips = {ip.floating_ip_address: ip.fixed_ip_address or "" for ip in cloud.network.ips()}
        except (LabError, *API_ERRORS) as error:
            self.notes.append(tr("OpenStack does not answer: {said}", said=str(error)))
            return {}, {}, {}
        return servers, groups, ips

    @property
    def gateway(self) -> str:
        """The node at which the router's gateway port is, else the one that could have it."""
        for port in self.network.ports:
            if port.type == "chassisredirect" and port.chassis:
                return port.chassis
        return (self._topology.gateways or (self._topology.controller,))[0].name

    def names(self, far_mac: str) -> Names:
        """What the numbers in frames mean."""
        return self.network.names(self._topology, self.servers, far_mac)

    def labels(self, names: Names) -> Labels:
        """What the UUIDs and addresses in a walk mean, for people."""
        return Labels(
            datapaths={one.uuid: one.name for one in self.network.datapaths},
            routers=tuple(one.uuid for one in self.network.datapaths if one.router),
            ports={
                port.name: self.network.label(port, self.servers) for port in self.network.ports
            },
            macs=dict(names.macs),
            addresses=dict(names.addresses),
            groups={
                name: self._groups[group]
                for name, group in self.network.groups.items()
                if group in self._groups
            },
        )

    def outer(self, nodes: set[str]) -> dict[str, Sequence[str]]:
        """By node its interfaces towards the external network."""

        def ask(node: str) -> Sequence[str]:
            bridge = self._guest(node).run("test -e /sys/class/net/br-ex", check=False).ok
            return ("br-ex", "eth0") if bridge else ("eth0",)

        named = sorted({*nodes, *(node.name for node in self._topology.gateways)} - {""})
        with ThreadPoolExecutor(max_workers=len(named)) as pool:
            return dict(zip(named, pool.map(ask, named), strict=True))

    # -- the two ends --------------------------------------------------------------------------
    def source(self, name: str) -> End:
        """A node or an instance that is to send. Raises LabError when there is none."""
        if name in {node.name for node in self._topology.nodes}:
            return End(name, "node", "", name)
        return self._workload(name)

    def target(self, name: str, source: End) -> End:
        """What is to be reached: a node, an instance, or an address. Raises LabError."""
        nodes = {node.name: node for node in self._topology.nodes}
        if name in nodes:
            return End(name, "node", str(nodes[name].eth1.address.ip), name)
        if name == "internet":
            name = INTERNET_HOST
        try:
            address = str(ipaddress.IPv4Address(name))
        except ValueError:
            found = self._workload(name)
            if source.kind == "instance":
                return found
            if not (floating := self._floating(found.address)):
                raise LabError(
                    tr("{name} has no floating IP, so nobody outside reaches it", name=name),
                    hint=tr("give it one, or walk from an instance"),
                ) from None
            return replace(found, address=floating, inner=found.address)
        return self._at(address)

    def _at(self, address: str) -> End:
        """What has an address: an instance, directly or by its floating IP, a node, or neither."""
        for node in self._topology.nodes:
            if address == str(node.eth1.address.ip):
                return End(node.name, "node", address, node.name)
        inner = self._behind(address)
        for port in self.network.ports:
            if (inner or address) in port.addresses and port.type == "":
                name = self.network.label(port, self.servers)
                found = self._located(name, port) if port.chassis else self._workload(name)
                if inner:
                    return replace(found, address=address, inner=inner)
                return found
        label = self.names("").addresses.get(address, address)
        return End(label, "address", address)

    def _workload(self, name: str) -> End:
        """An instance of OpenStack's, or a workload that is a logical port of OVN by itself."""
        if port := self.network.port(name):
            return self._located(name, port)
        if self._topology.stack != "openstack":
            names = [port.name for port in self.network.ports if port.type == ""]
            raise LabError(
                tr("there is no node and no workload {name}", name=name),
                hint=tr("there are: {names}", names=", ".join([*self._node_names(), *names])),
                code=EXIT_USAGE,
            )
        try:
            place = find_instance(name, self._cloud())
        except API_ERRORS as error:
            raise LabError(tr("OpenStack does not answer: {said}", said=str(error))) from error
        except LabError as error:
            error.hint = f"{error.hint}; " * bool(error.hint) + tr(
                "the nodes are: {names}", names=", ".join(self._node_names())
            )
            raise
        bound = self.network.port(place.port)
        if bound is not None and not bound.chassis:
            self.notes.append(
                tr("{name} is not bound to any node: no chassis answers for it", name=name)
            )
        return End(name, "instance", place.address, place.node, place.tap, mac=place.mac)

    def _node_names(self) -> list[str]:
        return [node.name for node in self._topology.nodes]

    def _located(self, name: str, port: Port) -> End:
        """The interface of a logical port, where its chassis has it."""
        if not port.chassis:
            raise LabError(
                tr("{name} is not bound to any node", name=name),
                hint=tr("does it run? see `ovn-sbctl show` on the controller"),
            )
        find = list_command(
            "ovs-vsctl", "Interface", "name,external_ids", f"external_ids:iface-id={port.name}"
        )
        rows = parse_table(self._guest(port.chassis).run(find, timeout=15).stdout)
        if not rows:
            raise LabError(tr("{node} has no interface for {name}", node=port.chassis, name=name))
        return End(
            name=name,
            kind="instance",
            address=next(iter(port.addresses), ""),
            node=port.chassis,
            interface=rows[0]["name"],
            namespace=rows[0]["external_ids"].get("netns", ""),
            mac=next(iter(port.macs), ""),
        )

    def addressed(self, source: End, target: End) -> End:
        """The source with the address that it sends to the target from. Raises LabError."""
        if source.kind != "node":
            return source
        asked = self._guest(source.node).run(
            ["ip", "-j", "-4", "route", "get", target.address], check=False
        )
        rows = json.loads(asked.stdout or "[]") if asked.ok else []
        if not rows or not rows[0].get("prefsrc"):
            raise LabError(
                tr("{node} has no way to {address}", node=source.node, address=target.address)
                + (f": {asked.stderr.strip()}" if asked.stderr.strip() else "")
            )
        return replace(source, address=rows[0]["prefsrc"])

    def _behind(self, address: str) -> str:
        """The inner address that an outer one is meant for; empty if it is for none.

        Asked of OVN, and of OpenStack too: a rule may be missing that should be there.
        """
        for rule in self.network.nat:
            if rule.external == address and rule.type.startswith("dnat"):
                return rule.logical
        return self._floating_ips.get(address, "")

    def _floating(self, address: str) -> str:
        """The outer address that is meant for an inner one; empty if none is."""
        for floating, fixed in self._floating_ips.items():
            if fixed == address:
                return floating
        for rule in self.network.nat:
            if rule.logical == address and rule.type.startswith("dnat"):
                return rule.external
        return ""
