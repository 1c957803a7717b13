"""Graphs of labs: recorded ones, large ones, hostile ones, and any that one can think of."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import strategies as st

from labctl.graph.model import (
    INTERNET,
    Bridge,
    Graph,
    Host,
    Interface,
    Kind,
    LogicalPort,
    NatRule,
    Router,
    Segment,
    Switch,
    Tunnel,
    Vm,
)
from labctl.graph.observed import live
from labctl.graph.shapes import clean
from labctl.lab import Lab
from labctl.topology import Topology
from tests.unit.fakes import FakeGuest, no_cloud, topology
from tests.unit.golden import GOLDEN

CONTROLLER, COMPUTE = "network-controller", "compute-01"
CASES = {"tutorial": "name: ovn-tutorial\n", "ovn-only": "name: ovn-only\nstack: ovn\n"}


@dataclass
class RecordedLab:
    """A lab that answers as a real one did; `tests/golden/graph/CASE` has its answers."""

    case: str
    topology: Topology = field(init=False)
    down: set[str] = field(default_factory=set)
    free: dict[str, str] = field(default_factory=dict)
    """By floating IP that belongs to no port: the ID of its network."""

    def __post_init__(self) -> None:
        self.topology = topology(CASES[self.case])
        self.provider = SimpleNamespace(running=lambda node: node.name not in self.down)
        self.guests = {
            node.name: FakeGuest(node.name).on("^ask", self.said(f"{node.name}.txt"))
            for node in self.topology.nodes
        }
        self.guests[CONTROLLER].on("^set -e", self.said("ovn.txt"))
        self.cloud: Callable[[], Any] = no_cloud
        if self.topology.stack == "openstack":
            self.cloud = self._recorded_cloud

    def said(self, name: str) -> str:
        return (GOLDEN / "graph" / self.case / name).read_text("utf-8")

    def guest(self, name: str) -> FakeGuest:
        return self.guests[name]

    def graph(self) -> Graph:
        return live(cast(Lab, self))

    def _recorded_cloud(self) -> Any:
        known = json.loads(self.said("cloud.json"))

        def server(row: dict[str, str]) -> SimpleNamespace:
            addresses = [
                {"addr": row[kind], "OS-EXT-IPS:type": kind}
                for kind in ("fixed", "floating")
                if row[kind]
            ]
            return SimpleNamespace(
                id=row["id"], name=row["name"], status=row["status"],
                compute_host=row["host"], addresses={"n1": addresses},
            )  # fmt: skip

        subnets = [
            SimpleNamespace(network_id=network, cidr=cidr)
            for network, cidrs in known["subnets"].items()
            for cidr in cidrs
        ]
        return SimpleNamespace(
            compute=SimpleNamespace(servers=lambda **_: [server(one) for one in known["servers"]]),
            network=SimpleNamespace(
                subnets=lambda: subnets,
                ips=lambda: [
                    SimpleNamespace(
                        port_id=None, floating_network_id=network, floating_ip_address=ip
                    )
                    for ip, network in self.free.items()
                ],
            ),
        )


# -- what a guest may call itself ------------------------------------------------------------------
HOSTILE = (
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "]]></style><svg/onload=alert(1)>",
)


def renamed(name: str) -> Graph:
    """The tutorial's lab, with everything in it that a guest or a learner names called so."""
    graph = RecordedLab("tutorial").graph()
    return replace(
        graph,
        lab=name,
        notes=(name,),
        hosts=tuple(
            replace(
                one,
                chassis=name,
                vms=tuple(replace(vm, name=name, status=name, address=name) for vm in one.vms),
                interfaces=tuple(replace(i, address=name, use=name) for i in one.interfaces),
            )
            for one in graph.hosts
        ),
        switches=tuple(
            replace(one, label=name, name=f"{number}{name}")
            for number, one in enumerate(graph.switches)
        ),
        segments=tuple(replace(one, cidr=name) for one in graph.segments),
    )


# -- any graph -------------------------------------------------------------------------------------
NASTY = st.text(
    st.one_of(
        st.sampled_from("<>&\"'`#;[](){}|\x1b\x07\u202e\ufffe\x9b\\"),
        st.sampled_from("節點網路封包橋接器ＡＢ"),
        st.characters(categories=["L", "N", "P", "S", "Cc"]),
    ),
    max_size=70,
)
_NAMES = st.one_of(st.from_regex(r"[a-z][a-z0-9_-]{0,40}", fullmatch=True), NASTY)


