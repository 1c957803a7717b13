"""Fill in what lab.yaml leaves out. Works on plain data, before the types are checked.

Defaults depend on what *is* written: if only ``nat.subnet`` is changed, gateway, eth0 and pool keep
their host numbers in the new subnet. Wrong data stays as it is: fields.py and rules.py report it.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, pairwise
from typing import Any

from labctl.spec.fields import LONGEST_PREFIX, SHORTEST_PREFIX

NAT, PRIVATE, TENANT = "10.0.2.0/24", "192.168.33.0/24", "172.16.100.0/24"
INTERNET = "198.51.100.0/24"
"""TEST-NET-2 of RFC 5737: no machine on the real Internet has an address of it."""
INTERNET_HOST = IPv4Address("8.8.8.8")
"""The host that the lessons ping to show that the Internet can be reached."""
# Used with OVN alone, as in the first days of the tutorial (Day 07).
OVN_TENANT = "192.168.100.0/24"

# Host numbers of the tutorial: 10.0.2.2, .15, .210–.220; 192.168.33.10, .20; 172.16.100.1, .10.
NAT_GATEWAY, NAT_ADDRESS, POOL_START, POOL_END = 2, 15, 210, 220
ETH1_STEP = 10
TENANT_GATEWAY, FIRST_INSTANCE = 1, 10
FIRST_CLIENT = 10

POOL_SIZE = POOL_END - POOL_START + 1
OVN_POOL_START, OVN_POOL_END = 100, 200
# MiB. What nodes use is in docs/performance.md and docs/providers.md.
CONTROLLER_MEMORY, COMPUTE_MEMORY, OVN_MEMORY = 4096, 3072, 512
LEAST_MEMORY = {"openstack": 1024, "ovn": 384}
"""MiB a node needs at least, by stack; a gateway without another role needs that of `ovn`."""


_NETWORKS = ("nat", "private", "external", "tenant")
_SECTIONS = (
    "box",
    *_NETWORKS,
    "internet",
    "neutron",
    "ovn",
    "nodes",
    "instances",
    "networks",
    "image",
    "flavor",
    "images",
    "flavors",
)
_BY_NAME = ("nodes", "instances", "networks", "images", "flavors")


def fill_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the data with defaults for everything that was left out."""
    filled = _without_nulls(data)
    filled.setdefault("nodes", {"network-controller": {}, "compute-01": {}})
    filled.setdefault("instances", {"vm_1": {}})
    filled.setdefault("networks", {})
    ovn_only = filled.get("stack") == "ovn"
    for key in _SECTIONS:
        section = filled.setdefault(key, {})
        # A section that is no mapping stays as it is; the types report it.
        if isinstance(section, Mapping):
            filled[key] = _entries(section) if key in _BY_NAME else _without_nulls(section)
    for key in ("images", "flavors"):
        for name, item in filled[key].items() if isinstance(filled[key], Mapping) else ():
            if isinstance(item, dict):
                item.setdefault("name", name)
    _fill_nat(filled["nat"])
    _fill_private(filled["private"])
    _fill_pool(filled["external"], filled["nat"], ovn_only)
    _fill_tenant(filled["tenant"], ovn_only)
    _fill_nodes(filled["nodes"], filled["private"], ovn_only)
    _fill_internet(filled["internet"])
    _fill_instances(filled["instances"], filled["tenant"])
    return filled


def far_end(subnet: IPv4Network) -> IPv4Address:
    """The gateway of the clients on the simulated Internet."""
    return subnet[1]


def metadata_port(cidr: IPv4Network, gateway: IPv4Address | None) -> IPv4Address:
    """The address Neutron gives to OVN's DHCP and metadata port: the lowest besides the gateway."""
    # neutron/ipam/requests.py: a port with the owner network:distributed gets the lowest free
    # address, all other ports get a random one.
    return cidr[2] if gateway == cidr[1] else cidr[1]


def _fill_nat(nat: Any) -> None:
    if isinstance(nat, dict):
        subnet = _network(nat.setdefault("subnet", NAT))
        if subnet:
            taken = {_address(nat.get("address"))}
            _set_default(nat, "gateway", _free_host(subnet, [NAT_GATEWAY], taken))
            taken = {_address(nat.get("gateway"))}
            _set_default(nat, "address", _free_host(subnet, [NAT_ADDRESS, NAT_GATEWAY + 1], taken))


