"""What the files of a Linux host tell about it: /proc, /sys, /run, /etc. Calls no program.

Each function takes where to look, so that a test can show it another host. What cannot be read is
unknown, never an error.
"""

import os
import re
import shutil
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.host.facts import Disk, Kvm, Port, Route

PROC, SYS, RUN = Path("/proc"), Path("/sys"), Path("/run")
_MODULES = ("kvm", "kvm_intel", "kvm_amd", "vboxdrv")
_SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SYS_ADMIN, _NET_ADMIN = 21, 12  # bits of <linux/capability.h>
_LISTEN = "0A"


def read(path: str | Path) -> str | None:
    """A file's text, or None when it is not there or not ours to read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def memory(proc: Path = PROC) -> tuple[int, int | None]:
    """MiB in all, and MiB that could be had without swapping."""
    text = read(proc / "meminfo") or ""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    available = found.get("MemAvailable")
    return int(found.get("MemTotal", 0)) // 1024, int(available) // 1024 if available else None


def virtualization(proc: Path = PROC) -> str | None:
    """`vmx` or `svm` if the processor has it, else empty; None when it does not tell."""
    flags = re.search(r"^flags\s*:(.*)$", read(proc / "cpuinfo") or "", re.MULTILINE)
    if flags is None:
        return None
    return next((one for one in ("vmx", "svm") if one in flags[1].split()), "")


def distribution(file: str | Path = "/etc/os-release") -> tuple[str, ...]:
    """`("ubuntu", "debian")`: what the system is, and what it is like."""
    text = read(file) or ""
    found = dict(re.findall(r'^(ID|ID_LIKE)="?([^"\n]*)"?$', text, re.MULTILINE))
    return tuple(f"{found.get('ID', '')} {found.get('ID_LIKE', '')}".split())


def capable(proc: Path = PROC) -> bool:
    """Whether root here may do what containers are made with, as root of a container may not.

    The bounding set of capabilities and the map of user IDs tell it to everybody. True where there
    are no such files.
    """
    users = (read(proc / "self/uid_map") or "").split()
    if users and users[:2] != ["0", "0"]:
        return False  # in a user namespace, where overlays are of another kind
    found = re.search(r"^CapBnd:\s+([0-9a-f]+)", read(proc / "self/status") or "", re.MULTILINE)
    bounds = int(found[1], 16) if found else -1
    return all(bounds >> bit & 1 for bit in (_SYS_ADMIN, _NET_ADMIN))


def modules(sys: Path = SYS) -> tuple[str, ...]:
    """Those of the kernel's modules that concern hypervisors, loaded or built in."""
    return tuple(name for name in _MODULES if (sys / "module" / name).is_dir())


def secure_boot(sys: Path = SYS) -> bool | None:
    """Whether the firmware lets only signed modules in; None without UEFI."""
    try:
        return (sys / _SECURE_BOOT).read_bytes()[-1:] == b"\x01"  # attributes come first
    except OSError:
        return None


def kvm(sys: Path = SYS, device: str | Path = "/dev/kvm") -> Kvm:
    """KVM, as far as files tell."""

    def switch(*names: str) -> bool | None:
        texts = [read(sys / "module" / name) for name in names]
        value = next((text.strip() for text in texts if text is not None), None)
        return None if value is None else value in ("Y", "1")

    return Kvm(
        device=Path(device).exists(),
        accessible=os.access(device, os.R_OK | os.W_OK),
        nested=switch("kvm_intel/parameters/nested", "kvm_amd/parameters/nested"),
        virt_at_load=switch("kvm/parameters/enable_virt_at_load"),
    )


# -- disks -----------------------------------------------------------------------------------------
def mounts(proc: Path = PROC) -> dict[str, str]:
    """Mount point -> type of its file system; what is mounted last on it counts."""
    found: dict[str, str] = {}
    for line in (read(proc / "self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        found[point] = after.split()[0]
    return found


def disk_of(path: Path, mounted: Mapping[str, str]) -> Disk | None:
    """The disk a directory is on, or will be on once somebody makes it."""
    try:
        there = path.resolve()
        while not there.exists():
            there = there.parent
        free, device = shutil.disk_usage(there).free, str(there.stat().st_dev)
    except OSError:
        return None
    around = [str(there), *map(str, there.parents)]
    kind = next((mounted[point] for point in around if point in mounted), "")
    return Disk(str(path), device, free // 2**20, kind)


# -- network ---------------------------------------------------------------------------------------
def routes(proc: Path = PROC) -> tuple[Route, ...]:
    """The networks of the main routing table, without the default route."""
    found: list[Route] = []
    for line in (read(proc / "net/route") or "").splitlines()[1:]:
        device, destination, _, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & 1 and int(mask, 16):
            network = IPv4Network((_address(destination), str(_address(mask))), strict=False)
            found.append(Route(str(network), device))
    return tuple(dict.fromkeys(found))


def _address(hexadecimal: str) -> IPv4Address:
    # The kernel prints the bytes of the network as a number of this machine.
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, "little"))


def taken(ports: Iterable[int], proc: Path = PROC) -> tuple[Port, ...]:
    """Those of the ports that somebody listens on, for 127.0.0.1 or for all addresses."""
    wanted = frozenset(ports)
    if not (proc / "net/tcp").exists():
        return tuple(Port(port) for port in sorted(wanted) if not _free(port))
    found: dict[int, str] = {}
    for family in ("tcp", "tcp6"):
        for line in (read(proc / "net" / family) or "").splitlines()[1:]:
            words = line.split()
            address, _, port = words[1].rpartition(":")
            if words[3] == _LISTEN and int(port, 16) in wanted and _reaches_loopback(address):
                found.setdefault(int(port, 16), words[9])
    owners = _owners(set(found.values()), proc) if found else {}
    return tuple(Port(port, owners.get(inode, "")) for port, inode in sorted(found.items()))


def _reaches_loopback(address: str) -> bool:
    # 0.0.0.0, 127.0.0.1; ::, and 127.0.0.1 as an IPv6 address.
    return address in ("00000000", "0100007F", "0" * 32, "0000000000000000FFFF00000100007F")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _owners(inodes: set[str], proc: Path) -> dict[str, str]:
    """Socket -> `nginx (process 812)`; only root sees those of other users."""
    found: dict[str, str] = {}
    for link in proc.glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in inodes and inode not in found:
            process = link.parents[1]
            name = (read(process / "comm") or "").strip()
            found[inode] = f"{name} ({process.name})"
            if len(found) == len(inodes):
                break
    return found
