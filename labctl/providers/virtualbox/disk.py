"""The disk of a machine of VirtualBox, copied whole into a file for a box."""

import re
from collections.abc import Callable
from pathlib import Path

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.providers.virtualbox.linked_clones import vboxmanage
from labctl.run import stream


def export_disk(machine: str, target: Path, log: Path, cancel: Callable[[], bool]) -> None:
    """Copy the first disk of a machine that is down (an ID) to `target`, a streamOptimized VMDK.

    A linked clone's disk is copied with what it is based on. Raises LabError,
    Cancelled.
    """
    facts = vboxmanage("showvminfo", machine, "--machinereadable").stdout
    # "SATA Controller-0-0"="/path/disk.vdi", by ports; without a disk it is "none" or "emptydrive".
    attached = re.findall(r'^"?[^"=\n]+-\d+-\d+"?="(.+\.(?:vdi|vmdk|vhd))"$', facts, flags=re.M)
    if not attached:
        raise LabError(tr("VirtualBox machine {name} has no disk", name=machine))
    try:
        stream(
            ["VBoxManage", "clonemedium", "disk", attached[0], target,
             "--format", "VMDK", "--variant", "Stream"],
            log=log, timeout=3600, cancel=cancel,
        )  # fmt: skip
    finally:
        # VirtualBox keeps account of every disk that it made; this one is not its own.
        vboxmanage("closemedium", "disk", str(target), check=False)
