"""Finds the source and the target of a walk in a running lab: nodes, instances, addresses."""

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
from labctl.i18n import tr, tr_list
from labctl.spec.defaults import INTERNET_HOST
from labctl.topology import Topology
from labctl.walks import logical_network
from labctl.walks.logical_network import LogicalNetwork, OvnPort
from labctl.walks.model import Names
from labctl.walks.plan import Endpoint

if TYPE_CHECKING:
    from openstack.connection import Connection


@dataclass(frozen=True)
class Labels:
    """Names for the UUIDs, addresses and keys in a walk."""

    datapaths: Mapping[str, str]
    """By UUID of a logical switch or router."""
    routers: tuple[str, ...]
    """UUIDs of the datapaths that are routers."""
    ports: Mapping[str, str]
    macs: Mapping[str, str]
    addresses: Mapping[str, str]
    groups: Mapping[str, str]
    """By name of the port group in OVN: name of the security group."""


class EndpointFinder:
    """What can send or receive packets in a lab, read once from OVN and OpenStack."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
    ) -> None:
        """Reads OVN's databases and OpenStack in parallel. Failures go to `notes`, for people."""
        self._topology = topology
        self._guest = guest
        self._cloud = cloud
        self.notes: list[str] = []
        with ThreadPoolExecutor(max_workers=2) as pool:
            reading = pool.submit(logical_network.read, guest(topology.controller.name))
            self.servers, self._groups, self._floating_ips = self._openstack()
            try:
                self.network = reading.result()
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
        """The node that has the router's gateway port, else the first that could have it."""
        for port in self.network.ports:
            if port.type == "chassisredirect" and port.chassis:
                return port.chassis
        return (self._topology.gateways or (self._topology.controller,))[0].name

    def names(self, far_mac: str) -> Names:
        """What the addresses and keys in frames mean."""
        return self.network.names(self._topology, self.servers, far_mac)

    def labels(self, names: Names) -> Labels:
        """What the UUIDs and addresses in a walk mean, for people."""
        return Labels(
            datapaths={datapath.uuid: datapath.name for datapath in self.network.datapaths},
            routers=tuple(datapath.uuid for datapath in self.network.datapaths if datapath.router),
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

    def external_interfaces(self, nodes: set[str]) -> dict[str, Sequence[str]]:
        """By node: its interfaces on the external network, for `nodes` and all gateways."""

        def ask(node: str) -> Sequence[str]:
            # On a compute node that a lesson gave a br-ex it may be down; nothing can listen there.
            is_up = "[ $(( $(cat /sys/class/net/br-ex/flags || echo 0) & 1 )) = 1 ]"  # IFF_UP
            has_bridge = self._guest(node).run(is_up, check=False).ok
            return ("br-ex", "eth0") if has_bridge else ("eth0",)

        names = sorted({*nodes, *(node.name for node in self._topology.gateways)} - {""})
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            return dict(zip(names, pool.map(ask, names), strict=True))

    # -- source and target ---------------------------------------------------------------------
    def source(self, name: str) -> Endpoint:
        """The node or instance of that name. Raises LabError when there is none."""
        if name in {node.name for node in self._topology.nodes}:
            return Endpoint(name, "node", "", name)
        return _with_ipv4(self._workload(name))

    def target(self, name: str, source: Endpoint) -> Endpoint:
        """A node, an instance, or an IPv4 address. Raises LabError when it is none of them.

        Only instances reach the fixed address of an instance; for a node it is the floating IP.
        """
        nodes = {node.name: node for node in self._topology.nodes}
        if name in nodes:
            return Endpoint(name, "node", str(nodes[name].eth1.address.ip), name)
        if name == "internet":
            name = str(INTERNET_HOST)
        try:
            address = str(ipaddress.ip_address(name))
        except ValueError:
            workload = _with_ipv4(self._workload(name))
            if source.kind == "instance":
                return workload
            if self._is_outside(workload):  # it has its own address on the external network
                return workload
            if not (floating := self._outer_address(workload.address)):
                raise LabError(
                    tr("{name} has no floating IP, so nobody outside reaches it", name=name),
                    hint=tr("give it one, or walk from an instance"),
                ) from None
            return replace(workload, address=floating, inner=workload.address)
        if ":" in address:
            raise _only_ipv4(
                tr("{address} is an IPv6 address; labctl walk follows IPv4 only", address=address)
            )
        return self._by_address(address)

    def _is_outside(self, workload: Endpoint) -> bool:
        """Whether its network has a way to a physical network of its own, by a localnet port."""
        port = self.network.by_mac(workload.mac)
        return port is not None and self.network.localnet(port.datapath) is not None

    def _by_address(self, address: str) -> Endpoint:
        """The node or instance that has a (fixed or floating) address, else the bare address."""
        for node in self._topology.nodes:
            if address == str(node.eth1.address.ip):
                return Endpoint(node.name, "node", address, node.name)
        inner = self._inner_address(address)
        for port in self.network.ports:
            if (inner or address) in port.addresses and port.type == "":
                name = self.network.label(port, self.servers)
                workload = self._bound_to(name, port) if port.chassis else self._workload(name)
                return replace(workload, address=address, inner=inner) if inner else workload
        label = self.names("").addresses.get(address, address)
        return Endpoint(label, "address", address)

    def _workload(self, name: str) -> Endpoint:
        """An instance of OpenStack, or in a lab without it a logical port. Raises LabError."""
        if port := self.network.port(name):
            return self._bound_to(name, port)
        if self._topology.stack != "openstack":
            names = [port.name for port in self.network.ports if port.type == ""]
            raise LabError(
                tr("there is no node and no workload {name}", name=name),
                hint=tr("there are: {names}", names=tr_list([*self._node_names(), *names])),
                code=EXIT_USAGE,
            )
        try:
            instance = find_instance(name, self._cloud())
        except API_ERRORS as error:
            raise LabError(tr("OpenStack does not answer: {said}", said=str(error))) from error
        except LabError as error:
            error.hint = (error.hint + tr("; ") if error.hint else "") + tr(
                "the nodes are: {names}", names=tr_list(self._node_names())
            )
            raise
        bound = self.network.port(instance.port)
        if bound is not None and not bound.chassis:
            self.notes.append(
                tr("{name} is not bound to any node: no chassis answers for it", name=name)
            )
        return Endpoint(
            name, "instance", instance.address, instance.node, instance.tap, mac=instance.mac
        )

    def _node_names(self) -> list[str]:
        return [node.name for node in self._topology.nodes]

    def _bound_to(self, name: str, port: OvnPort) -> Endpoint:
        """The interface of a logical port on the node it is bound to. Raises LabError."""
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
        return Endpoint(
            name=name,
            kind="instance",
            address=next(iter(port.addresses), ""),
            node=port.chassis,
            interface=rows[0]["name"],
            namespace=rows[0]["external_ids"].get("netns", ""),
            mac=next(iter(port.macs), ""),
        )

    def with_source_address(self, source: Endpoint, target: Endpoint) -> Endpoint:
        """The source with the address that its routing table chooses for the target.

        Raises LabError when a node has no route there.
        """
        if source.kind != "node":
            return source
        result = self._guest(source.node).run(
            ["ip", "-j", "-4", "route", "get", target.address], check=False
        )
        rows = json.loads(result.stdout or "[]") if result.ok else []
        if not rows or not rows[0].get("prefsrc"):
            raise LabError(
                tr("{node} has no way to {address}", node=source.node, address=target.address)
                + (tr(": ") + result.stderr.strip() if result.stderr.strip() else "")
            )
        return replace(source, address=rows[0]["prefsrc"])

    def _inner_address(self, address: str) -> str:
        """The fixed address that belongs to a floating IP; empty if there is none.

        Looked up in OVN, then in OpenStack: OVN may lack the rule, and the walk is to show that.
        """
        for rule in self.network.nat:
            if rule.external == address and rule.type.startswith("dnat"):
                return rule.logical
        return self._floating_ips.get(address, "")

    def _outer_address(self, address: str) -> str:
        """The floating IP of a fixed address; empty if there is none."""
        for floating, fixed in self._floating_ips.items():
            if fixed == address:
                return floating
        for rule in self.network.nat:
            if rule.logical == address and rule.type.startswith("dnat"):
                return rule.external
        return ""


def _with_ipv4(workload: Endpoint) -> Endpoint:
    """The workload itself. Raises LabError when it has no IPv4 address."""
    if not workload.address or ":" in workload.address:
        raise _only_ipv4(
            tr("{name} has no IPv4 address; labctl walk follows IPv4 only", name=workload.name)
        )
    return workload


def _only_ipv4(message: str) -> LabError:
    command = "labctl capture NODE:INTERFACE --filter 'ip6 or udp port 6081'"
    return LabError(
        message,
        hint=tr("see IPv6 packets with `{command}`", command=command),
        code=EXIT_USAGE,
    )
