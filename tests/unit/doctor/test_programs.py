"""How facts are collected: programs that are missing, broken or slow; files of other hosts."""

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from labctl.doctor import programs
from labctl.doctor.examine import examine, lab_here
from labctl.doctor.judge import IGNORE, DoctorReport
from labctl.doctor.programs import FactCollector
from labctl.host import files
from labctl.host.facts import HostFacts, Kvm, Libvirt, Machine, Route, TakenPort, VagrantBox
from labctl.operating_system import rights
from labctl.providers.libvirt.questions import libvirt_daemon, libvirt_socket
from labctl.providers.nspawn.questions import containers
from labctl.providers.vagrant.questions import vagrant_boxes, vagrant_plugins
from labctl.run import Completed
from labctl.state import LabState
from labctl.topology import Topology
from tests.documents import expect_document
from tests.unit.fakes import topology

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Puts a shell script on the PATH of the surveyed host."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def put(name: str, script: str) -> Path:
        file = directory / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return put


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HostFacts]:
    """What a survey of one provider tells, where only the test's programs are installed."""
    monkeypatch.setattr(FactCollector, "which", _only(tmp_path / "bin"))

    def collect(provider: str, **more: str) -> HostFacts:
        env = {"VAGRANT_HOME": str(tmp_path / "boxes"), **more}
        here = FactCollector(tmp_path, tmp_path / "cache", env)
        return here.ask_all(provider, here.look())

    return collect


def _only(directory: Path) -> Callable[[FactCollector, str], str | None]:
    def which(_: FactCollector, name: str) -> str | None:
        file = directory / name
        return str(file) if os.access(file, os.X_OK) else None

    return which


VAGRANT = """
case "$1" in
--version) echo 'Vagrant 2.4.9' ;;
plugin) printf '%s\\n' 'vagrant-libvirt (0.12.2, global)' '  - Version Constraint: 0.12.2' ;;
box) printf '%s\\n' 1,,box-name,labctl/lab 1,,box-provider,libvirt 1,,box-version,2026.11.23 ;;
esac
"""
MANAGE = """
case "$*" in
--version) echo 7.2.8r173730 ;;
'list vms') echo '"labctl-x-compute-01" {11111111-2222-3333-4444-555555555555}' ;;
'list systemproperties') echo "Default machine folder:          $FOLDER" ;;
esac
"""
VIRSH = """
shift 2
case "$*" in
version) echo 'Compiled against library: libvirt 9.0.0' ;;
'list --all --name --uuid') echo '11111111-2222-3333-4444-555555555555 labctl-x-compute-01' ;;
'net-list --all --name') printf '%s\\n' default labctl-x-nat labctl-x-private '' ;;
'net-info labctl-x-nat') printf '%s\\n' 'Name:           labctl-x-nat' 'Bridge:         virbr7' ;;
'net-info labctl-x-private') exit 1 ;;
*) exit 2 ;;
esac
"""


ONE_AT_A_TIME = r"""
mkdir "$FOLDER/asked" 2>/dev/null || { echo 'VBoxManage: error: two at once' >&2; exit 1; }
trap 'rmdir "$FOLDER/asked"' EXIT
if [ "$2" = vms ] && [ ! -e "$FOLDER/second" ]; then
    touch "$FOLDER/second"
    echo 'VBoxManage: error: Most likely, the VirtualBox COM server is not running' >&2
    exit 1
fi
"""


# -- programs --------------------------------------------------------------------------------------
def test_virtualbox_that_answers(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts], tmp_path: Path
) -> None:
    folder = tmp_path / "machines"
    (folder / "labctl-x-compute-01").mkdir(parents=True)
    (folder / "somebody else's").mkdir()
    program("vagrant", VAGRANT)
    program("VBoxManage", f"FOLDER={folder}\n{MANAGE}")
    told = facts("virtualbox")
    assert told.virtualbox is not None
    assert (told.virtualbox.version, told.virtualbox.trouble) == ("7.2.8", "")
    assert told.virtualbox.machines == (Machine("labctl-x-compute-01", UUID),)
    assert told.virtualbox.folders == ("labctl-x-compute-01",)
    assert told.disks["virtualbox"].path == str(folder)
    assert told.vagrant is not None
    assert told.vagrant.version == "2.4.9"
    assert told.vagrant.boxes == (VagrantBox("labctl/lab", "2026.11.23", "libvirt"),)
    assert told.vagrant.plugins is None  # VirtualBox needs none: not asked


