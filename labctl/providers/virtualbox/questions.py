"""What the doctor asks about VirtualBox, and how it reads the answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Machine, VirtualBox
from labctl.host.files import disk_of, mounts
from labctl.host.questions import Host, trouble
from labctl.providers.vagrant import questions as vagrant
from labctl.providers.vagrant.questions import (
    boxes_directory,
    vagrant_from_answers,
    vagrant_questions,
)
from labctl.providers.vagrant.vboxmanage_errors import last_words, passes
from labctl.providers.virtualbox import NAME, hyperv
from labctl.run import Completed


def places(env: Mapping[str, str]) -> dict[str, Path]:
    """Where boxes and machines are stored, by default; `ask` finds out if the user changed it."""
    return {"boxes": boxes_directory(env), NAME: Path.home() / "VirtualBox VMs"}


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds where Vagrant and VirtualBox are."""
    path = host.which("VBoxManage")
    return replace(vagrant.look(host, facts), virtualbox=VirtualBox(path) if path else None)


def ask(host: Host, facts: HostFacts) -> HostFacts:
    """Adds what Vagrant and VBoxManage answer."""
    box = facts.virtualbox
    if box is None:
        return facts
    answers = host.answers(
        {
            **vagrant_questions(facts.vagrant),
            **hyperv.questions(host, facts),
            "version": [box.path, "--version"],
        }
    )
    answers |= _from_service(host, "machines", [box.path, "list", "vms"])
    properties = ""
    if not answers["machines"].timed_out:  # the next question would wait as long
        asked = _from_service(host, "properties", [box.path, "list", "systemproperties"])
        properties = asked["properties"].stdout
    version = re.search(r"^(\d+\.\d+\.\d+)\S*\s*$", answers["version"].stdout, re.MULTILINE)
    listed = answers["machines"]
    disks = dict(facts.disks)
    folder = re.search(r"^Default machine folder: +(.+)$", properties, re.M)
    mounted = mounts() if facts.family in ("linux", "wsl") else {}
    if folder and (disk := disk_of(Path(folder[1].strip()), mounted)):
        disks[NAME] = disk
    return replace(
        hyperv.with_answers(facts, answers),
        virtualbox=replace(
            box,
            version=version[1] if version else None,
            trouble="" if version and listed.returncode == 0 else _trouble(version, answers),
            hangs=listed.timed_out,
            machines=virtualbox_machines(listed.stdout) if listed.returncode == 0 else None,
            folders=machine_folders(Path(disks[NAME].path)) if NAME in disks else (),
        ),
        disks=disks,
        vagrant=vagrant_from_answers(facts.vagrant, answers),
    )


def _from_service(host: Host, question: str, argv: Sequence[str]) -> dict[str, Completed]:
    """The answer of VBoxSVC, asked alone; a second time if the first was none (see service.py)."""
    answers = host.answers({question: argv})
    first = answers[question]
    return host.answers({question: argv}) if first.timed_out or passes(first.stderr) else answers


def _trouble(version: re.Match[str] | None, answers: Mapping[str, Completed]) -> str:
    """What it complained of: when asked for its version, else when asked for its machines."""
    if version is None:
        return trouble(answers["version"])
    listed = answers["machines"]
    return "" if listed.timed_out else last_words(listed.stderr) or trouble(listed)


def machine_folders(directory: Path) -> tuple[str, ...]:
    """Directories of labctl's machines in VirtualBox's folder; () if it cannot be read."""
    try:
        return tuple(sorted(path.name for path in directory.glob("labctl-*")))
    except OSError:
        return ()


def virtualbox_machines(text: str) -> tuple[Machine, ...]:
    """`VBoxManage list vms`: `"name" {uuid}`."""
    machines = re.findall(r'^"(.*)" \{([0-9a-f-]{36})\}', text, re.MULTILINE)
    return tuple(Machine(name, id) for name, id in machines)
