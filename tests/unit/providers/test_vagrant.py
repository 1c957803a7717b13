"""The provider on Vagrant, with a Vagrant and hypervisors that are a file of text.

All of it here and on a Mac that is played: no program of Linux is called there, and no /proc read.
"""

import sys
import threading
import time
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import paramiko
import pytest

from labctl.access.guest import GuestError, GuestResult, UnreachableError
from labctl.actions.create import refuse_other_topology
from labctl.actions.render import render, vagrantfile
from labctl.errors import Cancelled, DiskFullError, LabError
from labctl.lab import Lab
from labctl.providers.libvirt.hypervisor import Libvirt
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.providers.virtualbox.hypervisor import VirtualBox
from labctl.state import LabState
from labctl.topology import Node, Topology
from tests.unit.fakes import topology
from tests.unit.macos import macos

TEMPLATE = Path(__file__).parents[3] / "Vagrantfile.j2"
PROGRAM = Path(__file__).parent / "fake_vagrant.py"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINvOfkGVYZrKHlV6QkWT2dqk1S2DrKJbGzLmOexample"
A, B = "network-controller", "compute-01"


class World:
    """What the programs find, and what they were asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "world"
        directory.mkdir()
        for name in ("vagrant", "virsh", "VBoxManage", "qemu-img"):
            path = directory / name
            path.write_text(f"#!{sys.executable} -IS\n{PROGRAM.read_text()}", encoding="utf-8")
            path.chmod(0o755)
        self.set(
            machines={}, volumes=[], networks={}, boxes=[], fail={}, slow={}, ports={},
            forgets_snapshots=False, held=0, machine_folder="", consoles={}, hangs=0,
        )  # fmt: skip

    def __getitem__(self, what: str) -> Any:
        return literal_eval(self.file.read_text(encoding="utf-8"))[what]

    def set(self, **values: Any) -> None:
        file = self.file
        world = literal_eval(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(repr(world | values), encoding="utf-8")

    def state(self, node: str, state: str) -> None:
        machines = self["machines"]
        machines[f"labctl-x-{node}"]["state"] = state
        self.set(machines=machines)

    @property
    def states(self) -> dict[str, str]:
        return {name: one["state"] for name, one in self["machines"].items()}

    def calls(self, program: str = "vagrant", verb: str = "") -> list[str]:
        """What was run since the last call of this."""
        path = self.directory / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [
            line.removesuffix(" --machine-readable")
            for line in lines
            if line.startswith(f"{program} {verb}".rstrip())
        ]


class Machines(VagrantProvider):
    """The provider, with what it was made of."""

    def __init__(self, topology: Topology, state: LabState, hypervisor: Hypervisor) -> None:
        super().__init__(topology, state, hypervisor, TEMPLATE)
        self.topology = topology
        self.state = state


class Guests:
    """Stands in for SSHGuest; `off` is what powering off does to a node."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.off: Callable[[str], None] = lambda node: world.state(node, "poweroff")
        self.closed: list[str] = []
        self.asked: list[str] = []
        self.connect: dict[str, Callable[[], object]] = {}

    def __call__(self, name: str, *words: Any, connect: Any, timeout_factor: int) -> Any:
        outer = self
        self.connect[name] = connect

        class Guest:
            def run(self, command: Sequence[str], **options: Any) -> GuestResult:
                outer.asked.append(f"{name}: {' '.join(command)}")
                outer.off(name)
                return GuestResult(0, "", "", 0.0)

            def close(self) -> None:
                outer.closed.append(name)

        return Guest()


@pytest.fixture(params=["here", "macOS"], autouse=True)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "here":
        yield
        return
    # The suite's libvirt is played, too: it would be another program on no Mac.
    with macos(monkeypatch, more_programs=frozenset({"virsh"})):
        yield


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")  # and nothing real
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant-home"))
    return made


