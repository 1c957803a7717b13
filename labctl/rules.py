"""What several values of a lab.yaml must have in common.

Each rule names the values it looks at. Where one of them is doubtful, because it is mistyped or
given twice, the rule keeps silent: its verdict would only repeat or blur what is said about that.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from labctl.defaults import LEAST_MEMORY, metadata_port
from labctl.fields import INSTANCE_NAME, NODE_NAME
from labctl.labmodel import LabSpec
from labctl.problems import Path, Problem, dotted, quoted, shown
from labctl.yamlsource import YamlSource

INTERNET_HOST = IPv4Address("8.8.8.8")
"""The host the lessons ping to show that the Internet is reached."""

_LEAST_CONTROLLER_MEMORY = 2048
_RESERVED_HOST_MEMORY = 512  # nova.conf's reserved_host_memory_mb
_MOST_DNS_SERVERS = 5  # neutron.conf's max_dns_nameservers

_STACK: Path = ("stack",)
_NAT: Path = ("nat", "subnet")
_PRIVATE: Path = ("private", "subnet")
_TENANT: Path = ("tenant", "cidr")


def broken_rules(
    spec: LabSpec, source: YamlSource, doubtful: Collection[Path] = ()
) -> list[Problem]:
    """Every rule the spec breaks, each told at the line where it is best mended."""
    judge = _Judge(source, doubtful)
    for rule in (_nodes, _roles, _eth1, _macs, _sizes, _subnets, _nat, _pool, _tenant, _names):
        rule(spec, judge)
    return judge.problems


class _Judge:
    """Collects verdicts and leaves out those that rest on doubtful values."""

    def __init__(self, source: YamlSource, doubtful: Collection[Path]) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._doubtful = frozenset(doubtful)
        self._around = {doubt[:depth] for doubt in doubtful for depth in range(len(doubt))}

    def say(self, at: Path, message: str, mend: str = "", also: Sequence[Path] = ()) -> None:
        """A rule is broken at this path; `also` are the other paths it looked at."""
        if self.trusts(at, *also):
            self.problems.append(self.source.problem(at, message, mend))

    def say_key(self, at: Path, message: str, mend: str) -> None:
        """The key itself is wrong, whatever is behind it."""
        self.problems.append(self.source.problem(at, message, mend))

    def trusts(self, *paths: Path) -> bool:
        """Whether nothing at, in or around these paths is doubtful."""
        return not any(
            path in self._around
            or any(path[:depth] in self._doubtful for depth in range(len(path) + 1))
            for path in paths
        )

    def roles_known(self) -> bool:
        """Whether it is certain which nodes there are and what roles they have."""
        return not any(
            doubt[:1] == ("nodes",) and (len(doubt) < 3 or doubt[2] == "roles")
            for doubt in self._doubtful
        )

    def another(self, path: Path, subnet: IPv4Network) -> str:
        """The mend for an address; it names the subnet unless that is doubtful itself."""
        return "choose another address" + (f" in {subnet}" if self.trusts(path) else "")

    def later_first(self, one: Path, other: Path) -> tuple[Path, Path]:
        """The two in the order to complain: at the one written, or else written last."""

        def place(path: Path) -> tuple[bool, int]:
            return path in self.source.lines, self.source.line(path)

        return (one, other) if place(one) > place(other) else (other, one)


def _nodes(spec: LabSpec, judge: _Judge) -> None:
    if not spec.nodes:
        judge.say(("nodes",), "is empty", "leave it out for the two nodes of the tutorial")
    for name in spec.nodes:
        at: Path = ("nodes", name)
        if not re.fullmatch(NODE_NAME, name):
            judge.say_key(
                at,
                "is not a host name",
                "use up to 40 small letters, digits and hyphens, "
                "with a letter or digit at both ends",
            )
        elif name.isdecimal():
            judge.say_key(
                at, f"would be read as the address {IPv4Address(int(name) % 2**32)}", "add a letter"
            )
        elif name == "localhost":
            judge.say_key(at, "is what every machine calls itself", "choose another name")


def _roles(spec: LabSpec, judge: _Judge) -> None:
    if not judge.roles_known() or not spec.nodes:
        return
    where: dict[str, list[str]] = {"controller": [], "gateway": [], "compute": []}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "roles")
        if not node.roles:
            judge.say(at, "is empty", "give the node a role, or leave roles out")
        elif {"controller", "compute"} <= set(node.roles):
            judge.say(
                at,
                "a node is either controller or compute for now",
                "remove compute here and add a node such as compute-01:",
            )
        for role in set(node.roles):
            where[role].append(name)
    controllers, gateways, computes = where["controller"], where["gateway"], where["compute"]
    if not controllers:
        judge.say(
            ("nodes",), "no node has the role controller", "give one node [controller, gateway]"
        )
    for name in controllers[1:]:
        judge.say(
            ("nodes", name, "roles"),
            f"{shown(controllers[0])} is the controller already, and a lab has one",
            "make this node [compute]",
        )
    if controllers and not gateways:
        judge.say(
            ("nodes", controllers[0], "roles"),
            "no node has the role gateway",
            "write [controller, gateway]",
        )
    for name in gateways:
        if controllers and name not in controllers:
            judge.say(
                ("nodes", name, "roles"),
                "for now the controller is the only gateway a lab can have",
                f"give the role gateway to {shown(controllers[0])} alone",
            )
    if not computes:
        judge.say(
            ("nodes",), "no node has the role compute", "add a node for instances: compute-01:"
        )


def _eth1(spec: LabSpec, judge: _Judge) -> None:
    subnet = spec.private.subnet
    owners: dict[IPv4Address, str] = {}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "eth1")
        if wrong := _no_host(node.eth1, subnet):
            judge.say(at, wrong, f"choose an address in {subnet}", also=[_PRIVATE])
        elif node.eth1 == subnet[1]:
            judge.say(
                at,
                f"{node.eth1} is the host's own address on VirtualBox's and libvirt's networks",
                f"choose another address in {subnet}",
                also=[_PRIVATE],
            )
        if (owner := owners.setdefault(node.eth1, name)) != name:
            at, other = judge.later_first(at, ("nodes", owner, "eth1"))
            judge.say(
                at,
                f"{node.eth1} is already the address of {shown(other[1])}",
                judge.another(_PRIVATE, subnet),
                also=[other],
            )


def _macs(spec: LabSpec, judge: _Judge) -> None:
    owners: dict[str, tuple[str, ...]] = {}
    for name, node in spec.nodes.items():
        for nic, mac in (("eth0", node.mac.eth0), ("eth1", node.mac.eth1)):
            at = ("nodes", name, "mac", nic)
            if mac is not None and (owner := owners.setdefault(mac, at)) != at:
                judge.say(
                    at,
                    f"{mac} is already the MAC address of {shown(owner[1])}'s {owner[3]}",
                    "choose another, or leave it out and one is made",
                    also=[owner],
                )


def _sizes(spec: LabSpec, judge: _Judge) -> None:
    least, openstack = LEAST_MEMORY[spec.stack], spec.stack == "openstack"
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "memory")
        if openstack and "controller" in node.roles and node.memory < _LEAST_CONTROLLER_MEMORY:
            judge.say(
                at,
                f"{node.memory} MiB is too little for the controller",
                f"give it {_LEAST_CONTROLLER_MEMORY} or more",
                also=[("nodes", name, "roles"), _STACK],
            )
        elif node.memory < least:
            judge.say(at, f"{node.memory} is too small: the least is {least}", also=[_STACK])
    if openstack and judge.trusts(_STACK) and judge.roles_known():
        _flavor(spec, judge)


def _flavor(spec: LabSpec, judge: _Judge) -> None:
    computes = {n: node for n, node in spec.nodes.items() if "compute" in node.roles}
    if not computes:
        return
    # Nova places an instance on one node whole: overcommitting does not help a single one.
    cpus = max(node.cpus for node in computes.values())
    if spec.flavor.vcpus > cpus:
        judge.say(
            ("flavor", "vcpus"),
            f"{spec.flavor.vcpus} vCPUs fit on no compute: the largest has {cpus}",
            f"ask for {cpus} or fewer, or give a compute more cpus",
            also=[("nodes", name, "cpus") for name in computes],
        )
    room = max(node.memory for node in computes.values()) - _RESERVED_HOST_MEMORY
    # A compute that is too small for itself has been complained about already.
    small = any(node.memory < LEAST_MEMORY[spec.stack] for node in computes.values())
    if spec.flavor.memory > room and not small:
        judge.say(
            ("flavor", "memory"),
            f"{spec.flavor.memory} MiB fit on no compute: the largest has {room} for instances",
            f"ask for {room} or less, or give a compute more memory",
            also=[("nodes", name, "memory") for name in computes],
        )


def _subnets(spec: LabSpec, judge: _Judge) -> None:
    networks: dict[Path, IPv4Network] = {
        _NAT: spec.nat.subnet,
        _PRIVATE: spec.private.subnet,
        _TENANT: spec.tenant.cidr,
    }
    for one, two in combinations(networks, 2):
        if networks[one].overlaps(networks[two]):
            at, other = judge.later_first(two, one)
            judge.say(
                at,
                f"{networks[at]} overlaps {dotted(other)} {networks[other]}",
                f"choose a network apart from it, such as {_apart(networks)}",
                also=[other],
            )
    for at, network in networks.items():
        if INTERNET_HOST in network:
            judge.say(
                at,
                f"{network} covers {INTERNET_HOST}, the Internet host that lessons ping",
                f"choose a private network, such as {_apart(networks)}",
            )


def _apart(networks: Mapping[Path, IPv4Network]) -> IPv4Network:
    """A network that overlaps none of the lab's."""
    candidates = (IPv4Network((0xC0A80000 + (n << 8), 24)) for n in range(33, 256))
    free = (c for c in candidates if not any(c.overlaps(used) for used in networks.values()))
    return next(free, IPv4Network("172.31.200.0/24"))


