"""labctl with real Vagrant and real VirtualBox (tests/virtualbox): from create to destroy.

One lab serves all tests of this file, in their order. Its guests are too small to be provisioned:
`create` goes as far as the first script that wants apt, and says so.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.access import keys
from labctl.spec.load import load_spec
from labctl.state import LabState
from labctl.topology import Node, Topology, build_topology
from tests.documents import expect_said_by
from tests.virtualbox.rig import BOX, TOOLS, Rig

pytestmark = pytest.mark.timeout(2400)  # nine minutes at a load of 3 to 5 on two cores

REPOSITORY = Path(__file__).parents[2]
SPEC = f"""\
name: vb
stack: ovn
provider: virtualbox
box: {{name: {BOX}}}
nodes:
  controller: {{memory: 384, cpus: 1, roles: [controller, gateway]}}
  hypervisor: {{memory: 400, cpus: 1}}
"""
DRIVERLESS = "vagrant-too-old,vboxdrv,no-virtualization"
"""What doctor finds wrong with the rig, rightly, and what the rig does without."""
MACHINES = ["labctl-vb-controller", "labctl-vb-hypervisor"]


class Bench:
    """One directory with a lab.yaml, and labctl in it, inside the rig."""

    def __init__(self, rig: Rig, directory: Path, spec: str = SPEC) -> None:
        """Writes the lab.yaml."""
        self.rig = rig
        self.directory = directory
        self.directory.mkdir()
        self.file = directory / "lab.yaml"
        self.file.write_text(spec, encoding="utf-8")

    @property
    def topology(self) -> Topology:
        """What labctl should make of the lab.yaml."""
        return build_topology(load_spec(self.file))

    def environment(self, **more: str) -> dict[str, str]:
        """Of labctl in the rig."""
        settings = {
            "PYTHONPATH": str(REPOSITORY),
            "LABCTL_DOCTOR_IGNORE": DRIVERLESS,
            "LABCTL_BOOT_SECONDS": "1200",
            "COLUMNS": "200",
            **more,
        }
        return self.rig.environment(**settings)

    def start(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        """labctl in the background, in a process group of its own."""
        return self.rig.start(
            [sys.executable, "-m", "labctl", *words],
            cwd=self.directory,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __call__(self, *words: str, expect: int = 0, **more: str) -> str:
        """labctl to its end; what it said. `more` are environment variables."""
        process = self.start(*words, **more)
        said, _ = process.communicate(timeout=2000)
        assert process.returncode == expect, f"{words} -> {process.returncode}\n{said}"
        assert "Traceback" not in said, said
        return said

    def json(self, *words: str, expect: int = 0) -> Any:
        """labctl with --json; the document."""
        return expect_said_by(words, json.loads(self(*words, "--json", expect=expect)))

    def manage(self, *words: str) -> str:
        """VBoxManage, which must succeed."""
        return self.rig.run(["VBoxManage", *words]).stdout

    def machines(self) -> list[str]:
        """The names of all machines of VirtualBox."""
        return [line.split('"')[1] for line in self.manage("list", "vms").splitlines()]

    def said_by_vagrant(self) -> str:
        """The log of Vagrant."""
        log = self.directory / ".labctl" / "logs" / "vagrant.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""


def one_line(said: str) -> str:
    """Without the line breaks that a terminal's width put in."""
    return " ".join(said.split())


@pytest.fixture(scope="module")
def rig(
    require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rig, Path]]:
    """The rig, and the directory in which it sees labs."""
    require(*TOOLS, root=True)
    labs = tmp_path_factory.mktemp("labs")
    with Rig(tmp_path_factory.mktemp("rig"), see=[labs]) as rig:
        rig.add_box()
        yield rig, labs


@pytest.fixture
def bench(rig: tuple[Rig, Path]) -> Callable[..., Bench]:
    """Makes another lab.yaml, in a directory of the test's own."""
    made, labs = rig

    def make(name: str, spec: str = SPEC) -> Bench:
        return Bench(made, labs / name, spec)

    return make