def _fill_private(private: Any) -> None:
    if isinstance(private, dict):
        private.setdefault("subnet", PRIVATE)


def _fill_internet(internet: Any) -> None:
    if not isinstance(internet, dict):
        return
    subnet = _network(internet.setdefault("subnet", INTERNET))
    if not isinstance(clients := internet.get("clients"), Mapping):
        return
    internet["clients"] = _entries(clients)
    mappings = [client for client in internet["clients"].values() if isinstance(client, dict)]
    if subnet:
        taken = {far_end(subnet), *(_address(client.get("address")) for client in mappings)}
        _fill_hosts(mappings, subnet, FIRST_CLIENT, taken)


def _fill_pool(external: Any, nat: Any, ovn_only: bool) -> None:
    if not isinstance(external, dict):
        return
    pool = external.setdefault("pool", {})
    subnet = _network_of(nat, "subnet")
    if not isinstance(pool, Mapping) or subnet is None:
        return
    pool = external["pool"] = _without_nulls(pool)
    start, end = _address(pool.get("start")), _address(pool.get("end"))
    taken = {_address(nat.get("gateway")), _address(nat.get("address"))}
    usual_hosts = (OVN_POOL_START, OVN_POOL_END) if ovn_only else (POOL_START, POOL_END)
    first, last = _pool(subnet, taken, *usual_hosts)
    # If only one end is written, the pool has its usual size.
    if start is not None and start in subnet:
        last = min(int(start) + POOL_SIZE - 1, int(subnet[-2]))
    if end is not None and end in subnet:
        first = max(int(end) - POOL_SIZE + 1, int(subnet[1]))
    pool.setdefault("start", IPv4Address(first))
    pool.setdefault("end", IPv4Address(last))


def _pool(
    subnet: IPv4Network, taken: set[IPv4Address | None], start: int, end: int
) -> tuple[int, int]:
    """First and last address of the pool: the usual host numbers if they are free, else the end of
    the longest range without a taken address."""
    base = int(subnet.network_address)
    used_numbers = sorted(
        int(address) for address in taken if address is not None and address in subnet
    )
    first, last = base + start, base + end
    if last < int(subnet.broadcast_address) and not any(first <= a <= last for a in used_numbers):
        return first, last
    boundaries = [base, *used_numbers, int(subnet.broadcast_address)]
    before, after = max(pairwise(boundaries), key=lambda gap: gap[1] - gap[0])
    return max(before + 1, after - POOL_SIZE), after - 1


def _fill_tenant(tenant: Any, ovn_only: bool) -> None:
    if isinstance(tenant, dict):
        subnet = _network(tenant.setdefault("cidr", OVN_TENANT if ovn_only else TENANT))
        if subnet:
            # As in the tutorial: the router is .1 with OpenStack and .254 without.
            tenant.setdefault("gateway", subnet[-2 if ovn_only else TENANT_GATEWAY])
        tenant.setdefault("dns", ["8.8.8.8"])
        if isinstance(networks := tenant.get("networks"), Mapping):
            tenant["networks"] = _entries(networks)
            _fill_tenant_networks(tenant["networks"], subnet)


def _fill_tenant_networks(networks: dict[str, Any], first: IPv4Network | None) -> None:
    entries = [(name, entry) for name, entry in networks.items() if isinstance(entry, dict)]
    taken = [first, *(_network(entry.get("cidr")) for _, entry in entries)]
    for name, entry in entries:
        entry.setdefault("subnet", f"{name}-subnet")
        if "cidr" not in entry and (following := _following(first, taken)):
            entry["cidr"] = following
            taken.append(following)
        if subnet := _network(entry.get("cidr")):
            entry.setdefault("gateway", subnet[1])


def _following(first: IPv4Network | None, taken: Iterable[IPv4Network | None]) -> Any:
    """The next network after the first, as large, that overlaps none of `taken`; None if none."""
    used = [network for network in taken if network]
    base = int(first.network_address) if first else 2**32
    while first and (base := base + first.num_addresses) + first.num_addresses <= 2**32:
        candidate = IPv4Network((base, first.prefixlen))
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    return None