def _nat(spec: LabSpec, judge: _Judge) -> None:
    gateway: Path = ("nat", "gateway")
    address: Path = ("nat", "address")
    subnet = spec.nat.subnet
    for at, value in ((gateway, spec.nat.gateway), (address, spec.nat.address)):
        if wrong := _no_host(value, subnet):
            judge.say(at, wrong, f"choose an address in {subnet}", also=[_NAT])
    if spec.nat.gateway == spec.nat.address:
        at, other = judge.later_first(address, gateway)
        judge.say(
            at,
            f"{spec.nat.address} is already {dotted(other)}",
            judge.another(_NAT, subnet),
            also=[other],
        )


def _pool(spec: LabSpec, judge: _Judge) -> None:
    pool, subnet = spec.external.pool, spec.nat.subnet
    start: Path = ("external", "pool", "start")
    end: Path = ("external", "pool", "end")
    outside = False
    for at, value in ((start, pool.start), (end, pool.end)):
        if wrong := _no_host(value, subnet, "nat.subnet "):
            outside = True
            judge.say(at, wrong, f"choose an address in {subnet}", also=[_NAT])
    if outside:
        return
    if pool.start > pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            f"the pool ends at {pool.end}, before it starts at {pool.start}",
            "swap start and end" if start in judge.source.lines else "choose an address behind it",
            also=[start, end],
        )
        return
    if pool.start == pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            f"the pool holds only {pool.start}",
            "make room for two addresses: the router's gateway port and one floating IP",
            also=[start, end],
        )
    for what, key, value in (
        ("the gateway", "gateway", spec.nat.gateway),
        ("eth0's address", "address", spec.nat.address),
    ):
        if pool.start <= value <= pool.end:
            at, _ = judge.later_first(start, end)
            at, _ = judge.later_first(at, ("nat", key))
            judge.say(
                at,
                f"the pool {pool.start}-{pool.end} covers {what} {value}",
                "choose a range without it",
                also=[start, end, _NAT, ("nat", key)],
            )


