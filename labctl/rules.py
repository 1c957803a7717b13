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
from labctl.i18n import tr
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
        if self.trusts(path):
            return tr("choose another address in {subnet}", subnet=subnet)
        return tr("choose another address")

    def later_first(self, one: Path, other: Path) -> tuple[Path, Path]:
        """The two in the order to complain: at the one written, or else written last."""

        def place(path: Path) -> tuple[bool, int]:
            return path in self.source.lines, self.source.line(path)

        return (one, other) if place(one) > place(other) else (other, one)


def _nodes(spec: LabSpec, judge: _Judge) -> None:
    if not spec.nodes:
        judge.say(("nodes",), tr("is empty"), tr("leave it out for the two nodes of the tutorial"))
    for name in spec.nodes:
        at: Path = ("nodes", name)
        if not re.fullmatch(NODE_NAME, name):
            judge.say_key(
                at,
                tr("is not a host name"),
                tr(
                    "use up to 40 small letters, digits and hyphens, "
                    "with a letter or digit at both ends"
                ),
            )
        elif name.isdecimal():
            address = IPv4Address(int(name) % 2**32)
            judge.say_key(
                at,
                tr("would be read as the address {address}", address=address),
                tr("add a letter"),
            )
        elif name == "localhost":
            judge.say_key(at, tr("is what every machine calls itself"), tr("choose another name"))


def _roles(spec: LabSpec, judge: _Judge) -> None:
    if not judge.roles_known() or not spec.nodes:
        return
    where: dict[str, list[str]] = {"controller": [], "gateway": [], "compute": []}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "roles")
        if not node.roles:
            judge.say(at, tr("is empty"), tr("give the node a role, or leave roles out"))
        elif {"controller", "compute"} <= set(node.roles):
            judge.say(
                at,
                tr("a node is either controller or compute for now"),
                tr("remove compute here and add a node such as compute-01:"),
            )
        for role in set(node.roles):
            where[role].append(name)
    controllers, gateways, computes = where["controller"], where["gateway"], where["compute"]
    if not controllers:
        judge.say(
            ("nodes",),
            tr("no node has the role {role}", role="controller"),
            tr("give one node [controller, gateway]"),
        )
    for name in controllers[1:]:
        judge.say(
            ("nodes", name, "roles"),
            tr("{node} is the controller already, and a lab has one", node=shown(controllers[0])),
            tr("make this node [compute]"),
        )
    if controllers and not gateways:
        judge.say(
            ("nodes", controllers[0], "roles"),
            tr("no node has the role {role}", role="gateway"),
            tr("write {value}", value="[controller, gateway]"),
        )
    for name in gateways:
        if controllers and name not in controllers:
            judge.say(
                ("nodes", name, "roles"),
                tr("for now the controller is the only gateway a lab can have"),
                tr("give the role gateway to {node} alone", node=shown(controllers[0])),
            )
    if not computes:
        judge.say(
            ("nodes",),
            tr("no node has the role {role}", role="compute"),
            tr("add a node for instances: compute-01:"),
        )


def _eth1(spec: LabSpec, judge: _Judge) -> None:
    subnet = spec.private.subnet
    owners: dict[IPv4Address, str] = {}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "eth1")
        if wrong := _no_host(node.eth1, subnet):
            judge.say(at, wrong, _inside(subnet), also=[_PRIVATE])
        elif node.eth1 == subnet[1]:
            judge.say(
                at,
                tr(
                    "{address} is the host's own address on VirtualBox's and libvirt's networks",
                    address=node.eth1,
                ),
                tr("choose another address in {subnet}", subnet=subnet),
                also=[_PRIVATE],
            )
        if (owner := owners.setdefault(node.eth1, name)) != name:
            at, other = judge.later_first(at, ("nodes", owner, "eth1"))
            judge.say(
                at,
                _taken(node.eth1, other[1]),
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
                    tr(
                        "{mac} is already the MAC address of {node}'s {nic}",
                        mac=mac,
                        node=shown(owner[1]),
                        nic=owner[3],
                    ),
                    tr("choose another, or leave it out and one is made"),
                    also=[owner],
                )


