"""Finds the source and the target of a walk in a running lab: nodes, instances, addresses."""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labctl.access.guest import Guest
from labctl.access.instance import find_instance
from labctl.access.ovsdb import list_command, parse_table
from labctl.access.packets import is_ipv6
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
        from labctl.access.cloud import API_ERRORS  # loads the OpenStack SDK

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

    def gateway_between(self, source: Endpoint, target: Endpoint) -> str:
        """The node by which a packet leaves OVN, or comes into it: the compute of an instance whose
        floating IP is distributed, else `gateway`."""
        ends = [target.inner] if target.inner else [source.address] * (source.kind == "instance")
        for address in ends:
            if node := self.network.translating_node(address):
                return node
        return self.gateway

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
    def ends(self, source: str, target: str, *, ipv6: bool = False) -> tuple[Endpoint, Endpoint]:
        """Source and target, with addresses of one kind of IP: IPv4 where both have it.

        With `ipv6` IPv6. Raises LabError when there is no such source or target, or no kind of IP
        that both have.
        """
        sender = self.source(source)
        receiver = self.target(target, sender, ipv6=ipv6)
        receiver_has_ipv6 = is_ipv6(receiver.address)
        if sender.kind == "instance":
            own = _first(sender, ipv6=receiver_has_ipv6)
            if own is None:
                raise LabError(
                    tr("{name} has no IPv6 address", name=sender.name)
                    if receiver_has_ipv6
                    else tr("{name} has no IPv4 address", name=sender.name),
                    hint=tr(
                        "{target} is {address}; both ends need addresses of one kind of IP",
                        target=receiver.name,
                        address=receiver.address,
                    ),
                    code=EXIT_USAGE,
                )
            sender = replace(sender, address=own)
        return self.with_source_address(sender, receiver), receiver

    def source(self, name: str) -> Endpoint:
        """The node or instance of that name. Raises LabError when there is none."""
        if name in self._node_names():
            return Endpoint(name, "node", "", name)
        return self._addressed(name)

    def target(self, name: str, source: Endpoint, *, ipv6: bool = False) -> Endpoint:
        """A node, an instance, or an address. Raises LabError when it is none of them.

        Only instances reach the fixed address of an instance; for a node it is the floating IP.
        With `ipv6` it has an IPv6 address.
        """
        nodes = {node.name: node for node in self._topology.nodes}
        clients = {client.name for client in self._topology.clients}
        if name in nodes and source.node in clients:
            raise LabError(
                tr("{node} is on the private network, which {client} does not reach",
                   node=name, client=source.name),
                hint=tr("from outside the address of a gateway's eth0 is reached: {address}",
                        address=self._topology.gateways[0].eth0.address.ip),
                code=EXIT_USAGE,
            )  # fmt: skip
        if name in nodes:
            end = Endpoint(name, "node", str(nodes[name].eth1.address.ip), name)
            return _checked(end, ipv6=ipv6)
        for client in self._topology.clients:
            if name == client.name:
                end = Endpoint(name, "address", str(client.eth0.address.ip), name)
                return _checked(end, ipv6=ipv6)
        try:
            address = ipaddress.ip_address(INTERNET_HOST if name == "internet" else name)
        except ValueError:
            return self._target_workload(name, source, ipv6=ipv6)
        if address.version == 6:
            _check_scope(address)
        return _checked(self._by_address(str(address)), ipv6=ipv6)

    def _target_workload(self, name: str, source: Endpoint, *, ipv6: bool) -> Endpoint:
        workload = self._addressed(name)
        own = _first(workload, ipv6=ipv6)
        if own is None and ipv6:
            raise _without_ipv6(workload)
        if source.kind == "instance" and not _first(source, ipv6=False):
            own = _first(workload, ipv6=True) or own  # IPv4 is not what both have
        own = own or workload.addresses[0]
        if is_ipv6(own) or source.kind == "instance" or self._is_outside(workload):
            return replace(workload, address=own)
        if not (floating := self._outer_address(own)):
            raise LabError(
                tr("{name} has no floating IP, so nobody outside reaches it", name=name),
                hint=tr("give it one, or walk from an instance"),
            )
        return replace(workload, address=floating, inner=own)

    def _addressed(self, name: str) -> Endpoint:
        """The workload of that name. Raises LabError when there is none, or it has no address."""
        workload = self._workload(name)
        if not workload.addresses:
            raise LabError(
                tr("{name} has no IP address", name=name),
                hint=tr("see `ovn-nbctl show` on the controller, or `openstack port list`"),
                code=EXIT_USAGE,
            )
        return workload

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
                return replace(workload, address=address, inner=inner)
        label = self.names("").addresses.get(address, address)
        return Endpoint(label, "address", address, mac=self._router_mac(address))

    def _router_mac(self, address: str) -> str:
        """The MAC address of the router's port that has an address; empty if none has."""
        for port in self.network.ports:
            if (
                port.datapath.router
                and port.type != "chassisredirect"
                and address in port.addresses
            ):
                return next(iter(port.macs), "")
        return ""

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
        from labctl.access.cloud import API_ERRORS  # loads the OpenStack SDK

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
            name, "instance", instance.address, instance.node, instance.tap, mac=instance.mac,
            addresses=tuple(instance.addresses or filter(None, [instance.address])),
        )  # fmt: skip

    def _node_names(self) -> list[str]:
        return [machine.name for machine in self._topology.machines]

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
            addresses=port.addresses,
        )

    def with_source_address(self, source: Endpoint, target: Endpoint) -> Endpoint:
        """The source with the address that its routing table chooses for the target.

        Raises LabError when a node has no route there.
        """
        if source.kind != "node":
            return source
        family = "-6" if is_ipv6(target.address) else "-4"
        result = self._guest(source.node).run(
            ["ip", "-j", family, "route", "get", target.address], check=False
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


def _first(workload: Endpoint, *, ipv6: bool) -> str | None:
    """The first address of a workload that is of that kind of IP."""
    return next((own for own in workload.addresses if is_ipv6(own) == ipv6), None)


def _checked(end: Endpoint, *, ipv6: bool) -> Endpoint:
    """The end itself. Raises LabError when IPv6 is asked for and its address is of IPv4."""
    if ipv6 and not is_ipv6(end.address):
        raise _without_ipv6(end)
    return end


def _without_ipv6(end: Endpoint) -> LabError:
    message = (
        tr("{address} is an IPv4 address", address=end.address)
        if end.name == end.address
        else tr("{name} has no IPv6 address", name=end.name)
    )
    return LabError(message, hint=tr("without -6 its IPv4 address is taken"), code=EXIT_USAGE)


def _check_scope(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Raises LabError for an address that does not tell one receiver in the whole lab."""
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise LabError(
            tr("labctl walk cannot follow a packet to {address}", address=address),
            hint=tr("choose an address that is valid in more than one network"),
            code=EXIT_USAGE,
        )