@pytest.fixture
def guests(world: World, monkeypatch: pytest.MonkeyPatch) -> Guests:
    made = Guests(world)
    monkeypatch.setattr("labctl.providers.vagrant.provider.SSHGuest", made)
    return made


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every first login, which succeeds."""
    seen: list[dict[str, Any]] = []

    def install_lab_key(connect: Any, **how: Any) -> str:
        seen.append(how)
        return f"{HOST_KEY}{len(seen)}"

    monkeypatch.setattr("labctl.providers.vagrant.provider.install_lab_key", install_lab_key)
    return seen


@pytest.fixture
def make(
    tmp_path: Path,
    world: World,
    guests: Guests,
    adopted: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Machines]:
    """make(hypervisor, more of lab.yaml) -> the provider of a lab `x`, ready to boot."""
    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", lambda: False)

    def make(
        hypervisor: type[Hypervisor] = VirtualBox, spec: str = "", *, boots: bool = True
    ) -> Machines:
        lab = topology(f"name: x\nstack: ovn\n{spec}")
        state = LabState(tmp_path)
        state.root.mkdir(exist_ok=True)
        provider = Machines(lab, state, hypervisor())
        if boots:
            provider.create_network()
        world.calls()
        return provider

    return make


def node(provider: Machines, name: str) -> Node:
    return provider.topology.node(name)


def start(provider: Machines, *names: str) -> list[str]:
    told: list[str] = []
    for name in names:
        provider.start(node(provider, name), told.append, lambda: False)
    return told


# -- boots -----------------------------------------------------------------------------------------
def test_virtualbox_boots_one_after_the_other(
    world: World, make: Callable[..., Machines], adopted: list[dict[str, Any]]
) -> None:
    provider = make(VirtualBox)
    told = start(provider, A, B)
    assert world.calls(verb="up") == [
        f"vagrant up {A} --provider virtualbox --no-provision",
        f"vagrant up {B} --provider virtualbox --no-provision",
    ]
    assert f"{A}: Machine booted, and ready!" in told
    assert [how["node"] for how in adopted] == [A, B]
    assert adopted[0]["user"] == "vagrant"
    assert adopted[0]["key"] == provider.state.ssh_key
    assert provider.running(node(provider, A))


def test_every_key_that_vagrant_publishes_is_tried(
    world: World, make: Callable[..., Machines], adopted: list[dict[str, Any]], tmp_path: Path
) -> None:
    home = tmp_path / "vagrant-home"
    (home / "insecure_private_keys").mkdir(parents=True)
    for name in ("vagrant.key.rsa", "vagrant.key.ed25519"):  # since Vagrant 2.4
        (home / "insecure_private_keys" / name).touch()
    start(make(VirtualBox), A)
    tried = [str(file.relative_to(home)) for file in adopted[0]["insecure"]]
    assert tried == [
        "insecure_private_key",
        "insecure_private_keys/vagrant.key.ed25519",
        "insecure_private_keys/vagrant.key.rsa",
    ]


def test_directories_of_failed_imports_go(
    world: World, make: Callable[..., Machines], tmp_path: Path
) -> None:
    folder = tmp_path / "VirtualBox VMs"
    for name in ("labctl-lab_1764000000000_12345", "labctl-lab_1764000000001_9", "labctl-lab_x_1",
                 "mine"):  # fmt: skip
        (folder / name).mkdir(parents=True)
    (folder / "labctl-lab_1764000000001_9" / "disk.vdi").write_text("a master machine's")
    world.set(machine_folder=str(folder))
    make(VirtualBox).destroy(lambda text: None)
    assert sorted(path.name for path in folder.iterdir()) == [
        "labctl-lab_1764000000001_9", "labctl-lab_x_1", "mine",
    ]  # fmt: skip


def test_libvirt_boots_all_together(world: World, make: Callable[..., Machines]) -> None:
    provider = make(Libvirt)
    threads = [threading.Thread(target=start, args=(provider, name)) for name in (A, B)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    (up,) = world.calls(verb="up")
    assert sorted(up.split()[2:4]) == [B, A]
    assert set(world.states.values()) == {"running"}
    for name in (A, B):
        assert provider.state.public_host_key(name).exists()


def test_what_runs_is_not_booted_again(
    world: World, make: Callable[..., Machines], adopted: list[dict[str, Any]]
) -> None:
    provider = make(Libvirt)
    start(provider, A)
    start(make(Libvirt), A, B)
    assert world.calls(verb="up") == []
    world.state(B, "shutoff")
    start(make(Libvirt), B)
    assert world.calls(verb="up") == [f"vagrant up {B} --provider libvirt --no-provision"]
    assert [how["node"] for how in adopted] == [A, B]  # once each


def test_the_way_in_is_learnt_at_every_boot(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    assert provider.ssh_argv(node(provider, A))[-3:] == ["-p", "2222", "root@127.0.0.1"]
    world.set(ports={A: 2200})
    world.state(A, "poweroff")
    start(provider, A)
    assert provider.ssh_argv(node(provider, A))[-3:] == ["-p", "2200", "root@127.0.0.1"]
    known = provider.state.known_hosts.read_text(encoding="utf-8")
    assert known == f"{A} {HOST_KEY}1\n"


def test_libvirt_is_reached_by_the_nodes_own_address(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(Libvirt)
    start(provider, A)
    address = str(node(provider, A).eth0.address.ip)
    assert provider.ssh_argv(node(provider, A))[-3:] == ["-p", "22", f"root@{address}"]


def test_a_machine_that_was_never_booted(make: Callable[..., Machines], guests: Guests) -> None:
    provider = make(VirtualBox)
    assert not provider.running(node(provider, A))
    with pytest.raises(LabError, match="has not been booted"):
        provider.ssh_argv(node(provider, A))
    provider.guest(node(provider, A))
    with pytest.raises(ConnectionRefusedError):
        guests.connect[A]()


def test_a_machine_made_anew_has_another_host_key(
    world: World, make: Callable[..., Machines], adopted: list[dict[str, Any]]
) -> None:
    """Somebody deleted it in VirtualBox's window; Vagrant's record of it is still there."""
    start(make(VirtualBox), A)
    world.set(machines={})
    provider = make(VirtualBox)
    start(provider, A)
    assert len(adopted) == 2
    assert provider.state.public_host_key(A).read_text() == f"{HOST_KEY}2\n"
    assert provider.state.known_hosts.read_text(encoding="utf-8") == f"{A} {HOST_KEY}2\n"


def test_a_boot_lets_go_of_the_connection_to_before(
    world: World, make: Callable[..., Machines], guests: Guests
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    provider.guest(node(provider, A))
    world.state(A, "aborted")
    start(provider, A)
    assert guests.closed == [A]


# -- consoles --------------------------------------------------------------------------------------
@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_the_console_of_each_boot_and_of_the_one_before(
    world: World, make: Callable[..., Machines], hypervisor: type[Hypervisor]
) -> None:
    provider = make(hypervisor)
    logs = provider.state.node_logs(A)
    for boot in ("first", "second", "third"):
        world.set(consoles={A: f"{boot} boot\n"})
        start(provider, A)
        world.state(A, "poweroff")
        provider = make(hypervisor)
    assert (logs / "console.log").read_text(encoding="utf-8") == "third boot\n"
    assert (logs / "console-before.log").read_text(encoding="utf-8") == "second boot\n"
    assert sorted(path.name for path in logs.iterdir()) == ["console-before.log", "console.log"]


def test_a_console_that_cannot_be_kept_keeps_no_node_from_booting(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    provider.state.logs.mkdir(exist_ok=True)
    provider.state.node_logs(A).write_text("a file where the directory should be", "utf-8")
    start(provider, A)
    assert provider.running(node(provider, A))


def test_a_boot_that_fails_names_the_machines_own_words(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    world.set(fail={"up": "Timed out while waiting for the machine to boot."})
    with pytest.raises(LabError) as silent:
        start(provider, A)
    assert silent.value.hint == f"see {provider.vagrant.log}"
    world.set(consoles={A: "Kernel panic - not syncing: no working init found.\n"})
    with pytest.raises(LabError, match="Timed out while waiting") as caught:
        start(provider, A)
    said = caught.value.hint or ""
    hint, _, console = said.partition("; what the machine itself printed is in ")
    assert hint == f"see {provider.vagrant.log}"
    assert "Kernel panic" in Path(console).read_text(encoding="utf-8")


# -- a host that fails -----------------------------------------------------------------------------
DISK_FULL = """\
There was an error while executing `VBoxManage`, a CLI used by Vagrant
for controlling VirtualBox. The command and stderr is shown below.