def test_virtualbox_is_asked_one_question_at_a_time(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts], tmp_path: Path
) -> None:
    """Two at once may find its service starting, and one of them fails; that one is asked again."""
    program("VBoxManage", f"FOLDER={tmp_path}\n{ONE_AT_A_TIME}{MANAGE}")
    told = facts("virtualbox").virtualbox
    assert told is not None
    assert told.trouble == ""
    assert told.machines == (Machine("labctl-x-compute-01", UUID),)


def test_a_banner_is_not_the_version(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts]
) -> None:
    warning = "WARNING: The character device /dev/vboxdrv does not exist."
    program("VBoxManage", f"echo '{warning}' >&2\necho 7.0.16_Debianr162802")
    told = facts("virtualbox").virtualbox
    assert told is not None
    assert told.version == "7.0.16"
    program("VBoxManage", f"echo '{warning}' >&2; exit 1")
    told = facts("virtualbox").virtualbox
    assert told is not None
    assert (told.version, told.machines) == (None, None)
    assert "does not exist" in told.trouble


def test_programs_that_are_not_there(facts: Callable[..., HostFacts]) -> None:
    told = facts("virtualbox")
    assert (told.virtualbox, told.vagrant, told.commands) == (None, None, told.commands)
    assert "virsh" not in facts("libvirt").commands


def test_programs_that_break(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts]
) -> None:
    load_error = "cannot load such file -- vagrant (LoadError)"
    program("vagrant", f"echo '<internal>: warning: x' >&2; echo '{load_error}' >&2; exit 1")
    refusal = "Failed to connect socket to /x: No such file or directory"
    program("virsh", f"echo 'error: no connection' >&2; echo 'error: {refusal}' >&2; exit 1")
    told = facts("libvirt")
    assert told.vagrant is not None
    assert told.vagrant.trouble == load_error
    # What failed has told nothing: neither that there are boxes nor that there are none.
    assert (told.vagrant.boxes, told.vagrant.plugins) == (None, None)
    assert told.libvirt == Libvirt(reachable=False, trouble=refusal)


def test_programs_that_hang(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "SECONDS", 0.3)
    program("vagrant", "exec sleep 30")
    program("VBoxManage", "exec sleep 30")
    began = time.monotonic()
    told = facts("virtualbox")
    assert time.monotonic() - began < 5  # all five questions at once
    assert told.vagrant is not None
    assert told.virtualbox is not None
    assert "did not finish" in told.vagrant.trouble
    assert "did not finish" in told.virtualbox.trouble


def test_a_slow_host_has_the_users_patience(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "SECONDS", 0.3)
    program("VBoxManage", "sleep 1; echo 7.2.22r175245")
    program("vagrant", VAGRANT)
    too_slow = facts("virtualbox").virtualbox
    assert too_slow is not None
    assert "did not finish" in too_slow.trouble
    patient = facts("virtualbox", LABCTL_PATIENCE="100").virtualbox
    assert patient is not None
    assert (patient.version, patient.trouble) == ("7.2.22", "")


