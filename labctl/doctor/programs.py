"""Looks at the host and fills HostFacts. Changes nothing, needs no root, asks no network.

`look` reads files and is instant. `ask` calls the programs of one provider, all at once, each with
a time limit; a program that is missing, broken or slow is a fact like any other.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from labctl.doctor import files
from labctl.doctor.facts import (
    Box,
    Disk,
    Family,
    HostFacts,
    Libvirt,
    Machine,
    Route,
    Vagrant,
    VirtualBox,
)
from labctl.doctor.files import disk_of, mounts
from labctl.errors import LabError
from labctl.providers.kvm import kvm_works
from labctl.run import Completed, run

SECONDS = 10.0
"""How long a program may take to answer; Vagrant, in Ruby, takes one or two."""
_COMMANDS = ("systemd-nspawn", "ip", "unshare", "setpriv", "mount", "ethtool", "mmdebstrap", "gpg",
             "nft", "sysctl", "ssh", "virsh", "qemu-system-x86_64", "libvirtd", "virtqemud",
             "vboxconfig")  # fmt: skip
_WINDOWS_VBOXMANAGE = Path("/mnt/c/Program Files/Oracle/VirtualBox/VBoxManage.exe")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_POOL = Path("/var/lib/libvirt/images")
_URI = "qemu:///system"


class Survey:
    """Looks at this host, for a lab in `directory` whose images are in `cache`."""

    def __init__(
        self, directory: Path, cache: Path, env: Mapping[str, str], ports: Iterable[int] = ()
    ) -> None:
        """`ports` are those to look at, of 127.0.0.1. Nothing is looked at yet."""
        self._directory = directory
        self._cache = cache
        self._env = env
        self._ports = frozenset(ports)

    # -- what files tell -------------------------------------------------------------------------
    def look(self) -> HostFacts:
        """What is to be known without calling a program (on a Mac, without calling a slow one)."""
        family = self._family()
        linux = family in ("linux", "wsl")
        total, available = files.memory() if linux else self._mac_memory()
        return HostFacts(
            family=family,
            machine=platform.machine(),
            kernel=platform.release(),
            distribution=files.distribution(),
            root=os.geteuid() == 0,
            sudo=self._which("sudo") is not None and not self._env.get("LABCTL_NO_SUDO"),
            containers_allowed=files.capable(),
            tun=not linux or Path("/dev/net/tun").exists(),
            cpus=len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 0,
            virtualization=files.virtualization() if linux else None,
            memory_mib=total,
            available_mib=available,
            modules=files.modules(),
            vboxdrv=Path("/dev/vboxdrv").exists(),
            secure_boot=files.secure_boot(),
            hyperv=family == "wsl",  # WSL 2 is a machine of Hyper-V
            windows_access=bool(self._env.get("VAGRANT_WSL_ENABLE_WINDOWS_ACCESS")),
            kvm=files.kvm(),
            commands=self._commands(),
            networks_conf=files.read("/etc/vbox/networks.conf"),
            disks=self._disks(),
            ports=files.taken(self._ports),
            routes=files.routes() if linux else self._mac_routes(),
            containers=files.containers(),
            vagrant=self._vagrant(),
            virtualbox=self._virtualbox(family),
            libvirt=files.libvirt_socket() if linux else None,
        )

    def _mac_memory(self) -> tuple[int, None]:
        said = self._answers({"memory": ["sysctl", "-n", "hw.memsize"]})["memory"].stdout.strip()
        return (int(said) // 2**20 if said.isdigit() else 0), None

    def _mac_routes(self) -> tuple[Route, ...]:
        return mac_routes(self._answers({"": ["netstat", "-rn", "-f", "inet"]})[""].stdout)

    def _family(self) -> Family:
        system = platform.system()
        if system == "Linux":
            return "wsl" if "microsoft" in platform.release().lower() else "linux"
        return "macos" if system == "Darwin" else "windows"

    def _which(self, name: str) -> str | None:
        # Debian leaves the directories of root's programs out of a user's PATH.
        path = self._env.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
        return shutil.which(name, path=path)

    def _commands(self) -> tuple[str, ...]:
        found = [name for name in _COMMANDS if self._which(name)]
        # No command, but missed like one: by it mmdebstrap knows Debian's packages for genuine.
        return (*found, _KEYRING.stem) if _KEYRING.exists() else tuple(found)

    def _vagrant(self) -> Vagrant | None:
        path = self._which("vagrant")
        # Its maker's packages put everything below /opt/vagrant.
        distribution = path == "/usr/bin/vagrant" and not Path("/opt/vagrant").is_dir()
        return Vagrant(path, distribution=distribution) if path else None

    def _virtualbox(self, family: Family) -> VirtualBox | None:
        path = self._which("VBoxManage")
        if path is None and family == "wsl":
            windows = str(_WINDOWS_VBOXMANAGE) if _WINDOWS_VBOXMANAGE.exists() else None
            path = self._which("VBoxManage.exe") or windows
        return VirtualBox(path) if path else None

    @property
    def _boxes(self) -> Path:
        return Path(self._env.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")

    def _disks(self) -> dict[str, Disk]:
        places = {
            "lab": self._directory,
            "cache": self._cache,
            "boxes": self._boxes,
            # The default folder; `ask` finds out whether it was changed.
            "virtualbox": Path.home() / "VirtualBox VMs",
            "libvirt": _POOL,
        }
        table = mounts()
        found = {place: disk_of(path, table) for place, path in places.items()}
        return {place: disk for place, disk in found.items() if disk}

    # -- what programs tell ----------------------------------------------------------------------
    def ask(self, provider: str, facts: HostFacts) -> HostFacts:
        """The facts, and what the programs of this provider say."""
        if provider == "virtualbox" and facts.virtualbox is not None:
            return self._ask_virtualbox(facts, facts.virtualbox)
        if provider == "libvirt" and facts.family != "macos":
            return self.try_kvm(self._ask_libvirt(facts))
        return facts

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        """The facts, and whether /dev/kvm is any good; a tenth of a second if it is there."""
        if not facts.kvm.accessible or facts.kvm.works is not None:
            return facts
        return replace(facts, kvm=replace(facts.kvm, works=kvm_works()))

    def _ask_virtualbox(self, facts: HostFacts, box: VirtualBox) -> HostFacts:
        said = self._answers(
            {
                **_vagrant_questions(facts.vagrant),
                "version": [box.path, "--version"],
                "machines": [box.path, "list", "vms"],
                "properties": [box.path, "list", "systemproperties"],
            }
        )
        version = re.search(r"^(\d+\.\d+\.\d+)\S*\s*$", said["version"].stdout, re.MULTILINE)
        disks = dict(facts.disks)
        folder = re.search(r"^Default machine folder: +(.+)$", said["properties"].stdout, re.M)
        if folder and (disk := disk_of(Path(folder[1].strip()), mounts())):
            disks["virtualbox"] = disk
        return replace(
            facts,
            virtualbox=replace(
                box,
                version=version[1] if version else None,
                trouble="" if version else trouble(said["version"]),
                machines=virtualbox_machines(said["machines"].stdout)
                if said["machines"].returncode == 0
                else None,
                folders=files.machine_folders(Path(disks["virtualbox"].path))
                if "virtualbox" in disks
                else (),
            ),
            disks=disks,
            vagrant=_vagrant_told(facts.vagrant, said),
        )

    def _ask_libvirt(self, facts: HostFacts) -> HostFacts:
        virsh = [self._which("virsh") or "virsh", "-c", _URI]
        questions = _vagrant_questions(facts.vagrant)
        if facts.vagrant is not None:
            questions["plugins"] = [facts.vagrant.path, "plugin", "list"]
        if "virsh" in facts.commands:
            questions["daemon"] = [*virsh, "version"]
            questions["machines"] = [*virsh, "list", "--all", "--name", "--uuid"]
            questions["networks"] = [*virsh, "net-list", "--all", "--name"]
        said = self._answers(questions)
        daemon = facts.libvirt
        if "daemon" in said:
            daemon = libvirt_daemon(said["daemon"])
        if daemon is not None and daemon.reachable and "machines" in said:
            names = [name for name in said["networks"].stdout.split() if name.startswith("labctl-")]
            infos = self._answers({name: [*virsh, "net-info", name] for name in names})
            daemon = replace(
                daemon,
                machines=libvirt_machines(said["machines"].stdout),
                networks=tuple((name, bridge(infos[name].stdout)) for name in names),
            )
        return replace(facts, libvirt=daemon, vagrant=_vagrant_told(facts.vagrant, said))

    def _answers(self, questions: Mapping[str, Sequence[str]]) -> dict[str, Completed]:
        """What each command says; all run at the same time."""
        # Vagrant would look for a newer one of itself, and a Vagrantfile nearby would be loaded.
        # In the C locale without UTF-8, some versions of VBoxManage list nothing.
        env = {**self._env, "VAGRANT_CHECKPOINT_DISABLE": "1", "LC_ALL": "C.UTF-8"}

        def answer(argv: Sequence[str]) -> Completed:
            try:
                return run(argv, check=False, timeout=SECONDS, cwd=Path("/"), env=env)
            except LabError as error:
                return Completed(-1, "", error.message)

        with ThreadPoolExecutor(max_workers=max(1, len(questions))) as pool:
            return dict(zip(questions, pool.map(answer, questions.values()), strict=True))


def _vagrant_questions(vagrant: Vagrant | None) -> dict[str, list[str]]:
    if vagrant is None:
        return {}
    boxes = [vagrant.path, "box", "list", "--machine-readable"]
    return {"vagrant": [vagrant.path, "--version"], "boxes": boxes}


def _vagrant_told(vagrant: Vagrant | None, said: Mapping[str, Completed]) -> Vagrant | None:
    if vagrant is None:
        return None
    version = re.search(r"^Vagrant (\d\S*)", said["vagrant"].stdout, re.MULTILINE)
    plugins = said.get("plugins")
    boxes = said["boxes"]
    return replace(
        vagrant,
        version=version[1] if version else None,
        trouble="" if version else trouble(said["vagrant"]),
        # What failed told nothing: no plugin in its answer does not mean that there is none.
        plugins=vagrant_plugins(plugins.stdout)
        if plugins and plugins.returncode == 0
        else vagrant.plugins,
        boxes=vagrant_boxes(boxes.stdout) if boxes.returncode == 0 else None,
    )


# -- what their answers mean: pure -----------------------------------------------------------------
def trouble(answer: Completed) -> str:
    """The line of an answer that tells best what is wrong."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines()]
    telling = [line for line in lines if re.search(r"(?i)error|fail|denied|not ", line)]
    said = (telling or [line for line in lines if line] or [f"exit {answer.returncode}"])[-1]
    return re.sub(r"(?i)^\S*error: ", "", said)[:200]


