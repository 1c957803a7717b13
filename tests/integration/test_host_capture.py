"""Listening at the far end of a cable between two namespaces, without tcpdump on this machine."""

import socket
from collections.abc import Callable, Iterator

import pytest

from labctl.access.packets import frames
from labctl.providers import HostEnd, netns
from labctl.providers.host_capture import listening, pcap
from tests.integration.cables import cabled


@pytest.fixture
def cable(require: Callable[..., None]) -> Iterator[tuple[str, HostEnd]]:
    """(the node's namespace, the far end of its eth0), with addresses."""
    require("ip", "ethtool", root=True)
    with cabled("eth0", "10.0.2.15", "nat0", "10.0.2.2") as ends:
        yield ends


def knock(space: str) -> None:
    """A datagram to a port where nobody listens: the kernel at the far end refuses it."""

    def send() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as line:
            line.settimeout(5)
            line.connect(("10.0.2.2", 9))
            line.send(b"labctl")
            with pytest.raises(ConnectionRefusedError):
                line.recv(1)

    netns.run_in(space, send)


def test_both_directions_are_heard_in_time_order(cable: tuple[str, HostEnd]) -> None:
    node, far = cable
    with listening(far) as heard:
        knock(node)
    seen = frames(pcap(heard), "internet", far.device)
    assert [(frame.protocol, frame.kind, frame.src) for frame in seen] == [
        ("udp", "", "10.0.2.15"),
        ("icmp", "3", "10.0.2.2"),
    ]
    assert seen[0].src_mac == "52:54:00:00:00:01"
    assert 0 <= seen[1].time - seen[0].time < 2
    assert seen[0].payload == b"labctl".hex()
    assert seen[1].quoted is not None
    assert seen[1].quoted.ip_id == seen[0].ip_id


def test_nothing_is_heard_before_and_after(cable: tuple[str, HostEnd]) -> None:
    node, far = cable
    knock(node)
    with listening(far) as heard:
        pass
    knock(node)
    assert heard == []
    assert frames(pcap(heard), "internet", "nat0") == []


def test_a_device_that_is_not_there(cable: tuple[str, HostEnd]) -> None:
    with (
        pytest.raises(OSError, match="No such device"),
        listening(HostEnd(cable[1].namespace, "x0")),
    ):
        raise AssertionError("listens to nothing")


def test_an_error_meanwhile_ends_it(cable: tuple[str, HostEnd]) -> None:
    with pytest.raises(ZeroDivisionError), listening(cable[1]):
        raise ZeroDivisionError