def test_a_virtualbox_whose_service_does_not_answer(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """VBoxManage knows its own version, and asks VBoxSVC for everything else."""
    monkeypatch.setattr(programs, "SECONDS", 2)
    program("VBoxManage", "[ $1 = --version ] && exec echo 7.2.8r999; exec sleep 60")
    told = facts("virtualbox").virtualbox
    assert told is not None
    assert (told.version, told.trouble) == ("7.2.8", "")
    assert (told.hangs, told.machines) == (True, None)


def test_a_virtualbox_that_lists_nothing(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts]
) -> None:
    said = "VBoxManage: error: Failed to create the VirtualBox object!"
    place = "VBoxManage: error: Context: line 1 of file VBoxManage.cpp"
    version = "[ $1 = --version ] && exec echo 7.2.8r999"
    program("VBoxManage", f"{version}\nprintf '%s\\n' '{said}' '{place}' >&2; exit 1")
    told = facts("virtualbox").virtualbox
    assert told is not None
    assert (told.trouble, told.hangs) == ("Failed to create the VirtualBox object!", False)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", ()),
        ("# config.vm.box_version = '1'\n", ()),
        ("require 'x'\nVagrant.configure('2') { |config| config.proxy.http = 'x' }\n", ()),
        (
            'Vagrant.configure("2") do |config|\n'
            '  config.vm.box_version = "9" # old\n'
            '  config.vm.network "private_network", ip: "192.168.56.5"\n'
            '  config.vm.provider("virtualbox") { |vb| vb.gui = true }\n'
            '  config.vm.network "public_network"\nend\n',
            ("vm.box_version", "vm.network", "gui"),
        ),
    ],
)
def test_a_vagrantfile_for_all_of_the_users_machines(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    tmp_path: Path,
    text: str,
    settings: tuple[str, ...],
) -> None:
    program("vagrant", VAGRANT)
    home = tmp_path / "boxes"
    home.mkdir()
    (home / "Vagrantfile").write_text(text, encoding="utf-8")
    told = facts("libvirt").vagrant
    assert told is not None
    assert told.home_file == (str(home / "Vagrantfile") if text else "")
    assert told.home_settings == settings


def test_vagrant_is_not_let_near_a_vagrantfile_or_the_network(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts], tmp_path: Path
) -> None:
    program("vagrant", f'echo "$PWD $VAGRANT_CHECKPOINT_DISABLE $LC_ALL" >> {tmp_path}/calls')
    facts("libvirt")
    assert set((tmp_path / "calls").read_text().splitlines()) == {"/ 1 C.UTF-8"}


def test_libvirt_that_answers(
    program: Callable[[str, str], Path], facts: Callable[..., HostFacts]
) -> None:
    program("vagrant", VAGRANT)
    program("virsh", VIRSH)
    told = facts("libvirt")
    assert told.libvirt is not None
    assert told.libvirt.reachable
    assert told.libvirt.machines == (Machine("labctl-x-compute-01", UUID),)
    assert told.libvirt.networks == (("labctl-x-nat", "virbr7"), ("labctl-x-private", ""))
    assert told.vagrant is not None
    assert told.vagrant.plugins == ("vagrant-libvirt",)


@pytest.mark.parametrize(
    ("said", "denied"),
    [
        ("error: authentication unavailable: no polkit agent available", True),
        ("error: Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied", True),
        ("error: Failed to connect socket to '/x': No such file or directory", False),
        ("error: Failed to connect socket to '/x': Connection refused", False),
    ],
)
def test_why_libvirt_does_not_answer(said: str, denied: bool) -> None:
    told = libvirt_daemon(Completed(1, "", said))
    assert (told.reachable, told.denied) == (False, denied)
    assert told.trouble == said.removeprefix("error: ")


def test_plugins_of_a_distribution_count() -> None:
    assert vagrant_plugins("vagrant-libvirt (0.11.2, system)\n") == ("vagrant-libvirt",)
    assert vagrant_plugins("No plugins installed.\n") == ()


def test_boxes_with_architectures_and_warnings() -> None:
    text = (
        "1795417072,,ui,warn,There are newer ones\n"
        "1,,box-name,a/b\n1,,box-provider,virtualbox\n1,,box-version,1\n1,,box-architecture,amd64\n"
        "1,,box-name,c\n1,,box-provider,libvirt\n1,,box-version,0\n"
    )
    assert vagrant_boxes(text) == (
        VagrantBox("a/b", "1", "virtualbox"),
        VagrantBox("c", "0", "libvirt"),
    )
    assert vagrant_boxes("1,,ui,warn,There are no installed boxes!\n") == ()