def _sizes(spec: LabSpec, judge: _Judge) -> None:
    least, openstack = LEAST_MEMORY[spec.stack], spec.stack == "openstack"
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "memory")
        if openstack and "controller" in node.roles and node.memory < _LEAST_CONTROLLER_MEMORY:
            judge.say(
                at,
                tr("{memory} MiB is too little for the controller", memory=node.memory),
                tr("give it {least} or more", least=_LEAST_CONTROLLER_MEMORY),
                also=[("nodes", name, "roles"), _STACK],
            )
        elif node.memory < least:
            small = tr("{value} is too small: the least is {least}", value=node.memory, least=least)
            judge.say(at, small, also=[_STACK])
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
            tr(
                "{vcpus} vCPUs fit on no compute: the largest has {cpus}",
                vcpus=spec.flavor.vcpus,
                cpus=cpus,
            ),
            tr("ask for {cpus} or fewer, or give a compute more cpus", cpus=cpus),
            also=[("nodes", name, "cpus") for name in computes],
        )
    room = max(node.memory for node in computes.values()) - _RESERVED_HOST_MEMORY
    # A compute that is too small for itself has been complained about already.
    small = any(node.memory < LEAST_MEMORY[spec.stack] for node in computes.values())
    if spec.flavor.memory > room and not small:
        judge.say(
            ("flavor", "memory"),
            tr(
                "{memory} MiB fit on no compute: the largest has {room} for instances",
                memory=spec.flavor.memory,
                room=room,
            ),
            tr("ask for {room} or less, or give a compute more memory", room=room),
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
                tr(
                    "{network} overlaps {key} {other}",
                    network=networks[at],
                    key=dotted(other),
                    other=networks[other],
                ),
                tr("choose a network apart from it, such as {network}", network=_apart(networks)),
                also=[other],
            )
    for at, network in networks.items():
        if INTERNET_HOST in network:
            judge.say(
                at,
                tr(
                    "{network} covers {address}, the Internet host that lessons ping",
                    network=network,
                    address=INTERNET_HOST,
                ),
                tr("choose a private network, such as {network}", network=_apart(networks)),
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
            judge.say(at, wrong, _inside(subnet), also=[_NAT])
    if spec.nat.gateway == spec.nat.address:
        at, other = judge.later_first(address, gateway)
        judge.say(
            at,
            tr("{address} is already {key}", address=spec.nat.address, key=dotted(other)),
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
            judge.say(at, wrong, _inside(subnet), also=[_NAT])
    if outside:
        return
    if pool.start > pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            tr(
                "the pool ends at {end}, before it starts at {start}",
                end=pool.end,
                start=pool.start,
            ),
            tr("swap start and end")
            if start in judge.source.lines
            else tr("choose an address behind it"),
            also=[start, end],
        )
        return
    if pool.start == pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            tr("the pool holds only {address}", address=pool.start),
            tr("make room for two addresses: the router's gateway port and one floating IP"),
            also=[start, end],
        )
    for key, value in (("gateway", spec.nat.gateway), ("address", spec.nat.address)):
        if pool.start <= value <= pool.end:
            span = f"{pool.start}-{pool.end}"
            at, _ = judge.later_first(start, end)
            at, _ = judge.later_first(at, ("nat", key))
            judge.say(
                at,
                tr("the pool {pool} covers the gateway {address}", pool=span, address=value)
                if key == "gateway"
                else tr(
                    "the pool {pool} covers eth0's address {address}", pool=span, address=value
                ),
                tr("choose a range without it"),
                also=[start, end, _NAT, ("nat", key)],
            )


def _tenant(spec: LabSpec, judge: _Judge) -> None:
    tenant, gateway_at, dns_at = spec.tenant, ("tenant", "gateway"), ("tenant", "dns")
    if wrong := _no_host(tenant.gateway, tenant.cidr):
        judge.say(gateway_at, wrong, _inside(tenant.cidr), also=[_TENANT])
    for position, server in enumerate(tenant.dns):
        if server in tenant.dns[:position]:
            judge.say(
                (*dns_at, position),
                tr("{value} is given twice", value=server),
                tr("keep one of them"),
            )
    if len(tenant.dns) > _MOST_DNS_SERVERS:
        judge.say(
            dns_at,
            tr("Neutron takes at most {n} DNS servers", n=_MOST_DNS_SERVERS),
            tr("remove the others"),
        )
    _instances(spec, judge)


def _instances(spec: LabSpec, judge: _Judge) -> None:
    cidr, gateway = spec.tenant.cidr, spec.tenant.gateway
    another = judge.another(_TENANT, cidr)
    owners: dict[IPv4Address, str] = {}
    if not spec.instances:
        judge.say(("instances",), tr("is empty"), tr("leave it out for vm_1 of the tutorial"))
    for name, instance in spec.instances.items():
        address = instance.address
        if not re.fullmatch(INSTANCE_NAME, name):
            judge.say_key(
                ("instances", name),
                tr("cannot name an instance"),
                tr(
                    "use up to 64 letters, digits, dots, hyphens and underscores, "
                    "beginning with a letter, digit or underscore"
                ),
            )
        at: Path = ("instances", name, "address")
        if wrong := _no_host(address, cidr):
            judge.say(at, wrong, _inside(cidr), also=[_TENANT])
        elif address == gateway:
            judge.say(
                at,
                tr("{address} is the address of tenant.gateway", address=address),
                another,
                also=[_TENANT, ("tenant", "gateway")],
            )
        elif spec.stack == "openstack" and address == metadata_port(cidr, gateway):
            judge.say(
                at,
                tr(
                    "{address} is the address Neutron gives to OVN's DHCP and metadata port",
                    address=address,
                ),
                another,
                also=[_TENANT, ("tenant", "gateway")],
            )
        if (owner := owners.setdefault(address, name)) != name:
            at, other = judge.later_first(at, ("instances", owner, "address"))
            judge.say(at, _taken(address, other[1]), another, also=[other])


def _names(spec: LabSpec, judge: _Judge) -> None:
    for key in ("network", "subnet"):
        external: Path = ("external", key)
        tenant: Path = ("tenant", key)
        name = getattr(spec.external, key)
        if name == getattr(spec.tenant, key):
            at, other = judge.later_first(tenant, external)
            judge.say(
                at,
                tr("{name} is already the name of {key}", name=quoted(name), key=dotted(other)),
                tr("choose another name: the openstack command could not tell them apart"),
                also=[other],
            )
    if spec.security_group.lower() == "default":
        judge.say(
            ("security_group",),
            tr("Neutron makes a group of that name in every project"),
            tr("choose another name"),
        )


def _no_host(address: IPv4Address, subnet: IPv4Network, name: str = "") -> str | None:
    """Why no machine can have this address in this subnet, or None."""
    called = f"{name}{subnet}"
    if address not in subnet:
        return tr("{address} is not in {subnet}", address=address, subnet=called)
    if address == subnet.network_address:
        return tr("{address} is the network address of {subnet}", address=address, subnet=called)
    if address == subnet.broadcast_address:
        return tr("{address} is the broadcast address of {subnet}", address=address, subnet=called)
    return None


def _inside(subnet: IPv4Network) -> str:
    return tr("choose an address in {subnet}", subnet=subnet)


def _taken(address: IPv4Address, owner: str | int) -> str:
    return tr("{address} is already the address of {owner}", address=address, owner=shown(owner))
