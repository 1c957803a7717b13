"""Data of a packet walk: the packet that is sent, its hops, and what changed between them. Pure.

The fields of PacketPath and what it holds are part of `labctl walk --json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.access.packets import Frame

Role = Literal["host", "instance", "underlay", "external", "internet"]
Direction = Literal["request", "reply"]
Answer = Literal["reply", "refused", "error"]


@dataclass(frozen=True)
class Point:
    """An interface where packets are captured."""

    node: str
    """A node's name, or `internet` for the far end of the gateway's eth0."""
    interface: str
    role: Role
    filter: str = ""
    """The pcap filter of the capture."""
    namespace: str = ""
    """Network namespace on the node that holds the interface; empty: the node's own."""


@dataclass(frozen=True)
class SentProbe:
    """The packet that a walk sends, and what tells it from other packets."""

    protocol: str
    """`icmp`, `icmp6`, `tcp` or `udp`."""
    source: str
    """Address it is sent from."""
    target: str
    """Address it is sent to."""
    port: int | None = None
    """Destination port of tcp and udp."""
    source_port: int | None = None
    """None: not known."""
    length: int | None = None
    """Bytes of the IP packet, where an unusual size marks it; else None."""
    marker: str = ""
    """Hexadecimal digits that its payload contains."""
    mac: str = ""
    """MAC address of an instance that sends it; empty: not known. It tells the sender better than
    an address does: the instance may choose another one than OpenStack or OVN knows."""

    def is_sent_as(self, frame: Frame) -> bool:
        """Whether a frame is this packet as it left the sender, before NAT and tunnels."""
        return (
            frame.protocol == self.protocol
            and frame.dst == self.target
            and (frame.src_mac == self.mac if self.mac else frame.src == self.source)
            and not frame.tunnel
            and (frame.kind == "request" or self.protocol not in ("icmp", "icmp6"))
            and (self.protocol != "tcp" or ("S" in frame.flags and "A" not in frame.flags))
            and frame.destination_port == self.port
            and self.source_port in (None, frame.source_port)
            and self.length in (None, frame.length)
            and self.marker in frame.payload
        )


@dataclass(frozen=True)
class Names:
    """What the addresses and keys in a frame mean in this lab."""

    owners: Mapping[str, str] = field(default_factory=dict)
    """By MAC address or underlay address: the node that has it, or `internet`."""
    macs: Mapping[str, str] = field(default_factory=dict)
    """By MAC address: the name of its owner, for people."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """By IP address: the name of its owner, for people."""
    datapaths: Mapping[int, str] = field(default_factory=dict)
    """By tunnel key, which is the VNI: name of the logical switch or router."""
    ports: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """By (key of the datapath, key of the port): name of a logical port."""
    routers: Mapping[str, str] = field(default_factory=dict)
    """By MAC address of one of its ports: name of the logical router."""
    hosts: frozenset[str] = frozenset()
    """MAC addresses of the nodes themselves on the external network."""
    inside: frozenset[str] = frozenset()
    """MAC addresses of OVN's logical ports."""
    nat: Sequence["NatRule"] = ()


@dataclass(frozen=True)
class NatRule:
    """A NAT rule of a logical router."""

    type: str
    """snat, dnat or dnat_and_snat."""
    external: str
    logical: str
    router: str
    mac: str = ""
    """MAC address that the external address has; empty: that of the router's gateway port. Where
    there is one, the node of `port` translates, and no gateway (a distributed floating IP)."""
    port: str = ""
    """The logical port of the instance, where `mac` is given."""


@dataclass(frozen=True)
class Encap:
    """The Geneve header around a packet, with what OVN wrote into it."""

    src: str
    dst: str
    src_mac: str | None
    dst_mac: str | None
    ttl: int | None
    source_port: int | None
    vni: int
    datapath: str
    """Name of the logical switch or router whose key is the VNI; empty if not known."""
    option_class: int | None
    option_data: str | None
    ingress_key: int | None
    ingress_port: str
    egress_key: int | None
    egress_port: str


@dataclass(frozen=True)
class Change:
    """One header field that differs from the hop before."""

    field: str
    before: str | int | None
    after: str | int | None
    why: str
    """snat, dnat, unsnat, undnat, routed, encapsulated, decapsulated or rewritten."""
    by: str
    """The router that changed it, or Geneve; empty if not known."""
    rule: str = ""
    """The NAT rule: its type, external and logical address."""


@dataclass(frozen=True)
class Hop:
    """One sighting of the packet."""

    node: str
    interface: str
    role: Role
    time: float
    """Seconds since the epoch, by the clock of the node."""
    offset: float
    """Seconds since the first hop of the request, corrected for differing clocks."""
    direction: Literal["in", "out"]
    """`out` when the packet leaves the node, else `in`: also when an instance on it sends."""
    frame: Frame
    encap: Encap | None
    changes: tuple[Change, ...]
    copies: int = 0
    """How many more times the same frame was seen here."""


@dataclass(frozen=True)
class PacketPath:
    """The hops of one packet, in their order."""

    direction: Direction
    hops: tuple[Hop, ...]
    aside: tuple[Hop, ...] = ()
    """Copies off the path: a bridge that does not know a MAC address floods the frame."""

    @property
    def last(self) -> Hop:
        """The hop where it was seen last."""
        return self.hops[-1]


@dataclass(frozen=True)
class Joined:
    """The path of one packet, and that of its answer."""

    request: PacketPath | None
    reply: PacketPath | None
    answer: Answer | None
    """`refused` is TCP RST or ICMP port unreachable, `error` any other ICMP error."""
    skews: Mapping[str, float]
    """By node: seconds by which its clock is ahead of the clock of the first hop's node."""


@dataclass(frozen=True)
class Sighting:
    """A frame at one interface."""

    frame: Frame
    copies: int = 0
    """How many more times the same frame was seen there."""

    @property
    def node(self) -> str:
        return self.frame.node

    @property
    def place(self) -> tuple[str, str]:
        return self.frame.node, self.frame.interface


def sender(frame: Frame, names: Names) -> str | None:
    """The node (or `internet`) that sent the frame to the network between nodes, if known."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_src or "")
    return names.owners.get(frame.src_mac)


def receiver(frame: Frame, names: Names) -> str | None:
    """The node (or `internet`) that the frame is addressed to, if known."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_dst or "")
    return names.owners.get(frame.dst_mac)
