"""Facts from the files of a Linux host: /proc, /sys, /run, /etc. Calls no program.

Each function takes the directory to look in, so that a test can give it the files of another host.
A file that cannot be read is no error: the fact is unknown.
"""

import os
import re
import shutil
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.host.facts import Disk, Kvm, Route, TakenPort
from labctl.operating_system.files import is_read_only

PROC, SYS, RUN = Path("/proc"), Path("/sys"), Path("/run")
_MODULES = ("kvm", "kvm_intel", "kvm_amd", "vboxdrv")
SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SYS_ADMIN, _NET_ADMIN = 21, 12  # bits of <linux/capability.h>
_LISTEN = "0A"  # TCP_LISTEN in the kernel's <net/tcp_states.h>


def read(path: str | Path) -> str | None:
    """The text of a file; None when it does not exist or may not be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def memory(proc: Path = PROC) -> tuple[int, int | None]:
    """MiB of memory, and MiB that are available without swapping; None if unknown."""
    text = read(proc / "meminfo") or ""
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    available = values.get("MemAvailable")
    return int(values.get("MemTotal", 0)) // 1024, int(available) // 1024 if available else None


def virtualization(proc: Path = PROC) -> str | None:
    """`vmx` or `svm` if the processor has it, else empty; None if unknown."""
    flags = re.search(r"^flags\s*:(.*)$", read(proc / "cpuinfo") or "", re.MULTILINE)
    if flags is None:
        return None
    return next((flag for flag in ("vmx", "svm") if flag in flags[1].split()), "")


def distribution(file: str | Path = "/etc/os-release") -> tuple[str, ...]:
    """The distribution and those it is similar to, such as `("ubuntu", "debian")`."""
    text = read(file) or ""
    values = dict(re.findall(r'^(ID|ID_LIKE)="?([^"\n]*)"?$', text, re.MULTILINE))
    return tuple(f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".split())


def capable(proc: Path = PROC) -> bool:
    """Whether root here may make containers; root inside a container may not.

    Any user can see it, by the capability bounding set and the map of user IDs. True if these files
    do not exist.
    """
    users = (read(proc / "self/uid_map") or "").split()
    if users and users[:2] != ["0", "0"]:
        return False  # in a user namespace, where overlayfs is restricted
    match = re.search(r"^CapBnd:\s+([0-9a-f]+)", read(proc / "self/status") or "", re.MULTILINE)
    bounds = int(match[1], 16) if match else -1
    return all(bounds >> bit & 1 for bit in (_SYS_ADMIN, _NET_ADMIN))


def modules(sys: Path = SYS) -> tuple[str, ...]:
    """Which of the kernel's modules for hypervisors are loaded or built in."""
    return tuple(name for name in _MODULES if (sys / "module" / name).is_dir())


def secure_boot(sys: Path = SYS) -> bool | None:
    """Whether Secure Boot is on: only signed modules can be loaded. None without UEFI."""
    try:
        return (sys / SECURE_BOOT).read_bytes()[-1:] == b"\x01"  # after four bytes of attributes
    except OSError:
        return None


def kvm(sys: Path = SYS, device: str | Path = "/dev/kvm") -> Kvm:
    """The facts about KVM that are in files."""

    def switch(*names: str) -> bool | None:
        """The value of a module's parameter; None if the module or the parameter does not exist."""
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
    """Mount point -> type of the file system that was mounted on it last."""
    types: dict[str, str] = {}
    for line in (read(proc / "self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        types[point] = after.split()[0]
    return types


def disk_of(path: Path, mounted: Mapping[str, str]) -> Disk | None:
    """The disk of a directory, which may not exist yet; `mounted` is from `mounts`."""
    try:
        existing = path.resolve()
        while not existing.exists():
            existing = existing.parent
        free, device = shutil.disk_usage(existing).free, str(existing.stat().st_dev)
        read_only = is_read_only(existing)
    except OSError:
        return None
    directories = [str(existing), *map(str, existing.parents)]
    kind = next((mounted[point] for point in directories if point in mounted), "")
    return Disk(str(path), device, free // 2**20, kind, read_only)


# -- network ---------------------------------------------------------------------------------------
def routes(proc: Path = PROC) -> tuple[Route, ...]:
    """The networks of the main routing table, without the default route."""
    networks: list[Route] = []
    for line in (read(proc / "net/route") or "").splitlines()[1:]:
        device, destination, _, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & 1 and int(mask, 16):
            network = IPv4Network((_address(destination), str(_address(mask))), strict=False)
            networks.append(Route(str(network), device))
    return tuple(dict.fromkeys(networks))


def _address(hexadecimal: str) -> IPv4Address:
    # The kernel prints the address, which is in network byte order, as a number of the host's byte
    # order: little-endian on x86-64.
    return IPv4Address(int(hexadecimal, 16).to_bytes(4, "little"))


def taken(ports: Iterable[int], proc: Path | None = PROC) -> tuple[TakenPort, ...]:
    """Which of the ports are in use, on 127.0.0.1 or on all addresses.

    Without a /proc (None) they are tried, and who uses them is not known.
    """
    wanted = frozenset(ports)
    if proc is None or not (proc / "net/tcp").exists():
        return tuple(TakenPort(port) for port in sorted(wanted) if not _free(port))
    inodes: dict[int, str] = {}
    for family in ("tcp", "tcp6"):
        for line in (read(proc / "net" / family) or "").splitlines()[1:]:
            words = line.split()
            address, _, port = words[1].rpartition(":")
            if words[3] == _LISTEN and int(port, 16) in wanted and _reaches_loopback(address):
                inodes.setdefault(int(port, 16), words[9])
    owners = _owners(set(inodes.values()), proc) if inodes else {}
    return tuple(TakenPort(port, owners.get(inode, "")) for port, inode in sorted(inodes.items()))


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
    """Inode of a socket -> `nginx (process 812)`; only root sees those of other users."""
    owners: dict[str, str] = {}
    for link in proc.glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in inodes and inode not in owners:
            process = link.parents[1]
            name = (read(process / "comm") or "").strip()
            owners[inode] = f"{name} ({process.name})"
            if len(owners) == len(inodes):
                break
    return owners