# -- what keeps a lab from being made --------------------------------------------------------------
def test_doctor_of_the_rig_finds_what_is_missing_and_create_refuses(
    bench: Callable[..., Bench],
) -> None:
    lab = bench("driverless")
    said = one_line(lab("create", expect=1, LABCTL_DOCTOR_IGNORE=""))
    assert "VirtualBox's kernel module vboxdrv is not loaded" in said
    assert "does not know VirtualBox 7.2: that takes Vagrant 2.4.9" in said
    assert not lab.machines()
    assert "warnings: 3" in lab("doctor")


def test_without_virtualbox(bench: Callable[..., Bench], tmp_path: Path) -> None:
    lab = bench("no-virtualbox")
    (tmp_path / "vagrant").symlink_to(lab.rig.work / "rig" / "bin" / "vagrant")
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = one_line(lab("create", expect=1, PATH=path))
    assert "VirtualBox is not installed: there is no VBoxManage" in said
    assert "install it: https://www.virtualbox.org" in said
    assert not (lab.directory / ".labctl").exists()


def test_vagrant_that_does_not_know_this_virtualbox(bench: Callable[..., Bench]) -> None:
    """The same Vagrant, without the Vagrantfile that tells it 7.2 is 7.0."""
    lab = bench("too-new")
    home = lab.directory / "vagrant-home"
    shutil.copytree(lab.rig.work / "vagrant" / "boxes", home / "boxes")
    said = one_line(lab("create", expect=1, VAGRANT_HOME=str(home)))
    assert "version of VirtualBox installed that is not supported" in said
    lab("destroy", VAGRANT_HOME=str(home))


def test_a_range_that_virtualbox_does_not_allow(bench: Callable[..., Bench]) -> None:
    lab = bench("hostonly", SPEC + "private: {attach: hostonly}\n")
    said = one_line(lab("create", expect=1))
    assert "192.168.33.0/24" in said
    assert "/etc/vbox/networks.conf" in said
    allow = "mkdir -p /etc/vbox && echo '* 192.168.33.0/24' >/etc/vbox/networks.conf"
    lab.rig.run(["sh", "-c", allow])
    try:
        assert "warnings: 3" in lab("doctor")
    finally:
        lab.rig.run(["rm", "/etc/vbox/networks.conf"])


def test_a_mistyped_option_of_virtualbox_is_caught_by_vagrant(bench: Callable[..., Bench]) -> None:
    lab = bench("mistyped")
    lab("render")
    file = lab.directory / ".labctl" / "vagrant" / "Vagrantfile"
    right = lab.rig.run(["vagrant", "validate"], cwd=file.parent)
    assert "validated successfully" in right.stdout
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("vb.memory =", "vb.memoryy ="), encoding="utf-8")
    wrong = lab.rig.run(["vagrant", "validate"], cwd=file.parent, check=False)
    assert wrong.returncode == 1
    assert "memoryy" in wrong.stdout + wrong.stderr


@pytest.mark.long
def test_a_virtualbox_that_hangs(bench: Callable[..., Bench]) -> None:
    """Its service is stopped: the doctor says so in its time, and the cure that it names works."""
    lab = bench("hanging")
    lab.manage("list", "vms")  # which starts the service
    (service,) = lab.rig.run(["pgrep", "-x", "VBoxSVC"]).stdout.split()
    lab.rig.run(["kill", "-STOP", service])
    began = time.monotonic()
    found = {finding["id"]: finding for finding in lab.json("doctor", expect=1)["findings"]}
    assert time.monotonic() - began < 60
    assert "virtualbox-hangs" in found
    refused = one_line(lab("create", expect=1))
    assert "VirtualBox hangs: `VBoxManage list vms` does not answer" in refused
    cure, look = found["virtualbox-hangs"]["commands"]
    lab.rig.run(cure.split())
    lab.rig.run(look.split())
    assert "virtualbox-hangs" not in lab("doctor", "--json")


# -- the lab ---------------------------------------------------------------------------------------
OF_THE_USER = """
Vagrant.configure("2") do |config|
  config.vm.box_version = "99"
  config.vm.hostname = "mine"
  config.vm.network "private_network", ip: "192.168.56.5"
  config.vm.provider("virtualbox") do |vb|
    vb.gui = true
    vb.memory = 9999
    vb.default_nic_type = "82545EM"
  end
end
"""
"""A Vagrantfile of the user's own: no such version of the box, a window where there is no screen, a
host-only network where there is no driver for one. Each alone keeps a machine from booting."""


