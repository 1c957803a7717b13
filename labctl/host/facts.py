"""What the host is, as far as the making of a lab depends on it. Only data.

doctor/programs.py and the questions of the providers fill it.

A value of None means: not asked, or not to be seen without root. No check may take it for a fault.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Family: TypeAlias = Literal["linux", "wsl", "macos", "windows"]


@dataclass(frozen=True)
class Box:
    """A box that Vagrant has."""

    name: str
    version: str
    provider: str


@dataclass(frozen=True)
class Vagrant:
    """The command `vagrant`."""

    path: str
    version: str | None = None
    trouble: str = ""
    """What it said instead of its version."""
    distribution: bool = False
    """Whether it is the Linux distribution's package, and not its maker's."""
    plugins: tuple[str, ...] | None = None
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True)
class Machine:
    """A virtual machine that a hypervisor knows."""

    name: str
    id: str


@dataclass(frozen=True)
class VirtualBox:
    """The command `VBoxManage`."""

    path: str
    version: str | None = None
    trouble: str = ""
    """What it said instead of its version."""
    machines: tuple[Machine, ...] | None = None
    folders: tuple[str, ...] = ()
    """Directories of labctl's machines in the folder where it keeps all of them."""


@dataclass(frozen=True)
class Libvirt:
    """The system's libvirt daemon."""

    reachable: bool
    denied: bool = False
    """Whether it is there and does not let this user in."""
    trouble: str = ""
    machines: tuple[Machine, ...] | None = None
    networks: tuple[tuple[str, str], ...] | None = None
    """(name, bridge) of each network."""


@dataclass(frozen=True)
class Kvm:
    """Linux's own hypervisor."""

    device: bool = False
    """Whether /dev/kvm is there."""
    accessible: bool = False
    """Whether this user may open it."""
    works: bool | None = None
    """Whether a virtual CPU ran."""
    nested: bool | None = None
    """Whether it hands virtualization on to its machines."""
    virt_at_load: bool | None = None
    """Whether the modules take VT-x or AMD-V as soon as they are loaded."""


@dataclass(frozen=True)
class Disk:
    """The file system that a directory is on, or will be on."""

    path: str
    device: str
    """The same for directories that share their free space."""
    free_mib: int
    kind: str = ""
    """ext4, overlay, nfs4, …; empty where it cannot be told."""


@dataclass(frozen=True)
class Port:
    """A TCP port of 127.0.0.1 that somebody listens on."""

    number: int
    process: str = ""
    """Who; empty if that is another user's."""


@dataclass(frozen=True)
class Route:
    """A network that the host reaches, other than by its default route."""

    network: str
    device: str


@dataclass(frozen=True)
class Containers:
    """A lab of containers on this machine."""

    lab_id: str
    directory: str = ""
    """Where its lab.yaml is; empty when none of its nodes runs."""
    gone: bool = False
    """Whether that directory was deleted under it."""


@dataclass(frozen=True)
class HostFacts:
    """Everything the checks look at."""

    family: Family
    machine: str
    """Architecture: x86_64, arm64, aarch64."""
    kernel: str = ""
    distribution: tuple[str, ...] = ()
    """ID and ID_LIKE of os-release."""
    root: bool = False
    sudo: bool = False
    containers_allowed: bool = True
    """Whether root here may mount and make network namespaces; inside a container it may not."""
    tun: bool = True
    """Whether there is /dev/net/tun."""
    cpus: int = 0
    virtualization: str | None = None
    """`vmx` or `svm` as the CPU tells, empty when it has neither, None when it cannot be asked."""
    memory_mib: int = 0
    available_mib: int | None = None
    modules: tuple[str, ...] = ()
    """Those loaded of kvm, kvm_intel, kvm_amd, vboxdrv."""
    vboxdrv: bool = False
    """Whether there is /dev/vboxdrv."""
    secure_boot: bool | None = None
    hyperv: bool = False
    windows_access: bool = False
    """Whether Vagrant in WSL may use the VirtualBox of Windows."""
    kvm: Kvm = Kvm()
    commands: tuple[str, ...] = ()
    """Those installed of what labctl calls."""
    networks_conf: str | None = None
    """Content of /etc/vbox/networks.conf."""
    disks: dict[str, Disk] = field(default_factory=dict)
    """Of `lab`, `cache`, `boxes` (VAGRANT_HOME), `virtualbox` and `libvirt` (disks of machines)."""
    image: Literal["baked", "packages", "none"] = "none"
    """How much of the containers' image is in the cache."""
    ports: tuple[Port, ...] = ()
    """Those of the lab's forwarded ports that are taken."""
    routes: tuple[Route, ...] = ()
    containers: tuple[Containers, ...] = ()
    vagrant: Vagrant | None = None
    """None: not installed."""
    virtualbox: VirtualBox | None = None
    """None: not installed."""
    libvirt: Libvirt | None = None
    by_provider: dict[str, Any] = field(default_factory=dict)
    """What the questions of a provider found out that has no field here, by its name."""


@dataclass(frozen=True)
class LabHere:
    """What the lab's directory holds already."""

    exists: bool = False
    lab_id: str = ""
    provider: str = ""
    machines: tuple[str, ...] = ()
    """What the hypervisor calls the machines that Vagrant made for this lab."""
    unreadable: bool = False
    """Whether it belongs to another user, root as a rule."""


def numbers(version: str | None) -> tuple[int, ...]:
    """`7.2.6r172322` -> (7, 2, 6); empty for what is no version."""
    found = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(int(part) for part in found[0].split(".")) if found else ()
