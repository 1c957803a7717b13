"""A lab without OpenStack, as in the series' first week: OVN alone, and its SNAT and DNAT."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from labctl.assets import lessons
from tests.e2e.cli import Cli, claims

SPEC = """
name: first-week
provider: nspawn
stack: ovn
nat: {subnet: 10.0.7.0/24}     # not the addresses that a lesson might have by heart
"""
OUTSIDE, FLOATING = "10.0.7.100", "10.0.7.200"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("first-week", SPEC)
    assert "start ovn-snat-dnat" in cli("create")
    return cli


@pytest.fixture(scope="module")
def replayed(lab: Cli) -> dict[str, Any]:
    report: dict[str, Any] = lab.json("replay", "ovn-snat-dnat")
    return report


def test_create_ends_with_two_chassis_and_nothing_of_openstack(lab: Cli) -> None:
    report = lab.json("status")
    assert (report["state"], report["stack"], report["instances"]) == ("up", "ovn", [])
    assert {node["chassis"] for node in report["nodes"]} == {
        "geneve 192.168.33.10", "geneve 192.168.33.20",
    }  # fmt: skip
    units = lab("ssh", "network-controller", "--", "systemctl", "list-units", "--state=running")
    assert "ovn-ovsdb-server-nb" in units
    for service in ("mariadb", "rabbitmq", "keystone", "nova", "neutron", "libvirtd"):
        assert service not in units


def test_replay_proves_the_day(lab: Cli, replayed: dict[str, Any]) -> None:
    assert replayed["ok"] is True
    proved = claims(replayed)
    assert len(proved) >= 25
    assert all(claim["holds"] for claim in proved.values())
    # Three ways of the same ping out: as it is, by SNAT, by the address of its own.
    sources = {
        name: {frame["src"] for frame in proved[name]["seen"]}
        for name in (
            "request-leaves-untranslated",
            "request-leaves-with-the-routers-address",
            "request-leaves-with-the-floating-address",
        )
    }
    assert list(sources.values()) == [{"192.168.100.10"}, {OUTSIDE}, {FLOATING}]
    inside = proved["request-already-translated"]["seen"][0]
    assert (inside["dst"], inside["src"], inside["tunnel"]) == ("192.168.100.10", "10.0.7.15", True)


def test_halt_and_up_bring_the_workload_back(lab: Cli, replayed: dict[str, Any]) -> None:
    # One node ends by itself, and leaves its file system mounted.
    lab("ssh", "compute-01", "--", "systemctl", "poweroff", "--no-block")
    lab("halt")
    lab("up")
    assert lab.json("status")["state"] == "up"
    for node, command in (
        ("compute-01", "ip netns exec vm_1 ping -c 1 -W 1 8.8.8.8"),
        ("network-controller", f"ping -c 1 -W 1 {FLOATING}"),
    ):
        patiently = f"for i in $(seq 15); do {command} && exit; done; false"
        assert " 1 received, 0% packet loss" in lab("ssh", node, "--", "bash", "-c", patiently)
    assert lab.json("replay", "ovn-snat-dnat")["ok"] is True


# What is done to a node, with what status must then say of it.
FAULTS = (
    ("compute-01", "ovs-ofctl del-flows br-int", "br-int has no flows for its tunnels"),
    ("network-controller", "ovs-ofctl del-flows br-ex", "br-ex has no flows"),
    ("network-controller", "ip link set eth0 down", "eth0 is missing or down"),
    ("compute-01", "ip link set eth1 mtu 1000", "eth1 has MTU 1000, not 1500"),
    (
        "compute-01",
        "systemctl kill --signal=STOP ovn-controller",
        "ovn-controller is stopped (SIGSTOP)",
    ),
)


def test_what_status_sees_a_live_reset_mends(lab: Cli, replayed: dict[str, Any]) -> None:
    lab("snapshot", "save", "done", "--warm")
    for node, command, _ in FAULTS:
        lab("ssh", node, "--", "bash", "-c", command)
    report = lab.json("status")
    assert report["state"] == "degraded"
    told = {node["name"]: node["troubles"] for node in report["nodes"]}
    assert [said for node, _, said in FAULTS if said not in told[node]] == []
    # Without files there is no other way than the live one, and its gate has sent packets.
    lab("reset", "--to", "done")
    assert lab.json("status")["state"] == "up"
    ping = lab("ssh", "network-controller", "--", "ping", "-c", "1", "-W", "1", FLOATING)
    assert " 1 received" in ping
    lab("snapshot", "delete", "done")


def sabotage(lab: Cli, checkpoint: str, place: int, command: str) -> set[str]:
    """The claims that fail when somebody runs a command between those of a checkpoint."""
    lesson = yaml.safe_load((lessons() / "ovn-snat-dnat.yaml").read_text(encoding="utf-8"))
    lesson["id"] = "sabotage"  # a built-in lesson's id is refused
    (point,) = (one for one in lesson["checkpoints"] if one["id"] == checkpoint)
    # A ping that nobody answers is for the claims to tell.
    point["run"] = [f"{one} || true" if " ping " in one else one for one in point["run"]]
    point["run"].insert(place, command)
    for claim in point["claims"]:
        claim["within"] = 4  # what cannot come true need not be waited for
    (lab.directory / "sabotage.yaml").write_text(yaml.safe_dump(lesson), encoding="utf-8")
    try:
        report = lab.json("replay", "sabotage.yaml", expect=3)
    finally:
        (lab.directory / "sabotage.yaml").unlink()
    assert report["checkpoints"][-1]["id"] == checkpoint
    return {name for name, claim in claims(report).items() if not claim["holds"]}


NO_SNAT = "ovn-nbctl --db=tcp:192.168.33.10:6641 --wait=hv lr-nat-del {{ lab.router }} snat"


def test_without_its_rule_snat_is_not_claimed(lab: Cli, replayed: dict[str, Any]) -> None:
    assert sabotage(lab, "snat", 1, NO_SNAT) == {"one-snat-rule", "internet-answers"}


def test_a_rule_deleted_behind_ones_back_fails_on_the_wire(
    lab: Cli, replayed: dict[str, Any]
) -> None:
    assert sabotage(lab, "ping-out", 0, NO_SNAT) == {
        "request-leaves-with-the-routers-address",
        "reply-comes-to-the-routers-address",
        "reply-in-tunnel-to-the-workload",
    }


def test_a_lesson_for_openstack_is_refused(lab: Cli) -> None:
    lab("replay", "floating-ip", expect=2)
    assert "stack: openstack" in lab.stderr
    assert "ovn-snat-dnat" in lab.stderr


def test_destroy_leaves_nothing(lab: Cli) -> None:
    lab("destroy")
    assert lab.json("status")["state"] == "absent"
