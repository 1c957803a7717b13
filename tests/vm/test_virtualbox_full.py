"""An OVN-only lab in VirtualBox: two Debian 13 machines on an emulated laptop with AMD-V.

`make virtualbox-full` runs it; hours on a busy machine, so CI does not. The laptop is that of
tests/virtualbox/laptop.py: everything on it, from VirtualBox's kernel driver on, is real.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents import expect_said_by
from tests.e2e.cli import claims
from tests.virtualbox.laptop import TOOLS, Laptop

pytestmark = [pytest.mark.timeout(4 * 3600), pytest.mark.virtualbox]

SPEC = """\
name: vm-virtualbox
provider: virtualbox
stack: ovn
nodes:
  network-controller: {cpus: 1, memory: 512, roles: [controller, gateway]}
  compute-01: {cpus: 1, memory: 512}
"""
ENVIRONMENT = {
    # Debian's Vagrant with tests/virtualbox/vagrant-home.rb.
    "LABCTL_DOCTOR_IGNORE": "vagrant-too-old",
    "LABCTL_PATIENCE": "30",
    "LABCTL_BOOT_SECONDS": "3600",
    "VAGRANT_CHECKPOINT_DISABLE": "1",
    "LC_ALL": "C.UTF-8",
    "COLUMNS": "200",
}


class LaptopCli:
    """labctl on the laptop, in the directory of one lab."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        laptop.run(f"mkdir -p lab && printf %s {shlex.quote(SPEC)} >lab/lab.yaml")

    def __call__(self, *words: str, expect: tuple[int, ...] = (0,)) -> str:
        """labctl to its end; stdout. How long it took is a line of `figures.txt`."""
        settings = shlex.join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        begin = time.monotonic()
        done = self.laptop.run(
            f"cd lab && {settings} labctl {shlex.join(words)}", timeout=3 * 3600, check=False
        )
        with (self.laptop.work / "figures.txt").open("a", encoding="utf-8") as figures:
            seconds = time.monotonic() - begin
            figures.write(f"{seconds:7.0f} s  labctl {shlex.join(words)}: {done.returncode}\n")
        said = f"{words} -> {done.returncode}\n{done.stderr[-4000:]}\n{done.stdout[-4000:]}"
        assert "Traceback" not in said, said
        assert done.returncode in expect, said
        return done.stdout

    def json(self, *words: str, expect: tuple[int, ...] = (0,)) -> Any:
        """labctl with --json; the document, which is as its schema says."""
        return expect_said_by(words, json.loads(self(*words, "--json", expect=expect)))

    def on(self, node: str, *words: str) -> str:
        """What a command on a node says."""
        return self("ssh", node, "--", *words)

    def machines(self) -> list[str]:
        """The names of all machines of VirtualBox."""
        lines = self.laptop.run("VBoxManage list vms").stdout.splitlines()
        return sorted(line.split('"')[1] for line in lines)


@pytest.fixture(scope="module")
def lab(
    require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaptopCli]:
    require(*TOOLS, root=True)
    # LABCTL_VIRTUALBOX_WORK keeps what would tell, after the end, what went wrong.
    kept = os.environ.get("LABCTL_VIRTUALBOX_WORK")
    work = Path(kept) if kept else tmp_path_factory.mktemp("laptop")
    boxes = work / "boxes"
    boxes.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, "-m", "labctl", "box", "build", "--provider", "virtualbox"]
    subprocess.run([*build, "--output", boxes], check=True)
    with Laptop(work, boxes) as laptop:
        laptop.run(
            "cd /opt/carried/boxes && vagrant box add labctl-lab.json --provider virtualbox",
            timeout=3600,
        )
        cli = LaptopCli(laptop)
        cli("create")
        yield cli


def expect_network(lab: LaptopCli) -> None:
    """eth0 in br-ex with the address that NAT forwards SSH to, eth1 on the internal network."""

    def addresses(node: str) -> dict[str, list[str]]:
        return {
            link["ifname"]: [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
            for link in json.loads(lab.on(node, "ip", "-4", "-json", "addr"))
        }

    controller, compute = addresses("network-controller"), addresses("compute-01")
    assert controller["br-ex"] == ["10.0.2.15/24"]
    assert controller["eth1"] == ["192.168.33.10/24"]
    assert "eth0" not in controller  # it has no address any more
    assert compute["eth0"] == ["10.0.2.15/24"]  # each machine has a NAT of its own
    assert compute["eth1"] == ["192.168.33.20/24"]
    ports = lab.on("network-controller", "ovs-vsctl", "list-ports", "br-ex").split()
    assert "eth0" in ports


def expect_claims(lab: LaptopCli) -> None:
    """SNAT and DNAT of the lesson."""
    proved = claims(lab.json("replay", "ovn-snat-dnat", expect=(0, 3)))
    assert len(proved) >= 25
    assert {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]} == {}


def test_the_lab_is_up_in_a_virtualbox_that_uses_the_processor(lab: LaptopCli) -> None:
    report = lab.json("status")
    assert (report["state"], report["provider"]) == ("up", "virtualbox")
    assert all(node["running"] and node["chassis"] for node in report["nodes"])
    for name in ("network-controller", "compute-01"):
        machine = f"labctl-vm-virtualbox-{name}"
        log = lab.laptop.run(f"cat '/root/VirtualBox VMs/{machine}/Logs/VBox.log'").stdout
        assert "HM: HMR3Init: AMD-V w/ nested paging" in log
        info = lab.laptop.run(f"VBoxManage showvminfo {machine} --machinereadable").stdout
        assert 'intnet2="labctl-vm-virtualbox-private"' in info
        assert lab.on(name, "systemd-detect-virt").strip() == "oracle"


def test_the_kernels_datapath(lab: LaptopCli) -> None:
    for node in ("network-controller", "compute-01"):
        kind = lab.on(node, "ovs-vsctl", "get", "bridge", "br-int", "datapath_type").strip()
        assert kind == "system"
        assert "genev_sys_6081" in lab.on(node, "ip", "-br", "link")


def test_eth0_and_eth1_are_where_the_tutorial_has_them(lab: LaptopCli) -> None:
    expect_network(lab)
    timers = lab.on("network-controller", "systemctl", "list-timers", "--all")
    assert "labctl-rollback" not in timers  # kept


def test_snat_and_dnat_hold(lab: LaptopCli) -> None:
    expect_claims(lab)


def test_back_to_base(lab: LaptopCli) -> None:
    assert "switch" in lab.on("network-controller", "ovn-nbctl", "show")  # of the replay
    lab("reset", "--to", "base")
    assert lab.on("network-controller", "ovn-nbctl", "show").strip() == ""


def test_they_hold_again_after_a_reboot(lab: LaptopCli) -> None:
    lab("halt")
    assert lab.json("status")["state"] == "halted"
    lab("up")
    expect_network(lab)
    expect_claims(lab)


def test_back_to_a_snapshot_of_all_machines(lab: LaptopCli) -> None:
    lab("reset", "--to", "base")
    lab("snapshot", "save", "kept")  # halts them, and starts them again
    lab.on("network-controller", "ovn-nbctl", "ls-add", "mine")
    lab.on("compute-01", "touch", "/opt/mine")
    lab("reset", "--to", "kept", "--cold")
    assert lab.on("network-controller", "ovn-nbctl", "show").strip() == ""
    assert "mine" not in lab.on("compute-01", "ls", "/opt")
    assert lab.json("status")["state"] == "up"


def test_destroy_leaves_nothing(lab: LaptopCli) -> None:
    lab("destroy", "--purge")
    assert lab.machines() == []
