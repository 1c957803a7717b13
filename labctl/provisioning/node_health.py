"""Whether one node works: services, clock, Open vSwitch, addresses, and packets that it sends.

`status` shows it, and a restore waits for it. `node_troubles` and `parse_node_health` are pure.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from labctl.access.guest import Guest
from labctl.access.ovsdb import (
    Rows,
    as_list,
    by_uuid,
    list_command,
    parse_tables,
    referenced,
    tables_script,
)
from labctl.i18n import tr
from labctl.provisioning.network_options import bridge_mappings
from labctl.provisioning.services import STOPPED_UNITS, units_of
from labctl.topology import Machine, Node, Topology

CLOCK_SECONDS = 2.0
"""How far a node's clock may be from this host's. Our choice: a clock that was not set after its
machine was suspended is off by more."""
MTU = 1500
"""Bytes; what labctl gives eth0 and eth1. Geneve needs some of it, instances get the rest."""
_HEADERS = 28
"""Bytes of an IPv4 and an ICMP header, which `ping -s` does not count."""
_STOPPED = "stopped"
"""State of a unit with a process that was stopped by SIGSTOP; systemd calls it active."""


@dataclass(frozen=True)
class NodeHealth:
    """What one node reports about itself."""

    clock_behind: float
    """Seconds by which its clock is behind this host's; negative: ahead."""
    inactive: Mapping[str, str]
    """{unit: state} of the systemd units that are not active, or that SIGSTOP has stopped."""
    mtu: Mapping[str, int]
    """{interface: bytes} of those that are up."""
    addresses: Mapping[str, str]
    """{IPv4 address: interface}."""
    settings: Mapping[str, str] | None
    """The external_ids of Open vSwitch; None: it does not answer."""
    bridges: Mapping[str, frozenset[str]]
    """{bridge: its ports}."""
    tunnels: Mapping[str, int]
    """{remote address: number of the OpenFlow port} of its Geneve tunnels."""
    in_ports: frozenset[int]
    """OpenFlow ports whose packets a flow of br-int takes."""
    empty: frozenset[str]
    """Bridges that have no flow at all, so that they forward nothing."""
    answering: frozenset[str]
    """Addresses that have answered."""
    full: frozenset[str] = frozenset()
    """File systems without space."""


def node_troubles(
    health: NodeHealth, node: Machine, topology: Topology, running: Sequence[Node]
) -> Iterator[str]:
    """What is wrong with a node or a client, in words. `running` are the nodes that are to answer
    the node."""
    if abs(health.clock_behind) > CLOCK_SECONDS:
        yield tr("its clock is {seconds} s off", seconds=f"{health.clock_behind:.1f}")
    for unit, state in health.inactive.items():
        if state == _STOPPED:
            yield tr("{unit} is stopped (SIGSTOP)", unit=unit)
        else:
            yield f"{unit} {state}"
    for place in sorted(health.full):
        yield tr("{path} is full: nothing can be written there", path=place)
    yield from _link_troubles(health, node)
    if isinstance(node, Node):
        yield from _inside_troubles(health, node, topology, running)
    gateway = str(node.eth0.gateway)
    if gateway not in health.answering:
        yield tr("the gateway {address} does not answer on eth0", address=gateway)


def _inside_troubles(
    health: NodeHealth, node: Node, topology: Topology, running: Sequence[Node]
) -> Iterator[str]:
    """What is wrong with Open vSwitch, and on the way to the other nodes."""
    if health.settings is None:
        yield tr("Open vSwitch does not answer")
    else:
        yield from _switch_troubles(health, health.settings, node, topology)
        yield from _tunnel_troubles(health, node, topology)
    for peer in running:
        address = str(peer.eth1.address.ip)
        if peer is not node and address not in health.answering:
            yield tr("{peer} ({address}) does not answer {size} bytes on eth1",
                     peer=peer.name, address=address, size=MTU)  # fmt: skip


