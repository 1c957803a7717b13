"""The data that `labctl graph` draws: the machines of a lab and its logical network.

`planned.py` makes a graph from lab.yaml, `observed.py` from a running lab. The renderers (SVG,
Mermaid, terminal) use only this data.

A *place* is an interface where a packet can be captured: ``NODE/INTERFACE``, or ``internet``.
Drawings mark places, so that the report can draw the path of a packet over them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["nic", "bridge", "patch", "tunnel", "vif", "other"]
"""Of an interface: eth0 or eth1, a bridge's own, patch port, Geneve, an instance's, any other."""
SegmentKind = Literal["private", "nat", "internet", "outside"]
"""outside: the network of the clients, on the Internet."""
PortKind = Literal["instance", "workload", "router", "gateway", "localnet", "metadata", "other"]
"""Of a logical port. gateway: between a router and a switch with a localnet port."""

INTERNET = "internet"
"""The place outside the lab, reached through the gateway's eth0."""


@dataclass(frozen=True)
class Interface:
    """An interface of a node."""

    name: str
    kind: Kind
    address: str = ""
    """With its prefix length, as 192.168.33.10/24; empty: none."""
    mac: str = ""
    bridge: str = ""
    """The Open vSwitch bridge it is a port of; empty: none."""
    peer: str = ""
    """Of a patch port: its other end; of a tunnel: the remote address."""
    use: str = ""
    """Its purpose, where `kind` does not say it: metadata; empty: not known."""


@dataclass(frozen=True)
class Bridge:
    """An Open vSwitch bridge of a node."""

    name: str
    physical_network: str = ""
    """The physical network of the bridge in ovn-bridge-mappings; empty: none."""


@dataclass(frozen=True)
class Vm:
    """An instance of Nova, or in an OVN-only lab a network namespace that acts as one."""

    name: str
    interface: str
    """The tap device on its node; empty: not known."""
    port: str
    """Name of its logical port; empty: none yet."""
    address: str = ""
    floating: str = ""
    """Floating IP; empty: none."""
    status: str = ""
    """Nova's status: ACTIVE, SHUTOFF, ERROR, …; empty: not known."""


@dataclass(frozen=True)
class Host:
    """A node."""

    name: str
    roles: tuple[str, ...]
    interfaces: tuple[Interface, ...]
    bridges: tuple[Bridge, ...] = ()
    vms: tuple[Vm, ...] = ()
    chassis: str = ""
    """Name of its chassis in the southbound database; empty: not registered, or not known."""
    state: Literal["planned", "running", "silent", "down"] = "planned"
    """silent: it runs but does not answer."""

    @property
    def is_client(self) -> bool:
        """Whether it is outside the lab, on the Internet."""
        return self.roles == ("client",)

    def interface(self, name: str) -> Interface | None:
        """The interface of that name."""
        return next((interface for interface in self.interfaces if interface.name == name), None)

    def place(self, interface: str) -> str:
        """The place of an interface of this node."""
        return f"{self.name}/{interface}"


@dataclass(frozen=True)
class Segment:
    """A network between machines."""

    name: str
    kind: SegmentKind
    cidr: str = ""
    gateway: str = ""
    members: tuple[str, ...] = ()
    """The places of the interfaces that are on it."""


@dataclass(frozen=True)
class Tunnel:
    """A Geneve tunnel between two chassis."""

    hosts: tuple[str, str]
    addresses: tuple[str, str]


@dataclass(frozen=True)
class LogicalPort:
    """A port of a logical switch or router."""

    name: str
    """Its name in OVN: unique."""
    label: str
    """For people: name of the instance or router, or the physical network of a localnet port."""
    kind: PortKind
    addresses: tuple[str, ...] = ()
    mac: str = ""
    host: str = ""
    """The node that it is bound to; empty: none or all."""
    peer: str = ""
    """Name of the switch or router at its other side; empty: none."""


@dataclass(frozen=True)
class NatRule:
    """A NAT rule of a logical router."""

    type: Literal["snat", "dnat", "dnat_and_snat"]
    external: str
    logical: str


@dataclass(frozen=True)
class Switch:
    """A logical switch: Neutron's network."""

    name: str
    """Its name in OVN: unique."""
    label: str
    """Its name for people."""
    cidrs: tuple[str, ...] = ()
    localnet: str = ""
    """The physical network that it is connected to; empty: none."""
    ports: tuple[LogicalPort, ...] = ()
    floating: tuple[str, ...] = ()
    """Floating IPs of this network that belong to no port yet: only Neutron knows them."""


@dataclass(frozen=True)
class Router:
    """A logical router."""

    name: str
    label: str
    ports: tuple[LogicalPort, ...] = ()
    nat: tuple[NatRule, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    """(prefix, next hop)."""
    host: str = ""
    """The node where its gateway port is bound; empty: none."""


@dataclass(frozen=True)
class Graph:
    """A lab, to be drawn; `graph --json` prints its fields."""

    lab: str
    live: bool
    """Whether it was read from a running lab; else it was made from lab.yaml."""
    hosts: tuple[Host, ...]
    segments: tuple[Segment, ...]
    tunnels: tuple[Tunnel, ...] = ()
    switches: tuple[Switch, ...] = ()
    routers: tuple[Router, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and other remarks; for people."""

    def host(self, name: str) -> Host | None:
        """The node of that name."""
        return next((host for host in self.hosts if host.name == name), None)

    def places(self) -> Iterator[str]:
        """All places, in the order of the nodes."""
        for host in self.hosts:
            yield from (host.place(interface.name) for interface in host.interfaces)
        yield INTERNET
