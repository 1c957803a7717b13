"""The main path on the repository's own lab.yaml, as a learner walks it."""

import signal
from ipaddress import IPv4Address
from typing import Any

import pytest

from labctl.providers import netns
from tests.e2e.cli import Cli, namespace


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Cli:
    shared_lab("reset", "--to", "base")
    return shared_lab


@pytest.fixture(scope="module")
def replayed(lab: Cli) -> dict[str, Any]:
    report: dict[str, Any] = lab.json("replay", "floating-ip")
    return report


def floating_ip(lab: Cli) -> str:
    address: str = lab.json("status")["instances"][0]["floating"][0]
    return address


def test_replay_proves_the_day(lab: Cli, replayed: dict[str, Any]) -> None:
    assert replayed["ok"] is True
    claims = {claim["id"]: claim for point in replayed["checkpoints"] for claim in point["claims"]}
    assert len(claims) >= 30
    assert all(claim["holds"] for claim in claims.values())
    commands = [c["command"] for point in replayed["checkpoints"] for c in point["commands"]]
    assert any(command.startswith("openstack floating ip create") for command in commands)
    # What tcpdump on the nodes prints of the request in the tunnel: outer header, inner header.
    shown = [c for point in replayed["checkpoints"] if point["id"] == "ping-out"
             for c in point["commands"] if c["command"].startswith("tcpdump")]  # fmt: skip
    assert [(c["node"], c["command"]) for c in shown] == [
        ("compute-01", "tcpdump -vvneei eth1 'udp port 6081'"),
        ("network-controller", "tcpdump -vvneei eth1 'udp port 6081'"),
        ("network-controller", "tcpdump -vvneei eth0 icmp"),
    ]
    outer, inner = shown[0]["output"].index("Geneve"), shown[0]["output"].index("ICMP echo request")
    assert outer < inner < shown[0]["output"].index("ICMP echo reply")
    assert floating_ip(lab) in replayed["summary"]
    # The evidence is what was seen, not what was hoped for.
    sighting = claims["request-leaves-with-the-floating-ip"]["seen"][0]
    assert sighting["src"] == floating_ip(lab)
    assert sighting["interface"] == "eth0"
    assert IPv4Address("10.0.2.210") <= IPv4Address(sighting["src"]) <= IPv4Address("10.0.2.220")
    assert claims["closed-without-security-group"]["seen"][0]["received"] == 0


def test_the_floating_ip_answers_the_internet(lab: Cli, replayed: dict[str, Any]) -> None:
    internet = namespace(lab, "network-controller.nat")
    with netns.dial(internet, floating_ip(lab), 22, timeout=15) as connection:
        assert connection.recv(64).startswith(b"SSH-2.0-dropbear")


def test_the_floating_ip_answers_ssh_and_moves_data(lab: Cli, replayed: dict[str, Any]) -> None:
    said = lab(
        "ssh", "network-controller", "--", "bash", "-ic",
        "ssh cirros@$FLOATING_IP 'sudo id -u; head -c 3000000 /dev/zero' | wc -c",
    )  # fmt: skip
    assert said.split()[-1] == "3000002"  # "0\n" and the zeros
    assert lab("ssh", "vm_1", "--", "sh", "-c", "hostname; exit 9", expect=9) == "vm-1\n"
    assert lab.stderr == ""


def test_the_instance_reaches_the_internet_by_tcp(lab: Cli, replayed: dict[str, Any]) -> None:
    said = lab(
        "ssh", "network-controller", "--", "bash", "-ic",
        "ssh cirros@$FLOATING_IP timeout 10 wget -qO- http://www.example.com/",
    )  # fmt: skip
    assert floating_ip(lab) in said, "the Internet sees the instance at its floating IP"


@pytest.mark.long  # the walks and the practice replay it again, too
def test_replaying_again_is_fine(lab: Cli, replayed: dict[str, Any]) -> None:
    assert lab.json("replay", "floating-ip")["ok"] is True


LIE = """
id: lie
title: {en: A lie, zh-TW: 謊言}
goal: {en: To be caught, zh-TW: 被抓到}
checkpoints:
  - id: wrong
    title: {en: Wrong, zh-TW: 錯誤}
    explain: {en: Nothing changes here., zh-TW: 這裡沒有任何改變。}
    run: [ovn-nbctl lr-list]
    claims:
      - id: another-router
        text: {en: the router is called nonsense, zh-TW: router 叫做 nonsense}
        probe: openstack.routers
        each: {name: nonsense}
        within: 0
"""


@pytest.mark.long
def test_a_claim_that_does_not_hold_is_named(lab: Cli) -> None:
    (lab.directory / "lie.yaml").write_text(LIE, encoding="utf-8")
    try:
        report = lab.json("replay", "lie.yaml", expect=3)
    finally:
        (lab.directory / "lie.yaml").unlink()
    (claim,) = report["checkpoints"][0]["claims"]
    assert claim["holds"] is False
    assert "another-router" in lab.stderr
    assert "name=nonsense" in lab.stderr
    assert "name=r" in lab.stderr


@pytest.mark.long  # two minutes; in CI a lab of OVN alone is halted
def test_halt_and_up_bring_the_floating_ip_back(lab: Cli) -> None:
    lab("goto", "floating-ip/nat-rules")  # another lesson, in the test before, took this one back
    lab("halt")
    assert lab.json("status")["state"] == "halted"
    lab("up")
    report = lab.json("status")
    assert report["state"] == "up"
    # The position, too, is there for the next process.
    assert (report["lesson"]["id"], report["lesson"]["next"]) == ("floating-ip", "nat-rules")
    address = report["instances"][0]["floating"][0]
    lab(
        "ssh", "network-controller", "--", "bash", "-c",
        f"for i in $(seq 30); do ping -c 1 -W 2 {address} && exit 0; done; exit 1",
    )  # fmt: skip
    assert lab.json("next")["ok"] is True


def test_another_labctl_is_told_who_holds_the_lab(lab: Cli) -> None:
    holder = lab.start("replay", "floating-ip")
    try:
        lab_is_held(lab, holder.pid)
    finally:
        holder.send_signal(signal.SIGINT)  # as Ctrl-C: the step at hand ends, the lab stays usable
        holder.wait(timeout=300)


def lab_is_held(lab: Cli, by: int) -> None:
    import time

    lock = lab.directory / ".labctl" / "lock"
    for _ in range(300):
        # By its number: the name of the holder before it stays there, and that was a replay, too.
        if f"process {by}," in lock.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{by} does not hold the lab: {lock.read_text()}")
    lab("halt", expect=1)
    assert "replay floating-ip" in lab.stderr
    assert lab.json("status")["state"] == "up", "looking is always allowed"
