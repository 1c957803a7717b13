"""Which chassis may be a router's gateway, BFD sessions, and the gap in a ping."""

import json
import re
from typing import Any

from labctl.access.packets import Frame
from labctl.lessons.model import PROBES
from labctl.probes import ProbeContext
from tests.unit.fakes import FakeGuest, no_cloud, topology


def table(headings: str, *rows: list[Any]) -> str:
    return json.dumps({"headings": headings.split(), "data": rows})


def uuid(name: str) -> list[str]:
    return ["uuid", name]


def several(*names: str) -> list[Any]:
    return ["set", [uuid(name) for name in names]]


ROUTERS = table(
    "ports external_ids",
    [several("p1", "p2"), ["map", [["neutron:router_name", "r"]]]],
)
CHASSIS = "_uuid chassis_name priority"


def guest(**tables: str) -> FakeGuest:
    answers = {
        "Logical_Router": ROUTERS,
        "Gateway_Chassis": table(CHASSIS),
        "HA_Chassis": table(CHASSIS),
        "HA_Chassis_Group": table("_uuid ha_chassis"),
    } | tables
    fake = FakeGuest()
    for name, says in answers.items():
        fake.on(rf" list {re.escape(name)}$", says)
    return fake


def asked(probe: str, fake: FakeGuest, frames: tuple[Frame, ...] = (), sender: str = "") -> Any:
    context = ProbeContext(topology(), no_cloud, lambda name: fake, frames)
    return PROBES[probe](context, {"from": sender} if sender else {})


FIRST_AND_SECOND = [
    {"router_name": "r", "port": "lrp-2", "chassis": "gw-2", "priority": 2, "rank": 1},
    {"router_name": "r", "port": "lrp-2", "chassis": "gw-1", "priority": 1, "rank": 2},
]


def test_candidates_by_gateway_chassis_have_ranks() -> None:
    ports = table(
        "_uuid name gateway_chassis ha_chassis_group",
        [uuid("p1"), "lrp-1", ["set", []], ["set", []]],
        [uuid("p2"), "lrp-2", several("a", "b"), ["set", []]],
    )
    chassis = table(CHASSIS, [uuid("a"), "gw-1", 1], [uuid("b"), "gw-2", 2])
    fake = guest(Logical_Router_Port=ports, Gateway_Chassis=chassis)
    assert asked("ovn.gateway_chassis", fake) == FIRST_AND_SECOND


def test_candidates_by_an_ha_chassis_group_are_the_same() -> None:
    ports = table(
        "_uuid name gateway_chassis ha_chassis_group",
        [uuid("p1"), "lrp-1", ["set", []], ["set", []]],
        [uuid("p2"), "lrp-2", ["set", []], uuid("g")],
    )
    fake = guest(
        Logical_Router_Port=ports,
        HA_Chassis=table(CHASSIS, [uuid("a"), "gw-1", 1], [uuid("b"), "gw-2", 2]),
        HA_Chassis_Group=table("_uuid ha_chassis", [uuid("g"), several("a", "b")]),
    )
    assert asked("ovn.gateway_chassis", fake) == FIRST_AND_SECOND


def test_sessions_are_those_of_tunnels_with_bfd() -> None:
    def to(address: str) -> list[Any]:
        return ["map", [["key", "flow"], ["remote_ip", address]]]

    enabled = ["map", [["enable", "true"]]]
    fake = FakeGuest()
    fake.on(
        r" list Interface$",
        table(
            "options bfd bfd_status",
            [to("192.0.2.1"), enabled, ["map", [["state", "up"], ["forwarding", "true"]]]],
            [to("192.0.2.2"), enabled, ["map", [["state", "down"], ["forwarding", "false"]]]],
            [to("192.0.2.3"), ["map", []], ["map", []]],
        ),
    )
    assert asked("ovn.bfd", fake, sender="hypervisor") == [
        {"address": "192.0.2.1", "state": "up", "forwarding": "true"},
        {"address": "192.0.2.2", "state": "down", "forwarding": "false"},
    ]


def test_the_gap_is_the_longest_time_without_a_reply() -> None:
    def echo(time: float, sequence: int, kind: str = "reply", interface: str = "eth1") -> Frame:
        return Frame(
            node="compute-01", interface=interface, time=time, tunnel=False, tunnel_src=None,
            tunnel_dst=None, vni=None, option_class=None, option_data=None, src_mac="", dst_mac="",
            src="8.8.8.8", dst="172.16.100.10", ttl=63, protocol="icmp", kind=kind, identifier=7,
            sequence=sequence,
        )  # fmt: skip

    requests = [echo(float(n), n, "request") for n in range(9)]
    replies = [echo(n + 0.004, n) for n in (0, 1, 2, 6, 7, 8)]
    alone = [echo(0.004, 0, interface="eth0")]
    rows = asked("wire.gaps", FakeGuest(), (*requests, *replies, *alone))
    assert rows == [
        {
            "node": "compute-01", "interface": "eth1", "tunnel": False, "src": "8.8.8.8",
            "dst": "172.16.100.10", "replies": 6, "longest": 4.0,
        }
    ]  # fmt: skip
