"""The machines that linked clones are made of: Vagrant keeps one for each box, and tells nobody.

They outlive every lab on purpose, for the next lab saves the import of the box by them.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.run import Completed, run


@dataclass(frozen=True)
class Master:
    """A machine of VirtualBox that Vagrant clones."""

    id: str
    name: str
    record: Path
    """Where Vagrant remembers it, in the box's directory."""


def vboxmanage(*words: str, check: bool = True, timeout: float = 60) -> Completed:
    """`VBoxManage WORDS` in English: VirtualBox 7 translates what it lists.

    Raises LabError as `run` does. In the C locale without UTF-8, some of its versions list nothing.
    """
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    return run(["VBoxManage", *words], check=check, timeout=timeout, env=env)


def machines() -> dict[str, str] | None:
    """{ID: name} of all machines of VirtualBox; None when it does not tell."""
    told = vboxmanage("list", "vms", check=False)
    if told.returncode != 0:
        return None
    return {
        match[2]: match[1] for match in re.finditer(r'^"(.*)" \{(.*)\}$', told.stdout, flags=re.M)
    }


def masters(home: Path, box: str) -> list[Master]:
    """The masters that VirtualBox still has of all versions of a box; `home` is Vagrant's."""
    # Vagrant's own way to make a directory's name of a box's.
    name = box.replace(":", "-VAGRANTCOLON-").replace("/", "-VAGRANTSLASH-")
    records = sorted((home / "boxes" / name).rglob("master_id"))
    if not records:
        return []
    known = machines() or {}
    found = ((record, record.read_text().strip()) for record in records)
    return [Master(id, known[id], record) for record, id in found if id in known]


def remove(master: Master) -> None:
    """Delete the machine and its disk. Raises LabError while clones of it exist."""
    # VBoxManage would find out as well, after it has forgotten the machine.
    if names := clones(vboxmanage("list", "hdds", "--long").stdout, master.id):
        raise LabError(
            tr(
                "{master} stays: clones of it are {names}",
                master=master.name,
                names=", ".join(names),
            ),
            hint=tr("destroy the labs of these machines first"),
        )
    vboxmanage("unregistervm", master.id, "--delete", timeout=120)
    master.record.unlink(missing_ok=True)


def clones(disks: str, machine: str) -> list[str]:
    """Names of the machines whose disks stand on those of `machine` (an ID).

    `disks` is the output of `VBoxManage list hdds --long`.
    """
    parents: dict[str, str] = {}
    users: dict[str, list[tuple[str, str]]] = {}
    for block in disks.split("\n\n"):
        fields = dict(re.findall(r"^(UUID|Parent UUID|In use by VMs): +(.*)$", block, flags=re.M))
        if "UUID" in fields:
            parents[fields["UUID"]] = fields.get("Parent UUID", "base")
            # "NAME (UUID: ID)", with snapshots of the machine in brackets behind it
            used = re.sub(r" \[.*?\]", "", fields.get("In use by VMs", ""))
            users[fields["UUID"]] = re.findall(r"(?:^|, )(.*?) \(UUID: ([0-9a-f-]+)\)", used)
    own = {disk for disk, of in users.items() if machine in (id for _, id in of)}
    standing = (disk for disk, parent in parents.items() if parent in own and disk not in own)
    return sorted({name for disk in standing for name, _ in users[disk]})
