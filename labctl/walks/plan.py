"""Decides where a walk captures packets and which command sends the probe. Pure."""

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from labctl.access.packets import is_ipv6
from labctl.walks.model import Point, SentProbe

Protocol = Literal["ping", "tcp", "udp"]
ICMP_HEADERS, ICMPV6_HEADERS = 28, 48
"""Bytes of the headers of an echo: IPv4 20, IPv6 40, ICMP 8."""
WAIT = 2
"""Seconds to wait for the answer."""


@dataclass(frozen=True)
class Endpoint:
    """The source or the target of a walk."""

    name: str
    kind: Literal["instance", "node", "address"]
    address: str
    node: str = ""
    """The node or client that it is, or that it runs on; empty for any other address outside."""
    interface: str = ""
    """Of an instance: the interface on its node, e.g. the tap device."""
    namespace: str = ""
    """Network namespace on the node that holds that interface; empty: the node's own."""
    mac: str = ""
    inner: str = ""
    """Fixed address of the instance, where `address` is its floating IP; else empty."""
    addresses: tuple[str, ...] = ()
    """Of an instance: all addresses that its port has, those of IPv4 first."""


@dataclass(frozen=True)
class WalkPlan:
    """Where packets are captured."""

    expected: tuple[Point, ...]
    """Where the request should pass, in this order."""
    listen: tuple[Point, ...]
    """All points of capture: the expected ones, and others where a lost packet may be."""


@dataclass(frozen=True)
class ExternalNetwork:
    """How packets leave OVN and the lab, as far as a plan needs it."""

    gateway: str
    """The node through which traffic leaves OVN."""
    external_interfaces: Mapping[str, Sequence[str]]
    """By node: its interfaces on the external network, br-ex first if there is one."""
    host_interface: str = ""
    """The host's interface at the other end of the eth0 by which packets leave the lab; empty where
    it cannot be captured."""
    clients: frozenset[str] = frozenset()
    """Machines outside the lab, which have eth0 alone."""


def exit_of(source: Endpoint, gateway: str, clients: Set[str] = frozenset()) -> str:
    """The node by whose eth0 a packet of `source` leaves the lab, if it leaves it; of one of the
    `clients`, by whose eth0 it comes in."""
    return source.node if source.kind == "node" and source.node not in clients else gateway


def plan(
    source: Endpoint,
    target: Endpoint,
    protocol: Protocol,
    port: int | None,
    network: ExternalNetwork,
) -> WalkPlan:
    """Where to capture a packet from `source` to `target`."""
    filters = _Filters(protocol, port, is_ipv6(target.address))

    def tunnel(first: str, second: str) -> list[Point]:
        ends = [Point(node, "eth1", "underlay", filters.underlay) for node in (first, second)]
        return ends if first != second else []

    def external(node: str) -> list[Point]:
        return [
            Point(node, name, "host" if name == "br-ex" else "external", filters.plain)
            for name in network.external_interfaces.get(node, ("eth0",))
        ]

    def workload(end: Endpoint) -> Point:
        return Point(end.node, end.interface, "instance", filters.plain, end.namespace)

    gateway = network.gateway
    internet = (
        [Point("internet", network.host_interface, "internet")] if network.host_interface else []
    )
    inward = [*external(source.node), *internet, *external(gateway)[-1:]]
    match source.kind, target.kind:
        case "node", "instance" if source.node in network.clients:  # through the gateway's eth0
            expected = [*inward, *tunnel(gateway, target.node), workload(target)]
        case "node", _ if source.node in network.clients:
            expected = inward if target.mac else external(source.node)
        case "node", "node":
            expected = tunnel(source.node, target.node)
        case "node", "instance" if source.node == gateway:
            expected = [*external(gateway)[:1], *tunnel(gateway, target.node), workload(target)]
        case "node", "instance":  # through the external network
            expected = [*external(source.node), *external(gateway)[-1:],
                        *tunnel(gateway, target.node), workload(target)]  # fmt: skip
        case "node", "address" if target.mac:  # a router of OVN's, on the external network
            expected = [*external(source.node)[: 1 if source.node == gateway else None],
                        *([] if source.node == gateway else external(gateway)[-1:])]  # fmt: skip
        case "node", _:
            expected = [*external(source.node), *internet]
        case _, "instance" if not target.inner:
            expected = [workload(source), *tunnel(source.node, target.node), workload(target)]
        case _, "instance":  # to a floating IP: through the gateway, which translates it
            expected = [workload(source), *tunnel(source.node, gateway),
                        *tunnel(gateway, target.node), workload(target)]  # fmt: skip
        case _, "address" if target.mac:  # a router of OVN answers where the packet enters OVN
            expected = [workload(source)]
        case _, "node":
            expected = [workload(source), *tunnel(source.node, gateway), *external(gateway)[:1]]
        case _:
            expected = [workload(source), *tunnel(source.node, gateway), *external(gateway)[-1:],
                        *internet]  # fmt: skip
    if target.node in network.clients:
        expected = [*expected, *external(target.node)]
    outside = {"internet", *network.clients}
    nodes = dict.fromkeys(
        [*(point.node for point in expected if point.node not in outside), gateway]
    )
    elsewhere = [
        point
        for node in nodes
        for point in (Point(node, "eth1", "underlay", filters.underlay), *external(node))
    ]
    listen: dict[tuple[str, str], Point] = {}
    for point in [*expected, *elsewhere, *internet]:
        listen.setdefault((point.node, point.interface), point)
    return WalkPlan(tuple(expected), tuple(listen.values()))


