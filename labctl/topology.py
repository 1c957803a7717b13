"""spec -> topology: what follows from a lab.yaml, with nothing left to decide.

Pure: no file, no clock, no randomness. Whatever renders a config or checks a claim reads the lab's
values here and never writes a literal of the tutorial.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labctl.labmodel import LabSpec, NodeSpec


@dataclass(frozen=True)
class Nic:
    """One network interface of a node."""

    name: str
    """Name inside the guest: ``eth0`` or ``eth1``."""
    mac: str
    address: IPv4Interface
    gateway: IPv4Address | None
    """Default gateway reached through this interface, or None."""


@dataclass(frozen=True)
class Node:
    """One machine of the lab."""

    name: str
    roles: frozenset[str]
    cpus: int
    memory_mib: int
    eth0: Nic
    """The way out: every node has its own isolated NAT network with the same addresses."""
    eth1: Nic
    """The private network: carries Geneve, the OVN databases and the OpenStack APIs."""

    @property
    def is_controller(self) -> bool:
        """Whether OpenStack's services and the OVN databases run here."""
        return "controller" in self.roles

    @property
    def is_gateway(self) -> bool:
        """Whether br-ex is here: traffic between tenants and the Internet passes this node."""
        return "gateway" in self.roles

    @property
    def is_compute(self) -> bool:
        """Whether instances run here."""
        return "compute" in self.roles


@dataclass(frozen=True)
class Pool:
    """Addresses Neutron may hand out on the external network; both ends belong to it."""

    start: IPv4Address
    end: IPv4Address

    def contains(self, address: IPv4Address) -> bool:
        """Whether the address can have come from this pool."""
        return self.start <= address <= self.end


@dataclass(frozen=True)
class Instance:
    """One Nova instance of the tenant."""

    name: str
    address: IPv4Address


@dataclass(frozen=True)
class Image:
    """The image instances boot from."""

    name: str
    source: str
    """``builtin``, an http(s) URL, or a path relative to the directory of lab.yaml."""
    user: str
    """Who SSH logs in as."""


@dataclass(frozen=True)
class Flavor:
    """The size of instances."""

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True)
class Topology:
    """A lab with every value decided."""

    lab: str
    nodes: tuple[Node, ...]
    """In the order of lab.yaml."""
    nat: IPv4Network
    nat_gateway: IPv4Address
    uplink: str
    private: IPv4Network
    physical_network: str
    external_network: str
    external_subnet: str
    pool: Pool
    tenant_network: str
    tenant_subnet: str
    tenant_cidr: IPv4Network
    tenant_gateway: IPv4Address
    dns: tuple[IPv4Address, ...]
    router: str
    instances: tuple[Instance, ...]
    """In the order of lab.yaml; never empty."""
    image: Image
    flavor: Flavor
    security_group: str
    keypair: str

    @property
    def controller(self) -> Node:
        """The one node that runs OpenStack's services."""
        return next(node for node in self.nodes if node.is_controller)

    @property
    def gateways(self) -> tuple[Node, ...]:
        """The nodes that carry br-ex."""
        return tuple(node for node in self.nodes if node.is_gateway)

    @property
    def computes(self) -> tuple[Node, ...]:
        """The nodes instances run on."""
        return tuple(node for node in self.nodes if node.is_compute)

    def node(self, name: str) -> Node:
        """The node of that name; KeyError if the lab has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def build_topology(spec: LabSpec) -> Topology:
    """Everything that follows from a spec. The same spec always gives the same topology."""
    return Topology(
        lab=spec.name,
        nodes=tuple(_nodes(spec)),
        nat=spec.nat.subnet,
        nat_gateway=spec.nat.gateway,
        uplink=spec.nat.uplink,
        private=spec.private.subnet,
        physical_network=spec.external.physical_network,
        external_network=spec.external.network,
        external_subnet=spec.external.subnet,
        pool=Pool(spec.external.pool.start, spec.external.pool.end),
        tenant_network=spec.tenant.network,
        tenant_subnet=spec.tenant.subnet,
        tenant_cidr=spec.tenant.cidr,
        tenant_gateway=spec.tenant.gateway,
        dns=spec.tenant.dns,
        router=spec.tenant.router,
        instances=tuple(Instance(name, inst.address) for name, inst in spec.instances.items()),
        image=Image(spec.image.name, spec.image.source, spec.image.user),
        flavor=Flavor(
            spec.flavor.name,
            vcpus=spec.flavor.vcpus,
            memory_mib=spec.flavor.memory,
            disk_gib=spec.flavor.disk,
        ),
        security_group=spec.security_group,
        keypair=spec.keypair,
    )


def _nodes(spec: LabSpec) -> Iterator[Node]:
    macs = _macs(spec)
    for name, node in spec.nodes.items():
        yield Node(
            name=name,
            roles=frozenset(node.roles),
            cpus=node.cpus,
            memory_mib=node.memory,
            eth0=Nic(
                "eth0",
                macs[name, "eth0"],
                IPv4Interface((spec.nat.address, spec.nat.subnet.prefixlen)),
                spec.nat.gateway,
            ),
            eth1=Nic(
                "eth1",
                macs[name, "eth1"],
                IPv4Interface((node.eth1, spec.private.subnet.prefixlen)),
                None,
            ),
        )


def _macs(spec: LabSpec) -> dict[tuple[str, str], str]:
    """A MAC for every (node, NIC): the one lab.yaml gives, else one made from the names.

    Made from names and not at random, so that a capture, a snapshot and a screenshot of the same
    lab agree, on every machine and after every ``destroy``.
    """
    written = {
        (name, nic): mac
        for name, node in spec.nodes.items()
        for nic, mac in _written_macs(node)
        if mac is not None
    }
    taken = set(written.values())
    macs: dict[tuple[str, str], str] = {}
    for name in spec.nodes:
        for nic in ("eth0", "eth1"):
            mac = written.get((name, nic)) or _made_mac(spec.name, name, nic, taken)
            taken.add(mac)
            macs[name, nic] = mac
    return macs


def _written_macs(node: NodeSpec) -> tuple[tuple[str, str | None], ...]:
    return ("eth0", node.mac.eth0), ("eth1", node.mac.eth1)


def _made_mac(lab: str, node: str, nic: str, taken: set[str]) -> str:
    # 52:54:00 is QEMU's locally administered prefix, the one the tutorial's captures show.
    attempt = 0
    while True:
        # 24 bits collide once in a while: the next attempt hashes to another address.
        text = f"{lab}/{node}/{nic}" + (f"/{attempt}" if attempt else "")
        tail = hashlib.sha256(text.encode()).digest()[:3]
        mac = "52:54:00:" + tail.hex(":")
        if mac not in taken:
            return mac
        attempt += 1