def _link_troubles(health: NodeHealth, node: Machine) -> Iterator[str]:
    for nic in (node.eth0, *node.shared_nics):
        if nic.name not in health.mtu:
            yield tr("{interface} is missing or down", interface=nic.name)
        elif health.mtu[nic.name] != MTU:
            yield tr("{interface} has MTU {found}, not {expected}",
                     interface=nic.name, found=health.mtu[nic.name], expected=MTU)  # fmt: skip
    for address, interfaces in _places(node).items():
        if health.addresses.get(address) not in interfaces:
            yield tr("{interface} lacks its address {address}",
                     interface=interfaces[0], address=address)  # fmt: skip


def _places(node: Machine) -> dict[str, tuple[str, ...]]:
    """By address of the machine: the interfaces that may have it."""
    if not isinstance(node, Node):
        return {str(node.eth0.address.ip): ("eth0",)}
    # Where Open vSwitch switches in user space br-phy has eth1's address (provision/25-network.sh).
    return {
        str(node.eth0.address.ip): ("br-ex",) if node.has_br_ex else ("eth0", "br-ex"),
        str(node.eth1.address.ip): ("eth1", "br-phy"),
        **{
            str(nic.address.ip): (nic.bridge or nic.name,)
            for nic in node.extra
            if nic.address is not None
        },
    }


def _switch_troubles(
    health: NodeHealth, settings: Mapping[str, str], node: Node, topology: Topology
) -> Iterator[str]:
    expected = {
        "ovn-remote": f"tcp:{topology.controller.eth1.address.ip}:6642",
        "ovn-encap-ip": str(node.eth1.address.ip),
        "ovn-encap-type": "geneve",
    }
    mappings = [("ovn-bridge-mappings", mapping) for mapping in bridge_mappings(topology, node)]
    for key, value in [*expected.items(), *mappings]:
        found = settings.get(key, "")
        if value not in found.split(","):  # all of these may be lists
            yield tr("{key} is {found}, and lacks {expected}",
                     key=key, found=found or tr("nothing"), expected=value)  # fmt: skip
    if node.has_br_ex and "eth0" not in health.bridges.get("br-ex", ()):
        yield tr("eth0 is not a port of br-ex")
    for nic in node.extra:
        if nic.bridge and nic.name not in health.bridges.get(nic.bridge, ()):
            yield tr("{interface} is not a port of {bridge}",
                     interface=nic.name, bridge=nic.bridge)  # fmt: skip
    for bridge in sorted(health.empty & {"br-ex", "br-phy"}):
        yield tr("{bridge} has no flows", bridge=bridge)


def _tunnel_troubles(health: NodeHealth, node: Node, topology: Topology) -> Iterator[str]:
    peers = {str(peer.eth1.address.ip) for peer in topology.nodes if peer is not node}
    for address in sorted(peers - health.tunnels.keys()):
        yield tr("no tunnel to {address}", address=address)
    for address in sorted(health.tunnels.keys() - peers):
        yield tr("a tunnel to {address}, where no node is", address=address)
    if any(port not in health.in_ports for port in health.tunnels.values()):
        yield tr("br-int has no flows for its tunnels")


# -- asking the node -------------------------------------------------------------------------------
_TABLES = tables_script(
    {
        table: list_command("ovs-vsctl", table, columns, timeout=3)
        for table, columns in {
            "Open_vSwitch": "external_ids",
            "Bridge": "name,ports",
            "Port": "_uuid,name",
            "Interface": "type,options,ofport",
        }.items()
    }
)
_SCRIPT = f"""gateway=$1 peers=$2; shift 2
answers() {{ # OPTION... ADDRESS: one packet; a second and a third where the first is lost
    for _ in 1 2 3; do ping -c 1 -W 1 "$@" >/dev/null 2>&1 && return; done
    false
}}
# A gateway that answers no ping (VirtualBox's) answers ARP.
arp() {{
    ip neighbour flush to "$gateway"
    ping -c 1 -W 1 "$gateway" >/dev/null 2>&1
    ip neighbour show to "$gateway" | grep -q lladdr
}}
echo "time $(date +%s.%N)"
for peer in ${{peers//,/ }}; do
    {{ answers -M do -s {MTU - _HEADERS} "$peer" && echo "answer $peer"; }} &
done
{{ {{ ping -c 1 -W 1 "$gateway" >/dev/null 2>&1 || arp || arp; }} && echo "answer $gateway"; }} &
echo "states $(systemctl is-active "$@" | tr '\\n' ' ')"
echo "stopped $({STOPPED_UNITS} | tr '\\n' ' ')"
ip -o link show up | awk '{{ sub(/[:@].*/, "", $2)
    for (i = 3; i < NF; i++) if ($i == "mtu") print "mtu", $2, $(i + 1) }}'
# Below 64 KiB, in blocks of 1 KiB: a few small files come and go even where it is full.
df --output=avail,target / /run 2>/dev/null | awk 'NR > 1 && $1 < 64 {{ print "full", $2 }}'
ip -4 -o address show | awk '{{ sub(/[/].*/, "", $4); print "address", $2, $4 }}'
if ( {_TABLES} ) 2>/dev/null; then
    for bridge in $(ovs-vsctl --timeout=3 list-br); do
        if [ "$bridge" = br-int ]; then
            timeout 3 ovs-ofctl --no-names dump-flows br-int table=0 | grep -o 'in_port=[0-9]*' |
                sort -u | tr '=' ' '
        else
            timeout 3 ovs-ofctl dump-aggregate "$bridge" | grep -q 'flow_count=0$' &&
                echo "empty $bridge"
        fi
    done
fi
wait
true"""
"""Prints lines whose first word says what they are: see `parse_node_health`."""


