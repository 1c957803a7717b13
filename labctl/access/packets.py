"""Decodes pcap bytes into frames, with the packet inside a Geneve tunnel.

Pure. scapy is imported inside the functions because importing it takes a second.
"""

import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, Literal

from labctl.access.ip_layers import Quoted, ip_fields, ip_layer
from labctl.errors import LabError
from labctl.i18n import tr

# On Windows without Npcap scapy warns that it cannot capture; here it only reads what was captured.
logging.getLogger("scapy.loading").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Frame:
    """One sighting of one packet at one interface of one node."""

    node: str
    interface: str
    time: float
    """Seconds since the epoch, by the node's clock."""
    tunnel: bool
    """Whether the fields below `vni` are those of the packet inside a Geneve tunnel."""
    tunnel_src: str | None
    tunnel_dst: str | None
    vni: int | None
    option_class: int | None
    """Class of the first Geneve option; 0x102 (258) is OVN's."""
    option_data: str | None
    """Its bytes as hexadecimal digits. OVN puts the keys of ingress and egress port there: see
    ovn-architecture(7), "Tunnel Encapsulations"."""
    src_mac: str
    dst_mac: str
    src: str
    dst: str
    ttl: int
    """Of IPv6 the hop limit."""
    protocol: str
    """`icmp`, `icmp6`, `tcp`, `udp`, or the number."""
    kind: str
    """For ICMP `request`, `reply`, a message of IPv6's neighbor discovery such as
    `neighbor-solicitation`, or the type's number; empty otherwise."""
    identifier: int | None
    """ICMP identifier of an echo."""
    sequence: int | None
    """ICMP sequence number of an echo."""
    ip_id: int = 0
    """Identification of the IPv4 header; 0 in IPv6. Routers and NAT do not change it."""
    length: int = 0
    """Bytes of the IP packet."""
    vlan: int | None = None
    """Outermost VLAN tag of the frame, inside the tunnel if there is one."""
    source_port: int | None = None
    destination_port: int | None = None
    flags: str = ""
    """TCP flags by their letters, e.g. `SA`."""
    tcp_sequence: int | None = None
    tcp_acknowledged: int | None = None
    code: int | None = None
    """ICMP code."""
    payload: str = ""
    """First bytes of what TCP, UDP or an ICMP echo carries, as hexadecimal digits."""
    quoted: Quoted | None = None
    """The start of the packet that an ICMP error is about."""
    outer_src_mac: str | None = None
    outer_dst_mac: str | None = None
    outer_ttl: int | None = None
    tunnel_port: int | None = None
    """UDP source port of the tunnel's packet."""


@dataclass(frozen=True)
class ArpMessage:
    """One sighting of one ARP message (RFC 826) at one interface of one node."""

    node: str
    interface: str
    time: float
    """Seconds since the epoch, by the node's clock."""
    asks: bool
    """Whether it asks who has `target`; else it answers that `sender` is at `sender_mac`."""
    sender: str
    sender_mac: str
    target: str
    tunnel: bool = False
    """Whether it was inside a Geneve tunnel."""


_FILE_HEADER, _RECORD_HEADER, _FRAME_HEADER = 24, 16, 14
_ETHERNET = 1  # LINKTYPE_ETHERNET of pcap
_MAGIC = {0xA1B2C3D4, 0xD4C3B2A1, 0xA1B23C4D, 0x4D3CB2A1}  # micro- or nanoseconds, both byte orders


SIGHTED = frozenset((
    "node", "interface", "tunnel", "tunnel_src", "tunnel_dst", "vni", "option_class", "option_data",
    "src_mac", "dst_mac", "src", "dst", "ttl", "protocol", "kind", "vlan", "source_port",
    "destination_port", "flags",
))  # fmt: skip
"""The fields of Frame that `sighting` shows."""


def sighting(row: Mapping[str, Any]) -> str:
    """One frame (as a mapping of Frame's fields) as a line of text, much as tcpdump prints it."""
    what = " ".join(word for word in (row["protocol"], row["kind"]) if word)
    shown = {"what": what}
    for end, port in (("src", "source_port"), ("dst", "destination_port")):
        number = row.get(port)
        address = f"[{row[end]}]" if ":" in row[end] else row[end]
        shown[end] = row[end] if number is None else f"{address}:{number}"
    text = tr("{interface} of {node}: {what} {src} > {dst}, {src_mac} > {dst_mac}, ttl {ttl}",
              **{**row, **shown})  # fmt: skip
    if row.get("flags"):
        text += tr(", flags {flags}", **row)
    if row.get("vlan") is not None:
        text += tr(", vlan {vlan}", **row)
    if row["tunnel"]:
        text += tr("; in Geneve {tunnel_src} > {tunnel_dst}, vni {vni:#x}", **row)
        if row["option_class"] is not None:
            text += tr(", class {option_class:#x} data {option_data}", **row)
    return text


_MOST_RECORDS = 200
"""How many records of a capture are searched for an exchange; our choice: some 0.2 s."""


def exchange(pcap: bytes) -> bytes:
    """A capture file with two frames of this one: an ICMP echo request and its reply.

    Without a reply, the request alone; without a request, the first two IP packets.
    """
    header = pcap[:_FILE_HEADER]
    first: list[bytes] = []
    asked: Frame | None = None
    for record in islice(_records(pcap), _MOST_RECORDS):
        for frame in frames(header + record, "", ""):
            if asked is None and frame.kind == "request":
                asked, first = frame, [record]
            elif asked is None:
                first = [*first, record][:2]
            elif (frame.kind, frame.identifier, frame.sequence) == (
                "reply", asked.identifier, asked.sequence,
            ):  # fmt: skip
                return b"".join([header, *first, record])
    return b"".join([header, *first])