def vagrant_plugins(text: str) -> tuple[str, ...]:
    """`vagrant plugin list`: `vagrant-libvirt (0.11.2, system)`, and lines of details below."""
    return tuple(re.findall(r"^([\w.-]+) \(\d[^)]*\)", text, re.MULTILINE))


def vagrant_boxes(text: str) -> tuple[Box, ...]:
    """`vagrant box list --machine-readable`: a line for each value, a box begins with its name."""
    boxes: list[dict[str, str]] = []
    for line in text.splitlines():
        key, value = [*line.split(",", 3), "", "", "", ""][2:4]
        if key == "box-name":
            boxes.append({})
        if key.startswith("box-") and boxes:
            boxes[-1].setdefault(key.removeprefix("box-"), value)
    return tuple(Box(one["name"], one.get("version", ""), one.get("provider", "")) for one in boxes)


def virtualbox_machines(text: str) -> tuple[Machine, ...]:
    """`VBoxManage list vms`: `"name" {uuid}`."""
    found = re.findall(r'^"(.*)" \{([0-9a-f-]{36})\}', text, re.MULTILINE)
    return tuple(Machine(name, id) for name, id in found)


def libvirt_daemon(answer: Completed) -> Libvirt:
    """`virsh version`: it tells the library's version even where no daemon answers."""
    if answer.returncode == 0:
        return Libvirt(reachable=True)
    said = answer.stderr + answer.stdout
    denied = re.search(r"(?i)permission denied|authentication|polkit|access denied", said)
    return Libvirt(reachable=False, denied=denied is not None, trouble=trouble(answer))


def libvirt_machines(text: str) -> tuple[Machine, ...]:
    """`virsh list --all --name --uuid`: `uuid name`."""
    found = re.findall(r"^([0-9a-f-]{36})\s+(\S+)", text, re.MULTILINE)
    return tuple(Machine(name, id) for id, name in found)


def bridge(text: str) -> str:
    """`virsh net-info`: the bridge a network is on, if it has one."""
    found = re.search(r"^Bridge:\s+(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def mac_routes(text: str) -> tuple[Route, ...]:
    """`netstat -rn -f inet` of macOS, which leaves out zeros: `192.168.33`, `10.0.2/24`."""
    found: list[Route] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or not re.fullmatch(r"\d+(\.\d+){0,3}(/\d+)?", words[0]):
            continue
        address, _, bits = words[0].partition("/")
        parts = address.split(".")
        if len(parts) == 4 and not bits:
            continue  # one host
        network = f"{'.'.join([*parts, '0', '0', '0'][:4])}/{bits or 8 * len(parts)}"
        found.append(Route(str(IPv4Network(network, strict=False)), words[3]))
    return tuple(found)