def test_routes_of_a_mac() -> None:
    text = (
        "Routing tables\n\nInternet:\nDestination  Gateway  Flags  Netif Expire\n"
        "default      192.168.1.1   UGScg  en0\n"
        "127          127.0.0.1     UCS    lo0\n"
        "192.168.1    link#11       UCS    en0\n"
        "10.0/16      utun3         USc    utun3\n"
        "192.168.1.7  8:0:27:0:0:1  UHLWI  en0\n"
        "224.0.0/4    link#11       UmCS   en0\n"
    )
    assert programs.mac_routes(text) == (
        Route("127.0.0.0/8", "lo0"),
        Route("192.168.1.0/24", "en0"),
        Route("10.0.0.0/16", "utun3"),
        Route("224.0.0.0/4", "en0"),
    )


# -- files -----------------------------------------------------------------------------------------
def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_memory_and_processor(tmp_path: Path) -> None:
    put(tmp_path, {
        "meminfo": "MemTotal:       16252928 kB\nMemFree:  1 kB\nMemAvailable:   11534336 kB\n",
        "cpuinfo": "processor : 0\nflags\t\t: fpu vme svm lm\nvmx flags : vnmi\n",
    })  # fmt: skip
    assert files.memory(tmp_path) == (15872, 11264)
    assert files.virtualization(tmp_path) == "svm"
    assert files.virtualization(put(tmp_path, {"cpuinfo": "flags : fpu lm\n"})) == ""
    assert files.virtualization(tmp_path / "none") is None
    assert files.memory(tmp_path / "none") == (0, None)


def test_what_a_distribution_is_like(tmp_path: Path) -> None:
    put(tmp_path, {"os-release": 'NAME="x"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'})
    assert files.distribution(tmp_path / "os-release") == ("linuxmint", "ubuntu", "debian")
    assert files.distribution(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("bounds", "capable"),
    [("000001fffeffffff", True), ("00000000a80425fb", False), ("00000000a80435fb", False)],
)
def test_root_of_a_container_is_not_root(tmp_path: Path, bounds: str, capable: bool) -> None:
    put(tmp_path, {"self/status": f"Name:\tx\nCapBnd:\t{bounds}\n"})
    assert files.capable(tmp_path) is capable
    assert files.capable(tmp_path / "none")
    put(tmp_path, {"self/uid_map": "         0          0 4294967295\n"})
    assert files.capable(tmp_path) is capable
    put(tmp_path, {"self/uid_map": "         0       1000          1\n"})
    assert not files.capable(tmp_path)


def test_kvm_as_files_tell(tmp_path: Path) -> None:
    put(tmp_path, {
        "module/kvm/parameters/enable_virt_at_load": "N\n",
        "module/kvm_intel/parameters/nested": "Y\n",
        "kvm": "",
    })  # fmt: skip
    assert files.modules(tmp_path) == ("kvm", "kvm_intel")
    assert files.kvm(tmp_path, tmp_path / "kvm") == Kvm(
        device=True, accessible=True, nested=True, virt_at_load=False
    )
    put(tmp_path, {"module/kvm_intel/parameters/nested": "0\n"})
    assert files.kvm(tmp_path, tmp_path / "none") == Kvm(nested=False, virt_at_load=False)
    assert files.kvm(tmp_path / "none", tmp_path / "none") == Kvm()


def test_secure_boot(tmp_path: Path) -> None:
    file = tmp_path / files.SECURE_BOOT
    assert files.secure_boot(tmp_path) is None
    file.parent.mkdir(parents=True)
    for byte, on in ((b"\x01", True), (b"\x00", False)):
        file.write_bytes(b"\x06\x00\x00\x00" + byte)
        assert files.secure_boot(tmp_path) is on


