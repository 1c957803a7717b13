"""spec -> topology: everything that follows from a lab.yaml, with every value decided.

Pure: no files, no clock, no randomness. Code that renders a configuration or checks a claim takes
the lab's values from here and contains no address or name of the tutorial itself.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import chain

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.spec.defaults import far_end
from labctl.spec.model import (
    Attach,
    BoxSpec,
    FlavorSpec,
    ImageSpec,
    LabSpec,
    NodeSpec,
    PoolSpec,
    Stack,
    Uplink,
)

# Default ports: OpenStack Installation Guide, "Firewalls and default ports".
_API_PORTS = {
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova": 8774,
    "neutron": 9696,
}
_SSH_PORT = 22

# Forwarded ports: above those of usual services, and below 32768, where the ports begin that Linux
# gives to clients (net.ipv4.ip_local_port_range).
_FIRST_PORT, _PORTS = 20000, 10000
_BLOCK = 20
"""Ports of one lab; a lab with more nodes has a multiple of it."""

_NAT_DNS = 3
"""Host number at which VirtualBox's NAT answers DNS (10.0.2.3): no node gets it."""


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
class ExtraNic:
    """A further card of a node: eth2 and up."""

    name: str
    mac: str
    address: IPv4Interface | None
    bridge: str
    """Bridge that it is a port of, and that has its address; "" if it is no physical network."""
    physical_network: str


@dataclass(frozen=True)
class Forward:
    """A port of the host's 127.0.0.1 that leads to a node. Only virtual machines have them."""

    id: str
    """The service: ``ssh``, ``keystone``, ``glance``, ``placement``, ``nova`` or ``neutron``."""
    guest: int
    """Port on the node."""
    host: int
    """Port on 127.0.0.1 of the host."""


@dataclass(frozen=True)
class Machine:
    """What a provider makes and boots: a node of the lab, or a client outside."""

    name: str
    eth0: Nic
    """Interface to the Internet: every node has its own isolated NAT network, unless they share one
    (`build_topology`). A client is on the Internet itself."""

    @property
    def shared_nics(self) -> tuple["Nic | ExtraNic", ...]:
        """The cards on networks between the nodes."""
        return ()

    @property
    def roles(self) -> frozenset[str]:
        """What it does."""
        raise NotImplementedError


@dataclass(frozen=True)
class Client(Machine):
    """A machine out on the simulated Internet, behind the gateway: nothing of OVN is on it.

    Only containers have clients.
    """

    @property
    def roles(self) -> frozenset[str]:
        """`client`."""
        return frozenset({"client"})


@dataclass(frozen=True)
class Node(Machine):
    """One machine of the lab."""

    spec: NodeSpec
    """What lab.yaml says of it; a new field of a node is there at once."""
    eth1: Nic
    """Interface to the private network: for Geneve, the OVN databases and the OpenStack APIs."""
    extra: tuple[ExtraNic, ...]
    """eth2 and up, in the order of lab.yaml."""
    has_br_ex: bool
    """Whether br-ex is here: on gateways, and with distributed floating IPs on computes."""
    forwards: tuple[Forward, ...]
    """SSH first; on the controller of a lab with OpenStack also the APIs."""

    @property
    def shared_nics(self) -> tuple["Nic | ExtraNic", ...]:
        """The cards on networks between the nodes: eth1, and eth2 and up."""
        return (self.eth1, *self.extra)

    @property
    def roles(self) -> frozenset[str]:
        """What it does: ``controller``, ``gateway``, ``compute``."""
        return frozenset(self.spec.roles)

    @property
    def is_controller(self) -> bool:
        """Whether the OVN databases run here, and OpenStack's services if the lab has them."""
        return "controller" in self.roles

    @property
    def is_gateway(self) -> bool:
        """Whether a router's gateway port may be here: traffic between instances and the Internet
        passes this node. It has br-ex."""
        return "gateway" in self.roles

    @property
    def is_compute(self) -> bool:
        """Whether instances run here."""
        return "compute" in self.roles


@dataclass(frozen=True)
class Instance:
    """One Nova instance of the tenant."""

    name: str
    address: IPv4Address
    network: str
    """Name of its network."""
    compute: str
    """The node it is to run on; "" if Nova chooses."""
    image: ImageSpec
    flavor: FlavorSpec


