"""Decodes IPv6's neighbor discovery (RFC 4861) in captured frames. Pure.

scapy is imported inside the functions because importing it takes a second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

NeighborKind = Literal[
    "router-solicitation", "router-advertisement", "neighbor-solicitation", "neighbor-advertisement"
]


@dataclass(frozen=True)
class NeighborMessage:
    """One sighting of one message of neighbor discovery at one interface of one node."""

    node: str
    interface: str
    time: float
    """Seconds since the epoch, by the node's clock."""
    tunnel: bool
    """Whether it was inside a Geneve tunnel."""
    kind: NeighborKind
    src: str
    """`::` where the sender is about to find out whether its address is free."""
    dst: str
    src_mac: str
    """Of the frame."""
    target: str | None
    """The address that is asked for or told; None in messages about routers."""
    mac: str | None
    """The MAC address that the message tells; None if it tells none."""
    prefixes: Sequence[str]
    """Of a router advertisement: those that a host makes itself an address of."""
    managed: bool | None
    """Of a router advertisement: addresses are had by DHCPv6 (flag M)."""
    other: bool | None
    """Of a router advertisement: other settings are had by DHCPv6 (flag O)."""


def neighbor_message(node: str, interface: str, time: float, outer: Any) -> NeighborMessage | None:
    """The message in a frame of scapy's, bare or in a tunnel; None without one."""
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.inet6 import (
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6ND_RA,
        ICMPv6ND_RS,
        IPv6,
    )
    from scapy.layers.l2 import Ether

    kinds: dict[Any, NeighborKind] = {
        ICMPv6ND_RS: "router-solicitation",
        ICMPv6ND_RA: "router-advertisement",
        ICMPv6ND_NS: "neighbor-solicitation",
        ICMPv6ND_NA: "neighbor-advertisement",
    }
    frame = outer[GENEVE].payload if GENEVE in outer else outer
    if not isinstance(frame, Ether) or IPv6 not in frame:
        return None
    packet = frame[IPv6]
    message = packet.payload
    if (kind := kinds.get(type(message))) is None:
        return None
    advertisement = message if kind == "router-advertisement" else None
    return NeighborMessage(
        node=node,
        interface=interface,
        time=time,
        tunnel=GENEVE in outer,
        kind=kind,
        src=packet.src,
        dst=packet.dst,
        src_mac=frame.src,
        target=getattr(message, "tgt", None),
        mac=next(_macs(message), None),
        prefixes=tuple(_prefixes(message)),
        managed=bool(advertisement.M) if advertisement is not None else None,
        other=bool(advertisement.O) if advertisement is not None else None,
    )


def _options(message: Any) -> Iterator[Any]:
    from scapy.packet import NoPayload

    option = message.payload
    while not isinstance(option, NoPayload):
        yield option
        option = option.payload


def _macs(message: Any) -> Iterator[str]:
    from scapy.layers.inet6 import ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr

    for option in _options(message):
        if isinstance(option, ICMPv6NDOptSrcLLAddr | ICMPv6NDOptDstLLAddr):
            yield option.lladdr.lower()


def _prefixes(message: Any) -> Iterator[str]:
    from scapy.layers.inet6 import ICMPv6NDOptPrefixInfo

    for option in _options(message):
        if isinstance(option, ICMPv6NDOptPrefixInfo) and option.A:
            yield f"{option.prefix}/{option.prefixlen}"