Command: ["clonemedium", "/a/box.vmdk", "/b/labctl.vdi"]

Stderr: 0%...10%...VERR_DISK_FULL
VBoxManage: error: Failed to clone medium
VBoxManage: error: Could not copy the medium '/a/box.vmdk' to '/b/labctl.vdi' (VERR_DISK_FULL)
VBoxManage: error: Details: code VBOX_E_FILE_ERROR (0x80bb0004), component MediumWrap
VBoxManage: error: Context: "RTEXITCODE handleCloneMedium(HandlerArg*)" at line 1056 of file x.cpp
"""


def test_a_full_disk_is_told_as_one(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    world.set(fail={"up": DISK_FULL})
    with pytest.raises(DiskFullError) as caught:
        start(provider, A)
    assert caught.value.message == (
        "the disk is full: VBoxManage clonemedium: Failed to clone medium / Could not copy the"
        " medium '/a/box.vmdk' to '/b/labctl.vdi' (VERR_DISK_FULL)"
    )
    assert (caught.value.hint or "").startswith("free some space, then run the same command again")
    assert (caught.value.code, caught.value.log) == (1, provider.vagrant.log)


def test_a_box_for_which_the_disk_has_no_room_is_no_matter_of_the_network(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    world.set(fail={"box": "box.img: Write failed: No space left on device"})
    with pytest.raises(DiskFullError) as caught:
        provider.prepare(lambda text: None, lambda: False)
    assert "free some space" in (caught.value.hint or "")


def test_a_virtualbox_that_hangs_is_not_waited_for(
    world: World, make: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.providers.virtualbox.hypervisor.ANSWER_SECONDS", 0.2)
    provider = make(VirtualBox)
    start(provider, A)
    world.set(hangs=60)
    with pytest.raises(LabError, match="`VBoxManage list vms` did not finish within") as caught:
        provider.status(fresh=True)
    assert "end its service VBoxSVC" in (caught.value.hint or "")


# -- interruptions ---------------------------------------------------------------------------------
def test_killed_before_the_host_key_was_written(
    world: World, make: Callable[..., Machines], adopted: list[dict[str, Any]]
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    provider.state.public_host_key(A).unlink()
    start(make(VirtualBox), A)
    assert len(adopted) == 2  # the lab's own key lets it in now
    assert provider.state.public_host_key(A).read_text() == f"{HOST_KEY}2\n"


def test_killed_between_the_key_and_known_hosts(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    provider.state.known_hosts.unlink()
    start(make(VirtualBox), A)
    assert provider.state.known_hosts.read_text(encoding="utf-8") == f"{A} {HOST_KEY}1\n"


def test_cancelled_while_vagrant_boots(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    world.set(slow={A: 300})
    booted = threading.Event()

    def progress(text: str) -> None:
        if "Machine booted" in text:
            booted.set()

    with pytest.raises(Cancelled):
        provider.start(node(provider, A), progress, booted.is_set)
    world.set(slow={})
    world.calls()
    start(make(VirtualBox), A, B)  # the first one runs all the same
    assert world.calls(verb="up") == [f"vagrant up {B} --provider virtualbox --no-provision"]


def test_a_disk_without_a_machine_is_in_nobodys_way(
    world: World, make: Callable[..., Machines]
) -> None:
    """Vagrant was killed between the two; left alone it says "Volume is already created"."""
    provider = make(Libvirt)
    others = ["labctl-x-compute-011.img", "labctl-x-y-compute-01.img", "labctl-lab_image_0.img"]
    world.set(volumes=[f"labctl-x-{B}.img", *others])
    start(provider, A)
    assert sorted(world["volumes"]) == sorted([f"labctl-x-{A}.img", f"labctl-x-{B}.img", *others])
    assert [line.split()[-1] for line in world.calls("virsh") if "vol-delete" in line] == [
        f"labctl-x-{B}.img"
    ]


def test_up_fails_with_a_reason(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    world.set(fail={"up": "The VM, it seems,\nhas no VT-x."})
    with pytest.raises(LabError) as error:
        start(provider, A)
    assert error.value.message == "`vagrant up` failed: The VM, it seems, has no VT-x."
    assert str(provider.state.logs / "vagrant.log") in (error.value.hint or "")
    world.set(fail={})
    start(provider, A)


def test_the_machine_dies_right_after_the_boot(
    world: World, make: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    original = provider.status

    def status(*, fresh: bool = False) -> dict[str, str]:
        states = original(fresh=fresh)
        world.state(A, "aborted")
        return states

    monkeypatch.setattr(provider, "status", status)
    with pytest.raises(LabError, match=f"`vagrant ssh-config {A}` failed: .*not yet ready for SSH"):
        start(provider, A)


def test_ssh_config_that_tells_nothing(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    world.set(ports={A: "?"})
    with pytest.raises(LabError, match="does not tell where its SSH server is"):
        start(provider, A)


def test_without_vagrant(make: Callable[..., Machines], world: World) -> None:
    provider = make(VirtualBox)
    (world.directory / "vagrant").unlink()
    with pytest.raises(LabError, match="'vagrant' is not installed"):
        start(provider, A)
    with pytest.raises(LabError, match="'vagrant' is not installed"):
        provider.prepared()


def test_nobody_is_let_in(make: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers no SSH is asked again; one that refuses every key is not."""
    answers: list[Exception] = [
        ConnectionRefusedError("refused"),
        paramiko.SSHException("Error reading SSH protocol banner"),
        EOFError(),
        LabError("the box lets vagrant in neither with …"),
    ]

    def install_lab_key(*words: Any, **how: Any) -> str:
        raise answers.pop(0)

    monkeypatch.setattr("labctl.engine.wait.time.sleep", lambda seconds: None)
    monkeypatch.setattr("labctl.providers.vagrant.provider.install_lab_key", install_lab_key)
    with pytest.raises(LabError, match="lets vagrant in neither"):
        start(make(VirtualBox), A)
    assert answers == []