def _tenant(spec: LabSpec, judge: _Judge) -> None:
    tenant, gateway_at, dns_at = spec.tenant, ("tenant", "gateway"), ("tenant", "dns")
    if wrong := _no_host(tenant.gateway, tenant.cidr):
        judge.say(gateway_at, wrong, f"choose an address in {tenant.cidr}", also=[_TENANT])
    for position, server in enumerate(tenant.dns):
        if server in tenant.dns[:position]:
            judge.say((*dns_at, position), f"{server} is given twice", "keep one of them")
    if len(tenant.dns) > _MOST_DNS_SERVERS:
        judge.say(
            dns_at, f"Neutron takes at most {_MOST_DNS_SERVERS} DNS servers", "remove the others"
        )
    _instances(spec, judge)


def _instances(spec: LabSpec, judge: _Judge) -> None:
    cidr, gateway = spec.tenant.cidr, spec.tenant.gateway
    another = judge.another(_TENANT, cidr)
    owners: dict[IPv4Address, str] = {}
    if not spec.instances:
        judge.say(("instances",), "is empty", "leave it out for vm_1 of the tutorial")
    for name, instance in spec.instances.items():
        address = instance.address
        if not re.fullmatch(INSTANCE_NAME, name):
            judge.say_key(
                ("instances", name),
                "cannot name an instance",
                "use up to 64 letters, digits, dots, hyphens and underscores, "
                "beginning with a letter, digit or underscore",
            )
        at: Path = ("instances", name, "address")
        if wrong := _no_host(address, cidr):
            judge.say(at, wrong, f"choose an address in {cidr}", also=[_TENANT])
        elif address == gateway:
            judge.say(
                at,
                f"{address} is the address of tenant.gateway",
                another,
                also=[_TENANT, ("tenant", "gateway")],
            )
        elif spec.stack == "openstack" and address == metadata_port(cidr, gateway):
            judge.say(
                at,
                f"{address} is the address Neutron gives to OVN's DHCP and metadata port",
                another,
                also=[_TENANT, ("tenant", "gateway")],
            )
        if (owner := owners.setdefault(address, name)) != name:
            at, other = judge.later_first(at, ("instances", owner, "address"))
            judge.say(
                at, f"{address} is already the address of {shown(other[1])}", another, also=[other]
            )


def _names(spec: LabSpec, judge: _Judge) -> None:
    for key in ("network", "subnet"):
        external: Path = ("external", key)
        tenant: Path = ("tenant", key)
        name = getattr(spec.external, key)
        if name == getattr(spec.tenant, key):
            at, other = judge.later_first(tenant, external)
            judge.say(
                at,
                f"{quoted(name)} is already the name of {dotted(other)}",
                "choose another name: the openstack command could not tell them apart",
                also=[other],
            )
    if spec.security_group.lower() == "default":
        judge.say(
            ("security_group",),
            "Neutron makes a group of that name in every project",
            "choose another name",
        )


def _no_host(address: IPv4Address, subnet: IPv4Network, name: str = "") -> str | None:
    """Why no machine can have this address in this subnet, or None."""
    if address not in subnet:
        return f"{address} is not in {name}{subnet}"
    if address == subnet.network_address:
        return f"{address} is the network address of {name}{subnet}"
    if address == subnet.broadcast_address:
        return f"{address} is the broadcast address of {name}{subnet}"
    return None
