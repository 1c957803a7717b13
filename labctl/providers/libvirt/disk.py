"""The disks of libvirt's boxes: made of a VMDK, and copied out of a machine."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.run import run, stream

_VIRSH = ("virsh", "--quiet", "-c", "qemu:///system")


def export_disk(machine: str, target: Path, log: Path, cancel: Callable[[], bool]) -> None:
    """Copy the first disk of a machine that is down (an ID) to `target`, a QCOW2 without a base.

    The disk and what it is based on come out of libvirt's pool by libvirt itself: its files are
    root's. Needs room for both beside `target`. Raises LabError, Cancelled.
    """
    listing = run([*_VIRSH, "domblklist", machine, "--details"]).stdout
    # " file   disk     vda      /var/lib/libvirt/images/NAME.img"
    disks = re.findall(r"^\s*file\s+disk\s+\S+\s+(/.*\S)\s*$", listing, flags=re.M)
    if not disks:
        raise LabError(tr("libvirt's machine {name} has no disk", name=machine))

    def call(*argv: str | Path) -> None:
        stream(list(argv), log=log, timeout=3600, cancel=cancel)

    with TemporaryDirectory(prefix="disk-", dir=target.parent) as name:
        below: Path | None = None
        for number, volume in enumerate(reversed(_with_bases(disks[0]))):
            copy = Path(name) / f"{number}.qcow2"
            call(*_VIRSH, "vol-download", "--sparse", volume, copy)
            if below is not None:
                # -u: the base is the same under another name; nothing is compared.
                call("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, copy)
            below = copy
        assert below is not None
        # Compressed, as that of `labctl box build`.
        call("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-c", "-W", "-m", "4",
             below, target)  # fmt: skip


def _with_bases(volume: str) -> list[str]:
    """A volume's file, then that which it is based on, and so on."""
    files = [volume]
    while True:
        xml = run([*_VIRSH, "vol-dumpxml", files[-1]]).stdout
        base = re.search(r"<backingStore>\s*<path>(.*?)</path>", xml)
        if base is None or base[1] in files:
            return files
        files.append(base[1])


def from_vmdk(vmdk: Path, target: Path, log: Path, cancel: Callable[[], bool]) -> None:
    """Write the disk in a VMDK as QCOW2: vagrant-libvirt takes nothing else. As export_disk."""
    stream(
        ["qemu-img", "convert", "-f", "vmdk", "-O", "qcow2", vmdk, target],
        log=log, timeout=3600, cancel=cancel,
    )  # fmt: skip
