"""What `labctl graph` draws, as plain data: the machines of a lab and the logical network on them.

Made by `planned.py` from lab.yaml alone, or by `observed.py` from what a running lab tells. What
draws it (SVG, Mermaid, a terminal) asks nobody anything.

A *place* is where a packet can be seen: ``NODE/INTERFACE``, or ``internet``. Drawings mark it, so
that a walk can be drawn over them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["nic", "bridge", "patch", "tunnel", "vif", "other"]
"""Of an interface: eth0 and eth1, a bridge's own, patch ports, Geneve, an instance's, others."""
SegmentKind = Literal["private", "nat", "internet"]
PortKind = Literal["instance", "workload", "router", "gateway", "localnet", "metadata", "other"]
"""Of a logical port: gateway is a router's port on a switch that has a localnet."""

INTERNET = "internet"
"""The place behind the gateway's eth0."""


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
    """Of a patch port the one at its other end; of a tunnel the address it leads to."""
    use: str = ""
    """What it is for, where its kind does not say it: metadata; empty: not known."""


@dataclass(frozen=True)
class Bridge:
    """An Open vSwitch bridge of a node."""

    name: str
    physical_network: str = ""
    """The provider network that ovn-bridge-mappings gives it; empty: none."""


@dataclass(frozen=True)
class Vm:
    """An instance of Nova's, or a namespace that is a workload of an OVN-only lab."""

    name: str
    interface: str
    """On its node: the tap device; empty where none is known yet."""
    port: str
    """Name of its logical port; empty where there is none yet."""
    address: str = ""
    floating: str = ""
    """Floating IP; empty: none."""
    status: str = ""
    """As Nova says: ACTIVE, SHUTOFF, ERROR, …; empty: not known."""


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
    """silent: runs, and does not answer."""

    def interface(self, name: str) -> Interface | None:
        """The interface of that name."""
        return next((one for one in self.interfaces if one.name == name), None)

    def place(self, interface: str) -> str:
        """The place at one of its interfaces."""
        return f"{self.name}/{interface}"


@dataclass(frozen=True)
class Segment:
    """A network between machines."""

    name: str
    kind: SegmentKind
    cidr: str = ""
    gateway: str = ""
    members: tuple[str, ...] = ()
    """Places that are on it."""


@dataclass(frozen=True)
class Tunnel:
    """A Geneve tunnel between two chassis."""

    hosts: tuple[str, str]
    addresses: tuple[str, str]


@dataclass(frozen=True)
class LogicalPort:
    """A port of a logical switch or router."""

    name: str
    """As OVN has it: unique."""
    label: str
    """For people: the instance's name, the router's, localnet's physical network."""
    kind: PortKind
    addresses: tuple[str, ...] = ()
    mac: str = ""
    host: str = ""
    """The node that it is bound to; empty: nowhere, or everywhere."""
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
    """As OVN has it: unique."""
    label: str
    """As people call it."""
    cidrs: tuple[str, ...] = ()
    localnet: str = ""
    """The physical network that it joins; empty: none."""
    ports: tuple[LogicalPort, ...] = ()


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
    """A lab, to be drawn."""

    lab: str
    live: bool
    """Whether a running lab told this; else it is what lab.yaml will make."""
    hosts: tuple[Host, ...]
    segments: tuple[Segment, ...]
    tunnels: tuple[Tunnel, ...] = ()
    switches: tuple[Switch, ...] = ()
    routers: tuple[Router, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be asked; for people."""

    def host(self, name: str) -> Host | None:
        """The node of that name."""
        return next((one for one in self.hosts if one.name == name), None)

    def places(self) -> Iterator[str]:
        """Every place, in the order of the nodes."""
        for host in self.hosts:
            yield from (host.place(one.name) for one in host.interfaces)
        yield INTERNET
