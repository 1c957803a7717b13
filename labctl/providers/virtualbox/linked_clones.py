"""Master machines: Vagrant imports each box once, as a machine that it makes linked clones of.

Vagrant has no command that lists or removes them. They stay after `labctl destroy`, so that the
next lab need not import the box again.
"""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import DiskFullError, LabError, says_disk_full
from labctl.i18n import tr, tr_list
from labctl.providers.vagrant.vboxmanage_errors import last_words, passes
from labctl.providers.virtualbox.service import hanging_fix
from labctl.run import CommandTimeoutError, Completed, run

_LINES = 4
"""Lines of an error that is in no form known here."""


@dataclass(frozen=True)
class Master:
    """A machine of VirtualBox that Vagrant makes linked clones of."""

    id: str
    name: str
    record: Path
    """The file in the box's directory in which Vagrant has its ID."""


def vboxmanage(*words: str, check: bool = True, timeout: float = 60) -> Completed:
    """Run `VBoxManage WORDS`. Raises LabError as `run` does, with VBoxManage's own last words.

    The locale is set, because VirtualBox 7 translates its lists. It has UTF-8, because some
    versions list nothing without.
    """
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = run(["VBoxManage", *words], check=False, timeout=timeout, env=env)
        if done.returncode != 0 and passes(done.stderr):  # see service.py
            done = run(["VBoxManage", *words], check=False, timeout=timeout, env=env)
    except CommandTimeoutError as error:
        error.hint = tr(
            "{text} ({detail})", text=hanging_fix(), detail=tr("`labctl doctor` tells more")
        )
        raise
    if check and done.returncode != 0:
        reason = last_words(done.stderr) or " / ".join(done.stderr.strip().splitlines()[-_LINES:])
        if says_disk_full(reason):
            raise DiskFullError(reason)
        raise LabError(
            tr("`{command}` failed (exit {code}): {said}",
               command=shlex.join(["VBoxManage", *words]), code=done.returncode, said=reason)
        )  # fmt: skip
    return done


def machines() -> dict[str, str] | None:
    """{ID: name} of all machines of VirtualBox; None if VBoxManage fails."""
    listing = vboxmanage("list", "vms", check=False)
    if listing.returncode != 0:
        return None
    return {
        match[2]: match[1]
        for match in re.finditer(r'^"(.*)" \{(.*)\}$', listing.stdout, flags=re.M)
    }


def masters(home: Path, box: str) -> list[Master]:
    """The masters that VirtualBox still has of all versions of a box; `home` is Vagrant's."""
    # Vagrant stores a box under this escaped directory name.
    directory = box.replace(":", "-VAGRANTCOLON-").replace("/", "-VAGRANTSLASH-")
    records = sorted((home / "boxes" / directory).rglob("master_id"))
    if not records:
        return []
    known = machines() or {}
    recorded = ((record, record.read_text(encoding="utf-8").strip()) for record in records)
    return [Master(id, known[id], record) for record, id in recorded if id in known]


def remove(master: Master) -> None:
    """Delete the machine and its disk. Raises LabError while clones of it exist."""
    # VBoxManage fails too if there are clones, but only after it has unregistered the machine.
    if names := clones(vboxmanage("list", "hdds", "--long").stdout, master.id):
        raise LabError(
            tr(
                "{master} stays: clones of it are {names}",
                master=master.name,
                names=tr_list(names),
            ),
            hint=tr("destroy the labs of these machines first"),
        )
    vboxmanage("unregistervm", master.id, "--delete", timeout=120)
    master.record.unlink(missing_ok=True)


def clones(disks: str, machine: str) -> list[str]:
    """Names of the machines whose disks are based on those of `machine` (an ID).

    `disks` is the output of `VBoxManage list hdds --long`.
    """
    parents: dict[str, str] = {}
    users: dict[str, list[tuple[str, str]]] = {}
    for block in disks.split("\n\n"):
        fields = dict(re.findall(r"^(UUID|Parent UUID|In use by VMs): +(.*)$", block, flags=re.M))
        if "UUID" in fields:
            parents[fields["UUID"]] = fields.get("Parent UUID", "base")
            # "NAME (UUID: ID)", followed by the machine's snapshots in square brackets
            used = re.sub(r" \[.*?\]", "", fields.get("In use by VMs", ""))
            users[fields["UUID"]] = re.findall(r"(?:^|, )(.*?) \(UUID: ([0-9a-f-]+)\)", used)
    own = {disk for disk, used_by in users.items() if machine in (id for _, id in used_by)}
    based = (disk for disk, parent in parents.items() if parent in own and disk not in own)
    return sorted({name for disk in based for name, _ in users[disk]})