@dataclass(frozen=True)
class TenantNetwork:
    """A network of instances, and the router's address in it."""

    name: str
    subnet: str
    cidr: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True)
class Topology:
    """A lab with every value decided. Lessons know it as ``lab``."""

    spec: LabSpec
    """Everything that lab.yaml says, with its defaults; a new field is there at once."""
    nodes: tuple[Node, ...]
    """In the order of lab.yaml."""
    clients: tuple[Client, ...] = ()
    """Machines on the simulated Internet, in the order of lab.yaml."""

    # What lessons write, such as {{ lab.router }}, stays the same where lab.yaml gets a new shape.

    @property
    def lab(self) -> str:
        """Name of the lab."""
        return self.spec.name

    @property
    def stack(self) -> Stack:
        """``openstack``, or ``ovn`` for OVN alone."""
        return self.spec.stack

    @property
    def box(self) -> BoxSpec:
        """The Vagrant box of virtual machines."""
        return self.spec.box

    @property
    def nested(self) -> bool:
        """Whether virtual machines can use the host's virtualization themselves."""
        return self.spec.nested

    @property
    def nat(self) -> IPv4Network:
        """Network of eth0, and the range of the external subnet."""
        return self.spec.nat.subnet

    @property
    def nat_gateway(self) -> IPv4Address:
        """Gateway to the Internet."""
        return self.spec.nat.gateway

    @property
    def uplink(self) -> Uplink:
        """``simulated``, or ``host`` for the host's real one."""
        return self.spec.nat.uplink

    @property
    def private(self) -> IPv4Network:
        """Network of eth1, the underlay of Geneve."""
        return self.spec.private.subnet

    @property
    def attach(self) -> Attach:
        """``internal``: only the nodes are on it; ``hostonly``: the host is too."""
        return self.spec.private.attach

    @property
    def physical_network(self) -> str:
        """Name in OVN's bridge mappings."""
        return self.spec.external.physical_network

    @property
    def external_network(self) -> str:
        """Name of the external network."""
        return self.spec.external.network

    @property
    def external_subnet(self) -> str:
        """Name of its subnet."""
        return self.spec.external.subnet

    @property
    def pool(self) -> PoolSpec:
        """Addresses Neutron may use on the external network."""
        return self.spec.external.pool

    @property
    def tenant_network(self) -> str:
        """Name of the network instances are on."""
        return self.spec.tenant.network

    @property
    def tenant_subnet(self) -> str:
        """Name of its subnet."""
        return self.spec.tenant.subnet

    @property
    def tenant_cidr(self) -> IPv4Network:
        """Range of that subnet."""
        return self.spec.tenant.cidr

    @property
    def tenant_gateway(self) -> IPv4Address:
        """Address of the router in it."""
        return self.spec.tenant.gateway

    @property
    def dns(self) -> tuple[IPv4Address, ...]:
        """DNS servers that instances are told."""
        return self.spec.tenant.dns

    @property
    def router(self) -> str:
        """Name of the router."""
        return self.spec.tenant.router

    @property
    def image(self) -> ImageSpec:
        """What instances boot."""
        return self.spec.image

    @property
    def flavor(self) -> FlavorSpec:
        """How large instances are."""
        return self.spec.flavor

    @property
    def security_group(self) -> str:
        """Name of the group that allows ICMP and SSH."""
        return self.spec.security_group

    @property
    def keypair(self) -> str:
        """Name of the keypair whose public key instances get."""
        return self.spec.keypair

    @property
    def instances(self) -> tuple[Instance, ...]:
        """In the order of lab.yaml; never empty."""
        return tuple(
            Instance(
                name,
                spec.address,
                network=spec.network or self.tenant_network,
                compute=spec.compute or "",
                image=self.spec.images[spec.image] if spec.image else self.image,
                flavor=self.spec.flavors[spec.flavor] if spec.flavor else self.flavor,
            )
            for name, spec in self.spec.instances.items()
        )

    @property
    def tenant_networks(self) -> tuple[TenantNetwork, ...]:
        """All networks of instances; the first is the one without which no lab is."""
        first = TenantNetwork(
            self.tenant_network, self.tenant_subnet, self.tenant_cidr, self.tenant_gateway
        )
        further = (
            TenantNetwork(name, spec.subnet, spec.cidr, spec.gateway)
            for name, spec in self.spec.tenant.networks.items()
        )
        return (first, *further)

    @property
    def images(self) -> tuple[ImageSpec, ...]:
        """What instances can boot, the default first."""
        return (self.image, *self.spec.images.values())

    def image_of(self, name: str) -> ImageSpec:
        """What the instance of that name boots; of one that lab.yaml does not know, the default."""
        return next((each.image for each in self.instances if each.name == name), self.image)

    @property
    def flavors(self) -> tuple[FlavorSpec, ...]:
        """How large instances can be, the default first."""
        return (self.flavor, *self.spec.flavors.values())

    @property
    def physical_cards(self) -> tuple[ExtraNic, ...]:
        """The controller's further cards that a physical network is on; all nodes have the same."""
        return tuple(card for card in self.controller.extra if card.physical_network)

    @property
    def controller(self) -> Node:
        """The one node that runs the OVN databases and OpenStack's services."""
        return next(node for node in self.nodes if node.is_controller)

    @property
    def gateways(self) -> tuple[Node, ...]:
        """The nodes that may have a router's gateway port, in lab.yaml's order; never empty."""
        return tuple(node for node in self.nodes if node.is_gateway)

    @property
    def computes(self) -> tuple[Node, ...]:
        """The nodes instances run on."""
        return tuple(node for node in self.nodes if node.is_compute)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All that is made and booted: the nodes, then the clients."""
        return (*self.nodes, *self.clients)

    def node(self, name: str) -> Node:
        """The node of that name. Raises KeyError if the lab has none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def machine(self, name: str) -> Machine:
        """The node or client of that name. Raises KeyError if the lab has none."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)


def build_topology(spec: LabSpec, *, shared_nat: bool = False) -> Topology:
    """Everything that follows from a spec. The same spec always gives the same topology.

    With `shared_nat`, as with libvirt, or `nat.shared` all nodes are on one NAT network, and each
    gets its own address on eth0: the first gateway nat.address, the others the next free ones.
    Without it every node has its own NAT network, and all have the same address. Raises LabError if
    the network is too small.
    """
    nodes = tuple(_nodes(spec, shared_nat or spec.nat.shared))
    return Topology(spec, nodes, tuple(_clients(spec)))


def _nodes(spec: LabSpec, shared_nat: bool) -> Iterator[Node]:
    macs = _macs(spec)
    forwards = _forwards(spec)
    eth0 = _eth0_addresses(spec) if shared_nat else dict.fromkeys(spec.nodes, spec.nat.address)
    for name, node in spec.nodes.items():
        yield Node(
            name=name,
            spec=node,
            eth0=Nic(
                "eth0",
                macs[name, "eth0"],
                IPv4Interface((eth0[name], spec.nat.subnet.prefixlen)),
                spec.nat.gateway,
            ),
            eth1=Nic(
                "eth1",
                macs[name, "eth1"],
                IPv4Interface((node.eth1, spec.private.subnet.prefixlen)),
                None,
            ),
            extra=tuple(_extra_nics(spec, name, macs)),
            has_br_ex="gateway" in node.roles
            or ("compute" in node.roles and spec.neutron.distributed_floating_ip),
            forwards=forwards[name],
        )


def _clients(spec: LabSpec) -> Iterator[Client]:
    macs = _macs(spec)
    subnet = spec.internet.subnet
    for name, client in spec.internet.clients.items():
        address = IPv4Interface((client.address, subnet.prefixlen))
        yield Client(name, Nic("eth0", macs[name, "eth0"], address, far_end(subnet)))


def _extra_nics(
    spec: LabSpec, node: str, macs: Mapping[tuple[str, str], str]
) -> Iterator[ExtraNic]:
    host_number = int(spec.nodes[node].eth1) - int(spec.private.subnet.network_address)
    for card, network in spec.networks.items():
        subnet = network.subnet
        yield ExtraNic(
            card,
            macs[node, card],
            None if subnet is None
            else IPv4Interface((subnet[host_number], subnet.prefixlen)),
            f"br-{card}" if network.physical_network else "",
            network.physical_network or "",
        )  # fmt: skip


def _eth0_addresses(spec: LabSpec) -> Mapping[str, IPv4Address]:
    """The address of each node on eth0, where all of them share one network."""
    nat, pool = spec.nat, spec.external.pool
    own_number = int(nat.address - int(nat.subnet.network_address))
    taken = {nat.gateway, nat.subnet[_NAT_DNS]}
    base = int(nat.subnet.network_address)
    pool_numbers = range(int(pool.start) - base, int(pool.end) - base + 1)
    # The addresses after nat.address come first, so that the tutorial's nodes are .15, .16, .17.
    free = (
        nat.subnet[number]
        for first, last in ((own_number + 1, nat.subnet.num_addresses - 2), (1, own_number - 1))
        # Around the pool, and not through it: it may have sixteen million addresses.
        for number in chain(
            range(first, min(last + 1, max(first, pool_numbers.start))),
            range(max(first, pool_numbers.stop), last + 1),
        )
        if nat.subnet[number] not in taken
    )
    addresses: dict[str, IPv4Address] = {}
    first_gateway = next(name for name, node in spec.nodes.items() if "gateway" in node.roles)
    for name in spec.nodes:
        address = nat.address if name == first_gateway else next(free, None)
        if address is None:
            raise LabError(
                tr("nat.subnet: {subnet} has no free address left for {name}'s eth0",
                   subnet=nat.subnet, name=name),
                hint=tr("choose a larger network, or a smaller external.pool"),
                code=EXIT_USAGE,
            )  # fmt: skip
        addresses[name] = address
    return addresses


def _forwards(spec: LabSpec) -> Mapping[str, tuple[Forward, ...]]:
    """The forwarded ports of each node, out of a block of ports chosen by a hash of the name."""
    # The APIs come first, and have their ports even if they are not forwarded. So a node added at
    # the end of lab.yaml, or another stack, changes no other port.
    needed = len(_API_PORTS) + len(spec.nodes)
    block = _BLOCK * -(-needed // _BLOCK)
    digest = hashlib.sha256(spec.name.encode()).digest()
    base = _FIRST_PORT + int.from_bytes(digest[:4]) % max(1, _PORTS // block) * block
    apis = tuple(
        Forward(service, port, base + index)
        for index, (service, port) in enumerate(_API_PORTS.items())
    )
    return {
        name: (
            Forward("ssh", _SSH_PORT, base + len(_API_PORTS) + index),
            *(apis if spec.stack == "openstack" and "controller" in node.roles else ()),
        )
        for index, (name, node) in enumerate(spec.nodes.items())
    }


def _macs(spec: LabSpec) -> dict[tuple[str, str], str]:
    """The MAC of every (node, NIC): the one in lab.yaml, else one made from the names.

    It is made from the names and is not random, so that captures, snapshots and screenshots of the
    same lab agree on every machine, and after ``destroy`` and ``create``.
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
        for nic in ("eth0", "eth1", *spec.networks):
            mac = written.get((name, nic)) or _made_mac(spec.name, name, nic, taken)
            taken.add(mac)
            macs[name, nic] = mac
    for name in spec.internet.clients:
        macs[name, "eth0"] = _made_mac(spec.name, name, "eth0", taken)
        taken.add(macs[name, "eth0"])
    return macs


def _written_macs(node: NodeSpec) -> tuple[tuple[str, str | None], ...]:
    return ("eth0", node.mac.eth0), ("eth1", node.mac.eth1)


def _made_mac(lab: str, node: str, nic: str, taken: set[str]) -> str:
    # 52:54:00 is the locally administered prefix that QEMU uses, as in the tutorial's captures.
    attempt = 0
    while True:
        # 24 bits may collide; each attempt hashes to another address.
        text = f"{lab}/{node}/{nic}" + (f"/{attempt}" if attempt else "")
        tail = hashlib.sha256(text.encode()).digest()[:3]
        mac = "52:54:00:" + tail.hex(":")
        if mac not in taken:
            return mac
        attempt += 1
