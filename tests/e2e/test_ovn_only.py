"""A lab without OpenStack, as in the series' first week: OVN alone, and its SNAT and DNAT."""

import base64
import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.utils import RawPcapNgReader, RawPcapReader

from labctl.assets import lessons
from tests.browser import chromium
from tests.e2e import page_tools
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


def test_the_course_knows_what_was_done(lab: Cli, replayed: dict[str, Any]) -> None:
    course = lab.json("course")
    lessons = {one["id"]: one for group in course["groups"] for one in group["lessons"]}
    day = lessons["ovn-snat-dnat"]
    assert day["done"]["lab"] == course["lab"]
    assert day["runs_here"] is True
    assert lessons["floating-ip"]["lacking"] == ["stack: openstack"]


def test_a_live_capture_has_the_packets_that_tcpdump_has(
    lab: Cli, replayed: dict[str, Any], tmp_path: Path
) -> None:
    """One pcapng of four interfaces of two nodes, ended by Ctrl-C, beside a tcpdump at each."""
    places = [
        ("compute-01", "vm_1/tap-vm_1"), ("compute-01", "eth1"),
        ("network-controller", "eth1"), ("network-controller", "eth0"),
    ]  # fmt: skip
    wanted, mark = "icmp or udp port 6081", bytes.fromhex("1abc7100")
    words = ["capture", *(":".join(place) for place in places), "--filter", wanted]
    output = tmp_path / "all.pcapng"
    with subprocess.Popen(
        [sys.executable, "-m", "labctl", "--lang", "en", *words, "-w", str(output)],
        cwd=lab.directory, stdout=subprocess.PIPE, text=True,
    ) as ours, ExitStack() as stack:  # fmt: skip
        stack.callback(ours.kill)
        assert ours.stdout is not None
        assert "listening at compute-01:vm_1/tap-vm_1" in ours.stdout.readline()
        for number, (node, name) in enumerate(places):
            space, _, interface = name.rpartition("/")
            enter = f"ip netns exec {space} " if space else ""
            tcpdump = f"{enter}setsid timeout -s INT 600 tcpdump -n -U --immediate-mode"
            lab(
                "ssh", node, "--", "sh", "-c",
                f"{tcpdump} -i {interface} -w /run/{number}.pcap '{wanted}' </dev/null "
                f">/run/{number}.log 2>&1 & for _ in $(seq 200); do "
                f"grep -q 'listening on' /run/{number}.log && exit; sleep 0.05; done; exit 1",
            )  # fmt: skip
        lab("ssh", "compute-01", "--", "ip", "netns", "exec", "vm_1", "ping", "-c", "4",
            "-i", "0.2", "-p", mark.hex(), "8.8.8.8")  # fmt: skip
        time.sleep(1)  # what has passed is on its way
        ours.send_signal(signal.SIGINT)
        lines = ours.stdout.read().splitlines()
        assert ours.wait(60) == 0
    theirs = {}
    for number, (node, name) in enumerate(places):
        text = lab("ssh", node, "--", "base64", "-w0", f"/run/{number}.pcap")
        packets = RawPcapReader(io.BytesIO(base64.b64decode(text)))  # type: ignore[arg-type]
        theirs[f"{node}:{name}"] = [data for data, _ in packets if mark in data]
    seen: dict[str, list[bytes]] = {name: [] for name in theirs}
    times = []
    with RawPcapNgReader(str(output)) as reader:
        data: bytes
        meta: Any  # scapy declares what a pcap has, which has less
        for data, meta in reader:
            times.append((meta.tshigh << 32) + meta.tslow)
            if mark in data:
                seen[meta.ifname.decode()].append(data)
    assert seen == theirs
    assert [len(packets) for packets in seen.values()] == [8, 8, 8, 8]
    assert times == sorted(times)
    # A line for each: the inner and the outer addresses, with the key of OVN's datapath.
    pings = [line for line in lines if " > 8.8.8.8, " in line and "icmp request" in line]
    assert len(pings) == 16
    assert sum("in Geneve 192.168.33.20 > 192.168.33.10, vni 0x" in line for line in pings) == 8
    for node in ("compute-01", "network-controller"):
        left = lab("ssh", node, "--", "pgrep", "-fc", "[t]ime-stamp-precision", expect=(0, 1))
        assert left.strip() == "0"


def test_the_page_listens_walks_and_tells_what_an_object_is(
    lab: Cli, replayed: dict[str, Any], tmp_path: Path, require: Callable[..., None]
) -> None:
    require("chromium")
    # The kernel's own ICMPv6, which goes to all chassis, would be packets of other flows.
    lab("ssh", "compute-01", "--", "ip", "netns", "exec", "vm_1",
        "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")  # fmt: skip
    with ExitStack() as stack:
        served = stack.enter_context(subprocess.Popen(
            [sys.executable, "-m", "labctl", "--lang", "en", "open", "--no-browser"],
            cwd=lab.directory, stdout=subprocess.PIPE, text=True,
        ))  # fmt: skip
        stack.callback(served.send_signal, signal.SIGINT)
        assert served.stdout is not None
        address = served.stdout.readline().split()[-1]
        browser = stack.enter_context(chromium())
        page, troubles = page_tools.open_page(browser, address)
        page_tools.listen(
            page,
            lambda: lab("ssh", "compute-01", "--", "ip", "netns", "exec", "vm_1",
                        "ping", "-c", "2", "-i", "0.2", "8.8.8.8"),
            tmp_path / "heard.pcapng",
        )  # fmt: skip
        page_tools.walk(page)
        page_tools.ask(page)
        assert troubles == []
    left = lab("ssh", "compute-01", "--", "pgrep", "-fc", "[t]ime-stamp-precision", expect=1)
    assert left.strip() == "0"


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


