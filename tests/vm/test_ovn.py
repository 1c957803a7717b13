"""An OVN-only lab in two real Debian 13 machines: the kernel's datapath, and br-ex over SSH."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from labctl.state import LabState
from tests.e2e.cli import claims
from tests.vm.conftest import VmCli

pytestmark = pytest.mark.timeout(3600)

# One CPU each: a small CI machine has two, and where QEMU emulates, `labctl doctor` advises it.
SPEC = """
name: vm-week
provider: libvirt
stack: ovn
nodes:
  network-controller: {cpus: 1}
  compute-01: {cpus: 1}
"""


@pytest.fixture(scope="module")
def lab(make_vm_lab: Callable[[str], VmCli]) -> VmCli:
    cli = make_vm_lab(SPEC)
    cli("create")
    return cli


def test_what_the_machines_print_is_in_their_console_logs(lab: VmCli) -> None:
    """The serial port is the console that systemd speaks to."""
    state = LabState(lab.directory)
    for node in ("network-controller", "compute-01"):
        log = state.console_log(node)
        assert (log.owner(), log.stat().st_mode & 0o777) == (state.root.owner(), 0o600)
        assert "Reached target" in log.read_text(encoding="utf-8", errors="replace")


def on(lab: VmCli, node: str, *words: str) -> str:
    return lab("ssh", node, "--", *words)


def replayed(lab: VmCli) -> dict[str, Any]:
    report = lab.json("replay", "ovn-snat-dnat", expect=(0, 3))
    proved = claims(report)
    assert len(proved) >= 25
    lost = {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]}
    assert lost == {}
    return proved


def addresses(lab: VmCli, node: str) -> dict[str, list[str]]:
    found = json.loads(on(lab, node, "ip", "-4", "-json", "addr"))
    return {
        link["ifname"]: [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
        for link in found
    }


def check_network(lab: VmCli) -> None:
    """eth0 and eth1 by the addresses of lab.yaml, eth0 in br-ex on the gateway."""
    controller = addresses(lab, "network-controller")
    assert controller["br-ex"] == ["10.0.2.15/24"]
    assert controller["eth1"] == ["192.168.33.10/24"]
    assert "eth0" not in controller  # it has no address any more
    compute = addresses(lab, "compute-01")
    assert compute["eth1"] == ["192.168.33.20/24"]
    assert len(compute["eth0"]) == 1
    ports = on(lab, "network-controller", "ovs-vsctl", "list-ports", "br-ex").split()
    assert "eth0" in ports


def test_the_lab_is_up(lab: VmCli) -> None:
    report = lab.json("status")
    assert (report["state"], report["provider"]) == ("up", "libvirt")
    assert all(node["running"] and node["chassis"] for node in report["nodes"])


def test_the_kernels_datapath(lab: VmCli) -> None:
    for node in ("network-controller", "compute-01"):
        kind = on(lab, node, "ovs-vsctl", "get", "bridge", "br-int", "datapath_type").strip()
        assert kind == "system"
        links = on(lab, node, "ip", "-br", "link")
        assert "genev_sys_6081" in links
        assert on(lab, node, "systemd-detect-virt").strip() == "qemu"


def test_eth0_and_eth1_are_where_the_tutorial_has_them(lab: VmCli) -> None:
    check_network(lab)
    state = on(lab, "network-controller", "systemctl", "list-timers", "--all")
    assert "labctl-rollback" not in state  # kept


def test_snat_and_dnat_hold(lab: VmCli) -> None:
    assert all(claim["holds"] for claim in replayed(lab).values())


def test_only_the_labs_own_key_opens_the_machines(lab: VmCli) -> None:
    keys = on(lab, "compute-01", "cat", "/home/vagrant/.ssh/authorized_keys").strip()
    assert len(keys.splitlines()) == 1
    assert "vagrant insecure" not in keys


@pytest.mark.long
def test_they_hold_again_after_a_reboot(lab: VmCli) -> None:
    lab("halt")
    assert lab.json("status")["state"] == "halted"
    lab("up")
    check_network(lab)
    replayed(lab)


def logical(lab: VmCli) -> str:
    return on(lab, "network-controller", "ovn-nbctl", "show")


@pytest.mark.long
def test_back_to_base_while_the_machines_run(lab: VmCli) -> None:
    assert "switch" in logical(lab)  # of the replay
    boots = on(lab, "network-controller", "cat", "/proc/sys/kernel/random/boot_id")
    said = lab("reset", "--to", "base")
    assert "state of the running lab" in said
    assert logical(lab).strip() == ""
    assert on(lab, "network-controller", "cat", "/proc/sys/kernel/random/boot_id") == boots


@pytest.mark.long
def test_back_to_a_snapshot_of_all_machines(lab: VmCli) -> None:
    lab("snapshot", "save", "kept")  # halts them, and starts them again
    on(lab, "network-controller", "ovn-nbctl", "ls-add", "mine")
    on(lab, "compute-01", "touch", "/opt/mine")
    on(lab, "compute-01", "rm", "-r", "/etc/openvswitch")
    lab("reset", "--to", "kept", "--cold")
    assert logical(lab).strip() == ""
    assert "mine" not in on(lab, "compute-01", "ls", "/opt")
    assert lab.json("status")["state"] == "up"
    (row,) = [row for row in lab.json("snapshot", "list") if row["name"] == "kept"]
    assert (row["current"], row["cold"]) == (True, True)


@pytest.mark.long
def test_a_machine_that_hangs_is_cut_and_brought_back(lab: VmCli) -> None:
    assert lab.hung() == []
    panic = "echo 1 >/proc/sys/kernel/sysrq; (sleep 2; echo c >/proc/sysrq-trigger) >/dev/null 2>&1"
    on(lab, "compute-01", "sh", "-c", f"setsid sh -c '{panic}' </dev/null >/dev/null 2>&1 &")
    time.sleep(10)
    (name,) = lab.hung()
    assert name.endswith("-compute-01")
    nodes = {one["name"]: one for one in lab.json("status", expect=(0, 1))["nodes"]}
    assert nodes["compute-01"]["services"] == {"ssh": "unreachable"}
    lab("halt")
    lab("up")
    replayed(lab)


def test_purge_takes_the_machines_disk_image_too(lab: VmCli) -> None:
    lab("destroy", "--purge")
    volumes = lab.in_rig("virsh", "-q", "vol-list", "default")
    assert "labctl" not in volumes
