"""Facts about the host that matter for making a lab. Only data.

doctor/programs.py and the questions of the providers collect them.

None means unknown: nobody has asked, or only root could see it. To a check it is no problem.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Family: TypeAlias = Literal["linux", "wsl", "macos", "windows"]


@dataclass(frozen=True)
class VagrantBox:
    """A box that is installed in Vagrant."""

    name: str
    version: str
    provider: str


@dataclass(frozen=True)
class Vagrant:
    """The command `vagrant`."""

    path: str
    version: str | None = None
    trouble: str = ""
    """Its output when it did not print its version."""
    distribution: bool = False
    """Whether it is from a package of the Linux distribution, and not of HashiCorp."""
    plugins: tuple[str, ...] | None = None
    boxes: tuple[VagrantBox, ...] | None = None
    home_file: str = ""
    """The Vagrantfile of its home directory, which it merges into that of every lab; "" if there is
    none."""
    home_settings: tuple[str, ...] = ()
    """The settings in it that change machines, such as `vm.network`."""


@dataclass(frozen=True)
class Machine:
    """A virtual machine that a hypervisor has."""

    name: str
    id: str
    """The hypervisor's UUID of it."""


@dataclass(frozen=True)
class VirtualBox:
    """The command `VBoxManage`."""

    path: str
    version: str | None = None
    trouble: str = ""
    """Its output when it did not print its version, or not list its machines."""
    hangs: bool = False
    """Whether it did not list its machines in time: its service VBoxSVC does not answer."""
    machines: tuple[Machine, ...] | None = None
    folders: tuple[str, ...] = ()
    """Directories of labctl's machines in VirtualBox's folder for machines."""


@dataclass(frozen=True)
class Libvirt:
    """The system's libvirt daemon."""

    reachable: bool
    denied: bool = False
    """Whether it runs, but refuses this user."""
    trouble: str = ""
    """The error message when it cannot be reached."""
    machines: tuple[Machine, ...] | None = None
    networks: tuple[tuple[str, str], ...] | None = None
    """(name, bridge) of each network."""


@dataclass(frozen=True)
class Kvm:
    """Linux's hypervisor KVM."""

    device: bool = False
    """Whether /dev/kvm exists."""
    accessible: bool = False
    """Whether this user may open it."""
    works: bool | None = None
    """Whether a virtual CPU could be run in a trial."""
    nested: bool | None = None
    """Whether its virtual machines can use virtualization themselves."""
    virt_at_load: bool | None = None
    """Whether the modules take VT-x or AMD-V as soon as they are loaded."""


@dataclass(frozen=True)
class Disk:
    """The file system of a directory, which may not exist yet."""

    path: str
    device: str
    """Its device number: directories on the same device share the free space."""
    free_mib: int
    kind: str = ""
    """Type of the file system: ext4, overlay, nfs4, …; empty if unknown."""
    read_only: bool = False
    """Whether it is mounted so that nobody can write."""


@dataclass(frozen=True)
class TakenPort:
    """A TCP port of 127.0.0.1 that is in use."""

    number: int
    process: str = ""
    """`NAME (process PID)`; empty if it is another user's, and we are not root."""


@dataclass(frozen=True)
class Route:
    """A network to which the host has a route, besides the default route."""

    network: str
    device: str


@dataclass(frozen=True)
class ContainerLab:
    """A lab of containers on this machine."""

    lab_id: str
    directory: str = ""
    """The directory of its lab.yaml; empty when none of its nodes runs."""
    gone: bool = False
    """Whether labctl's files there were deleted while the lab runs."""


@dataclass(frozen=True)
class HostFacts:
    """All facts that the checks use."""

    family: Family
    machine: str
    """Architecture: x86_64, arm64, aarch64."""
    kernel: str = ""
    distribution: tuple[str, ...] = ()
    """ID and ID_LIKE of os-release."""
    root: bool = False
    sudo: bool = False
    containers_allowed: bool = True
    """Whether root may mount and make network namespaces; in most containers it may not."""
    tun: bool = True
    """Whether /dev/net/tun exists."""
    cpus: int = 0
    virtualization: str | None = None
    """`vmx` or `svm` if the CPU has it, empty if it has neither, None if unknown."""
    memory_mib: int = 0
    available_mib: int | None = None
    modules: tuple[str, ...] = ()
    """Which of kvm, kvm_intel, kvm_amd and vboxdrv are loaded or built in."""
    vboxdrv: bool = False
    """Whether /dev/vboxdrv exists."""
    secure_boot: bool | None = None
    hyperv: bool = False
    """Whether Hyper-V uses the processor's virtualization."""
    hyperv_users: tuple[str, ...] = ()
    """What Windows runs it for: names of its optional features, and `vbs`."""
    kvm: Kvm = Kvm()
    commands: tuple[str, ...] = ()
    """Which of the programs that labctl calls are installed."""
    networks_conf: str | None = None
    """Content of /etc/vbox/networks.conf; None if there is no such file."""
    disks: dict[str, Disk] = field(default_factory=dict)
    """By place: `lab`, `cache`, `boxes` (VAGRANT_HOME), and `virtualbox` and `libvirt`, where they
    store the disks of machines."""
    image: Literal["baked", "packages", "none", "unknown"] = "none"
    """How much of the containers' image is in the cache; only root can see into root's cache."""
    ports: tuple[TakenPort, ...] = ()
    """Which of the lab's forwarded ports are in use."""
    routes: tuple[Route, ...] = ()
    docker: bool = False
    """Whether Docker's bridge is there: then Docker has set up the firewall."""
    forward_drops: tuple[tuple[str, str], ...] | None = None
    """(table, chain) of nftables that drop what the host forwards for a lab, unless a rule accepts
    it; None: not asked, which takes root."""
    containers: tuple[ContainerLab, ...] = ()
    vagrant: Vagrant | None = None
    """None: not installed."""
    virtualbox: VirtualBox | None = None
    """None: not installed."""
    libvirt: Libvirt | None = None
    by_provider: dict[str, Any] = field(default_factory=dict)
    """Other answers to a provider's questions, by the provider's name."""


@dataclass(frozen=True)
class LabHere:
    """What exists of the lab in its directory already."""

    exists: bool = False
    lab_id: str = ""
    provider: str = ""
    machines: tuple[str, ...] = ()
    """The hypervisor's IDs of the machines that Vagrant made for this lab."""
    unreadable: bool = False
    """Whether the directory belongs to another user, usually root."""


def numbers(version: str | None) -> tuple[int, ...]:
    """`7.2.6r172322` -> (7, 2, 6); empty if the text does not begin with a version."""
    match = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(int(part) for part in match[0].split(".")) if match else ()