def test_which_disk_a_directory_is_on(tmp_path: Path) -> None:
    put(tmp_path, {
        "self/mountinfo": "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
        f"23 22 0:51 / {tmp_path}/my\\040labs rw shared:1 - nfs4 server:/x rw\n"
    })  # fmt: skip
    mounted = files.mounts(tmp_path)
    (tmp_path / "my labs").mkdir()
    new = files.disk_of(tmp_path / "my labs" / "new" / "lab", mounted)
    old = files.disk_of(tmp_path, mounted)
    assert new is not None
    assert old is not None
    assert (new.kind, old.kind) == ("nfs4", "ext4")
    assert new.path.endswith("my labs/new/lab")
    assert new.free_mib > 0
    assert new.device == old.device  # of the real file system, which is one


def test_routes_of_linux(tmp_path: Path) -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    put(tmp_path, {
        "net/route": head
        + "wlp2s0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        + "wlp2s0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n"
        + "tun0\t0000000A\t00000000\t0001\t0\t0\t50\t000000FF\t0\t0\t0\n"
    })  # fmt: skip
    assert files.routes(tmp_path) == (
        Route("192.168.1.0/24", "wlp2s0"),
        Route("10.0.0.0/8", "tun0"),
    )


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_who_listens_on_a_port(listener: int, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken by nobody who listens
        free = unused.getsockname()[1]
        (port,) = files.taken([listener, free])
    assert port.number == listener
    assert port.process.endswith(f"({os.getpid()})")
    # Where /proc does not tell, by trying.
    assert files.taken([listener], tmp_path) == (TakenPort(listener),)


def test_a_socket_is_not_yet_a_daemon(tmp_path: Path) -> None:
    assert libvirt_socket(tmp_path) == Libvirt(reachable=False)
    path = tmp_path / "libvirt" / "libvirt-sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        refused = libvirt_socket(tmp_path)
        assert refused is not None
        assert (refused.reachable, refused.trouble) == (False, "Connection refused")
        server.listen()
        assert libvirt_socket(tmp_path) == Libvirt(reachable=True)


def test_labs_of_containers(tmp_path: Path) -> None:
    lab = tmp_path / "here"
    (lab / ".labctl").mkdir(parents=True)
    (lab / ".labctl" / "lab.json").touch()
    half = tmp_path / "without-its-state"  # what `rm -rf .labctl` leaves: a mounted root is busy
    (half / ".labctl/nodes/a/root").mkdir(parents=True)
    nspawn = "systemd-nspawn\0--directory={0}/.labctl/nodes/a/root\0--machine=labctl-{1}-a\0"
    put(tmp_path, {
        "run/netns/labctl-0badcafe-a": "", "run/netns/labctl-0badcafe-a.nat": "",
        "run/netns/labctl-11112222-a": "", "run/netns/labctl-33334444-a": "",
        "run/netns/labctl-55556666-a": "", "run/netns/other": "",
        "proc/10/cmdline": nspawn.format(lab, "0badcafe"),
        "proc/11/cmdline": nspawn.format(tmp_path / "deleted", "11112222"),
        "proc/13/cmdline": nspawn.format(half, "55556666"),
        "proc/12/cmdline": "journalctl\0--machine=labctl-33334444-a\0",
    })  # fmt: skip
    found = containers(tmp_path / "proc", tmp_path / "run")
    assert [(one.lab_id, one.directory, one.gone) for one in found] == [
        ("0badcafe", str(lab), False),
        ("11112222", str(tmp_path / "deleted"), True),
        ("33334444", "", False),
        ("55556666", str(half), True),
    ]


# -- all together ----------------------------------------------------------------------------------
def test_what_is_here_already(tmp_path: Path) -> None:
    state, lab = LabState(tmp_path), topology()
    assert not lab_here(state, lab).exists
    identity = state.begin("ovn-tutorial", "virtualbox")
    file = state.machine_id("compute-01", "virtualbox")
    file.parent.mkdir(parents=True)
    file.write_text(UUID + "\n")
    here = lab_here(state, lab)
    assert (here.exists, here.lab_id, here.provider) == (True, identity.lab_id, "virtualbox")
    assert here.machines == (UUID,)
    (tmp_path / ".labctl" / "lab.json").write_text("{}")
    assert lab_here(state, lab).exists


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DoctorReport]:
    """Examines this very host, where only the test's programs and the usual tools are."""
    provision = Path(__file__).parents[3] / "provision"
    lab: Topology = topology("name: ovn-tutorial\nstack: ovn\n")

    def examine_as(provider: str, **env: str) -> DoctorReport:
        path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **env}
        return examine(
            lab, LabState(tmp_path), provider=provider, cache=tmp_path, provision=provision,
            env=os.environ | path,
        )  # fmt: skip

    return examine_as


