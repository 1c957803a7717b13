"""What `labctl create` makes of the repository's own lab.yaml."""

import json
import re
import stat
import subprocess

import pytest

from tests.e2e.cli import Cli, namespace, on


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Cli:
    return shared_lab


def inside(space: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = ["ip", "netns", "exec", space, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_create_ends_in_the_state_the_day_begins_with(lab: Cli) -> None:
    report = lab.json("status")
    assert report["state"] == "up"
    assert [node["name"] for node in report["nodes"]] == ["network-controller", "compute-01"]
    assert {node["chassis"] for node in report["nodes"]} == {
        "geneve 192.168.33.10",
        "geneve 192.168.33.20",
    }
    assert all(not node["failed"] for node in report["nodes"])
    (instance,) = report["instances"]
    assert instance["name"] == "vm_1"
    assert instance["status"] == "ACTIVE"
    assert instance["fixed"] == ["172.16.100.10"]
    assert instance["floating"] == []
    assert instance["security_groups"] == ["default"]
    assert report["login"]["compute-01"] == "labctl ssh compute-01"


def test_a_second_create_finds_everything_done(lab: Cli) -> None:
    before = (lab.directory / ".labctl" / "events.jsonl").stat().st_size
    lab("create")
    with (lab.directory / ".labctl" / "events.jsonl").open() as stream:
        stream.seek(before)
        events = [json.loads(line) for line in stream]
    outcomes = {e["id"]: e["outcome"] for e in events if e["event"] == "step_finished"}
    assert outcomes["image"] == "already"
    assert outcomes["keystone:network-controller"] == "already"
    assert outcomes["boot:compute-01"] == "already"


def test_learners_find_the_tutorials_tools_with_credentials(lab: Cli) -> None:
    said = lab("ssh", "network-controller", "--", "bash", "-ic", "openstack server list | abbrev")
    assert re.search(r"\| [0-9a-f]{6} \| vm_1 +\| ACTIVE", said)
    for tool in ("ovn-nbctl", "ovn-sbctl", "jq", "tcpdump", "abbrev"):
        assert tool in lab("ssh", "network-controller", "--", "bash", "-c", f"command -v {tool}")


def test_on_every_node_ovns_tools_reach_what_they_are_about(lab: Cli) -> None:
    """As tutorials use them, which are written for one machine with everything on it."""
    for node in ("network-controller", "compute-01"):
        assert "Chassis compute-01" in lab("ssh", node, "--", "ovn-sbctl", "show")
        assert "(neutron-" in lab("ssh", node, "--", "sudo", "ovn-nbctl", "show")
        assert "port 0: " in lab("ssh", node, "--", "sudo", "ovs-dpctl", "show")
        for page in ("ovn-sb", "ovs-fields", "ovn-trace"):
            assert f"/{page}." in lab("ssh", node, "--", "man", "-w", page)
        assert lab("ssh", node, "--", "sh", "-c", "command -v nc")


def test_a_trace_is_told_with_ovns_own_flows(lab: Cli) -> None:
    """ovn-detrace needs Open vSwitch's library for Python, and the databases of the controller."""
    trace = (
        "tap=$(ovs-vsctl --bare --columns=name list interface | grep -m1 ^tap) && "
        "port=$(ovs-vsctl get interface $tap ofport) && "
        "ovs-appctl ofproto/trace br-int in_port=$port | ovn-detrace"
    )
    annotated = on(lab, "compute-01", trace)
    assert re.search(r"Logical datapath: \"neutron-", annotated)


def test_an_instance_has_what_people_know_from_cirros(lab: Cli) -> None:
    for tool in ("ssh", "nc", "ping", "ip", "sudo", "wget"):
        assert lab("ssh", "vm_1", "--", "which", tool).strip().endswith(f"/{tool}")
    refused = lab.run("ssh", "vm_1", "--", "nc", "127.0.0.1", "23", "-vv")
    assert "refused" in refused.stdout + refused.stderr


def test_each_eth0_is_a_network_of_its_own(lab: Cli) -> None:
    nodes = [namespace(lab, name) for name in ("network-controller", "compute-01")]
    assert all("10.0.2.15/24" in inside(space, "ip", "-4", "addr").stdout for space in nodes)
    # No compute is behind the controller's NAT: its gateway's ARP table knows one 10.0.2.15 only.
    seen = inside(namespace(lab, "network-controller.nat"), "ip", "neigh", "show", "10.0.2.15")
    mac = re.findall(r"lladdr (\S+)", seen.stdout)
    own = inside(nodes[0], "cat", "/sys/class/net/eth0/address").stdout.strip()
    assert mac in ([own], [])


def test_secrets_are_private_and_nothing_listens_on_the_host(lab: Cli) -> None:
    state = lab.directory / ".labctl"
    for path in [state / "secrets.json", *(state / "ssh").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    ports = subprocess.run(["ss", "-tlnH"], capture_output=True, text=True, check=True).stdout
    for port in (3306, 5000, 5672, 6641, 6642, 8774, 9696):
        assert f":{port} " not in ports
    said = lab("ssh", "compute-01", "--", "cat", "/etc/labctl/lab.env")
    assert "SECRET_ADMIN" not in said
    assert "SECRET_DATABASE" not in said


def test_a_row_that_somebody_else_has_changed_is_no_error(lab: Cli) -> None:
    """MariaDB 11.8's own default is one that OpenStack does not know (nova bug 2116186)."""
    query = "select @@global.innodb_snapshot_isolation"
    assert lab("ssh", "network-controller", "--", "mariadb", "-Ne", query).split() == ["0"]


def test_the_instances_console_asks_for_a_login(lab: Cli) -> None:
    """By that other programs than labctl tell that an instance is up (Tempest waits for it)."""
    console = on(lab, "compute-01", "cat /var/lib/nova/instances/*/console.log")
    assert re.search(r"^\S+ login: ", console, re.M)
