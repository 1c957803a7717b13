"""What is asked of a host about VirtualBox, and what the answers mean."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Machine, VirtualBox
from labctl.host.files import disk_of, mounts
from labctl.host.questions import Host, trouble
from labctl.providers.vagrant import questions as vagrant
from labctl.providers.vagrant.questions import boxes_directory, vagrant_questions, vagrant_told
from labctl.providers.virtualbox import NAME

_WINDOWS_VBOXMANAGE = Path("/mnt/c/Program Files/Oracle/VirtualBox/VBoxManage.exe")


def places(env: Mapping[str, str]) -> dict[str, Path]:
    """Where boxes and machines are kept; `ask` finds out whether the default folder was changed."""
    return {"boxes": boxes_directory(env), NAME: Path.home() / "VirtualBox VMs"}


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Whether Vagrant and VirtualBox are there; in WSL it may be that of Windows."""
    path = host.which("VBoxManage")
    if path is None and facts.family == "wsl":
        windows = str(_WINDOWS_VBOXMANAGE) if _WINDOWS_VBOXMANAGE.exists() else None
        path = host.which("VBoxManage.exe") or windows
    return replace(vagrant.look(host, facts), virtualbox=VirtualBox(path) if path else None)


def ask(host: Host, facts: HostFacts) -> HostFacts:
    """What Vagrant and VBoxManage say."""
    box = facts.virtualbox
    if box is None:
        return facts
    said = host.answers(
        {
            **vagrant_questions(facts.vagrant),
            "version": [box.path, "--version"],
            "machines": [box.path, "list", "vms"],
            "properties": [box.path, "list", "systemproperties"],
        }
    )
    version = re.search(r"^(\d+\.\d+\.\d+)\S*\s*$", said["version"].stdout, re.MULTILINE)
    disks = dict(facts.disks)
    folder = re.search(r"^Default machine folder: +(.+)$", said["properties"].stdout, re.M)
    if folder and (disk := disk_of(Path(folder[1].strip()), mounts())):
        disks[NAME] = disk
    return replace(
        facts,
        virtualbox=replace(
            box,
            version=version[1] if version else None,
            trouble="" if version else trouble(said["version"]),
            machines=virtualbox_machines(said["machines"].stdout)
            if said["machines"].returncode == 0
            else None,
            folders=machine_folders(Path(disks[NAME].path)) if NAME in disks else (),
        ),
        disks=disks,
        vagrant=vagrant_told(facts.vagrant, said),
    )


def machine_folders(directory: Path) -> tuple[str, ...]:
    """Directories of labctl's machines in VirtualBox's folder, if it is ours to read."""
    try:
        return tuple(sorted(path.name for path in directory.glob("labctl-*")))
    except OSError:
        return ()


def virtualbox_machines(text: str) -> tuple[Machine, ...]:
    """`VBoxManage list vms`: `"name" {uuid}`."""
    found = re.findall(r'^"(.*)" \{([0-9a-f-]{36})\}', text, re.MULTILINE)
    return tuple(Machine(name, id) for name, id in found)
