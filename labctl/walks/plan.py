"""What a walk listens to and sends: worked out from the two ends and the facts of the lab. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from labctl.walks.model import Point, Probe

Protocol = Literal["ping", "tcp", "udp"]
ICMP_HEADERS = 28
"""Bytes of the IP and ICMP headers of an echo."""
WAIT = 2
"""Seconds an answer may take."""


@dataclass(frozen=True)
class End:
    """One end of a walk."""

    name: str
    kind: Literal["instance", "node", "address"]
    address: str
    node: str = ""
    """The node it is on, or is; empty for an address outside."""
    interface: str = ""
    """Of an instance: the node's interface that it is behind."""
    namespace: str = ""
    """Network namespace on the node that holds that interface; empty: the node's own."""
    mac: str = ""
    inner: str = ""
    """Address of the instance itself, where `address` is its floating IP."""


@dataclass(frozen=True)
class Plan:
    """Where a probe is looked for."""

    way: tuple[Point, ...]
    """Where a request is expected to pass, in this order."""
    listen: tuple[Point, ...]
    """All the places that are listened to: the way, and where a packet might go instead."""


@dataclass(frozen=True)
class Ground:
    """What a lab has between two ends."""

    gateway: str
    """The node through which traffic leaves OVN."""
    outer: Mapping[str, Sequence[str]]
    """By node: its interfaces towards the external network, br-ex first if there is one."""
    far: str = ""
    """The interface at the far end of the exit's eth0; empty, if nobody can listen there."""


def exit_of(source: End, gateway: str) -> str:
    """The node by whose eth0 a probe leaves the lab, if it does."""
    return source.node if source.kind == "node" else gateway


def plan(source: End, target: End, protocol: Protocol, port: int | None, ground: Ground) -> Plan:
    """Where to listen for a probe from `source` to `target`."""
    ask = _Filters(protocol, port)

    def tunnel(one: str, other: str) -> list[Point]:
        both = [Point(node, "eth1", "underlay", ask.underlay) for node in (one, other)]
        return both if one != other else []

    def outer(node: str) -> list[Point]:
        return [
            Point(node, name, "host" if name == "br-ex" else "external", ask.plain)
            for name in ground.outer.get(node, ("eth0",))
        ]

    def workload(end: End) -> Point:
        return Point(end.node, end.interface, "instance", ask.plain, end.namespace)

    gateway = ground.gateway
    internet = [Point("internet", ground.far, "internet")] if ground.far else []
    match source.kind, target.kind:
        case "node", "node":
            way = tunnel(source.node, target.node)
        case "node", "instance" if source.node == gateway:
            way = [*outer(gateway)[:1], *tunnel(gateway, target.node), workload(target)]
        case "node", "instance":  # by the external network, if that leads there
            way = [*outer(source.node), *outer(gateway)[-1:], *tunnel(gateway, target.node),
                   workload(target)]  # fmt: skip
        case "node", _:
            way = [*outer(source.node), *internet]
        case _, "instance" if not target.inner:
            way = [workload(source), *tunnel(source.node, target.node), workload(target)]
        case _, "instance":  # to a floating IP: translated at the gateway
            way = [workload(source), *tunnel(source.node, gateway), *tunnel(gateway, target.node),
                   workload(target)]  # fmt: skip
        case _, "node":
            way = [workload(source), *tunnel(source.node, gateway), *outer(gateway)[:1]]
        case _:
            way = [workload(source), *tunnel(source.node, gateway), *outer(gateway)[-1:],
                   *internet]  # fmt: skip
    nodes = dict.fromkeys([*(point.node for point in way if point.node != "internet"), gateway])
    besides = [
        one
        for node in nodes
        for one in (Point(node, "eth1", "underlay", ask.underlay), *outer(node))
    ]
    listen: dict[tuple[str, str], Point] = {}
    for point in [*way, *besides, *internet]:
        listen.setdefault((point.node, point.interface), point)
    return Plan(tuple(way), tuple(listen.values()))


@dataclass(frozen=True)
class _Filters:
    protocol: Protocol
    port: int | None

    @property
    def plain(self) -> str:
        """ARP and ICMP always: an answer may be an ICMP error, and ARP explains a silence."""
        own = "" if self.protocol == "ping" else f" or {self.protocol} port {self.port}"
        return f"arp or icmp{own}"

    @property
    def underlay(self) -> str:
        # `vlan` last: it moves the offsets of what follows it in a filter.
        return f"udp port 6081 or {self.plain} or vlan"


# -- sending ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Send:
    """How the probe is sent."""

    shown: str
    """The command, as a person would type it."""
    script: str
    """For sh on the sender: first a packet that nobody looks for, so that ARP and flows are there,
    then the probe."""
    probe: Probe


def sending(
    source: End, target: End, protocol: Protocol, port: int | None, mark: int, patience: int = 1
) -> Send:
    """The command that sends one probe. `mark` (0 to 63) tells this probe from others.

    `patience` times WAIT seconds are left for the answer.
    """
    probe = Probe(
        protocol="icmp" if protocol == "ping" else protocol,
        source=source.address,
        target=target.address,
        port=port,
    )
    if protocol == "ping":
        shown, script, probe = _ping(target.address, mark, WAIT * patience, probe)
    elif source.kind == "instance" and not source.namespace:
        shown, script, probe = _from_instance(
            target.address, protocol, port or 0, mark, WAIT * patience, probe
        )
    else:
        shown, script, probe = _from_node(
            target.address, protocol, port or 0, mark, WAIT * patience, probe
        )
    warm = f"ping -c 1 -W {patience} -s 24 {target.address} >/dev/null 2>&1"
    return Send(shown, f"{warm}\n{script}\n", probe)


def _ping(target: str, mark: int, wait: int, probe: Probe) -> tuple[str, str, Probe]:
    # An echo of an unusual size: busybox's `-p` puts its pattern into the ICMP code as well, and
    # OVN's connection tracking drops such an echo.
    size = 57 + mark
    shown = f"ping -c 1 -W {wait} -s {size} {target}"
    return shown, shown, replace(probe, length=size + ICMP_HEADERS)


def _from_instance(
    target: str, protocol: Protocol, port: int, mark: int, wait: int, probe: Probe
) -> tuple[str, str, Probe]:
    if protocol == "tcp":
        shown = f"nc -w {wait} {target} {port}"
        script = (
            f"if command -v nc >/dev/null; then timeout {wait + 1} {shown} </dev/null\n"
            f"else timeout {wait + 1} bash -c ': </dev/tcp/{target}/{port}'; fi"
        )
        return shown, script, probe
    # One UDP datagram: traceroute with one try at one TTL (busybox counts the port up from -p).
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
line = socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
line.settimeout(float(wait))
try:
    line.connect((host, int(port)))
    if kind == "udp":
        line.send(text.encode())
        line.recv(1)
    print("answered")
except OSError as error:
    print(error)
print("port", line.getsockname()[1])
"""


def _from_node(
    target: str, protocol: Protocol, port: int, mark: int, wait: int, probe: Probe
) -> tuple[str, str, Probe]:
    text = f"labctl-{mark:02d}"
    redirect = f"/dev/{protocol}/{target}/{port}"
    shown = f"exec 3<>{redirect}" if protocol == "tcp" else f"printf {text} >{redirect}"
    script = shlex.join(["python3", "-c", _CLIENT, protocol, target, str(port), str(wait), text])
    marker = text.encode().hex() if protocol == "udp" else ""
    return shown, script, replace(probe, marker=marker)
