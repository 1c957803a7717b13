"""Fill what lab.yaml leaves out. Works on plain data, before the types are checked.

Defaults follow what *is* written: change ``nat.subnet`` alone and gateway, eth0 and pool move along
at the same host numbers. Data that is wrong passes through untouched: saying so is not our task.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, pairwise
from typing import Any

from labctl.spec.fields import LONGEST_PREFIX, SHORTEST_PREFIX

NAT, PRIVATE, TENANT = "10.0.2.0/24", "192.168.33.0/24", "172.16.100.0/24"
# The series' first days, OVN without OpenStack, have a network of their own (Day 07).
OVN_TENANT = "192.168.100.0/24"

# Host numbers of the tutorial: 10.0.2.2, .15, .210–.220; 192.168.33.10, .20; 172.16.100.1, .10.
NAT_GATEWAY, NAT_ADDRESS, POOL_START, POOL_END = 2, 15, 210, 220
ETH1_STEP = 10
TENANT_GATEWAY, FIRST_INSTANCE = 1, 10

POOL_SIZE = POOL_END - POOL_START + 1
OVN_POOL_START, OVN_POOL_END = 100, 200
CONTROLLER_MEMORY, COMPUTE_MEMORY, OVN_MEMORY = 4096, 3072, 512
LEAST_MEMORY = {"openstack": 1024, "ovn": 384}
"""MiB a node needs, by stack."""


_NETWORKS = ("nat", "private", "external", "tenant")
_SECTIONS = ("box", *_NETWORKS, "nodes", "instances", "image", "flavor")


def fill_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the data with everything in it that was left out."""
    filled = _without_nulls(data)
    filled.setdefault("nodes", {"network-controller": {}, "compute-01": {}})
    filled.setdefault("instances", {"vm_1": {}})
    ovn_only = filled.get("stack") == "ovn"
    for key in _SECTIONS:
        section = filled.setdefault(key, {})
        # A section that is not a mapping stays as it is, for the types to complain about.
        if isinstance(section, Mapping):
            by_name = key in ("nodes", "instances")
            filled[key] = _entries(section) if by_name else _without_nulls(section)
    _fill_nat(filled["nat"])
    _fill_private(filled["private"])
    _fill_pool(filled["external"], filled["nat"], ovn_only)
    _fill_tenant(filled["tenant"], ovn_only)
    _fill_nodes(filled["nodes"], filled["private"], ovn_only)
    _fill_instances(filled["instances"], filled["tenant"])
    return filled


def metadata_port(cidr: IPv4Network, gateway: IPv4Address | None) -> IPv4Address:
    """The address Neutron takes for OVN's DHCP and metadata port: the lowest but the gateway."""
    # neutron/ipam/requests.py: a port of network:distributed gets the next free address, all other
    # ports get a random one.
    return cidr[2] if gateway == cidr[1] else cidr[1]


def _fill_nat(nat: Any) -> None:
    if isinstance(nat, dict):
        subnet = _network(nat.setdefault("subnet", NAT))
        if subnet:
            taken = {_address(nat.get("address"))}
            _set(nat, "gateway", _free_host(subnet, [NAT_GATEWAY], taken))
            taken = {_address(nat.get("gateway"))}
            _set(nat, "address", _free_host(subnet, [NAT_ADDRESS, NAT_GATEWAY + 1], taken))


def _fill_private(private: Any) -> None:
    if isinstance(private, dict):
        private.setdefault("subnet", PRIVATE)


def _fill_pool(external: Any, nat: Any, ovn_only: bool) -> None:
    if not isinstance(external, dict):
        return
    pool = external.setdefault("pool", {})
    subnet = _get_network(nat, "subnet")
    if not isinstance(pool, Mapping) or subnet is None:
        return
    pool = external["pool"] = _without_nulls(pool)
    start, end = _address(pool.get("start")), _address(pool.get("end"))
    taken = {_address(nat.get("gateway")), _address(nat.get("address"))}
    usual = (OVN_POOL_START, OVN_POOL_END) if ovn_only else (POOL_START, POOL_END)
    first, last = _pool(subnet, taken, *usual)
    # With one end written, the pool keeps its usual size.
    if start is not None and start in subnet:
        last = min(int(start) + POOL_SIZE - 1, int(subnet[-2]))
    if end is not None and end in subnet:
        first = max(int(end) - POOL_SIZE + 1, int(subnet[1]))
    pool.setdefault("start", IPv4Address(first))
    pool.setdefault("end", IPv4Address(last))