def test_a_killed_labctl_leaves_a_vagrant_that_is_waited_for(
    world: World, make: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.providers.vagrant.command._ASK_AGAIN", 0.1)
    provider = make(VirtualBox)
    world.set(held=2)
    told = start(provider, A)
    assert any("another Vagrant is at work" in text for text in told)
    assert world.states == {f"labctl-x-{A}": "running"}
    assert len(world.calls(verb="up")) == 3


# -- status ----------------------------------------------------------------------------------------
def test_status_is_asked_once_for_many_questions(
    world: World, make: Callable[..., Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = make(VirtualBox)
    start(provider, A, B)
    world.calls()
    now = [1000.0]
    monkeypatch.setattr("labctl.providers.vagrant.provider.time.monotonic", lambda: now[0])
    assert [provider.running(node(provider, name)) for name in (A, B, A)] == [True] * 3
    assert len(world.calls(verb="status")) == 1
    world.state(B, "poweroff")
    assert provider.running(node(provider, B))  # as it was a moment ago
    now[0] += 5
    assert not provider.running(node(provider, B))


def test_status_that_fails_says_why(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    world.set(fail={"status": "The provider, 'virtualbox', is not usable."})
    other = make(VirtualBox)
    with pytest.raises(LabError, match=r"`vagrant status.*failed: The provider, 'virtualbox', is"):
        other.running(node(other, A))


def test_paused_is_not_running(world: World, make: Callable[..., Machines]) -> None:
    provider = make(Libvirt)
    start(provider, A)
    world.state(A, "paused")
    again = make(Libvirt)
    assert not again.running(node(again, A))
    start(again, A)
    assert world.states[f"labctl-x-{A}"] == "running"


# -- box -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("boxes", "spec", "wanted"),
    [
        ([["labctl/lab", "virtualbox", "1"]], "", None),
        ([["labctl/lab", "virtualbox", "1"]], "box: {name: auto}\n", None),  # up to 0.1
        ([], "box: {name: my/box}\n", "my/box"),
        ([["my/box", "virtualbox", "1"]], "box: {name: my/box}\n", None),
        ([["my/box", "virtualbox", "1"]], "box: {name: my/box, version: '2'}\n", "my/box"),
        ([["my/box", "virtualbox", "2"]], "box: {name: my/box, version: '2'}\n", None),
    ],
)
def test_the_box(
    world: World,
    make: Callable[..., Machines],
    boxes: list[list[str]],
    spec: str,
    wanted: str | None,
) -> None:
    provider = make(VirtualBox, spec, boots=False)
    world.set(boxes=boxes)
    assert provider.prepared() is (wanted is None)
    if wanted is not None:
        world.calls()
        provider.prepare(lambda text: None, lambda: False)
        version = " --box-version 2" if "version" in spec else ""
        (add,) = world.calls(verb="box add")
        assert add == f"vagrant box add {wanted} --provider virtualbox{version}"
        assert provider.prepared()


def test_vagrant_is_asked_for_its_boxes_once(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    world.set(boxes=[["labctl/lab", "virtualbox", "1"]])
    world.calls()
    assert provider.prepared()
    start(provider, A)
    start(provider, B)
    assert provider.prepared()
    assert len(world.calls(verb="box list")) == 1


@pytest.mark.parametrize("boxes", [[], [["labctl/lab", "libvirt", "1"]]])
def test_our_own_box_is_looked_for_in_no_registry(
    world: World, make: Callable[..., Machines], boxes: list[list[str]]
) -> None:
    provider = make(VirtualBox, boots=False)
    world.set(boxes=boxes)
    assert not provider.prepared()
    with pytest.raises(LabError, match="no box labctl/lab for virtualbox") as error:
        provider.prepare(lambda text: None, lambda: False)
    assert "labctl box add FILE" in (error.value.hint or "")
    assert world.calls(verb="box add") == []
    world.set(boxes=[["labctl/lab", "virtualbox", "1"]])  # made meanwhile
    provider.prepare(lambda text: None, lambda: False)
    assert provider.prepared()


def test_machines_that_are_made_need_no_box(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    assert not provider.prepared()
    start(provider, B)
    world.calls()
    assert provider.prepared()
    assert world.calls() == []


def test_a_box_that_cannot_be_had(world: World, make: Callable[..., Machines]) -> None:
    provider = make(VirtualBox, "box: {name: my/box}\n", boots=False)
    world.set(fail={"box": "no such box, sorry"})
    with pytest.raises(LabError) as error:
        provider.prepare(lambda text: None, lambda: False)
    assert error.value.message == "`vagrant box` failed: no such box, sorry"
    assert "labctl box get" in (error.value.hint or "")


# -- networks and the Vagrantfile ------------------------------------------------------------------
@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_network_is_made_once_and_mended(
    world: World, make: Callable[..., Machines], hypervisor: type[Hypervisor]
) -> None:
    provider = make(hypervisor, boots=False)
    assert not provider.network_ready()
    provider.create_network()
    assert provider.network_ready()
    key = provider.state.ssh_key.read_bytes()
    file = provider.state.vagrant / "Vagrantfile"
    file.write_text("# edited by hand\n", encoding="utf-8")
    assert not provider.network_ready()
    provider.create_network()
    assert provider.network_ready()
    assert file.read_text(encoding="utf-8") == provider.render()
    assert provider.state.ssh_key.read_bytes() == key


def test_libvirts_networks_after_a_reboot_of_the_host(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(Libvirt)
    networks = world["networks"]
    assert {name: one["running"] for name, one in networks.items()} == {
        "labctl-x-nat": True, "labctl-x-private": True,
    }  # fmt: skip
    for one in networks.values():
        one["running"] = False
    world.set(networks=networks)
    assert not provider.network_ready()
    provider.create_network()
    assert provider.network_ready()


def test_libvirt_does_not_answer(world: World, make: Callable[..., Machines]) -> None:
    provider = make(Libvirt, boots=False)
    world.set(fail={"virsh": "Failed to connect socket"})
    with pytest.raises(LabError, match="Failed to connect socket") as error:
        provider.create_network()
    assert "is libvirtd running" in (error.value.hint or "")


# -- stop ------------------------------------------------------------------------------------------
def test_stop_asks_first(world: World, make: Callable[..., Machines], guests: Guests) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    world.calls()
    provider.stop(node(provider, A), deadline=60)
    assert guests.asked == [f"{A}: systemctl poweroff"]
    assert world.calls(verb="halt") == []
    assert A in guests.closed
    assert not provider.running(node(provider, A))


def test_stop_cuts_what_does_not_listen(
    world: World, make: Callable[..., Machines], guests: Guests
) -> None:
    def deaf(name: str) -> None:
        raise GuestError(f"{name}: `systemctl poweroff` was killed")

    guests.off = deaf
    provider = make(VirtualBox)
    start(provider, A)
    world.calls()
    provider.stop(node(provider, A), deadline=0.1)
    assert world.calls(verb="halt") == [f"vagrant halt {A} --force"]
    assert not provider.running(node(provider, A))


def test_stop_does_not_wait_for_what_could_not_be_asked(
    world: World, make: Callable[..., Machines], guests: Guests
) -> None:
    def hung(name: str) -> None:
        raise UnreachableError(f"{name} cannot be reached by SSH")

    guests.off = hung
    provider = make(VirtualBox)
    start(provider, A)
    world.calls()
    began = time.monotonic()
    provider.stop(node(provider, A), deadline=60)
    assert time.monotonic() - began < 30
    assert world.calls(verb="halt") == [f"vagrant halt {A} --force"]
    assert not provider.running(node(provider, A))


def test_libvirt_cuts_without_vagrant(
    world: World, make: Callable[..., Machines], guests: Guests
) -> None:
    provider = make(Libvirt)
    start(provider, A)
    world.calls()
    provider.stop(node(provider, A), deadline=0)
    ran = world.calls("")
    assert any(one.endswith(f" destroy labctl-x-{A}") for one in ran)
    assert not any("halt" in one for one in ran)
    assert not provider.running(node(provider, A))


def test_stop_without_asking(world: World, make: Callable[..., Machines], guests: Guests) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    provider.stop(node(provider, A), deadline=0)
    assert guests.asked == []
    assert world.states == {f"labctl-x-{A}": "poweroff"}


def test_stop_of_what_is_down_or_was_never_made(
    world: World, make: Callable[..., Machines], guests: Guests
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    world.state(A, "aborted")
    provider = make(VirtualBox)  # another one, which has asked for no state yet
    for name in (A, B):
        provider.stop(node(provider, name), deadline=60)
    assert guests.asked == []
    assert world.calls(verb="halt") == []


# -- snapshots -------------------------------------------------------------------------------------
def test_a_snapshot_there_and_back(
    world: World, make: Callable[..., Machines], tmp_path: Path
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    provider.stop(node(provider, A), deadline=0)
    proof = provider.snapshots.save(node(provider, A), "base", tmp_path)
    assert proof == {"machine": f"id-of-{A}"}
    assert provider.snapshots.save(node(provider, A), "base", tmp_path) == proof  # after a kill
    assert world["machines"][f"labctl-x-{A}"]["snapshots"] == ["base"]
    assert provider.snapshots.trouble(node(provider, A), "base", tmp_path, proof) == ""
    assert "has no snapshot" in provider.snapshots.trouble(
        node(provider, A), "other", tmp_path, proof
    )
    assert "was made anew" in provider.snapshots.trouble(node(provider, A), "base", tmp_path, {})
    provider.snapshots.restore(node(provider, A), "base")
    assert world["machines"][f"labctl-x-{A}"]["restored"] == "base"
    provider.snapshots.delete(node(provider, A), "base")
    provider.snapshots.delete(node(provider, A), "base")
    assert world["machines"][f"labctl-x-{A}"]["snapshots"] == []


def test_a_snapshot_is_believed_when_it_is_seen(
    world: World, make: Callable[..., Machines], tmp_path: Path
) -> None:
    """Vagrant says "Skipping" and exits 0."""
    provider = make(VirtualBox)
    with pytest.raises(LabError, match="was never made"):
        provider.snapshots.save(node(provider, A), "base", tmp_path)
    start(provider, A)
    world.set(forgets_snapshots=True)
    with pytest.raises(LabError, match="Vagrant made no snapshot base of"):
        provider.snapshots.save(node(provider, A), "base", tmp_path)


# -- the end ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_destroy_leaves_nothing(
    world: World, make: Callable[..., Machines], hypervisor: type[Hypervisor]
) -> None:
    provider = make(hypervisor)
    start(provider, A, B)
    assert len(provider.leftovers()) >= 2
    provider.destroy(lambda text: None)
    assert provider.leftovers() == []
    assert (world["machines"], world["volumes"], world["networks"]) == ({}, [], {})
    assert not provider.state.vagrant.exists()
    assert not provider.state.ssh_key.exists()
    provider.destroy(lambda text: None)  # again, after a kill


def test_destroy_of_half_a_lab(world: World, make: Callable[..., Machines]) -> None:
    provider = make(Libvirt, boots=False)
    provider.destroy(lambda text: None)  # not even networks
    provider.create_network()
    world.set(volumes=[f"labctl-x-{A}.img"])  # killed before the machine was defined
    provider.destroy(lambda text: None)
    assert world.calls(verb="destroy") == []
    assert provider.leftovers() == []


@pytest.mark.parametrize("script", [None, "exit 1"], ids=["missing", "broken"])
def test_destroy_does_not_say_gone_where_nobody_can_tell(
    world: World, make: Callable[..., Machines], script: str | None
) -> None:
    """As in WSL, where VirtualBox's command is VBoxManage.exe."""
    provider = make(VirtualBox)
    start(provider, A)
    manage = world.directory / "VBoxManage"
    manage.rename(world.directory / "VBoxManage.exe")
    if script:
        manage.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        manage.chmod(0o755)
    with pytest.raises(LabError, match=r"whether the lab's machines are gone: .*VBoxManage"):
        provider.destroy(lambda text: None)
    assert world.calls(verb="destroy") == []
    assert provider.state.vagrant.exists()
    (world.directory / "VBoxManage.exe").replace(manage)
    provider.destroy(lambda text: None)
    assert world.states == {}


def test_destroy_with_a_vagrantfile_that_names_others(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    (provider.state.vagrant / "Vagrantfile").write_text("config.vm.define 'other' do\n")
    provider.destroy(lambda text: None)
    assert world["machines"] == {}


def test_destroy_that_fails_keeps_what_it_needs_to_go_on(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    start(provider, A)
    world.set(fail={"destroy": "The disk is in use."})
    with pytest.raises(LabError, match="`vagrant destroy` failed: The disk is in use"):
        provider.destroy(lambda text: None)
    assert provider.state.ssh_key.exists()
    world.set(fail={})
    make(VirtualBox).destroy(lambda text: None)
    assert world["machines"] == {}


@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_another_lab_whose_name_begins_alike_is_no_leftover(
    world: World, make: Callable[..., Machines], hypervisor: type[Hypervisor]
) -> None:
    provider = make(hypervisor)
    provider.destroy(lambda text: None)
    world.set(
        machines={f"labctl-x-y-{A}": {"state": "running"}},
        volumes=[f"labctl-x-y-{A}.img"],
        networks={"labctl-x-y-nat": {"running": True}},
    )
    assert provider.leftovers() == []


def test_what_is_kept_is_told_without_the_labs_directory(
    world: World, make: Callable[..., Machines]
) -> None:
    provider = make(VirtualBox)
    provider.destroy(lambda text: None)
    assert provider.cached() == []
    assert not provider.state.vagrant.exists()


# -- labctl render ---------------------------------------------------------------------------------
def test_render_does_not_rename_the_machines_of_a_lab_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("name: x\nstack: ovn\nprovider: virtualbox\n", encoding="utf-8")
    path = render(Lab(file))
    text = path.read_text(encoding="utf-8")
    lab = Lab(file)
    lab.state.begin("x", "virtualbox")
    refuse_other_topology(lab)  # writes down what the lab is made from
    assert render(lab) == path
    file.write_text("name: y\nstack: ovn\nprovider: virtualbox\n", encoding="utf-8")
    with pytest.raises(LabError, match="describes another lab"):
        render(Lab(file))
    assert path.read_text(encoding="utf-8") == text
    assert "labctl-y" in vagrantfile(Lab(file))  # to look at it is harmless
