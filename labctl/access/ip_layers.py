"""What IPv4 and IPv6 packets carry, out of scapy's layers. Pure.

scapy is imported inside the functions because importing it takes a second.
"""

from dataclasses import dataclass
from typing import Any

PAYLOAD = 64
"""Bytes of payload that are kept. That includes the marker that a sent probe carries."""
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
_ICMP_KINDS = {8: "request", 0: "reply"}
_ICMP6_KINDS = {
    128: "request", 129: "reply",
    133: "router-solicitation", 134: "router-advertisement",
    135: "neighbor-solicitation", 136: "neighbor-advertisement",
}  # fmt: skip
"""By ICMPv6 type: RFC 4443 and, of neighbor discovery, RFC 4861."""
_EXTENSIONS = (0, 43, 44, 60)
"""IPv6's extension headers that name the next header as IPv6's own does (RFC 8200, section 4)."""
_IPV6_HEADER = 40


@dataclass(frozen=True)
class Quoted:
    """The start of a packet, as an ICMP error quotes it (RFC 792, RFC 4443)."""

    src: str
    dst: str
    protocol: str
    ip_id: int
    source_port: int | None
    destination_port: int | None
    identifier: int | None
    sequence: int | None


def ip_layer(frame: Any) -> Any:
    """The outermost IPv4 or IPv6 header of a frame of scapy's; None if it carries neither."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.packet import NoPayload

    layer = frame
    while not isinstance(layer, NoPayload):
        if type(layer) in (IP, IPv6):
            return layer
        layer = layer.payload
    return None


def ip_fields(packet: Any) -> dict[str, Any]:
    """The fields of Frame that come from the header of an IP packet, and from what it carries.

    A `kind` of ICMP is `request`, `reply`, a message of neighbor discovery, or the type's number.
    """
    number, carried = _carried(packet)
    is_v6 = packet.version == 6
    fields = {
        "src": packet.src,
        "dst": packet.dst,
        "ttl": packet.hlim if is_v6 else packet.ttl,
        "protocol": _PROTOCOLS.get(number, str(number)),
        "ip_id": 0 if is_v6 else packet.id,
        "length": _IPV6_HEADER + (packet.plen or 0) if is_v6 else packet.len or 0,
        "kind": "",
        "identifier": None,
        "sequence": None,
    }
    if kind := _icmp_kind(number, carried):
        echo = carried if kind in ("request", "reply") else None
        fields |= {
            "kind": kind,
            "code": getattr(carried, "code", None),  # reports of listeners have none
            "identifier": echo.id if echo is not None else None,
            "sequence": echo.seq if echo is not None else None,
            "quoted": _quoted(carried) if echo is None else None,
            "payload": _echo_payload(echo) if echo is not None else "",
        }
    return fields | _transport(carried)


def _carried(packet: Any) -> tuple[int, Any]:
    """(number of the protocol, its layer) of what an IP packet carries, behind all extensions."""
    if packet.version == 4:
        return packet.proto, packet.payload
    layer, number = packet, packet.nh
    while number in _EXTENSIONS and hasattr(layer.payload, "nh"):
        layer = layer.payload
        number = layer.nh
    return number, layer.payload


def _icmp_kind(number: int, carried: Any) -> str:
    """Empty when it is no ICMP, or cut off in its header."""
    if number not in (1, 58) or not hasattr(carried, "type"):
        return ""
    kinds = _ICMP_KINDS if number == 1 else _ICMP6_KINDS
    return kinds.get(carried.type, str(carried.type))


def _transport(carried: Any) -> dict[str, Any]:
    """The fields of Frame that come from TCP or UDP."""
    from scapy.layers.inet import TCP, UDP

    if type(carried) not in (TCP, UDP):
        return {}
    fields = {
        "source_port": carried.sport,
        "destination_port": carried.dport,
        "payload": _payload(carried),
    }
    if type(carried) is TCP:
        fields |= {
            "flags": str(carried.flags),
            "tcp_sequence": carried.seq,
            "tcp_acknowledged": carried.ack,
        }
    return fields


def _echo_payload(echo: Any) -> str:
    # scapy has what an echo of ICMPv6 carries as a field of it.
    return _hex(echo.data) if hasattr(echo, "data") else _payload(echo)


def _payload(layer: Any) -> str:
    # Ethernet pads short packets: scapy has that as a Padding layer, which is cut off here.
    from scapy.packet import NoPayload, Padding

    carried = layer.payload
    if isinstance(carried, NoPayload | Padding):
        return ""
    padding = carried.getlayer(Padding)
    content = bytes(carried)
    if padding is not None:
        content = content[: -len(padding.load)]
    return _hex(content)


def _hex(content: bytes) -> str:
    return content[:PAYLOAD].hex()


def _quoted(error: Any) -> Quoted | None:
    from scapy.layers.inet import IPerror
    from scapy.layers.inet6 import IPerror6

    original = error.payload
    if type(original) not in (IPerror, IPerror6):
        return None
    number, carried = _carried(original)
    is_echo = _icmp_kind(number, carried) in ("request", "reply")
    has_ports = number in (6, 17) and hasattr(carried, "sport")
    return Quoted(
        src=original.src,
        dst=original.dst,
        protocol=_PROTOCOLS.get(number, str(number)),
        ip_id=original.id if original.version == 4 else 0,
        source_port=carried.sport if has_ports else None,
        destination_port=carried.dport if has_ports else None,
        identifier=carried.id if is_echo else None,
        sequence=carried.seq if is_echo else None,
    )
