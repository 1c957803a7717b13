"""Captures: listening before anything happens, tidy whatever happens. tcpdump is a stand-in."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.access.capture import Tap, capturing
from labctl.access.guest import Guest, GuestError
from tests.unit.fakes import LocalGuest
from tests.unit.golden import GOLDEN

# Copies a recorded capture when it is told to stop; says that it listens a little late, as tcpdump.
TCPDUMP = """#!{python} -S
import os, pathlib, shutil, signal, sys, time
words = sys.argv[1:]
interface, file = words[words.index("-i") + 1], words[words.index("-w") + 1]
root = pathlib.Path("{root}")
(root / f"asked-{{interface}}").write_text(chr(10).join(words))
(root / f"pid-{{interface}}").write_text(str(os.getpid()))
if interface == "broken0":
    sys.exit("tcpdump: broken0: No such device exists")
def stop(*_):
    if interface != "lost0":
        shutil.copy(root / f"{{interface}}.pcap", file)
    os._exit(0)
def behind(*_):
    # A stop in the middle of this finds nothing in the file.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    (root / "behind").touch()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    shutil.copy(root / "eth1.pcap", file)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGUSR1, behind)
time.sleep(0.1)
print(f"tcpdump: listening on {{interface}}, link-type EN10MB", file=sys.stderr, flush=True)
(root / f"listening-{{interface}}").touch()
while True:
    time.sleep(1)
"""


@pytest.fixture(autouse=True)
def _reaper(tmp_path: Path) -> Iterator[None]:
    """What an init does, at once: PID 1 of a container may take seconds to bury a process."""
    adopt, end = 36, threading.Event()  # PR_SET_CHILD_SUBREAPER
    libc = ctypes.CDLL(None)

    def bury() -> None:
        while not end.wait(0.01):
            for file in tmp_path.glob("*/run/*.pid"):
                with contextlib.suppress(OSError, ValueError):
                    os.waitpid(int(file.read_text()), os.WNOHANG)

    thread = threading.Thread(target=bury)
    libc.prctl(adopt, 1)
    thread.start()
    yield
    end.set()
    thread.join()
    libc.prctl(adopt, 0)


@pytest.fixture
def nodes(tmp_path: Path) -> dict[str, LocalGuest]:
    """Two nodes with what the lab's own nodes saw of one ping."""
    made = {}
    for name, interfaces in (("network-controller", ("eth0", "eth1")), ("compute-01", ("eth1",))):
        guest = made[name] = LocalGuest(tmp_path / name, name)
        (guest.root / "run").mkdir()
        (guest.root / "bin/tcpdump").write_text(
            TCPDUMP.format(python=sys.executable, root=guest.root)
        )
        (guest.root / "bin/tcpdump").chmod(0o755)
        for interface in interfaces:
            recorded = GOLDEN / "pcap" / f"ping-out.{name}.{interface}.pcap"
            (guest.root / f"{interface}.pcap").write_bytes(recorded.read_bytes())
    return made


def finding(nodes: dict[str, LocalGuest]) -> Callable[[str], Guest]:
    return lambda name: nodes[name]


def assert_tidy(nodes: dict[str, LocalGuest]) -> None:
    for guest in nodes.values():
        assert list((guest.root / "run").iterdir()) == []
        for file in guest.root.glob("pid-*"):
            until = time.monotonic() + 5
            while Path(f"/proc/{file.read_text()}").exists() and time.monotonic() < until:
                time.sleep(0.01)
            assert not Path(f"/proc/{file.read_text()}").exists(), f"{file.name} still listens"


TAPS = [
    Tap("network-controller", "eth0", "icmp"),
    Tap("network-controller", "eth1", "udp port 6081"),
    Tap("compute-01", "eth1", "udp port 6081"),
]