def ask_node(
    guest: Guest, node: Machine, topology: Topology, running: Sequence[Node]
) -> NodeHealth:
    """What a machine reports about itself. Raises GuestError; ValueError when it makes no sense.

    `running` are the nodes that a node sends a packet to.
    """
    units = units_of(node, topology.stack)
    others = [peer for peer in running if peer is not node] if isinstance(node, Node) else []
    peers = ",".join(str(peer.eth1.address.ip) for peer in others)
    began = time.time()
    output = guest.run(
        ["bash", "-c", _SCRIPT, "bash", str(node.eth0.gateway), peers, *units], timeout=30
    ).stdout
    ended = time.time()

    def clock_behind(node_time: float) -> float:
        # The node read its clock between `began` and `ended`: any time between is right.
        return began - node_time if node_time < began else min(0.0, ended - node_time)

    return parse_node_health(output, units, clock_behind)


def parse_node_health(
    output: str, units: Sequence[str], clock_behind: Callable[[float], float]
) -> NodeHealth:
    """What `_SCRIPT` prints; `clock_behind` turns the node's time into seconds behind this host.

    Raises ValueError when the time or the states are missing.
    """
    lines: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        word, *rest = line.split() or [""]
        lines.setdefault(word, []).append(rest)
    if "time" not in lines or "states" not in lines:
        raise ValueError(tr("the node tells nothing of itself"))
    tables = parse_tables(output)
    states = dict(zip(units, lines["states"][0], strict=False))
    stopped = {name.removesuffix(".service") for name in chain(*lines.get("stopped", []))}
    states |= {unit: _STOPPED for unit in units if unit in stopped}
    settings = tables.get("Open_vSwitch", [])
    return NodeHealth(
        clock_behind=clock_behind(float(lines["time"][0][0])),
        inactive={
            unit: states.get(unit, "unknown") for unit in units if states.get(unit) != "active"
        },
        mtu={name: int(mtu) for name, mtu in lines.get("mtu", [])},
        addresses={address: name for name, address in lines.get("address", [])},
        settings=settings[0]["external_ids"] if settings else None,
        bridges=_bridges(tables.get("Bridge", []), tables.get("Port", [])),
        tunnels={
            row["options"].get("remote_ip", ""): row["ofport"] or 0
            for row in tables.get("Interface", [])
            if row["type"] == "geneve"
        },
        in_ports=frozenset(int(port) for (port,) in lines.get("in_port", [])),
        empty=frozenset(name for (name,) in lines.get("empty", [])),
        answering=frozenset(address for (address,) in lines.get("answer", [])),
        full=frozenset(place for (place,) in lines.get("full", [])),
    )


def _bridges(bridges: Rows, ports: Rows) -> dict[str, frozenset[str]]:
    known = by_uuid(ports)
    return {
        bridge["name"]: frozenset(
            port["name"] for port in referenced(as_list(bridge["ports"]), known)
        )
        for bridge in bridges
    }
