"""Namespaces and cables as a lab has them, without nodes: what reaches what, and what does not."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from labctl.providers import netns
from labctl.providers.nspawn import uplink
from labctl.spec.defaults import INTERNET_HOST
from labctl.spec.load import parse_spec
from labctl.topology import Topology, build_topology

OUTSIDE = "203.0.113.1"
"""An address of the documentation range, in a namespace of the test's own."""


@pytest.fixture
def prefix(require: Callable[..., None]) -> Iterator[str]:
    require("ip", "ethtool", root=True)
    made = f"labctl-t{uuid4().hex[:6]}-"
    yield made
    for name in netns.listed(made):
        netns.kill(name)
        netns.delete(name)


def topology(uplink_: str) -> Topology:
    return build_topology(parse_spec(f"name: t\nnat: {{uplink: {uplink_}}}\n".encode(), "t"))


def sh(namespace: str, command: str) -> subprocess.CompletedProcess[str]:
    argv = ["nsenter", f"--net=/run/netns/{namespace}", "bash", "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def node_and_nat(prefix: str, number: int) -> tuple[str, str]:
    """A namespace that stands for a node, cabled to its NAT namespace as a node is."""
    node, nat = f"{prefix}node{number}", f"{prefix}nat{number}"
    for name in (node, nat):
        netns.ensure(name)
    netns.cable((node, "eth0"), f"52:54:00:00:00:0{number}", (nat, "nat0"))
    sh(node, "ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2")
    return node, nat


def http(namespace: str, host: str) -> bytes:
    with netns.dial(namespace, host, 80, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer


def test_two_nats_with_the_same_addresses_do_not_meet(prefix: str, tmp_path: Path) -> None:
    lab = topology("simulated")
    nodes = [node_and_nat(prefix, number) for number in range(2)]
    for number, (_, nat) in enumerate(nodes):
        uplink.ensure(nat, lab, number=number, lab_id="00000000", log=tmp_path / "log")
        uplink.ensure(nat, lab, number=number, lab_id="00000000", log=tmp_path / "log")
    for node, _ in nodes:
        assert b"You come from 10.0.2.15" in http(node, str(INTERNET_HOST))
    # Nothing behind 10.0.2.2 leads anywhere else: an address outside is not reachable.
    with pytest.raises(OSError, match=r"."):
        netns.dial(nodes[0][0], OUTSIDE, 80, timeout=2)
    sh(nodes[0][0], "ip addr add 10.0.2.77/24 dev eth0")
    with pytest.raises(OSError, match=r"."):
        netns.dial(nodes[1][0], "10.0.2.77", 22, timeout=2)


def test_cables_leave_no_checksum_to_a_card(prefix: str) -> None:
    node, nat = node_and_nat(prefix, 0)
    for namespace, device in ((node, "eth0"), (nat, "nat0")):
        features = sh(namespace, f"ethtool -k {device}").stdout
        for name in ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"):
            assert f"{name}: off" in features


def test_an_empty_file_of_a_crash_is_no_namespace(prefix: str) -> None:
    name = f"{prefix}broken"
    (netns.NAMESPACES / name).touch()
    assert not netns.exists(name)
    netns.ensure(name)
    assert netns.exists(name)


HOST_SIDE = """
from pathlib import Path
from labctl.providers.nspawn import uplink
from labctl.spec.load import parse_spec
from labctl.topology import build_topology
lab = build_topology(parse_spec(b"name: t\\nnat: {uplink: host}\\n", "t"))
"""


def test_the_hosts_uplink_by_two_translations(
    prefix: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    """A namespace plays the host, another one what lies beyond it; the real host is not touched."""
    require("nft", "sysctl", "nsenter")
    host, beyond = f"{prefix}host", f"{prefix}beyond"
    for name in (host, beyond):
        netns.ensure(name)
    netns.cable((host, "wan"), "52:54:00:00:00:aa", (beyond, "lan"))
    sh(host, "ip addr add 203.0.113.2/24 dev wan")
    sh(beyond, f"ip addr add {OUTSIDE}/24 dev lan")
    node, nat = node_and_nat(prefix, 0)

    def on_host(code: str) -> None:
        argv = ["nsenter", f"--net=/run/netns/{host}", sys.executable, "-c", HOST_SIDE + code]
        subprocess.run(argv, check=True, timeout=60)

    on_host(f"uplink.ensure({nat!r}, lab, number=0, lab_id='1234abcd', log=Path('/dev/null'))")
    assert uplink.running(nat, topology("host"))
    serve = f"{sys.executable} -m labctl.providers.nspawn.internet {OUTSIDE} 80 >/dev/null 2>&1 &"
    sh(beyond, serve)
    for _ in range(50):
        try:
            answer = http(node, OUTSIDE)
            break
        except OSError:
            sh(beyond, "sleep 0.1")
    assert b"You come from 203.0.113.2" in answer, "the world sees the host's address"
    on_host("uplink.remove('1234abcd')")
    assert "lab1234ab" not in sh(host, "ip -br link").stdout
    assert "labctl" not in sh(host, "nft list tables").stdout
    with pytest.raises(OSError, match=r"."):
        netns.dial(node, OUTSIDE, 80, timeout=2)
