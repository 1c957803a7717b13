"""Runs tcpdump on several interfaces of several nodes at once; gives files or frames."""

import base64
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from labctl.access.guest import Guest, GuestError
from labctl.access.neighbors import NeighborMessage, neighbor_message
from labctl.access.ovsdb import Rows
from labctl.access.packets import ArpMessage, Frame, arp_message, decode, ethernet_frames
from labctl.i18n import tr

_LIMIT = 300
"""A tcpdump that nobody stops ends by itself after this time."""


@dataclass(frozen=True)
class Tap:
    """Where to listen, and for what (a pcap filter)."""

    node: str
    interface: str
    """Its name, or NAMESPACE/NAME, which its frames then have, too."""
    filter: str
    namespace: str = ""
    """Network namespace of the interface; empty: the node's own."""


Window = tuple[float, float]
"""From when to when a tcpdump surely captured: seconds since the epoch, by the node's clock."""


class Captured(list[Frame]):
    """The frames of several captures in time order, and where and when somebody listened.

    And what else was measured while a checkpoint's commands ran.
    """

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        super().__init__(frames)
        self.windows: dict[tuple[str, str], Window] = {}
        """By node and interface."""
        self.arp: list[ArpMessage] = []
        """The ARP messages that were captured besides, in time order."""
        self.neighbors: list[NeighborMessage] = []
        """The messages of IPv6's neighbor discovery among the frames, in time order."""
        self.failure = ""
        """Why nothing was captured, if so."""
        self.not_sent = ""
        """Which command that should have caused packets failed, if one did."""
        self.commands: Rows = []
        """What ran meanwhile, as the probe run.commands shows it."""
        self.before: dict[str, Rows] = {}
        """{id of a claim: the rows it is about, as they were before the commands ran}."""


@contextmanager
def capturing(
    taps: Sequence[Tap],
    guest: Callable[[str], Guest],
    contents: dict[Tap, bytes] | None = None,
) -> Iterator[Captured]:
    """Capture while the body runs. The list is filled, in time order, when the body is over.

    So is `contents`, with each tap's pcap file.

    The body starts only when every tcpdump captures. Raises GuestError when one cannot start, or
    when its file cannot be read back.
    """
    captured = Captured()
    windows: dict[Tap, Window] = {}
    with recording(taps, guest, windows) as files:
        yield captured
    captured.windows = {(tap.node, tap.interface): window for tap, window in windows.items()}
    if contents is not None:
        contents.update(files)
    collected: list[Frame] = []
    asked: list[ArpMessage] = []
    discovered: list[NeighborMessage] = []
    for tap, pcap in files.items():
        # To decode a frame is what takes the time: it is done once for all that is looked for.
        for seconds, outer in ethernet_frames(pcap, tap.node, tap.interface):
            place = (tap.node, tap.interface, seconds, outer)
            if (frame := decode(*place)) is not None:
                collected.append(frame)
            if (message := arp_message(*place)) is not None:
                asked.append(message)
            if (discovery := neighbor_message(*place)) is not None:
                discovered.append(discovery)
    captured += sorted(collected, key=lambda frame: frame.time)
    captured.arp = sorted(asked, key=lambda message: message.time)
    captured.neighbors = sorted(discovered, key=lambda message: message.time)


@contextmanager
def recording(
    taps: Sequence[Tap],
    guest: Callable[[str], Guest],
    windows: dict[Tap, Window] | None = None,
) -> Iterator[dict[Tap, bytes]]:
    """As `capturing`, but with the content of each tap's pcap file instead of frames.

    `windows` is filled when the body is over.
    """
    recorded: dict[Tap, bytes] = {}
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    # By node, because one command starts all tcpdumps of a node and another one stops them.
    files: dict[str, dict[Tap, str]] = {tap.node: {} for tap in taps}
    for tap in taps:
        files[tap.node][tap] = f"/run/labctl-{uuid4().hex[:12]}.pcap"

    def start(node: str) -> None:
        began[node] = _start(guest(node), files[node])

    def stop(node: str) -> dict[Tap, bytes]:
        ended[node], contents = _stop(guest(node), files[node].values())
        return dict(zip(files[node], contents, strict=True))

    with ThreadPoolExecutor(max_workers=max(1, len(files))) as pool:
        try:
            list(pool.map(start, files))
            yield recorded
        except BaseException:
            for stopping in [pool.submit(stop, node) for node in files]:
                stopping.exception()  # waits; its error is dropped, the first one is raised
            raise
        for contents in pool.map(stop, files):
            recorded.update(contents)
        if windows is not None:
            windows.update((tap, (began[tap.node], ended[tap.node])) for tap in taps)


def filter_trouble(guest: Guest, filter: str) -> str:
    """What a node's tcpdump says of a filter that it does not take; "" if it does.

    Also "" where nobody can be asked.
    """
    with suppress(GuestError):
        asked = guest.run(["tcpdump", "-d", filter], timeout=20, check=False)  # opens no interface
        errors = [line for line in asked.stderr.splitlines() if line.startswith("tcpdump: ")]
        if asked.returncode == 1 and errors:
            return errors[-1].removeprefix("tcpdump: ")
    return ""


def _start(guest: Guest, files: Mapping[Tap, str]) -> float:
    """Start the tcpdumps; the node's time when all of them capture. Raises GuestError."""
    starts = "\n".join(
        f"setsid {_tcpdump(tap, file)} </dev/null >/dev/null 2>{file}.log &\necho $! >{file}.pid"
        for tap, file in files.items()
    )
    first = next((_tcpdump(tap, file).splitlines()[0] for tap, file in files.items()), "")
    result = guest.run(
        f"""
        # {first}
        listens() {{
            for _ in $(seq {250 * guest.timeout_factor}); do
                grep -q 'listening on' $1.log && return
                kill -0 $(cat $1.pid) 2>/dev/null || break
                sleep 0.02
            done
            cat $1.log >&2
            return 1
        }}
        {starts}
        for file in {" ".join(files.values())}; do
            listens $file || exit 1
        done
        date +%s.%N
        """,
        timeout=20,
        check=False,
    )
    if not result.ok:
        # Of a device or a filter that tcpdump does not know.
        why = " / ".join(line for line in result.stderr.splitlines() if line.strip())
        raise GuestError(tr("cannot capture on {node}: {why}", node=guest.name, why=why))
    return float(result.stdout)


def _tcpdump(tap: Tap, file: str) -> str:
    namespace, _, device = tap.interface.rpartition("/")
    namespace = tap.namespace or namespace
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    return shlex.join(
        [*enter, "timeout", "-s", "INT", str(_LIMIT), "tcpdump", "-n", "-U", "--immediate-mode",
         "-s", "300", "-i", device, "-w", file, tap.filter]
    )  # fmt: skip


def _stop(guest: Guest, files: Iterable[str]) -> tuple[float, list[bytes]]:
    """Stop the tcpdumps; the node's time just before, and the contents of their files, in order.

    Raises GuestError.
    """
    result = guest.run(
        f"""
        # kill -INT tcpdump
        date +%s.%N
        files="{" ".join(files)}"
        # The packets have passed the interfaces, but tcpdump may not have read them yet. It sleeps
        # (ps: S) when it has read everything, so wait for that, at most 1 s.
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
    time, *contents = result.stdout.splitlines()
    return float(time), [base64.b64decode(line) for line in contents]
