"""Namespaces and cables as a lab has them, without nodes: what reaches what, and what does not."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from labctl.access.packets import frames
from labctl.providers import HostEnd, netns
from labctl.providers.host_capture import listening, pcap
from labctl.providers.nspawn import bridges, clients, shared_nat, uplink
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


def test_all_nodes_of_a_shared_nat_meet_behind_one_gateway(prefix: str, tmp_path: Path) -> None:
    lab = topology("simulated")
    nat = f"{prefix}shared.nat"
    shared_nat.ensure(nat, lab)
    nodes = [f"{prefix}node{number}" for number in range(3)]
    gateway = bridges.mac(nat, shared_nat.DEVICE)
    for number, node in enumerate(nodes):
        netns.ensure(node)
        port = shared_nat.port(number)
        # The lowest address of all: a bridge would take it, had it none of its own.
        netns.cable((node, "eth0"), f"02:00:00:00:00:0{number}", (nat, port))
        shared_nat.plug(nat, number)
        assert netns.link_ready(nat, port, master=shared_nat.DEVICE)
        sh(node, f"ip addr add 10.0.2.1{5 + number}/24 dev eth0; ip route add default via 10.0.2.2")
        shared_nat.ensure(nat, lab)
        uplink.ensure(nat, lab, number=0, lab_id="00000000", log=tmp_path / "log")
    for number, node in enumerate(nodes):
        assert f"You come from 10.0.2.1{5 + number}".encode() in http(node, str(INTERNET_HOST))
    # Who refuses a connection was reached.
    with pytest.raises(ConnectionRefusedError):
        netns.dial(nodes[0], "10.0.2.17", 22, timeout=2)
    assert bridges.mac(nat, shared_nat.DEVICE) == gateway


CLIENTS = b"name: t\ninternet: {clients: {client-01: , client-02: }}\n"


def test_a_client_reaches_the_gateway_node_with_its_own_address(
    prefix: str, tmp_path: Path
) -> None:
    lab = build_topology(parse_spec(CLIENTS, "t"))
    node, nat = node_and_nat(prefix, 0)
    uplink.ensure(nat, lab, number=0, lab_id="00000000", log=tmp_path / "log")
    spaces = {client: f"{prefix}{client.name}" for client in lab.clients}
    assert not clients.ready(nat, spaces)
    for _ in range(2):
        clients.ensure(nat, lab, spaces)
    assert clients.ready(nat, spaces)
    for client, space in spaces.items():
        sh(space, f"ip addr add {client.eth0.address} dev eth0;"
                  f" ip route add default via {client.eth0.gateway}")  # fmt: skip
    first, second = spaces.values()
    with listening(HostEnd(nat, "nat0")) as heard:
        assert "2 received" in sh(first, "ping -c 2 -W 2 10.0.2.15").stdout
    arriving = [
        (frame.src, frame.ttl)
        for frame in frames(pcap(heard), "internet", "nat0")
        if frame.kind == "request"
    ]
    assert arriving == [("198.51.100.10", 63)] * 2
    # The far end itself, other clients, and a way back that the lab opens.
    assert b"You come from 198.51.100.10" in http(first, str(INTERNET_HOST))
    assert "1 received" in sh(first, "ping -c 1 -W 2 198.51.100.11").stdout
    assert "1 received" in sh(node, "ping -c 1 -W 2 198.51.100.11").stdout
    # Without a way through, it is made again.
    sh(nat, "sysctl -qw net.ipv4.ip_forward=0")
    assert not clients.ready(nat, spaces)
    clients.ensure(nat, lab, spaces)
    assert clients.ready(nat, spaces)
    assert "1 received" in sh(second, "ping -c 1 -W 2 10.0.2.15").stdout


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
from labctl.providers.nspawn import host_uplink, uplink
from labctl.spec.load import parse_spec
from labctl.topology import build_topology
lab = build_topology(parse_spec(b"name: t\\nnat: {uplink: host}\\n", "t"))
"""


