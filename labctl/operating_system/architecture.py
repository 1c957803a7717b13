"""The processors that labctl runs on: amd64 (Intel, AMD) and arm64 (Apple, Ampere).

Nodes have the architecture of their host, except where a box is built for other machines. The
scripts of provision/ ask `dpkg --print-architecture` and `uname -m` instead.
"""

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A processor architecture, under the names that others have for it."""

    name: str
    """Debian's name, which is Vagrant's too."""
    machine: str
    """Linux's name (`uname -m`), which is QEMU's too."""
    qemu_packages: tuple[str, ...]
    """Debian's packages with the emulator that virtual machines run on, and their firmware."""
    os_type: str
    """VirtualBox's name for a Debian guest."""
    disk_controller: str
    """The controller of the disk in an OVF of VirtualBox."""

    @property
    def qemu(self) -> str:
        """The program of QEMU that runs its machines."""
        return f"qemu-system-{self.machine}"


AMD64 = Architecture("amd64", "x86_64", ("qemu-system-x86",), "Debian_64", "AHCI")
# VirtualBox on ARM has no SATA controller (its manual 7.2: "Storage controllers"), and its guests
# boot by EFI only; so do those of QEMU, whose machine `virt` has no other firmware.
ARM64 = Architecture(
    "arm64", "aarch64", ("qemu-system-arm", "qemu-efi-aarch64"), "Debian_arm64", "VirtioSCSI"
)
ARCHITECTURES = {one.name: one for one in (AMD64, ARM64)}
"""By Debian's name."""


def architecture_of(machine: str) -> Architecture | None:
    """The architecture that Linux (x86_64, aarch64), macOS (arm64) or Windows (AMD64, ARM64) names.

    None if nodes cannot have it.
    """
    return next(
        (one for one in ARCHITECTURES.values() if machine.lower() in (one.name, one.machine)), None
    )


def host_architecture() -> Architecture:
    """This host's, which its nodes have, too; amd64 if nodes cannot have it."""
    return architecture_of(platform.machine()) or AMD64