def _pool(
    subnet: IPv4Network, taken: set[IPv4Address | None], start: int, end: int
) -> tuple[int, int]:
    """First and last address of the pool: the usual hosts, or else the end of the longest gap."""
    base = int(subnet.network_address)
    used = sorted(int(address) for address in taken if address is not None and address in subnet)
    first, last = base + start, base + end
    if last < int(subnet.broadcast_address) and not any(first <= a <= last for a in used):
        return first, last
    fence = [base, *used, int(subnet.broadcast_address)]
    before, after = max(pairwise(fence), key=lambda gap: gap[1] - gap[0])
    return max(before + 1, after - POOL_SIZE), after - 1


def _fill_tenant(tenant: Any, ovn_only: bool) -> None:
    if isinstance(tenant, dict):
        subnet = _network(tenant.setdefault("cidr", OVN_TENANT if ovn_only else TENANT))
        if subnet:
            # The series' own choice: the router is .1 with OpenStack and .254 without.
            tenant.setdefault("gateway", subnet[-2 if ovn_only else TENANT_GATEWAY])
        tenant.setdefault("dns", ["8.8.8.8"])


def _fill_nodes(nodes: Any, private: Any, ovn_only: bool) -> None:
    if not isinstance(nodes, dict):
        return
    own = {name: node for name, node in nodes.items() if isinstance(node, dict)}
    controller = _default_controller(own)
    for name, node in own.items():
        node.setdefault("roles", ["controller", "gateway"] if name == controller else ["compute"])
        memory = CONTROLLER_MEMORY if _controls(node) else COMPUTE_MEMORY
        _set(node, "memory", OVN_MEMORY if ovn_only else memory)
    subnet = _get_network(private, "subnet")
    if subnet is None:
        return
    taken = {_address(node.get("eth1")) for node in own.values()}
    place = 1
    for node in own.values():
        # The place counts nodes with a written address too, so that writing one moves no other.
        number = ETH1_STEP if _controls(node) else ETH1_STEP * (place := place + 1)
        if "eth1" not in node:
            # Host 1 is left alone: host-only networks of hypervisors give it to the host.
            slots = range(number, subnet.num_addresses, ETH1_STEP)
            _set(node, "eth1", _free_host(subnet, slots, taken, lowest=2))
            taken.add(node.get("eth1"))


def _default_controller(nodes: Mapping[str, dict[str, Any]]) -> str | None:
    """Which node becomes controller and gateway because no node was given the role."""
    if any(_controls(node) for node in nodes.values()):
        return None
    free = [name for name, node in nodes.items() if "roles" not in node]
    return next((name for name in free if "controller" in name), free[0] if free else None)


def _controls(node: Mapping[str, Any]) -> bool:
    roles = node.get("roles")
    return isinstance(roles, Iterable) and "controller" in roles


def _fill_instances(instances: Any, tenant: Any) -> None:
    subnet = _get_network(tenant, "cidr")
    if not isinstance(instances, dict) or subnet is None:
        return
    own = [instance for instance in instances.values() if isinstance(instance, dict)]
    gateway = _address(tenant.get("gateway"))
    taken = {gateway, metadata_port(subnet, gateway)}
    taken |= {_address(instance.get("address")) for instance in own}
    for number, instance in enumerate(own, FIRST_INSTANCE):
        if "address" not in instance:
            slots = range(number, subnet.num_addresses)
            _set(instance, "address", _free_host(subnet, slots, taken))
            taken.add(instance.get("address"))


def _free_host(
    subnet: IPv4Network,
    preferred: Iterable[int],
    taken: set[IPv4Address | None],
    lowest: int = 1,
) -> IPv4Address | None:
    """The first preferred host number that is free, else the lowest free one, else None."""
    hosts = subnet.num_addresses - 1
    for number in chain(preferred, range(lowest, hosts)):
        if 0 < number < hosts and subnet[number] not in taken:
            return subnet[number]
    return None


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    # No free address leaves the key missing: "missing" is then reported as "no room".
    if value is not None:
        data.setdefault(key, value)


def _entries(items: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes or instances by name; ``compute-02:`` with nothing behind it is all defaults."""
    return {
        name: _without_nulls({} if item is None else item)
        if item is None or isinstance(item, Mapping)
        else item
        for name, item in items.items()
    }


def _without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    # `gateway:` with nothing behind it, as when its value was commented out, means the default.
    return {key: value for key, value in data.items() if value is not None}


def _get_network(section: Any, key: str) -> IPv4Network | None:
    return _network(section.get(key)) if isinstance(section, Mapping) else None


def _network(value: Any) -> IPv4Network | None:
    try:
        network = IPv4Network(str(value).strip())
    except ValueError:
        return None
    return network if SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX else None


def _address(value: Any) -> IPv4Address | None:
    try:
        return IPv4Address(str(value).strip())
    except ValueError:
        return None
