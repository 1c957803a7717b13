"""What the machines of a class share in Neutron: a network, a router, and who may reach whom."""

from collections.abc import Iterable, Sequence
from functools import partial
from ipaddress import IPv4Network, ip_network
from typing import Any

from openstack.exceptions import ConflictException

from labctl.classroom.labels import belongs, description, resource_name
from labctl.classroom.model import ClassSpec
from labctl.classroom.openstack.retries import retried
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list

_EVERYWHERE = IPv4Network("0.0.0.0/0")


def without(networks: Sequence[IPv4Network], taken: Iterable[IPv4Network]) -> list[IPv4Network]:
    """The networks, in as few prefixes as possible, without the addresses of `taken`."""
    for out in taken:
        networks = [
            part
            for network in networks
            for part in (
                network.address_exclude(out)
                if out.subnet_of(network)
                else []
                if network.subnet_of(out)
                else [network]
            )
        ]
    return sorted(networks)


def rules(
    reached_from: Sequence[IPv4Network], machines: Sequence[IPv4Network],
    floating: Sequence[IPv4Network],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rules of the security group: SSH and ping in, everything out but to other machines.

    A security group can only allow. "Not between learners" is therefore written as all other
    prefixes, and in both directions: `machines` are the networks of their addresses, `floating`
    those of the floating IPs, behind which they would be reached as well. IPv6 is not allowed.
    """
    inwards = without(list(reached_from) or [_EVERYWHERE], machines)
    outwards = without([_EVERYWHERE], [*machines, *floating])
    return [
        *({"direction": "ingress", "ether_type": "IPv4", "protocol": "tcp", "port_range_min": 22,
           "port_range_max": 22, "remote_ip_prefix": str(prefix)} for prefix in inwards),
        *({"direction": "egress", "ether_type": "IPv4", "remote_ip_prefix": str(prefix)}
          for prefix in outwards),
    ]  # fmt: skip


class SharedParts:
    """Finds, makes and removes them; each carries the label of the class."""

    def __init__(self, spec: ClassSpec, connection: Any) -> None:
        self._spec = spec
        self._label = description(spec.name)
        self._name = resource_name(spec.name)
        self._network = connection.network
        self.network_id = ""
        """The network that machines are on; known after `prepare`."""
        self.external_id = ""
        """The network of the floating IPs; known after `prepare`."""
        self.group_id = ""
        """The security group; known after `prepare`."""

    def labelled(self, kind: str) -> list[Any]:
        """The resources of a kind, such as "networks", that carry the label of the class."""
        found = retried(lambda: list(getattr(self._network, kind)(description=self._label)))
        # Checked again: a cloud that does not know the filter answers with everything.
        return [part for part in found if belongs(part.description, self._spec.name)]

    def needed(self) -> dict[str, int]:
        """{quota: how much of it is needed for what is not there yet}."""
        needed = {}
        if self._spec.openstack.access == "floating":
            for kind in ("networks", "subnets", "routers"):
                needed[kind] = 0 if self.labelled(kind) else 1
            needed["ports"] = 2 * needed["routers"]
        if not self.labelled("security_groups"):
            # With the four that Neutron puts into every group, before ours replace two of them.
            needed |= {"security_groups": 1, "security_group_rules": len(self._rules()) + 4}
        return needed

    def prepare(self) -> None:
        """Have them all; what a killed create has left half made is completed."""
        cloud = self._spec.openstack
        if cloud.access == "floating":
            self.external_id = self._external().id
            self._own_network(cloud.cidr, [str(server) for server in cloud.dns])
        else:
            self.network_id = self._named(str(cloud.network)).id
        self._group()

    def _own_network(self, cidr: IPv4Network, servers: list[str]) -> None:
        network = self._one("networks", "create_network")
        self.network_id = network.id
        subnet = self._one(
            "subnets", "create_subnet", network_id=network.id, ip_version=4, cidr=str(cidr),
            dns_nameservers=servers,
        )  # fmt: skip
        router = self._one(
            "routers", "create_router", external_gateway_info={"network_id": self.external_id}
        )
        ports = retried(lambda: list(self._network.ports(device_id=router.id)))
        if not any(ip["subnet_id"] == subnet.id for port in ports for ip in port.fixed_ips):
            retried(lambda: self._network.add_interface_to_router(router, subnet_id=subnet.id))

    def _one(self, kind: str, create: str, **values: Any) -> Any:
        """The labelled resource of a kind: the one that is there, else a new one."""

        def first() -> Any:
            return next(iter(self.labelled(kind)), None)

        return first() or retried(
            lambda: getattr(self._network, create)(
                name=self._name, description=self._label, **values
            ),
            first,
        )

    def _group(self) -> None:
        group = self._one("security_groups", "create_security_group")
        self.group_id = group.id
        wanted = {_key(rule): rule for rule in self._rules()}
        there = {
            _key(rule.to_dict()): rule
            for rule in retried(
                lambda: list(self._network.security_group_rules(security_group_id=group.id))
            )
        }
        for key in there.keys() - wanted.keys():
            retried(partial(self._network.delete_security_group_rule, there[key].id))
        missing = [
            {**wanted[key], "security_group_id": group.id}
            for key in sorted(wanted.keys() - there.keys())
        ]
        if missing:
            retried(lambda: list(self._network.create_security_group_rules(missing)))

    def _rules(self) -> list[dict[str, Any]]:
        cloud = self._spec.openstack
        if cloud.access == "floating":
            outside = self._subnets(self._external().id)
            return rules(cloud.reached_from, [cloud.cidr], outside)
        inside = self._subnets(self._named(str(cloud.network)).id)
        return rules(cloud.reached_from, inside, [])

    def _subnets(self, network: str) -> list[IPv4Network]:
        found = retried(lambda: list(self._network.subnets(network_id=network, ip_version=4)))
        return [IPv4Network(str(ip_network(subnet.cidr))) for subnet in found]

    def _external(self) -> Any:
        wanted = self._spec.openstack.network
        if wanted:
            return self._named(wanted)
        networks = retried(lambda: list(self._network.networks(is_router_external=True)))
        if len(networks) != 1:
            names = tr_list(sorted(network.name for network in networks))
            raise LabError(
                tr("the cloud has several external networks: {names}", names=names)
                if networks
                else tr("the cloud has no external network for floating IPs"),
                hint=tr("name the network in class.yaml: {key}", key="openstack.network"),
                code=EXIT_USAGE,
            )
        return networks[0]

    def _named(self, name: str) -> Any:
        network = retried(lambda: self._network.find_network(name, ignore_missing=True))
        if network is None:
            raise LabError(
                tr("the cloud has no network {name}", name=repr(name)),
                hint=tr("name the network in class.yaml: {key}", key="openstack.network"),
                code=EXIT_USAGE,
            )
        return network

    def clear(self) -> int:
        """Remove all that carry the label; how many."""
        network, removed = self._network, 0
        for router in self.labelled("routers"):
            for port in retried(partial(lambda id: list(network.ports(device_id=id)), router.id)):
                if port.device_owner != "network:router_gateway":
                    retried(partial(network.remove_interface_from_router, router, port_id=port.id))
            retried(partial(network.delete_router, router.id))
            removed += 1
        for kind, delete in (("networks", network.delete_network),
                             ("security_groups", network.delete_security_group)):  # fmt: skip
            for part in self.labelled(kind):
                try:
                    retried(partial(delete, part.id))
                except LabError as error:
                    if isinstance(error.__cause__, ConflictException):
                        error.hint = tr("something that labctl did not make uses {name}; remove"
                                        " that, then run the same command again",
                                        name=part.name)  # fmt: skip
                    raise
                removed += 1
        return removed


def _key(rule: dict[str, Any]) -> tuple[str, ...]:
    """What makes two rules the same."""
    fields = ("direction", "ether_type", "protocol", "port_range_min", "port_range_max",
              "remote_ip_prefix", "remote_group_id")  # fmt: skip
    return tuple(str(rule.get(field) or "") for field in fields)
