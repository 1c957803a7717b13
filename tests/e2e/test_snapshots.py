"""Back to a snapshot, both ways, on a real lab; and labctl killed on the way.

LABCTL_SWEEP=1 kills at every event of every work, which takes an hour; else at a few.
"""

import json
import os
import time
from typing import Any

import pytest

from tests.e2e.cli import Cli, learner_at_the_console, on

CONTROLLER, COMPUTE = "network-controller", "compute-01"

# What OpenStack has, without what counts up by itself.
_FACTS = """set -e
sql() { mariadb -N -e "$1" | sort; }
sql "select uuid, hostname, vm_state, power_state, task_state from nova.instances where deleted = 0"
sql "select id, name, status from glance.images where deleted = 0"
sql "select flavorid, name from nova_api.flavors"
sql "select id, name from neutron.networks"
sql "select id, name from neutron.subnets"
sql "select id, mac_address, device_owner, status from neutron.ports"
sql "select id, name, gw_port_id from neutron.routers"
sql "select id, floating_ip_address, fixed_port_id from neutron.floatingips"
sql "select id, name from neutron.securitygroups"
sql "select resource_class_id, used, consumer_id from placement.allocations"
for table in Logical_Switch Logical_Router Logical_Router_Port ACL NAT Port_Group DHCP_Options; do
    ovn-nbctl --format=csv --columns=_uuid list $table | sort
done
ovn-nbctl --format=csv --columns=_uuid,name,addresses,type,up list Logical_Switch_Port | sort
ovn-sbctl --format=csv --columns=logical_port,up list Port_Binding | sort
"""
_NODE = """set -e
for key in ovn-bridge-mappings ovn-encap-ip ovn-remote; do
    ovs-vsctl --if-exists get open . external_ids:$key
done
ovs-vsctl list-br
ip -4 -o addr show scope global | awk '{print $2, $4}'
md5sum /etc/neutron/*.conf /etc/nova/*.conf /root/.profile 2>/dev/null
"""


def facts(cli: Cli) -> list[str]:
    """What OpenStack, OVN and the nodes are."""
    said = on(cli, CONTROLLER, _FACTS) + on(cli, CONTROLLER, _NODE) + on(cli, COMPUTE, _NODE)
    return said.splitlines()


def as_before(cli: Cli, before: list[str]) -> bool:
    """Whether it is the same again; Neutron hears a moment later that a port is up."""
    until = time.monotonic() + 20
    while (now := facts(cli)) != before and time.monotonic() < until:
        time.sleep(1)
    assert now == before
    return True


def kept(cli: Cli) -> dict[str, Any]:
    """The snapshots by their names."""
    return {row["name"]: row for row in cli.json("snapshot", "list")}


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Cli:
    assert kept(shared_lab)["base"]["warm"]
    shared_lab("reset", "--to", "base")
    shared_lab("snapshot", "save", "start")
    return shared_lab


@pytest.fixture
def before(lab: Cli) -> list[str]:
    return facts(lab)


def add(cli: Cli) -> None:
    """A network, a router, a port, an instance: what an exercise leaves."""
    on(
        cli,
        CONTROLLER,
        "set -e; openstack network create extra >/dev/null;"
        " openstack subnet create --network extra --subnet-range 10.9.0.0/24 extra >/dev/null;"
        " openstack router create extra >/dev/null;"
        " openstack server create --image cirros --flavor m1.nano --network extra --wait x"
        " >/dev/null; openstack server stop vm_1",
    )


def take_away(cli: Cli) -> None:
    """The instance and its image gone, bridges and files harmed, services killed."""
    on(
        cli,
        CONTROLLER,
        "set -e; openstack server delete --wait vm_1; openstack image delete cirros;"
        " openstack flavor delete m1.nano;"
        " ovs-vsctl del-br br-ex -- add-br br-mine;"
        " ovs-vsctl remove open . external_ids ovn-bridge-mappings;"
        " echo '# mine' >>/etc/neutron/neutron.conf; rm /root/.profile;"
        " systemctl kill --signal=KILL nova-conductor; ovn-nbctl ls-add by-hand",
    )
    on(
        cli,
        COMPUTE,
        "systemctl stop nova-compute;"
        " ovs-vsctl set open . external_ids:ovn-remote=tcp:192.0.2.1:6642",
    )


@pytest.mark.long
def test_what_was_added_is_gone_while_the_lab_runs(lab: Cli, before: list[str]) -> None:
    lab("start", "floating-ip")
    lab("next")
    add(lab)
    assert facts(lab) != before
    boots = on(lab, CONTROLLER, "cat /proc/1/stat")
    said = lab("reset", "--to", "start")
    assert "state of the running lab" in said
    assert "shut down" not in said
    assert on(lab, CONTROLLER, "cat /proc/1/stat").split()[21] == boots.split()[21]
    assert as_before(lab, before)
    assert lab.json("status")["lesson"] is None
    assert kept(lab)["start"]["current"]


