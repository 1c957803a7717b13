"""Recorded frames as lines that a person can read."""

from collections.abc import Iterator


def describe_frames(records: bytes) -> Iterator[str]:
    """One line for each record of a pcap file (without the file's header)."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.l2 import ARP, Ether

    at = 0
    while at + 16 <= len(records):
        size = int.from_bytes(records[at + 8 : at + 12], "little")
        frame = Ether(records[at + 16 : at + 16 + size])
        at += 16 + size
        way = f"{frame.src} > {frame.dst}"
        if ARP in frame:
            arp = frame[ARP]
            asked, told = f"who has {arp.pdst}? tell {arp.psrc}", f"{arp.psrc} is at {arp.hwsrc}"
            yield f"{way} ARP {asked if arp.op == 1 else told}"
        elif IP in frame:
            packet = frame[IP]
            kind = f"protocol {packet.proto}"
            if ICMP in packet:
                kind = packet[ICMP].sprintf("ICMP %ICMP.type%")
            elif TCP in packet:
                kind = packet[TCP].sprintf("TCP %TCP.sport% > %TCP.dport% %TCP.flags%")
            elif UDP in packet:
                kind = packet[UDP].sprintf("UDP %UDP.sport% > %UDP.dport%")
            yield f"{way} {packet.src} > {packet.dst} {kind}"