def _records(pcap: bytes) -> Iterator[bytes]:
    """Each whole record of a pcap file, with its header: libpcap's pcap-savefile(5)."""
    order: Literal["little", "big"] = "big" if pcap[:2] == b"\xa1\xb2" else "little"
    start = _FILE_HEADER
    while len(pcap) >= (frame := start + _RECORD_HEADER):
        end = frame + int.from_bytes(pcap[start + 8 : start + 12], order)
        if end > len(pcap):
            return
        yield pcap[start:end]
        start = end


def frames(pcap: bytes, node: str, interface: str) -> list[Frame]:
    """The IPv4 and IPv6 packets of a capture file, in its order. What is neither is left out.

    Of a file that is cut off in the middle of a packet, the packets before it are returned. Raises
    LabError when it is not a capture of Ethernet frames.
    """
    decoded = (
        decode(node, interface, seconds, outer)
        for seconds, outer in ethernet_frames(pcap, node, interface)
    )
    return [frame for frame in decoded if frame is not None]


def decode(node: str, interface: str, time: float, outer: Any) -> Frame | None:
    """A frame of scapy's (its `Ether`) as a Frame; None when it, or what it carries, is no IP.

    `time` is in seconds since the epoch.
    """
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.l2 import Ether

    if ip_layer(outer) is None:
        return None
    inner, tunnel = outer, None
    if GENEVE in outer:
        tunnel = outer[GENEVE]
        inner = tunnel.payload
        if not isinstance(inner, Ether) or ip_layer(inner) is None:
            return None
    return _frame(node, interface, time, outer, tunnel, inner)


def identity(frame: Frame) -> tuple[object, ...]:
    """The fields that stay equal on a packet's whole path: routers and NAT do not change them.

    IPv6 has no identification of a packet, so more of the packet itself must be equal there. Its
    flow label does not count: who forwards a packet may set it (RFC 6437).
    """
    quoted: object = None
    if frame.quoted is not None:
        about = frame.quoted
        quoted = about.ip_id
        if is_ipv6(frame.src):
            quoted = (about.protocol, about.source_port, about.destination_port,
                      about.identifier, about.sequence)  # fmt: skip
    return (
        frame.protocol, frame.kind, frame.code, frame.ip_id, frame.sequence, frame.flags,
        frame.tcp_sequence, frame.payload, quoted,
        (frame.identifier, frame.length) if is_ipv6(frame.src) else None,
    )  # fmt: skip


def is_ipv6(address: str) -> bool:
    """Whether the text of an IP address is one of IPv6."""
    return ":" in address


def arp_message(node: str, interface: str, time: float, outer: Any) -> ArpMessage | None:
    """The ARP message for IPv4 in a frame of scapy's, bare or in a tunnel; None without one."""
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.l2 import ARP

    asks = {1: True, 2: False}  # RFC 826: request, reply
    arp = outer.getlayer(ARP)
    if arp is None or arp.ptype != 0x0800 or arp.op not in asks:
        return None
    return ArpMessage(
        node, interface, time, asks[arp.op], arp.psrc, arp.hwsrc.lower(), arp.pdst, GENEVE in outer
    )


def ethernet(data: bytes) -> Any:
    """A frame as scapy's `Ether`, with all layers that labctl reads.

    scapy decodes only layers that are imported: without this the first frame of a process would end
    at its outer UDP header.
    """
    from scapy.layers.l2 import Ether

    for layers in ("scapy.layers.inet", "scapy.layers.inet6", "scapy.contrib.geneve"):
        import_module(layers)
    return Ether(data)


def ethernet_frames(pcap: bytes, node: str, interface: str) -> Iterator[tuple[float, Any]]:
    """(seconds since the epoch, frame) of a capture file; none if not even its header is whole.

    Raises LabError.
    """
    if len(pcap) < _FILE_HEADER:
        return
    from scapy.utils import RawPcapReader

    if int.from_bytes(pcap[:4]) not in _MAGIC:
        raise LabError(
            tr("what was captured on {interface} of {node} is no pcap",
               interface=interface, node=node)
        )  # fmt: skip
    reader = RawPcapReader(io.BytesIO(pcap))  # type: ignore[arg-type]  # a file serves as well
    if reader.linktype != _ETHERNET:
        raise LabError(
            tr("the capture on {interface} of {node} holds no Ethernet frames",
               interface=interface, node=node)
        )  # fmt: skip
    with reader:
        for data, meta in reader:
            if len(data) < meta.caplen:
                break  # the file ends in the middle of this packet
            if len(data) >= _FRAME_HEADER:
                yield meta.sec + meta.usec / (1e9 if reader.nano else 1e6), ethernet(data)


def _frame(node: str, interface: str, time: float, outer: Any, tunnel: Any, inner: Any) -> Frame:
    from scapy.layers.l2 import Dot1Q

    option = tunnel.options[0] if tunnel is not None and tunnel.options else None
    around = ip_layer(outer) if tunnel is not None else None
    return Frame(
        node=node,
        interface=interface,
        time=time,
        tunnel=tunnel is not None,
        tunnel_src=around.src if around is not None else None,
        tunnel_dst=around.dst if around is not None else None,
        vni=tunnel.vni if tunnel is not None else None,
        option_class=option.classid if option is not None else None,
        option_data=bytes(option.data).hex() if option is not None else None,
        src_mac=inner.src,
        dst_mac=inner.dst,
        vlan=inner[Dot1Q].vlan if Dot1Q in inner else None,
        outer_src_mac=outer.src if around is not None else None,
        outer_dst_mac=outer.dst if around is not None else None,
        outer_ttl=ip_fields(around)["ttl"] if around is not None else None,
        tunnel_port=outer.sport if tunnel is not None else None,
        **ip_fields(ip_layer(inner)),
    )