def test_what_was_taken_away_is_back_while_the_lab_runs(lab: Cli, before: list[str]) -> None:
    take_away(lab)
    said = lab("reset", "--to", "start")
    assert "shut down" not in said
    assert as_before(lab, before)
    assert lab.json("status")["state"] == "up"


def test_reset_leads_to_the_start_of_the_lesson(lab: Cli) -> None:
    lab("start", "floating-ip")
    lab("next")
    with learner_at_the_console(lab, "vm_1"):
        assert "state of the running lab" in lab("reset")
    lesson = lab.json("status")["lesson"]
    assert (lesson["id"], lesson["passed"]) == ("floating-ip", [])
    lab("reset", "--to", "start")


@pytest.mark.long
def test_the_files_of_all_nodes(lab: Cli, before: list[str]) -> None:
    on(lab, CONTROLLER, "rm -rf /etc/nova /var/lib/mysql/neutron; touch /opt/new")
    on(lab, COMPUTE, "rm -rf /etc/openvswitch")
    said = lab("reset", "--to", "start", "--cold")
    assert "shut down" in said
    assert as_before(lab, before)
    assert "gone" in on(lab, CONTROLLER, "[ -e /opt/new ] || echo gone")


def test_save_and_delete(lab: Cli) -> None:
    lab("snapshot", "save", "mine")
    assert {"base", "mine"} <= set(kept(lab))
    assert lab.run("snapshot", "save", "mine").returncode == 2
    lab("snapshot", "delete", "mine")
    assert "mine" not in kept(lab)
    assert lab.run("snapshot", "restore", "mine").returncode == 2


def test_an_altered_snapshot_is_refused_and_the_lab_is_as_it_was(
    lab: Cli, before: list[str]
) -> None:
    lab("snapshot", "save", "harmed")
    part = lab.directory / ".labctl" / "snapshots" / "harmed" / f"{COMPUTE}.tar"
    part.write_bytes(part.read_bytes()[:-1000])
    done = lab.run("snapshot", "restore", "harmed", "--cold")
    assert done.returncode == 1
    assert "truncated" in done.stderr
    assert as_before(lab, before)
    lab("snapshot", "delete", "harmed")


WORKS = {
    "save": ("snapshot", "save", "swept"),
    "warm": ("reset", "--to", "start"),
    "cold": ("reset", "--to", "start", "--cold"),
}
SHORT = [
    ("save", "step_started", "files"),
    ("warm", "step_started", "state"),
    ("cold", "step_started", "stage"),
    ("cold", "step_started", "files"),
]


def events(cli: Cli, work: str) -> list[tuple[str, str, str]]:
    """Every event that this work emits when nobody kills it."""
    log = cli.directory / ".labctl" / "events.jsonl"
    begin = log.stat().st_size
    cli(*WORKS[work])
    with log.open() as stream:
        stream.seek(begin)
        said = [json.loads(line) for line in stream]
    found = [(work, one["event"], one["id"]) for one in said if one["event"].startswith("step_s")]
    if work == "save":
        cli("snapshot", "delete", "swept")
    return list(dict.fromkeys(found))


def test_killed_while_it_deletes(lab: Cli, before: list[str]) -> None:
    lab("snapshot", "save", "swept")
    journal = lab.directory / ".labctl" / "journal.json"
    lab.kill_when(journal.exists, "snapshot", "delete", "swept")
    said = lab("snapshot", "restore", "start")
    assert "was interrupted" in said
    assert as_before(lab, before)
    assert set(kept(lab)) == {"base", "start"}


@pytest.mark.long
def test_killed_on_the_way(lab: Cli, before: list[str]) -> None:
    whole = os.environ.get("LABCTL_SWEEP")
    points = [point for work in WORKS for point in events(lab, work)] if whole else SHORT
    interrupted = 0
    for work, event, step in points:
        lab.kill_at(event, step, *WORKS[work])
        # The next command says what it found and goes on. Killed before it had begun to change
        # anything, there is nothing to say.
        begun = (lab.directory / ".labctl" / "journal.json").exists()
        said = lab("snapshot", "restore", "start")
        assert ("was interrupted" in said) == begun, (work, event, step)
        interrupted += begun
        assert as_before(lab, before), (work, event, step)
        assert set(kept(lab)) == {"base", "start"}
        nodes = lab.directory / ".labctl" / "nodes"
        assert not list(nodes.glob("*/upper.*")), (work, event, step)
    assert interrupted >= len(points) // 2
