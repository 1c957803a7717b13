"""Who asked for which address during a walk, and who answered: by ARP or, in IPv6, NDP. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labctl.access.neighbors import NeighborMessage, neighbor_message
from labctl.access.packets import ArpMessage, arp_message, ethernet_frames


@dataclass(frozen=True)
class ArpAnswer:
    """One owner of an address, by its own answer."""

    mac: str
    node: str
    interface: str
    """With `node`: where the answer was seen first."""


@dataclass(frozen=True)
class ArpQuestion:
    """One address that somebody asked for, before a packet could be sent to it."""

    target: str
    """The address that was asked for."""
    asker: str
    """The address of who asked."""
    asker_mac: str
    node: str
    interface: str
    """With `node`: where the question was seen first."""
    seen: tuple[str, ...]
    """All places where it was seen, as "node interface"."""
    times: int
    """How often it was asked."""
    answers: tuple[ArpAnswer, ...]
    """One for each MAC address that answered; none: nobody did. Two: the address is taken twice."""


def messages_in(pcap: bytes, node: str, interface: str) -> list[ArpMessage]:
    """The messages of ARP and neighbor discovery of a capture file, without those inside a tunnel.

    Raises LabError as `packets.frames`.
    """
    found = []
    for seconds, outer in ethernet_frames(pcap, node, interface):
        message = arp_message(node, interface, seconds, outer)
        if message is None:
            discovery = neighbor_message(node, interface, seconds, outer)
            message = _as_arp(discovery) if discovery is not None else None
        if message is not None and not message.tunnel:
            found.append(message)
    return found


def _as_arp(message: NeighborMessage) -> ArpMessage | None:
    """A message of IPv6's neighbor discovery as the one of ARP that means the same.

    None for a message about routers. Who looks whether its own address is free (RFC 4862, section
    5.4) announces it, as gratuitous ARP does.
    """
    if message.target is None:
        return None
    asks = message.kind == "neighbor-solicitation"
    if asks:
        sender = message.target if message.src == "::" else message.src
        return ArpMessage(
            message.node, message.interface, message.time, True, sender,
            message.mac or message.src_mac, message.target, message.tunnel,
        )  # fmt: skip
    return ArpMessage(
        message.node, message.interface, message.time, False, message.target,
        message.mac or message.src_mac, message.dst, message.tunnel,
    )  # fmt: skip


def questions(messages: Iterable[ArpMessage]) -> tuple[ArpQuestion, ...]:
    """What was asked, in the order of the first sightings.

    A gratuitous message, by which somebody announces its own address, is no question.
    """
    ordered = sorted(messages, key=lambda message: message.time)
    asked: dict[tuple[str, str], list[ArpMessage]] = {}
    for message in ordered:
        if message.asks and message.sender != message.target:
            asked.setdefault((message.sender_mac, message.target), []).append(message)
    return tuple(_question(sightings, ordered) for sightings in asked.values())


def _question(sightings: Sequence[ArpMessage], messages: Sequence[ArpMessage]) -> ArpQuestion:
    first = sightings[0]
    places = [(message.node, message.interface) for message in sightings]
    answers: dict[str, ArpAnswer] = {}
    for message in messages:
        if (message.asks, message.sender, message.target) == (False, first.target, first.sender):
            answers.setdefault(
                message.sender_mac,
                ArpAnswer(message.sender_mac, message.node, message.interface),
            )
    return ArpQuestion(
        target=first.target,
        asker=first.sender,
        asker_mac=first.sender_mac,
        node=first.node,
        interface=first.interface,
        seen=tuple(dict.fromkeys(f"{node} {interface}" for node, interface in places)),
        times=max(places.count(place) for place in places),
        answers=tuple(answers.values()),
    )
