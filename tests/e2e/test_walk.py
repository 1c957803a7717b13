"""`labctl walk` in a real lab: what it tells is what was on the wire, and what is in the pcap."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.access.packets import frames
from tests.e2e.cli import Cli, learner_at_the_console

TUNNELS = {"192.168.33.10", "192.168.33.20"}


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Cli:
    shared_lab("replay", "floating-ip", "--quiet")
    return shared_lab


@pytest.fixture(scope="module")
def floating(lab: Cli) -> str:
    address: str = lab.json("status")["instances"][0]["floating"][0]
    return address


def places(path: dict[str, Any]) -> list[str]:
    """Without the name of the tap, which follows from the port."""
    return [
        f"{hop['node']} {'tap' if hop['role'] == 'instance' else hop['interface']}"
        for hop in path["hops"]
    ]


def changed(path: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (change["field"], change["why"], change["after"])
        for hop in path["hops"]
        for change in hop["changes"]
    ]


OUT = [
    "compute-01 tap", "compute-01 eth1", "network-controller eth1", "network-controller eth0",
    "internet nat0",
]  # fmt: skip
IN = ["network-controller br-ex", "network-controller eth1", "compute-01 eth1", "compute-01 tap"]


def assert_tunnelled(path: dict[str, Any]) -> None:
    inside = [hop["encap"] for hop in path["hops"] if hop["encap"]]
    assert len(inside) == 2
    assert inside[0] == inside[1], "the same frame left one node and came to the other"
    assert {inside[0]["src"], inside[0]["dst"]} == TUNNELS
    assert inside[0]["option_class"] == 0x102
    assert inside[0]["datapath"] in ("n1", "r")
    assert inside[0]["ingress_port"]
    assert inside[0]["egress_port"]
    times = [hop["offset"] for hop in path["hops"]]
    assert times == sorted(times)


def test_a_ping_out(lab: Cli, floating: str, tmp_path: Path) -> None:
    walk = lab.json("walk", "ping", "vm_1", "8.8.8.8", "--pcap", str(tmp_path / "caps"))
    assert (walk["answered"], walk["answer"], walk["lost"]) == (True, "reply", None)
    assert places(walk["request"]) == OUT
    assert places(walk["reply"]) == OUT[::-1]
    assert_tunnelled(walk["request"])
    assert_tunnelled(walk["reply"])
    assert ("src", "snat", floating) in changed(walk["request"])
    assert ("dst", "unsnat", "172.16.100.10") in changed(walk["reply"])
    kinds = [event["kind"] for event in walk["traced"]["request"]["events"]]
    assert [kind for kind in kinds if kind in ("allowed", "routed", "snat")] == [
        "allowed", "routed", "snat",
    ]  # fmt: skip
    assert walk["traced"]["reply"]["trace"]["verdict"] == "output"
    # What is told is what is in the files that Wireshark opens.
    for hop in walk["request"]["hops"]:
        file = tmp_path / "caps" / f"{hop['node']}-{hop['interface']}.pcap"
        seen = frames(file.read_bytes(), hop["node"], hop["interface"])
        assert any(
            (one.time, one.ip_id, one.src, one.ttl)
            == (hop["time"], hop["frame"]["ip_id"], hop["frame"]["src"], hop["frame"]["ttl"])
            for one in seen
        ), hop


def test_a_ping_in_to_the_floating_ip(lab: Cli, floating: str) -> None:
    by_address = lab.json("walk", "ping", "network-controller", floating)
    by_name = lab.json("walk", "ping", "network-controller", "vm_1")
    for walk in (by_address, by_name):
        assert walk["target"]["address"] == floating
        assert places(walk["request"]) == IN
        assert places(walk["reply"]) == IN[::-1]
        assert ("dst", "dnat", "172.16.100.10") in changed(walk["request"])
        assert ("src", "undnat", floating) in changed(walk["reply"])
        assert_tunnelled(walk["request"])


def test_tcp_in(lab: Cli, floating: str) -> None:
    walk = lab.json("walk", "tcp", "network-controller", floating, "22")
    assert places(walk["request"]) == IN
    assert {hop["frame"]["flags"] for hop in walk["request"]["hops"]} == {"S"}
    assert {hop["frame"]["flags"] for hop in walk["reply"]["hops"]} == {"SA"}


def test_udp_out(lab: Cli) -> None:
    walk = lab.json("walk", "udp", "vm_1", "internet", "9999")
    assert places(walk["request"]) == OUT
    assert walk["answer"] == "refused"
    assert walk["reply"]["hops"][0]["frame"]["code"] == 3


def test_for_people(lab: Cli) -> None:
    text = lab("walk", "ping", "vm_1", "8.8.8.8")
    assert "Geneve 192.168.33.20 → 192.168.33.10" in text
    assert "SNAT" in text
    assert "ovn-trace" in text
    assert "離開 tunnel" in lab("--lang", "zh-TW", "walk", "ping", "vm_1", "8.8.8.8")


def test_nothing_is_left_on_the_nodes(lab: Cli) -> None:
    for node in ("network-controller", "compute-01"):
        said = lab(
            "ssh", node, "--", "bash", "-c", "ls /run | grep labctl-.*pcap; pgrep tcpdump; true"
        )
        assert said.strip() == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [(("ping", "vm_1", "nonsense"), 2), (("tcp", "vm_1", "8.8.8.8"), 2),
     (("ping", "vm_9", "8.8.8.8"), 2), (("sctp", "vm_1", "8.8.8.8"), 2)],
)  # fmt: skip
def test_wrong_use(lab: Cli, words: tuple[str, ...], code: int) -> None:
    lab("walk", *words, expect=code)
    assert lab.stderr.strip()


@pytest.fixture
def closed(lab: Cli) -> Iterator[None]:
    """The instance without its security group."""

    def openstack(words: str) -> None:
        lab("ssh", "network-controller", "--", "bash", "-ic", f"openstack {words}")

    openstack("server remove security group vm_1 allow-icmp-ssh")
    yield
    openstack("server add security group vm_1 allow-icmp-ssh")


@pytest.mark.usefixtures("closed")
@pytest.mark.long
def test_without_the_security_group_it_says_where_and_why(lab: Cli, floating: str) -> None:
    for words in (("ping",), ("tcp", "22")):
        walk = lab.json("walk", words[0], "network-controller", floating, *words[1:], expect=3)
        assert (walk["answered"], walk["reply"]) == (False, None)
        lost = walk["lost"]
        assert (lost["direction"], lost["node"], lost["interface"]) == (
            "request", "compute-01", "eth1",
        )  # fmt: skip
        assert (lost["expected"]["node"], lost["expected"]["role"]) == ("compute-01", "instance")
        assert lost["reason"]["kind"] == "denied"
        assert places(walk["request"]) == IN[:-1]
    # The way in from OpenStack's own side is closed too: the guest agent is not.
    with learner_at_the_console(lab, "vm_1"):
        assert lab.json("walk", "ping", "vm_1", "8.8.8.8")["answered"]
    lab("ssh", "vm_1", "--", "sh", "-c", "exit 9", expect=9)
    assert "SSH does not reach vm_1" in lab.stderr


# -- faults ----------------------------------------------------------------------------------------
def bash(lab: Cli, node: str, script: str) -> str:
    return lab("ssh", node, "--", "bash", "-c", script)


def test_each_eth0_is_a_network_of_its_own(lab: Cli, floating: str) -> None:
    """Nobody answers ARP for a floating IP on a compute node's own eth0."""
    walk = lab.json("walk", "ping", "compute-01", "vm_1", expect=3)
    assert walk["request"]["hops"] == []
    (question,) = [asked for asked in walk["arp"] if asked["target"] == floating]
    assert (question["node"], question["interface"]) == ("compute-01", "eth0")
    assert question["answers"] == []
    assert [cause["kind"] for cause in walk["causes"]] == ["other-segment"]
    assert f"who has {floating}" in lab("walk", "ping", "compute-01", "vm_1", expect=3)


@pytest.fixture
def taken(lab: Cli, floating: str) -> Iterator[None]:
    """The controller has the floating IP itself."""
    bash(lab, "network-controller", f"ip addr add {floating}/32 dev br-ex")
    yield
    bash(lab, "network-controller", f"ip addr del {floating}/32 dev br-ex")


@pytest.mark.usefixtures("taken")
def test_a_floating_ip_that_a_node_has_as_well(lab: Cli, floating: str) -> None:
    walk = lab.json("walk", "ping", "network-controller", "vm_1", expect=3)
    assert walk["request"]["hops"] == []
    assert [(cause["kind"], cause["node"], cause["subject"]) for cause in walk["causes"]] == [
        ("address-on-node", "network-controller", floating)
    ]


def test_names_are_answered_to_nodes(lab: Cli) -> None:
    assert "8.8.8.8" in bash(lab, "compute-01", "getent ahostsv4 www.example.com")
    bash(lab, "network-controller", "! getent hosts nobody.invalid")