def test_this_host_can_be_told(examined: Callable[..., DoctorReport]) -> None:
    report = examined("nspawn")
    assert report.choice.provider == "nspawn"
    assert report.facts.memory_mib > 100
    assert report.facts.image == "none"
    assert "lab" in report.facts.disks
    data = expect_document("doctor", report.to_json())
    assert data["host"]["memory_mib"] == report.facts.memory_mib
    assert data["host"] == json.loads(json.dumps(asdict(report.facts)))


def test_programs_of_another_provider_are_not_called(
    program: Callable[[str, str], Path], examined: Callable[..., DoctorReport], tmp_path: Path
) -> None:
    for name in ("vagrant", "virsh", "VBoxManage"):
        program(name, f"echo {name} >> {tmp_path}/called")
    examined("nspawn")
    assert not (tmp_path / "called").exists()
    examined("libvirt")
    assert set((tmp_path / "called").read_text().split()) == {"vagrant", "virsh"}


def test_auto_takes_what_the_programs_say_and_not_that_they_are_there(
    program: Callable[[str, str], Path], examined: Callable[..., DoctorReport]
) -> None:
    program("vagrant", VAGRANT.replace("2.4.9", "2.4.1"))
    program("VBoxManage", MANAGE)
    ignored = "vboxdrv,no-virtualization,kvm-holds-processor,architecture"
    report = examined("auto", **{IGNORE: ignored})
    assert "Vagrant 2.4.1 does not know VirtualBox 7.2" in report.choice.passed_over["virtualbox"]
    program("vagrant", VAGRANT)
    report = examined("auto", **{IGNORE: ignored})
    assert report.choice.provider == "virtualbox"


# -- the firewall ----------------------------------------------------------------------------------
def test_only_root_asks_for_the_firewalls_chains(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = tmp_path / "asked"
    program(
        "nft",
        f"""echo "$*" >{asked}
        printf '%s\\n' 'table ip filter {{' ' chain FORWARD {{' \\
            '  type filter hook forward priority filter; policy drop;' ' }}' '}}'""",
    )
    monkeypatch.setattr(rights, "is_root", lambda: False)
    assert facts("nspawn").forward_drops is None
    assert not asked.exists()
    monkeypatch.setattr(rights, "is_root", lambda: True)
    assert facts("nspawn").forward_drops == (("ip filter", "FORWARD"),)
    program("nft", "exit 1")
    assert facts("nspawn").forward_drops is None


def test_docker_is_seen_by_its_bridge(
    facts: Callable[..., HostFacts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.providers.nspawn.questions.SYS", tmp_path)
    assert not facts("nspawn").docker
    (tmp_path / "class/net/docker0").mkdir(parents=True)
    assert facts("nspawn").docker


# -- WSL -------------------------------------------------------------------------------------------
def test_in_wsl_the_virtualbox_of_windows_is_none_of_ours(
    program: Callable[[str, str], Path],
    facts: Callable[..., HostFacts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """WSL puts Windows' PATH behind its own, and there is VBoxManage.exe."""
    monkeypatch.setattr(platform, "release", lambda: "6.6.87.2-microsoft-standard-WSL2")
    program("VBoxManage.exe", MANAGE)
    program("vagrant.exe", VAGRANT)
    told = facts("virtualbox")
    assert (told.family, told.virtualbox, told.vagrant) == ("wsl", None, None)
    assert told.memory_mib > 0