@dataclass(frozen=True)
class _Filters:
    protocol: Protocol
    port: int | None
    ipv6: bool

    @property
    def plain(self) -> str:
        """Always with ARP and ICMP: missing ARP explains a missing answer, and ICMP may be one.

        IPv6 has neighbor discovery for ARP, and its messages are ICMPv6 (RFC 4861).
        """
        own = "" if self.protocol == "ping" else f" or {self.protocol} port {self.port}"
        return f"icmp6{own}" if self.ipv6 else f"arp or icmp{own}"

    @property
    def underlay(self) -> str:
        # 6081 is the port of Geneve (RFC 8926). `vlan` must be last: it changes the offsets for the
        # rest of a filter (pcap-filter(7)).
        return f"udp port 6081 or {self.plain} or vlan"


# -- sending ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SendCommand:
    """The command that sends the packet."""

    shown: str
    """As a person would type it."""
    script: str
    """For sh on the sender: first an unmarked ping, so that ARP and flows are set up, then the
    packet."""
    probe: SentProbe


def send_command(
    source: Endpoint,
    target: Endpoint,
    protocol: Protocol,
    port: int | None,
    mark: int,
    timeout_factor: int = 1,
) -> SendCommand:
    """The command that sends one probe. `mark` (0 to 63) tells this probe from others.

    `timeout_factor` times WAIT seconds are left for the answer.
    """
    echo = "icmp6" if is_ipv6(target.address) else "icmp"
    probe = SentProbe(
        protocol=echo if protocol == "ping" else protocol,
        source=source.address,
        target=target.address,
        port=port,
        mac=source.mac,
    )
    if protocol == "ping":
        shown, script, probe = _ping(target.address, mark, WAIT * timeout_factor, probe)
    elif source.kind == "instance" and not source.namespace:
        shown, script, probe = _from_instance(
            target.address, protocol, port or 0, mark, WAIT * timeout_factor, probe
        )
    else:
        shown, script, probe = _from_node(
            target.address, protocol, port or 0, mark, WAIT * timeout_factor, probe
        )
    warm_up = f"ping -c 1 -W {timeout_factor} -s 24 {target.address} >/dev/null 2>&1"
    return SendCommand(shown, f"{warm_up}\n{script}\n", probe)


def _ping(target: str, mark: int, wait: int, probe: SentProbe) -> tuple[str, str, SentProbe]:
    # The size marks the echo. Not `-p`: busybox writes that pattern into the ICMP code, too, and
    # OVN's connection tracking drops such an echo.
    size = 57 + mark
    shown = f"ping -c 1 -W {wait} -s {size} {target}"
    headers = ICMPV6_HEADERS if is_ipv6(target) else ICMP_HEADERS
    return shown, shown, replace(probe, length=size + headers)


def _from_instance(
    target: str, protocol: Protocol, port: int, mark: int, wait: int, probe: SentProbe
) -> tuple[str, str, SentProbe]:
    if protocol == "tcp":
        shown = f"nc -w {wait} {target} {port}"
        script = (
            f"if command -v nc >/dev/null; then timeout {wait + 1} {shown} </dev/null\n"
            f"else timeout {wait + 1} bash -c ': </dev/tcp/{target}/{port}'; fi"
        )
        return shown, script, probe
    # traceroute with one try at one TTL sends one UDP datagram. busybox sends it to the port after
    # that of -p.
    size = 60 + mark
    shown = f"traceroute -n -q 1 -f 64 -m 64 -w {wait} -p {port - 1} {target} {size}"
    text = f"labctl-{mark:02d}"
    script = (
        "if command -v bash >/dev/null;"
        f" then bash -c 'printf {text} >/dev/udp/{target}/{port}'; sleep {wait}\n"
        f"else {shown}; fi"
    )
    return shown, script, probe


_CLIENT = """
import socket, sys
kind, host, port, wait, text = sys.argv[1:]
connection = socket.socket(
    socket.AF_INET6 if ":" in host else socket.AF_INET,
    socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM,
)
connection.settimeout(float(wait))
try:
    connection.connect((host, int(port)))
    if kind == "udp":
        connection.send(text.encode())
        connection.recv(1)
    print("answered")
except OSError as error:
    print(error)
print("port", connection.getsockname()[1])
"""


def _from_node(
    target: str, protocol: Protocol, port: int, mark: int, wait: int, probe: SentProbe
) -> tuple[str, str, SentProbe]:
    text = f"labctl-{mark:02d}"
    redirect = f"/dev/{protocol}/{target}/{port}"
    shown = f"exec 3<>{redirect}" if protocol == "tcp" else f"printf {text} >{redirect}"
    script = shlex.join(
        ["python3", "-I", "-c", _CLIENT, protocol, target, str(port), str(wait), text]
    )
    marker = text.encode().hex() if protocol == "udp" else ""
    return shown, script, replace(probe, marker=marker)
