"""Live captures: the script for the nodes runs in bash; tcpdump and SSH are stand-ins."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.access.guest import Guest, GuestError
from labctl.access.live_capture import LiveCapture, Place
from labctl.access.packet_lines import Conversations, describe, layers_of, time_of_day
from labctl.access.packets import Frame, frames
from labctl.access.pcapng import Packet, PcapStream
from tests.unit.fakes import FakeGuest
from tests.unit.golden import GOLDEN

# Prints a recorded capture; ends at SIGTERM, as tcpdump.
TCPDUMP = """#!{python} -S
import os, pathlib, signal, sys, threading
words = sys.argv[1:]
interface = words[words.index("-i") + 1]
root = pathlib.Path("{root}")
(root / f"asked-{{interface}}").write_text(words[-1])
if interface == "broken0":
    sys.exit("tcpdump: broken0: You have no permission")
def stop(*_):
    sys.stderr.write("9 packets captured" + chr(10) + "4 packets dropped by kernel" + chr(10))
    sys.stderr.flush()
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
sys.stderr.write("tcpdump: listening on it" + chr(10))
sys.stdout.buffer.write((root / f"{{interface}}.pcap").read_bytes())
sys.stdout.flush()
(root / f"pid-{{interface}}").write_text(str(os.getpid()))
while interface != "short0":
    signal.pause()
os._exit(0)
"""


class LocalPipe:
    """A script in a bash of this machine."""

    def __init__(self, script: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": f"{directory}:{os.environ['PATH']}", "SSH_CONNECTION": "fe80::1 5 ::1 22"},
            cwd=directory,
        )
        self._errors = b""
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors = self.process.stderr.read()

    def read(self) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 65536)

    def errors(self) -> str:
        self._reader.join(10)
        return self._errors.decode()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        self.end_input()
        self.process.wait(10)

    def reap(self) -> None:
        self.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Node:
    """What `open_pipes` gives; it remembers what it has started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pipes: list[LocalPipe] = []

    def pipe(self, command: str) -> LocalPipe:
        self.pipes.append(LocalPipe(command, self.directory))
        return self.pipes[-1]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.end_input()


Make = Callable[..., LiveCapture]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    stub = tmp_path / "tcpdump"
    stub.write_text(TCPDUMP.format(python=sys.executable, root=tmp_path), encoding="utf-8")
    stub.chmod(0o755)
    for interface, file in {
        "eth0": "ping-out.network-controller.eth0", "eth1": "ping-out.network-controller.eth1",
        "short0": "ping-out.compute-01.eth1",
    }.items():  # fmt: skip
        (tmp_path / f"{interface}.pcap").write_bytes((GOLDEN / f"pcap/{file}.pcap").read_bytes())
    made = Node(tmp_path)
    yield made
    for pipe in made.pipes:
        pipe.reap()


@pytest.fixture
def make(node: Node) -> Make:
    def made(*interfaces: str, filter: str = "") -> LiveCapture:
        places = [Place("here", interface) for interface in interfaces]

        def guest(_: str) -> Guest:
            return FakeGuest("here")

        return LiveCapture(places, guest, filter, lambda _: node)

    return made


def all_of(live: LiveCapture, expected: int) -> list[Packet]:
    packets: list[Packet] = []
    until = time.monotonic() + 20
    while len(packets) < expected and time.monotonic() < until:
        packets += live.take(0.2)
    return packets


def recorded(interface: str, node: Node, tap: int = 0) -> list[Packet]:
    return list(PcapStream(tap).feed((node.directory / f"{interface}.pcap").read_bytes()))


def test_packets_of_two_interfaces_come_in_the_order_of_their_times(make: Make, node: Node) -> None:
    expected = [*recorded("eth0", node, 0), *recorded("eth1", node, 1)]
    expected.sort(key=lambda packet: packet.time)
    with make("eth0", "eth1") as live:
        assert all_of(live, len(expected)) == expected
        assert live.link_types == [1, 1]
        live.stop()
        while not live.ended:
            assert live.take(0.1) == []
        assert live.dropped == [4, 4]
        assert live.failures == []
    assert len({packet.tap for packet in expected}) == 2
    assert all(pipe.process.wait(10) == 0 for pipe in node.pipes)


def test_nothing_runs_on_the_node_when_the_connection_has_ended(make: Make, node: Node) -> None:
    with make("eth0"):
        pid = _pid(node, "eth0")
        os.kill(pid, 0)
    node.pipes[0].process.wait(10)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _pid(node: Node, interface: str) -> int:
    file = node.directory / f"pid-{interface}"
    until = time.monotonic() + 20
    while not file.exists() or not file.read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(file.read_text())