def test_all_listen_before_and_all_is_seen_after(nodes: dict[str, LocalGuest]) -> None:
    with capturing(TAPS, finding(nodes)) as seen:
        for tap in TAPS:
            assert (nodes[tap.node].root / f"listening-{tap.interface}").exists()
        assert seen == []
    assert {(frame.node, frame.interface) for frame in seen} == {
        (tap.node, tap.interface) for tap in TAPS
    }
    times = [frame.time for frame in seen]
    assert len(times) == 12
    assert times == sorted(times)
    assert_tidy(nodes)


def test_an_interface_in_a_namespace_is_captured_there(nodes: dict[str, LocalGuest]) -> None:
    """Its frames have NAMESPACE/NAME as their interface, as the lesson's claims ask for it."""
    node = nodes["compute-01"]
    node.stub("ip", f'echo "$1 $2 $3" >{node.root}/entered; shift 3; exec "$@"')
    with capturing([Tap("compute-01", "vm/eth1", "icmp")], finding(nodes)) as seen:
        pass
    assert {frame.interface for frame in seen} == {"vm/eth1"}
    assert list(seen.windows) == [("compute-01", "vm/eth1")]
    assert (node.root / "entered").read_text() == "netns exec vm\n"
    assert_tidy(nodes)


def test_a_tcpdump_that_is_behind_reads_to_the_end(nodes: dict[str, LocalGuest]) -> None:
    root = nodes["compute-01"].root
    with capturing([Tap("compute-01", "busy0", "icmp")], finding(nodes)) as seen:
        os.kill(int((root / "pid-busy0").read_text()), signal.SIGUSR1)
        until = time.monotonic() + 5
        while not (root / "behind").exists() and time.monotonic() < until:
            time.sleep(0.01)
    assert len(seen) == 4, "all that the file holds in the end"
    assert_tidy(nodes)


def test_each_node_is_asked_once_to_listen_and_once_to_end(nodes: dict[str, LocalGuest]) -> None:
    with capturing(TAPS, finding(nodes)):
        pass
    assert {name: len(guest.ran) for name, guest in nodes.items()} == {
        "network-controller": 2, "compute-01": 2,
    }  # fmt: skip


def test_the_filter_arrives_as_one_word(nodes: dict[str, LocalGuest]) -> None:
    nasty = "icmp and not host 10.0.2.2; touch pwned"
    with capturing([Tap("network-controller", "eth0", nasty)], finding(nodes)):
        pass
    root = nodes["network-controller"].root
    assert (root / "asked-eth0").read_text().splitlines()[-1] == nasty
    assert not (root / "pwned").exists()


def test_a_tcpdump_that_cannot_listen_is_quoted(nodes: dict[str, LocalGuest]) -> None:
    broken = [*TAPS, Tap("compute-01", "broken0", "icmp")]
    with (
        pytest.raises(GuestError) as error,
        capturing(broken, finding(nodes)),
    ):
        raise AssertionError("the body has begun")
    # Nothing of the script that starts it.
    assert error.value.message == (
        "cannot capture on compute-01: tcpdump: broken0: No such device exists"
    )
    assert_tidy(nodes)


def test_what_fails_meanwhile_is_what_is_said(nodes: dict[str, LocalGuest]) -> None:
    lost = [*TAPS, Tap("compute-01", "lost0", "icmp")]  # and its file cannot be had either
    with pytest.raises(KeyboardInterrupt), capturing(lost, finding(nodes)) as seen:
        raise KeyboardInterrupt
    assert seen == []
    assert_tidy(nodes)


def test_a_capture_that_cannot_be_had_is_no_empty_capture(nodes: dict[str, LocalGuest]) -> None:
    # Or a claim would fail for it, as if the packets had not been there.
    with (
        pytest.raises(GuestError, match=r"\.pcap: No such file"),
        capturing([Tap("compute-01", "lost0", "icmp")], finding(nodes)),
    ):
        pass
    assert_tidy(nodes)


def test_nothing_to_capture_is_fine(nodes: dict[str, LocalGuest]) -> None:
    with capturing([], finding(nodes)) as seen:
        pass
    assert seen == []
