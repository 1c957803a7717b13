"""The far end of a node's eth0, listened to on this machine: what the Internet sees of the lab.

Only where a provider has it here, as a network namespace. No tcpdump is needed on the host.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.providers import netns
from labctl.providers.provider import HostEnd

_EVERY_PROTOCOL = 3
_SO_TIMESTAMPNS = 35
_IP = b"\x08\x00"
LARGEST = 2048
"""Bytes of a frame that are kept, as of the captures in nodes."""


@contextmanager
def listening(far: HostEnd) -> Iterator[list[tuple[float, bytes]]]:
    """Collect (seconds since the epoch, frame) of all IPv4 frames while the body runs.

    Raises OSError when the device is not there.
    """
    heard: list[tuple[float, bytes]] = []
    line = netns.run_in(far.namespace, lambda: _open(far.device))
    over = threading.Event()

    def listen() -> None:
        while True:
            try:
                data, ancillary, _, _ = line.recvmsg(LARGEST, 64)
            except TimeoutError:
                if over.is_set():
                    return
                continue
            if data[12:14] == _IP:
                heard.append((_time(ancillary), data))

    thread = threading.Thread(target=listen, name=f"listen-{far.device}", daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        line.close()


def _open(device: str) -> socket.socket:
    line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    try:
        line.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        line.bind((device, _EVERY_PROTOCOL))
        line.settimeout(0.2)
    except OSError:
        line.close()
        raise
    return line


def _time(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == 16:
            seconds, nanoseconds = struct.unpack("qq", data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


def pcap(heard: list[tuple[float, bytes]]) -> bytes:
    """A capture file of what was heard."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, LARGEST, 1)]
    for seconds, data in heard:
        micro = round(seconds * 1e6)
        parts += [
            struct.pack("<IIII", micro // 10**6, micro % 10**6, len(data), len(data)),
            data,
        ]
    return b"".join(parts)
