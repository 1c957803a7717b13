"""Captures at the host's end of a node's eth0, which show what the Internet would see of the lab.

Only for providers that keep that end in a network namespace of this machine. The packets are read
from a socket, so the host needs no tcpdump.
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.providers import netns
from labctl.providers.provider import HostEnd

_ETH_P_ALL = 3  # <linux/if_ether.h>: every protocol
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>: the kernel tells when each frame came
_ETHERTYPES = (b"\x08\x00", b"\x08\x06", b"\x86\xdd")  # IPv4, ARP, IPv6
LARGEST = 2048
"""Bytes that are kept of each frame: all of it, as the MTU of the link is 1500."""


@contextmanager
def listening(host_end: HostEnd) -> Iterator[list[tuple[float, bytes]]]:
    """Collect (seconds since the epoch, frame) of all IPv4, IPv6 and ARP frames meanwhile.

    Raises OSError when the device is not there.
    """
    captured: list[tuple[float, bytes]] = []
    raw_socket = netns.run_in(host_end.namespace, lambda: _open(host_end.device))
    ended = threading.Event()

    def listen() -> None:
        if sys.platform == "win32":
            return
        while True:
            try:
                data, ancillary, _, _ = raw_socket.recvmsg(LARGEST, 64)
            except TimeoutError:
                if ended.is_set():
                    return
                continue
            if data[12:14] in _ETHERTYPES:
                captured.append((_time(ancillary), data))

    thread = threading.Thread(target=listen, name=f"listen-{host_end.device}", daemon=True)
    thread.start()
    try:
        yield captured
    finally:
        ended.set()
        thread.join()
        raw_socket.close()


def _open(device: str) -> socket.socket:
    if sys.platform != "linux":
        raise OSError(f"{device}: only Linux tells what its devices carry")
    raw_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    try:
        raw_socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        raw_socket.bind((device, _ETH_P_ALL))
        raw_socket.settimeout(0.2)  # how often `listen` looks whether it is to end
    except OSError:
        raw_socket.close()
        raise
    return raw_socket


def _time(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == 16:
            seconds, nanoseconds = struct.unpack("qq", data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


def pcap(captured: list[tuple[float, bytes]]) -> bytes:
    """The captured frames as a pcap file: Ethernet, times in microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, LARGEST, 1)]
    for seconds, data in captured:
        micro = round(seconds * 1e6)
        parts += [
            struct.pack("<IIII", micro // 10**6, micro % 10**6, len(data), len(data)),
            data,
        ]
    return b"".join(parts)