@pytest.mark.long
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


# Its second claim is true in every lab, so that it tells nothing.
WEAK = """
id: nat-of-my-own
title: A NAT rule
goal: See one NAT rule.
stack: ovn
checkpoints:
  - id: rule
    title: One rule
    explain: A router with a rule.
    run:
      - ovn-nbctl lr-add mine -- --id=@nat create nat type=snat external_ip=10.77.0.1
        logical_ip=10.78.0.0/24 external_ids:who=me -- add logical_router mine nat @nat
    claims:
      - {id: one-rule, text: There is one rule, probe: ovn.nat, where: {router: mine}, count: 1,
         each: {external_ip: 10.77.0.1}}
      - {id: a-chassis, text: There is a chassis, probe: ovn.chassis}
    undo: ovn-nbctl --if-exists lr-del mine
faults:
  - {id: gone, text: The rule is gone, table: NAT, where: {external_ip: 10.77.0.1}, delete: true,
     fails: [one-rule]}
  - {id: moved, text: The rule has another address, table: NAT, where: {external_ip: 10.77.0.1},
     set: {external_ip: 10.77.0.9, external_ids: {who: null, what: else}}, fails: [one-rule]}
"""
RULES = "ovn-nbctl --columns=_uuid,external_ip,external_ids find nat logical_ip=10.78.0.0/24"


@pytest.mark.long  # 48 s; `make prove` finds weak claims in every lesson
def test_a_proof_finds_a_weak_claim_and_leaves_no_fault(lab: Cli) -> None:
    (lab.directory / "weak.yaml").write_text(WEAK, encoding="utf-8")
    try:
        proof = lab.json("prove", "weak.yaml", expect=3)
        wrong = [
            (asked["subject"], asked["phase"], asked["claim"])
            for asked in proof["asked"]
            if asked["expected"] not in (None, asked["holds"])
        ]
        assert wrong == [("rule", "before", "a-chassis"), ("rule", "undone", "a-chassis")]
        assert (proof["faults"], proof["never_failed"]) == (["gone", "moved"], ["a-chassis"])
        rules = lab("ssh", "network-controller", "--", "bash", "-c", RULES)
        assert "10.77.0.1" in rules
        assert "who=me" in rules
        # Killed with a fault in the lab: the next command takes it back.
        note = lab.directory / ".labctl" / "fault.json"
        proving = lab.start("prove", "weak.yaml")
        while not note.exists() and proving.poll() is None:
            time.sleep(0.02)
        proving.kill()
        proving.wait(60)
        assert note.exists()
        assert "taken back what `labctl prove` had broken: gone" in lab("check")
        assert not note.exists()
        assert "10.77.0.1" in lab("ssh", "network-controller", "--", "bash", "-c", RULES)
        lab("goto", "weak.yaml")
    finally:
        (lab.directory / "weak.yaml").unlink()


def test_a_lesson_for_openstack_is_refused(lab: Cli) -> None:
    lab("replay", "floating-ip", expect=2)
    assert "stack: openstack" in lab.stderr
    assert "ovn-snat-dnat" in lab.stderr


MEASURED = """
id: measured
title: Measured
goal: What is measured on a real node.
checkpoints:
  - id: outage
    title: An outage
    explain: x
    node: hypervisor
    background:
      - ping -D -i 0.2 {{ node.controller.eth1.address.ip }}
    run:
      - sleep 0.5
      - iptables -I INPUT -p icmp -j DROP; sleep 1; iptables -D INPUT -p icmp -j DROP
      - sleep 0.5
    claims:
      - {id: gap, text: x, probe: run.pings, count: 1, within: 0,
         each: {background: true, longest_gap: {at_least: 0.9, at_most: MOST}}}
      - {id: time, text: x, probe: run.commands, where: {command: sleep 0.5}, count: 2,
         each: {seconds: {at_least: 0.5}}}
      - {id: sent, text: x, probe: node.interfaces, with: {node: hypervisor}, count: 1,
         where: {name: eth1}, delta: {tx_packets: {at_least: 5}}}
"""


def test_what_is_measured_is_held_against_the_lab(lab: Cli) -> None:
    lesson = lab.directory / "measured.yaml"
    try:
        lesson.write_text(MEASURED.replace("MOST", "30"), encoding="utf-8")
        proved = claims(lab.json("replay", lesson.name))
        assert proved["gap"]["seen"][0]["lost"] >= 3
        first, last = proved["sent"]["delta"]["tx_packets"]
        assert last - first >= 5
        lesson.write_text(MEASURED.replace("MOST", "0.91"), encoding="utf-8")
        assert "longest_gap=" in lab("replay", lesson.name, expect=3)
    finally:
        lesson.unlink()


def test_destroy_leaves_nothing(lab: Cli) -> None:
    lab("destroy")
    assert lab.json("status")["state"] == "absent"