@dataclass
class Host:
    """A namespace that plays the host, another one what lies beyond it; no real one is touched."""

    prefix: str
    name: str
    beyond: str

    def nodes(self, number: int) -> tuple[str, str]:
        return node_and_nat(self.prefix, number)

    def run(self, code: str) -> "subprocess.CompletedProcess[str]":
        argv = ["nsenter", f"--net=/run/netns/{self.name}", sys.executable, "-c", HOST_SIDE + code]
        return subprocess.run(argv, timeout=60, check=False, capture_output=True, text=True)

    def join(self, nat: str, number: int = 0, lab: str = "1234abcd") -> None:
        done = self.run(
            f"uplink.ensure({nat!r}, lab, number={number}, lab_id='{lab}', log=Path('/dev/null'))"
        )
        assert done.returncode == 0, done.stderr

    def remove(self, lab: str = "1234abcd") -> None:
        done = self.run(f"host_uplink.remove('{lab}')")
        assert done.returncode == 0, done.stderr

    def complaint(self, nat: str) -> str:
        """What `check_forwarding` complains about, and the hint; "" if nothing."""
        return self.run(
            "from labctl.errors import LabError\n"
            f"try: host_uplink.check_forwarding({nat!r}, '1234abcd')\n"
            "except LabError as error: print(error.message, error.hint, sep='\\n')"
        ).stdout

    def forwards(self) -> bool:
        return sh(self.name, "cat /proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"


@pytest.fixture
def host(prefix: str, require: Callable[..., None]) -> Iterator[Host]:
    require("nft", "sysctl", "nsenter", "stdbuf")
    played = Host(prefix, f"{prefix}host", f"{prefix}beyond")
    for name in (played.name, played.beyond):
        netns.ensure(name)
    netns.cable((played.name, "wan"), "52:54:00:00:00:aa", (played.beyond, "lan"))
    sh(played.name, "ip addr add 203.0.113.2/24 dev wan; sysctl -qw net.ipv4.ip_forward=0")
    sh(played.beyond, f"ip addr add {OUTSIDE}/24 dev lan")
    yield played
    for lab in ("1234abcd", "5678abcd"):
        played.remove(lab)


def serve(namespace: str, address: str) -> None:
    """Answer HTTP at that address of the namespace; returns when it does."""
    program = f"{sys.executable} -m labctl.providers.nspawn.internet {address} 80"
    sh(namespace, f"{program} >/dev/null 2>&1 &")
    answers = f"exec 3<>/dev/tcp/{'127.0.0.1' if address == '0.0.0.0' else address}/80"
    waited = sh(namespace, f"for i in $(seq 50); do ({answers}) && exit; sleep 0.1; done; false")
    assert waited.returncode == 0


def test_the_hosts_uplink_by_two_translations(host: Host) -> None:
    node, nat = host.nodes(0)
    host.join(nat)
    host.join(nat)
    assert uplink.running(nat, topology("host"))
    serve(host.beyond, OUTSIDE)
    assert b"You come from 203.0.113.2" in http(node, OUTSIDE), "the world sees the host's address"
    host.remove()
    assert "lab1234ab" not in sh(host.name, "ip -br link").stdout
    assert "labctl" not in sh(host.name, "nft list tables").stdout
    with pytest.raises(OSError, match=r"."):
        netns.dial(node, OUTSIDE, 80, timeout=2)


def test_a_lab_behind_the_host_does_not_reach_the_hosts_own_services(host: Host) -> None:
    node, nat = host.nodes(0)
    _, other_nat = host.nodes(1)
    host.join(nat, 0)
    host.join(other_nat, 1)
    serve(host.name, "0.0.0.0")
    serve(other_nat, "0.0.0.0")
    transit = re.findall(r"inet (100\.127\.[\d.]+)/30", sh(host.name, "ip -4 addr").stdout)
    far = re.findall(r"inet (100\.127\.[\d.]+)/30", sh(other_nat, "ip -4 addr").stdout)
    assert (len(transit), len(far)) == (2, 1)
    # Neither the host, at any of its addresses, nor the next node.
    for address in ("203.0.113.2", *transit, *far):
        with pytest.raises(OSError, match=r"."):
            netns.dial(node, address, 80, timeout=1)
    # Nor does a neighbour of the host reach the links that only a lab uses.
    sh(host.beyond, "ip route add 100.127.0.0/16 via 203.0.113.2")
    for address in (*transit, *far):
        with pytest.raises(OSError, match=r"."):
            netns.dial(host.beyond, address, 80, timeout=1)
    assert b"You come from" in http(host.beyond, "203.0.113.2"), "who may, still does"
    assert "inet6" not in sh(host.name, "ip addr show lab1234ab0").stdout


def test_the_host_forwards_for_labs_only_as_long_as_there_are_any(host: Host) -> None:
    (_, one), (_, two) = host.nodes(0), host.nodes(1)
    sh(host.name, "sysctl -qw net.ipv4.conf.wan.forwarding=1")
    sh(host.name, "sysctl -qw net.ipv4.conf.all.accept_redirects=0")
    settings = "cd /proc/sys/net/ipv4; grep . ip_forward conf/{all,default,lo,wan}/*"
    before = sh(host.name, settings).stdout
    assert "conf/wan/forwarding:1\n" in before
    assert "conf/lo/forwarding:0\n" in before
    assert "conf/all/accept_redirects:0\n" in before
    host.remove()
    assert sh(host.name, settings).stdout == before
    host.join(one, 0, "1234abcd")
    host.join(two, 0, "5678abcd")
    assert host.forwards()
    host.remove("1234abcd")
    assert host.forwards()
    host.remove("5678abcd")
    host.remove("5678abcd")
    assert sh(host.name, settings).stdout == before
    # A host that forwarded before goes on.
    sh(host.name, "sysctl -qw net.ipv4.ip_forward=1")
    host.join(one)
    host.remove()
    assert host.forwards()


DOCKER = """table ip filter {
  chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
  chain DOCKER-USER { return; }
}"""
FIREWALLD = """table inet firewalld {
  chain filter_FORWARD { type filter hook forward priority filter + 10; jump policies; }
  chain policies { reject with icmpx admin-prohibited; }
}"""
RULE = """table ip own {
  chain guard { type filter hook forward priority 5; ip saddr 100.64.0.0/10 counter drop; }
}"""


@pytest.mark.parametrize(
    ("rules", "chain", "mended"),
    [
        (DOCKER, "FORWARD of the table `ip filter`", "DOCKER-USER"),
        (FIREWALLD, "policies of the table `inet firewalld`", "FORWARD"),
        (RULE, "guard of the table `ip own`", "FORWARD"),
    ],
    ids=["docker", "firewalld", "a-rule"],
)
def test_a_firewall_that_does_not_forward_is_named(
    rules: str, chain: str, mended: str, host: Host
) -> None:
    _, nat = host.nodes(0)
    host.join(nat)
    assert host.complaint(nat) == "", "no way to the Internet: nothing that a firewall could close"
    sh(host.name, f"ip route add default via {OUTSIDE}")
    left = "nft add table ip t; nft add chain ip t c '{ type filter hook prerouting priority 0; }'"
    sh(host.beyond, f"{left}; nft add rule ip t c ip daddr 8.8.8.8 counter")
    assert host.complaint(nat) == ""
    sh(host.name, f"nft -f - <<'END'\n{rules}\nEND")
    found = host.complaint(nat)
    assert f"chain {chain}" in found
    assert f"iptables -I {mended} -s 100.127.0.0/16 -j ACCEPT" in found
    if rules == DOCKER:
        sh(host.name, "nft insert rule ip filter DOCKER-USER ip saddr 100.127.0.0/16 accept")
        assert host.complaint(nat) == ""
    assert "counter packets 0" in sh(host.beyond, "nft list chain ip t c").stdout, "none has left"
