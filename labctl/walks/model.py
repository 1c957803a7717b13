"""The hops of a packet walk: what they are, and what happened from one to the next. Pure.

`joining` finds out which frames are the same packet, and their order.
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
    """An interface that is listened to."""

    node: str
    """A node's name, or `internet` for the far end of the gateway's eth0."""
    interface: str
    role: Role
    filter: str = ""
    """What tcpdump is asked for there."""
    namespace: str = ""
    """Network namespace on the node that holds the interface; empty: the node's own."""


@dataclass(frozen=True)
class Probe:
    """The one packet that is sent, and how it is known among others."""

    protocol: str
    """`icmp`, `tcp` or `udp`."""
    source: str
    """Address it is sent from."""
    target: str
    """Address it is sent to."""
    port: int | None = None
    """Destination port of tcp and udp."""
    source_port: int | None = None
    """If it is known."""
    length: int | None = None
    """Bytes of the IP packet, if they mark it."""
    marker: str = ""
    """Hexadecimal digits that its payload holds."""

    def is_sent_as(self, frame: Frame) -> bool:
        """Whether a frame is this probe as it left its sender: not yet rewritten."""
        return (
            frame.protocol == self.protocol
            and (frame.src, frame.dst) == (self.source, self.target)
            and not frame.tunnel
            and (frame.kind == "request" or self.protocol != "icmp")
            and (self.protocol != "tcp" or ("S" in frame.flags and "A" not in frame.flags))
            and frame.destination_port == self.port
            and self.source_port in (None, frame.source_port)
            and self.length in (None, frame.length)
            and self.marker in frame.payload
        )


@dataclass(frozen=True)
class Names:
    """What the lab knows about the numbers in a frame."""

    owners: Mapping[str, str] = field(default_factory=dict)
    """Node (or `internet`) at whose interface a MAC address or underlay address is."""
    macs: Mapping[str, str] = field(default_factory=dict)
    """Whose a MAC address is, for people."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Whose an IP address is, for people."""
    datapaths: Mapping[int, str] = field(default_factory=dict)
    """Name of the logical switch or router by its tunnel key, which is the VNI."""
    ports: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Name of a logical port by the keys of its datapath and its own."""
    routers: Mapping[str, str] = field(default_factory=dict)
    """Name of the router by the MAC address of one of its ports."""
    hosts: frozenset[str] = frozenset()
    """MAC addresses of the nodes themselves on the external network."""
    inside: frozenset[str] = frozenset()
    """MAC addresses of OVN's logical ports."""
    nat: Sequence["NatRule"] = ()


@dataclass(frozen=True)
class NatRule:
    """A rule of a logical router."""

    type: str
    """snat, dnat or dnat_and_snat."""
    external: str
    logical: str
    router: str


@dataclass(frozen=True)
class Encap:
    """The Geneve tunnel around a packet, and what OVN wrote on it."""

    src: str
    dst: str
    src_mac: str | None
    dst_mac: str | None
    ttl: int | None
    source_port: int | None
    vni: int
    datapath: str
    """The logical datapath that the VNI is the key of; empty if it is not known."""
    option_class: int | None
    option_data: str | None
    ingress_key: int | None
    ingress_port: str
    egress_key: int | None
    egress_port: str


@dataclass(frozen=True)
class Change:
    """One header field that is not what it was at the hop before."""

    field: str
    before: str | int | None
    after: str | int | None
    why: str
    """snat, dnat, unsnat, undnat, routed, encapsulated, decapsulated or rewritten."""
    by: str
    """The router that did it, or Geneve; empty if it is not known."""
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
    """Seconds since the first hop of the request, clocks made to agree."""
    direction: Literal["in", "out"]
    """Whether the packet comes to the node (from an instance there, too) or leaves it."""
    frame: Frame
    encap: Encap | None
    changes: tuple[Change, ...]
    copies: int = 0
    """How often the same frame was seen here besides."""


@dataclass(frozen=True)
class Path:
    """The way of one packet."""

    direction: Direction
    hops: tuple[Hop, ...]
    aside: tuple[Hop, ...] = ()
    """Sightings of copies that lead nowhere: a bridge that did not know the MAC floods them."""

    @property
    def last(self) -> Hop:
        """Where it was seen last."""
        return self.hops[-1]


@dataclass(frozen=True)
class Joined:
    """One packet's way and its answer's."""

    request: Path | None
    reply: Path | None
    answer: Answer | None
    """What kind of answer: one that was hoped for, a refusal (RST, port unreachable), an error."""
    skews: Mapping[str, float]
    """Seconds by which the clock of a node is ahead of the first hop's, where they disagree."""


@dataclass(frozen=True)
class Sighting:
    """A frame at a place, with how often it was there."""

    frame: Frame
    copies: int = 0

    @property
    def node(self) -> str:
        return self.frame.node

    @property
    def place(self) -> tuple[str, str]:
        return self.frame.node, self.frame.interface


def sender(frame: Frame, names: Names) -> str | None:
    """The node that put the frame on the cable."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_src or "")
    return names.owners.get(frame.src_mac)


def receiver(frame: Frame, names: Names) -> str | None:
    """The node that the frame is meant for on the cable."""
    if frame.tunnel:
        return names.owners.get(frame.tunnel_dst or "")
    return names.owners.get(frame.dst_mac)


# -- what happened from hop to hop -----------------------------------------------------------------
