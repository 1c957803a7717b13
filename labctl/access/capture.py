"""tcpdump on several interfaces of several nodes at once, and what it saw as frames."""

import base64
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from labctl.access.guest import Guest
from labctl.access.packets import Frame, frames

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
    # By nodes: one way there and back starts all that listen on a node, and one ends them.
    files: dict[str, dict[Tap, str]] = {tap.node: {} for tap in taps}
    for tap in taps:
        files[tap.node][tap] = f"/run/labctl-{uuid4().hex[:12]}.pcap"

    def start(node: str) -> None:
        _start(guest(node), files[node])

    def stop(node: str) -> dict[Tap, bytes]:
        return dict(zip(files[node], _stop(guest(node), files[node].values()), strict=True))

    with ThreadPoolExecutor(max_workers=max(1, len(files))) as pool:
        try:
            list(pool.map(start, files))
            yield recorded
        except BaseException:
            for end in [pool.submit(stop, node) for node in files]:
                end.exception()  # the first error counts
            raise
        for seen in pool.map(stop, files):
            recorded.update(seen)


def _start(guest: Guest, files: Mapping[Tap, str]) -> None:
    starts = "\n".join(
        f"setsid {_tcpdump(tap, file)} </dev/null >/dev/null 2>{file}.log &\necho $! >{file}.pid"
        for tap, file in files.items()
    )
    guest.run(
        f"""
        listens() {{
            for _ in $(seq {250 * guest.patience}); do
                grep -q 'listening on' $1.log && return
                kill -0 $(cat $1.pid) || break
                sleep 0.02
            done
            cat $1.log >&2
            return 1
        }}
        {starts}
        for file in {" ".join(files.values())}; do
            listens $file || exit 1
        done
        """,
        timeout=20,
    )


def _tcpdump(tap: Tap, file: str) -> str:
    inside = ["ip", "netns", "exec", tap.namespace] if tap.namespace else []
    return shlex.join(
        [*inside, "timeout", "-s", "INT", str(_LONGEST), "tcpdump", "-n", "-U", "--immediate-mode",
         "-s", "300", "-i", tap.interface, "-w", file, tap.filter]
    )  # fmt: skip


def _stop(guest: Guest, files: Iterable[str]) -> list[bytes]:
    """The files' contents, in their order. Raises GuestError when one cannot be had."""
    said = guest.run(
        f"""
        files="{" ".join(files)}"
        # Whatever was answered has passed every interface on its way, but tcpdump may not have read
        # it yet. One that has read everything sleeps; any other runs, or waits for a processor.
        for file in $files; do
            pid=$(cat $file.pid) || continue
            for _ in $(seq 50); do
                case $(ps -o stat= --ppid $pid) in S* | '') break ;; esac
                sleep 0.02
            done
            kill -INT $pid
        done
        for file in $files; do
            pid=$(cat $file.pid) || continue
            for _ in $(seq 150); do
                kill -0 $pid 2>/dev/null || break
                sleep 0.02
            done
        done
        code=0
        for file in $files; do
            base64 -w 0 $file || code=1
            echo
        done
        for file in $files; do
            rm -f $file $file.log $file.pid
        done
        exit $code
        """,
        timeout=30,
    )
    return [base64.b64decode(line) for line in said.stdout.splitlines()]
