"""tcpdump on several interfaces of several nodes at once, and what it saw as frames."""

import base64
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from labctl.guest import Guest
from labctl.packets import Frame, frames

_LONGEST = 300
"""Seconds after which a forgotten tcpdump ends by itself."""


@dataclass(frozen=True)
class Tap:
    """Where to listen, and for what (a pcap filter)."""

    node: str
    interface: str
    filter: str
    namespace: str = ""
    """Network namespace of the interface; empty: the node's own."""


@contextmanager
def capturing(taps: Sequence[Tap], guest: Callable[[str], Guest]) -> Iterator[list[Frame]]:
    """Listen while the body runs. The list is filled, in time order, when the body is over.

    Every tcpdump is known to listen before the body starts. Raises GuestError when one cannot, or
    when what it saw cannot be had.
    """
    seen: list[Frame] = []
    with recording(taps, guest) as files:
        yield seen
    collected = [
        frame for tap, pcap in files.items() for frame in frames(pcap, tap.node, tap.interface)
    ]
    seen += sorted(collected, key=lambda frame: frame.time)


@contextmanager
def recording(taps: Sequence[Tap], guest: Callable[[str], Guest]) -> Iterator[dict[Tap, bytes]]:
    """The same, with each tap's capture file instead of frames."""
    recorded: dict[Tap, bytes] = {}
    files = {tap: f"/run/labctl-{uuid4().hex[:12]}.pcap" for tap in taps}

    def start(tap: Tap) -> None:
        _start(guest(tap.node), tap, files[tap])

    def stop(tap: Tap) -> bytes:
        return _stop(guest(tap.node), files[tap])

    with ThreadPoolExecutor(max_workers=max(1, len(files))) as pool:
        try:
            list(pool.map(start, files))
            yield recorded
            # The last frames are on their way from the kernel to the file.
            time.sleep(0.2 * max([guest(tap.node).patience for tap in taps], default=1))
        except BaseException:
            for end in [pool.submit(stop, tap) for tap in files]:
                end.exception()  # the first error counts
            raise
        recorded.update(zip(files, pool.map(stop, files), strict=True))


def _start(guest: Guest, tap: Tap, file: str) -> None:
    inside = ["ip", "netns", "exec", tap.namespace] if tap.namespace else []
    tcpdump = shlex.join(
        [*inside, "timeout", "-s", "INT", str(_LONGEST), "tcpdump", "-n", "-U", "--immediate-mode",
         "-s", "300", "-i", tap.interface, "-w", file, tap.filter]
    )  # fmt: skip
    guest.run(
        f"""
        setsid {tcpdump} </dev/null >/dev/null 2>{file}.log &
        echo $! >{file}.pid
        for _ in $(seq {100 * guest.patience}); do
            grep -q 'listening on' {file}.log && exit 0
            kill -0 $(cat {file}.pid) || break
            sleep 0.05
        done
        cat {file}.log >&2
        exit 1
        """,
        timeout=20,
    )


def _stop(guest: Guest, file: str) -> bytes:
    # All in one command: each way to the node and back takes as long as the rest.
    said = guest.run(
        f"""
        pid=$(cat {file}.pid) && kill -INT $pid && for _ in $(seq 60); do
            kill -0 $pid 2>/dev/null || break
            sleep 0.05
        done
        base64 -w 0 {file}
        code=$?
        rm -f {file} {file}.log {file}.pid
        exit $code
        """,
        timeout=30,
    )
    return base64.b64decode(said.stdout)