@dataclass(frozen=True)
class Made:
    """The lab, and what was said while it was made."""

    lab: Bench
    interrupted: tuple[int, str]
    """Exit code and output of the `create` that Ctrl-C ended."""
    created: str
    """Output of the `create` after it."""


@pytest.fixture(scope="module")
def made(rig: tuple[Rig, Path]) -> Iterator[Made]:
    """Two machines, made against odds: a port is taken, and the first create interrupted."""
    space, labs = rig
    home = space.work / "vagrant" / "Vagrantfile"
    home.write_text(home.read_text(encoding="utf-8") + OF_THE_USER, encoding="utf-8")
    lab = Bench(space, labs / "實驗 it's a lab")
    port = str(lab.topology.controller.forwards[0].host)
    squatter = space.start(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = lab.start("create")
    try:
        deadline = time.monotonic() + 600
        while "Waiting for machine to boot" not in lab.said_by_vagrant():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, lab.said_by_vagrant()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        yield Made(lab, (process.returncode, said), lab("create", expect=1))
    finally:
        squatter.kill()
        squatter.wait()
        lab("destroy", "--purge")


def expected(lab: Topology, node: Node, port: int) -> dict[str, str]:
    """The machine's definition as VBoxManage should tell it."""
    return {
        "name": f"labctl-{lab.lab}-{node.name}",
        "memory": str(node.spec.memory),
        "cpus": str(node.spec.cpus),
        "nic1": "nat",
        "nictype1": "virtio",
        "macaddress1": node.eth0.mac.replace(":", "").upper(),
        "Forwarding(0)": f"ssh,tcp,127.0.0.1,{port},{node.eth0.address.ip},22",
        "nic2": "intnet",
        "intnet2": f"labctl-{lab.lab}-private",
        "nictype2": "virtio",
        "macaddress2": node.eth1.mac.replace(":", "").upper(),
        "nic3": "none",
    }


def test_ctrl_c_while_vagrant_boots(made: Made) -> None:
    code, said = made.interrupted
    assert code == -signal.SIGINT
    assert "interrupted; the same command goes on where this one stopped" in one_line(said)


def test_create_goes_as_far_as_the_guest_can(made: Made) -> None:
    """Both machines boot, are made the lab's own, get their inputs; then apt is missing."""
    for node in ("controller", "hypervisor"):
        assert re.search(rf"done +boot \({node}\)|already +boot \({node}\)", made.created)
    assert re.search(r"failed +packages \((controller|hypervisor)\)", made.created)


def test_the_machine_is_what_lab_yaml_says(made: Made) -> None:
    node = made.lab.topology.node("hypervisor")
    seen = made.lab.rig.definition("labctl-vb-hypervisor")
    wanted = expected(made.lab.topology, node, node.forwards[0].host)
    assert {key: seen.get(key) for key in wanted} == wanted
    assert "Forwarding(1)" not in seen


def test_doctor_names_the_vagrantfile_of_the_user(made: Made) -> None:
    found = {finding["id"]: finding for finding in made.lab.json("doctor")["findings"]}
    assert "vm.box_version, vm.hostname, vm.network, gui" in found["home-vagrantfile"]["what"]


def test_what_a_machine_prints_is_in_its_console_log(made: Made) -> None:
    for node in ("controller", "hypervisor"):
        log = LabState(made.lab.directory).console_log(node)
        assert made.lab.rig.definition(f"labctl-vb-{node}")["uartmode1"] == f"file,{log}"
        assert "up after" in log.read_text(encoding="utf-8", errors="replace")


def test_a_port_that_was_taken_is_another_one(made: Made) -> None:
    lab, node = made.lab, made.lab.topology.controller
    seen = lab.rig.definition("labctl-vb-controller")
    port = int(seen["Forwarding(0)"].split(",")[3])
    assert port != node.forwards[0].host
    wanted = expected(lab.topology, node, port)
    assert {key: seen.get(key) for key in wanted} == wanted
    assert "uid=0(root)" in lab("ssh", "controller", "--", "id")


def test_machines_are_linked_clones_of_one_master(made: Made) -> None:
    lab = made.lab
    masters = [name for name in lab.machines() if name not in MACHINES]
    assert len(masters) == 1
    parents = set()
    for name in MACHINES:
        disk = lab.rig.definition(name)["SATA-ImageUUID-0-0"]
        told = lab.manage("showmediuminfo", disk)
        assert "differencing" in told
        parents.update(re.findall(r"^Parent UUID: +(\S+)", told, flags=re.M))
    assert len(parents) == 1
    assert masters[0] in lab.manage("showmediuminfo", parents.pop())


def test_nodes_have_their_inputs_and_a_key_of_the_labs_own(made: Made) -> None:
    lab = made.lab
    said = lab(
        "ssh",
        "hypervisor",
        "--",
        "cat",
        "/etc/labctl/lab.env",
        "/home/vagrant/.ssh/authorized_keys",
    )
    assert "192.168.33.20" in said
    assert keys.public(LabState(lab.directory).ssh_key).split()[1] in said
    assert "vagrant insecure public key" not in said


@pytest.mark.long
def test_status(made: Made) -> None:
    status = made.lab.json("status")
    assert status["provider"] == "virtualbox"
    assert status["state"] == "unfinished"
    assert {node["name"]: node["running"] for node in status["nodes"]} == {
        "controller": True,
        "hypervisor": True,
    }


@pytest.mark.long
def test_a_machine_killed_under_us(made: Made) -> None:
    """Its process dies: status says so, the next create boots it again."""
    lab = made.lab
    found = lab.rig.run(["pgrep", "-f", "VBoxHeadless --comment labctl-vb-hypervisor"]).stdout
    lab.rig.run(["kill", "-KILL", *found.split()])
    nodes = {node["name"]: node["running"] for node in lab.json("status")["nodes"]}
    assert nodes == {"controller": True, "hypervisor": False}
    refused = one_line(lab("ssh", "hypervisor", "--", "true", expect=1))
    assert "hypervisor is not running" in refused
    assert "labctl up" in refused
    state = LabState(lab.directory)
    before = state.console_log("hypervisor").read_bytes()
    said = lab("create", expect=1)
    assert "10-packages.sh failed" in said, said
    assert "uid=0(root)" in lab("ssh", "hypervisor", "--", "id")
    assert state.earlier_console_log("hypervisor").read_bytes() == before
    assert state.console_log("hypervisor").stat().st_size > 0


@pytest.mark.long
def test_halt_and_snapshots(made: Made) -> None:
    lab = made.lab
    lab("halt")
    assert not any(node["running"] for node in lab.json("status")["nodes"])
    assert lab.manage("list", "runningvms") == ""
    lab("snapshot", "save", "clean")
    assert [row["name"] for row in lab.json("snapshot", "list")] == ["clean"]
    for name in MACHINES:
        assert "clean" in lab.manage("snapshot", name, "list")
    lab("snapshot", "restore", "clean")
    assert lab.manage("list", "runningvms") == ""
    lab("snapshot", "delete", "clean")
    assert lab.json("snapshot", "list") == []


def test_destroy_leaves_the_master_and_says_so(made: Made) -> None:
    lab = made.lab
    master = next(name for name in lab.machines() if name not in MACHINES)
    lab.manage("clonevm", master, "--snapshot", "base", "--options", "link",
               "--name", "clone-of-another-lab", "--register")  # fmt: skip
    said = lab("destroy")
    assert f"VirtualBox machine {master} stays for the next lab" in said
    assert "labctl destroy --purge" in said
    assert sorted(lab.machines()) == sorted(["clone-of-another-lab", master])
    assert [path.name for path in lab.directory.iterdir()] == ["lab.yaml"]

    refused = one_line(lab("destroy", "--purge", expect=1))
    assert f"{master} stays: clones of it are clone-of-another-lab" in refused
    assert master in lab.machines()
    lab.manage("unregistervm", "clone-of-another-lab", "--delete")
    lab("destroy", "--purge")
    assert lab.machines() == []
    left = [path.name for path in (lab.rig.work / "home" / "VirtualBox VMs").iterdir()]
    assert not [name for name in left if name in MACHINES], left