@st.composite
def hosts(draw: st.DrawFn, name: str) -> Host:
    """A node with br-int, whichever bridges its interfaces are in, and instances."""
    eth0, eth1 = draw(st.sampled_from([("", ""), ("br-ex", "br-phy"), ("br-ex", ""), ("x", "x")]))
    interfaces = [Interface("eth1", "nic", draw(_NAMES), bridge=eth1)]
    if draw(st.booleans()):
        interfaces.append(Interface("eth0", "nic", "10.0.2.15/24", bridge=eth0))
    bridges = [Bridge("br-int"), *(Bridge(one, draw(_NAMES)) for one in {eth0, eth1} - {""})]
    if draw(st.booleans()):
        bridges.append(Bridge("br-eth2", "flat0"))
        interfaces.append(Interface("eth2", "nic", bridge="br-eth2"))
        interfaces.append(Interface("eth3", "nic", "192.168.9.1/24"))
    for bridge in bridges:
        interfaces.append(Interface(bridge.name, "bridge", draw(_NAMES), bridge=bridge.name))
    kinds: st.SearchStrategy[Kind] = st.sampled_from(("patch", "tunnel", "vif", "other"))
    for number in range(draw(st.integers(0, 12))):
        kind = draw(kinds)
        its = draw(st.sampled_from(bridges)).name
        interfaces.append(
            Interface(f"p{number}-{draw(_NAMES)}", kind, bridge=its, peer=draw(_NAMES))
        )
    vms = []
    for number in range(draw(st.integers(0, 6))):
        tap = f"tap{number}" if draw(st.booleans()) else ""
        if tap:
            interfaces.append(Interface(tap, "vif", bridge="br-int"))
        status = draw(st.sampled_from(["", "ACTIVE", "ERROR"]))
        vms.append(Vm(draw(_NAMES), tap, f"port{number}", draw(_NAMES), draw(_NAMES), status))
    return Host(
        name,
        draw(st.sampled_from([("controller", "gateway"), ("compute",), ()])),
        tuple(interfaces),
        tuple(bridges),
        tuple(vms),
        draw(_NAMES),
        draw(st.sampled_from(["planned", "running", "silent", "down"])),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any lab, whole or in pieces, with names that nobody should give."""
    names = draw(st.lists(_NAMES.map(lambda one: f"n{one}"), unique_by=clean, max_size=5))
    nodes = tuple(draw(hosts(name)) for name in names)
    outsiders = tuple(
        Host(f"{number}{name}", ("client",), (Interface("eth0", "nic", draw(_NAMES)),))
        for number, name in enumerate(draw(st.lists(_NAMES, max_size=3)) if names else [])
    )
    everywhere = st.sampled_from([*names, ""])
    shared = draw(st.booleans())
    outside = tuple(f"{name}/eth0" for name in names)
    nats = (
        [Segment("nat", "nat", "10.0.2.0/24", "10.0.2.2", outside)]
        if shared and len(names) > 1
        else [Segment(f"nat/{one}", "nat", "10.0.2.0/24", draw(_NAMES), (one,)) for one in outside]
    )
    peers = [f"s{number}" for number in range(draw(st.integers(0, 4)))]
    routers = [f"r{number}" for number in range(draw(st.integers(0, 3)))]
    cable = st.tuples(st.sampled_from(routers or [""]), st.sampled_from(peers or [""]))
    cables = draw(st.lists(cable, max_size=6))
    numbered = list(enumerate(cables))
    pairs = list(combinations(names, 2))
    return Graph(
        lab=draw(_NAMES),
        live=draw(st.booleans()),
        hosts=(*nodes, *outsiders),
        segments=(
            Segment("private", "private", "192.168.33.0/24", "", tuple(f"{n}/eth1" for n in names)),
            *nats,
            Segment(INTERNET, "internet", "", "", outside[: draw(st.integers(0, 3))]),
        ),
        tunnels=tuple(Tunnel(pair, ("", "")) for pair in pairs if draw(st.booleans())),
        switches=tuple(
            Switch(
                name,
                draw(_NAMES),
                ("10.1.0.0/24",),
                draw(st.sampled_from(["", "extnet0"])),
                (
                    *(
                        LogicalPort(f"to{n}", draw(_NAMES), "router", peer=router)
                        for n, (router, switch) in numbered
                        if switch == name
                    ),
                    *(
                        LogicalPort(
                            f"p{n}",
                            draw(_NAMES),
                            "instance",
                            (draw(_NAMES),),
                            host=draw(everywhere),
                        )
                        for n in range(draw(st.integers(0, 5)))
                    ),
                ),
            )
            for name in peers
        ),
        routers=tuple(
            Router(
                name,
                draw(_NAMES),
                tuple(
                    LogicalPort(
                        f"from{n}",
                        draw(_NAMES),
                        "gateway",
                        ("10.1.0.1/24",),
                        host=draw(everywhere),
                        peer=switch,
                    )
                    for n, (router, switch) in numbered
                    if router == name
                ),
                tuple(
                    NatRule("snat", draw(_NAMES), draw(_NAMES))
                    for _ in range(draw(st.integers(0, 4)))
                ),
                (("0.0.0.0/0", draw(_NAMES)),),
            )
            for name in routers
        ),
        notes=tuple(draw(st.lists(_NAMES, max_size=2))),
    )


def big(computes: int, instances: int) -> Graph:
    """A whole lab of that size, as one that runs."""
    names = ["network-controller", *(f"compute-{n:02d}" for n in range(1, computes + 1))]
    home = {f"vm_{n}": names[1 + (n - 1) % computes] for n in range(1, instances + 1)}
    nodes = []
    for number, name in enumerate(names):
        vms = [vm for vm, host in home.items() if host == name]
        bridge = "br-ex" if number == 0 else ""
        interfaces = [
            Interface("eth0", "nic", "" if bridge else "10.0.2.15/24", bridge=bridge),
            Interface("eth1", "nic", bridge="br-phy"),
            Interface("br-phy", "bridge", f"192.168.33.{10 + number}/24", bridge="br-phy"),
            Interface("br-int", "bridge", bridge="br-int"),
            *(
                Interface(f"ovn-{n}", "tunnel", bridge="br-int", peer=f"192.168.33.{10 + n}")
                for n in range(len(names))
                if n != number
            ),
            *(Interface(f"tap-{vm}", "vif", bridge="br-int") for vm in vms),
        ]
        bridges = [Bridge("br-int"), Bridge("br-phy")]
        if bridge:
            interfaces.append(Interface("br-ex", "bridge", "10.0.2.15/24", bridge="br-ex"))
            bridges.append(Bridge("br-ex", "extnet0"))
        nodes.append(
            Host(
                name,
                ("controller", "gateway") if bridge else ("compute",),
                tuple(interfaces),
                tuple(bridges),
                tuple(
                    Vm(vm, f"tap-{vm}", vm, f"172.16.100.{n}", f"10.0.2.{n}", "ACTIVE")
                    for n, vm in enumerate(vms, 100)
                ),
                name,
                "running",
            )
        )
    return Graph(
        "big",
        True,
        tuple(nodes),
        (
            Segment("private", "private", "192.168.33.0/24", "", tuple(f"{n}/eth1" for n in names)),
            *(Segment(f"nat/{n}", "nat", "10.0.2.0/24", "10.0.2.2", (f"{n}/eth0",)) for n in names),
            Segment(INTERNET, "internet", members=(f"{names[0]}/eth0",)),
        ),
        tuple(Tunnel(pair, ("", "")) for pair in combinations(names, 2)),
        (
            Switch(
                "n1",
                "n1",
                ("172.16.100.0/24",),
                ports=(
                    LogicalPort("n1-r", "r", "router", peer="r"),
                    *(LogicalPort(vm, vm, "instance", host=host) for vm, host in home.items()),
                ),
            ),
            Switch(
                "ext",
                "ext_n2",
                localnet="extnet0",
                ports=(LogicalPort("ext-r", "r", "router", peer="r"),),
            ),
        ),
        (
            Router(
                "r",
                "r",
                (
                    LogicalPort("r-n1", "n1", "router", peer="n1"),
                    LogicalPort("r-ext", "ext_n2", "gateway", peer="ext", host=names[0]),
                ),
                tuple(NatRule("dnat_and_snat", f"10.0.2.{n}", vm) for n, vm in enumerate(home)),
            ),
        ),
    )