@pytest.mark.parametrize(
    "filter", ["icmp", "-w x", "a'; touch made; echo '", "$(touch made)`touch made`\ntouch made"]
)
def test_a_filter_reaches_tcpdump_as_it_is_and_no_shell(
    make: Make, node: Node, filter: str
) -> None:
    with make("eth0", filter=filter):
        pass
    ours = "not (host fe80::1 and host ::1 and tcp port 5 and tcp port 22)"
    assert (node.directory / "asked-eth0").read_text() == f"{ours} and ({filter})"
    assert not (node.directory / "made").exists()


def test_one_that_cannot_start_ends_the_others_and_says_why(make: Make, node: Node) -> None:
    with pytest.raises(GuestError, match=r"broken0.*no permission"), make("eth0", "broken0"):
        pass
    assert len(node.pipes) == 2
    assert [pipe.process.wait(10) for pipe in node.pipes] == [0, 1]


def test_one_that_ends_by_itself_is_told_and_the_others_go_on(make: Make, node: Node) -> None:
    expected = len(recorded("eth0", node)) + len(recorded("short0", node))
    with make("eth0", "short0") as live:
        assert len(all_of(live, expected)) == expected
        assert not live.ended
        assert len(live.failures) == 1
        assert "here:short0" in live.failures[0]


# -- for people ------------------------------------------------------------------------------------
def golden(name: str) -> tuple[Packet, Frame]:
    content = (GOLDEN / f"pcap/{name}.pcap").read_bytes()
    decoded = frames(content, "n", "i")
    packets = list(PcapStream(0).feed(content))
    return packets[0], decoded[0]


def test_a_line_has_the_inner_and_the_outer_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    packet, frame = golden("ping-out.compute-01.eth1")
    described = describe(packet, "n", "i")
    assert described.frame is not None
    assert described.frame.tunnel
    shown = [frame.src, frame.dst, frame.src_mac, frame.tunnel_src, frame.tunnel_dst,
             frame.outer_src_mac, f"{frame.vni:#x}", frame.option_data]  # fmt: skip
    assert [part for part in shown if str(part) not in described.text] == []


def test_any_bytes_are_described() -> None:
    packet, _ = golden("ping-out.compute-01.eth1")
    for size in range(len(packet.data)):
        assert describe(Packet(0, 5, packet.data[:size], size), "n", "i").text
        assert sum(layer.length for layer in layers_of(packet.data[:size])) <= size
    assert "60" in describe(Packet(0, 5, b"\0" * 60, 60), "n", "i", 113).text


def test_layers_cover_the_packet_in_their_order() -> None:
    packet, frame = golden("ping-out.compute-01.eth1")
    layers = layers_of(packet.data)
    assert [layer.name for layer in layers][:6] == [
        "Ethernet", "IP", "UDP", "GENEVE", "Ethernet", "IP",
    ]  # fmt: skip
    assert [layer.start for layer in layers[1:]] == [
        layer.start + layer.length for layer in layers[:-1]
    ]
    assert layers[-1].start + layers[-1].length == len(packet.data)
    assert dict(layers[5].fields)["src"] == frame.src


def test_a_packet_has_one_flow_wherever_it_is_seen_and_its_answer_too() -> None:
    # The same ping before and after SNAT, at three interfaces of two nodes.
    names = sorted(file.stem for file in (GOLDEN / "pcap").glob("ping-out.*.pcap"))
    seen = sorted(
        (
            frame
            for name in names
            for frame in frames((GOLDEN / f"pcap/{name}.pcap").read_bytes(), name, "i")
            if frame.protocol == "icmp"
        ),
        key=lambda frame: frame.time,
    )
    flows = Conversations()
    assert len({frame.src for frame in seen}) >= 3
    assert {flows.number(frame) for frame in seen} == {0}
    other = golden("ping-in.compute-01.eth1")[1]
    assert flows.number(other) == 1
    assert flows.number(seen[0]) == 0


def test_flows_are_forgotten_when_there_are_too_many() -> None:
    first, second = golden("ping-out.compute-01.eth1")[1], golden("ping-in.compute-01.eth1")[1]
    flows = Conversations(most=1)
    assert [flows.number(frame) for frame in (first, second, first)] == [0, 1, 2]


def test_the_time_of_day_has_microseconds() -> None:
    assert time_of_day(Packet(0, 1_800_000_000_123_456_789, b"", 0)).endswith(":00.123456")