def _fill_nodes(nodes: Any, private: Any, ovn_only: bool) -> None:
    if not isinstance(nodes, dict):
        return
    mappings = {name: node for name, node in nodes.items() if isinstance(node, dict)}
    controller = _default_controller(mappings)
    for name, node in mappings.items():
        node.setdefault("roles", ["controller", "gateway"] if name == controller else ["compute"])
        memory = CONTROLLER_MEMORY if _is_controller(node) else COMPUTE_MEMORY
        # A gateway without another role runs Open vSwitch and ovn-controller, whatever the stack.
        only_ovn = ovn_only or node.get("roles") == ["gateway"]
        _set_default(node, "memory", OVN_MEMORY if only_ovn else memory)
    subnet = _network_of(private, "subnet")
    if subnet is None:
        return
    taken = {_address(node.get("eth1")) for node in mappings.values()}
    position = 1
    for node in mappings.values():
        # Nodes with a written address count too: writing one changes no other node's address.
        host_number = ETH1_STEP if _is_controller(node) else ETH1_STEP * (position := position + 1)
        if "eth1" not in node:
            # Host 1 is not used: in host-only networks hypervisors give it to the host.
            slots = range(host_number, subnet.num_addresses, ETH1_STEP)
            _set_default(node, "eth1", _free_host(subnet, slots, taken, lowest=2))
            taken.add(node.get("eth1"))


def _default_controller(nodes: Mapping[str, dict[str, Any]]) -> str | None:
    """The node that becomes controller and gateway, if no node was given that role."""
    if any(_is_controller(node) for node in nodes.values()):
        return None
    without_roles = [name for name, node in nodes.items() if "roles" not in node]
    return next(
        (name for name in without_roles if "controller" in name),
        without_roles[0] if without_roles else None,
    )


def _is_controller(node: Mapping[str, Any]) -> bool:
    roles = node.get("roles")
    return isinstance(roles, Iterable) and "controller" in roles


def _fill_instances(instances: Any, tenant: Any) -> None:
    if not isinstance(instances, dict) or not isinstance(tenant, Mapping):
        return
    networks = tenant.get("networks")
    further = networks if isinstance(networks, Mapping) else {}
    mappings = [instance for instance in instances.values() if isinstance(instance, dict)]
    # An instance on a network that does not exist has an address too: the rules report the name.
    names = list(further)  # a network that is no text may be asked for: it is compared, not hashed
    for name in names:
        here = [instance for instance in mappings if instance.get("network") == name]
        _fill_addresses(here, further[name])
    others = [instance for instance in mappings if instance.get("network") not in names]
    _fill_addresses(others, tenant)


def _fill_addresses(mappings: list[dict[str, Any]], network: Any) -> None:
    """The addresses of the instances on one network, whose section has `cidr` and `gateway`."""
    subnet = _network_of(network, "cidr")
    if subnet is None:
        return
    gateway = _address(network.get("gateway"))
    taken = {gateway, metadata_port(subnet, gateway)}
    taken |= {_address(instance.get("address")) for instance in mappings}
    _fill_hosts(mappings, subnet, FIRST_INSTANCE, taken)


def _fill_hosts(
    mappings: list[dict[str, Any]], subnet: IPv4Network, first: int, taken: set[IPv4Address | None]
) -> None:
    """Host number `first` and those after it, as far as they are free, in the order given."""
    for number, mapping in enumerate(mappings, first):
        if "address" not in mapping:
            slots = range(number, subnet.num_addresses)
            _set_default(mapping, "address", _free_host(subnet, slots, taken))
            taken.add(mapping.get("address"))


def _free_host(
    subnet: IPv4Network,
    preferred: Iterable[int],
    taken: set[IPv4Address | None],
    lowest: int = 1,
) -> IPv4Address | None:
    """The address of the first free host number out of `preferred`, else of the lowest free one.

    None if no address is free. `lowest` is the lowest host number to use.
    """
    hosts = subnet.num_addresses - 1
    for number in chain(preferred, range(lowest, hosts)):
        if 0 < number < hosts and subnet[number] not in taken:
            return subnet[number]
    return None


def _set_default(data: dict[str, Any], key: str, value: Any) -> None:
    # Without a free address the key stays missing; load.py reports that as a full subnet.
    if value is not None:
        data.setdefault(key, value)


def _entries(items: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes or instances by name; ``compute-02:`` without a value means all defaults."""
    return {
        name: _without_nulls({} if item is None else item)
        if item is None or isinstance(item, Mapping)
        else item
        for name, item in items.items()
    }


def _without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    # `gateway:` without a value, as when the value was commented out, means the default.
    return {key: value for key, value in data.items() if value is not None}


def _network_of(section: Any, key: str) -> IPv4Network | None:
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
