"""What the doctor asks about libvirt, and how it reads the answers."""

import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Libvirt, Machine
from labctl.host.files import RUN
from labctl.host.questions import Host, trouble
from labctl.providers.libvirt import NAME
from labctl.providers.vagrant import questions as vagrant
from labctl.providers.vagrant.questions import (
    boxes_directory,
    vagrant_from_answers,
    vagrant_questions,
)
from labctl.run import Completed

_SOCKETS = ("libvirt/libvirt-sock", "libvirt/virtqemud-sock")
_POOL = Path("/var/lib/libvirt/images")
_URI = "qemu:///system"


def places(env: Mapping[str, str]) -> dict[str, Path]:
    """Where boxes and disks are stored."""
    return {"boxes": boxes_directory(env), NAME: _POOL}


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds where Vagrant is, and whether libvirt's daemon accepts connections."""
    linux = facts.family in ("linux", "wsl")
    return replace(vagrant.look(host, facts), libvirt=libvirt_socket() if linux else None)


def try_kvm(host: Host, facts: HostFacts) -> HostFacts:
    """Adds whether KVM works. It is asked first: if it does not, `auto` needs no other answer."""
    return host.try_kvm(facts)


def ask(host: Host, facts: HostFacts) -> HostFacts:
    """Adds what Vagrant and virsh answer."""
    if facts.family == "macos":
        return facts
    virsh = [host.which("virsh") or "virsh", "-c", _URI]
    questions = vagrant_questions(facts.vagrant)
    if facts.vagrant is not None:
        questions["plugins"] = [facts.vagrant.path, "plugin", "list"]
    if "virsh" in facts.commands:
        questions["daemon"] = [*virsh, "version"]
        questions["machines"] = [*virsh, "list", "--all", "--name", "--uuid"]
        questions["networks"] = [*virsh, "net-list", "--all", "--name"]
    answers = host.answers(questions)
    daemon = facts.libvirt
    if "daemon" in answers:
        daemon = libvirt_daemon(answers["daemon"])
    if daemon is not None and daemon.reachable and "machines" in answers:
        names = [name for name in answers["networks"].stdout.split() if name.startswith("labctl-")]
        infos = host.answers({name: [*virsh, "net-info", name] for name in names})
        daemon = replace(
            daemon,
            machines=libvirt_machines(answers["machines"].stdout),
            networks=tuple((name, bridge(infos[name].stdout)) for name in names),
        )
    return replace(facts, libvirt=daemon, vagrant=vagrant_from_answers(facts.vagrant, answers))


def libvirt_socket(run: Path = RUN) -> Libvirt | None:
    """Whether libvirt's daemon accepts connections on its socket."""
    for name in _SOCKETS:
        if not (run / name).exists():
            continue
        if sys.platform == "win32":
            break
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(str(run / name))
            except PermissionError:
                return Libvirt(reachable=False, denied=True)
            except OSError as error:
                return Libvirt(reachable=False, trouble=error.strerror or str(error))
        return Libvirt(reachable=True)
    return Libvirt(reachable=False)


def libvirt_daemon(answer: Completed) -> Libvirt:
    """From `virsh version`, which fails if no daemon answers."""
    if answer.returncode == 0:
        return Libvirt(reachable=True)
    output = answer.stderr + answer.stdout
    denied = re.search(r"(?i)permission denied|authentication|polkit|access denied", output)
    return Libvirt(reachable=False, denied=denied is not None, trouble=trouble(answer))


def libvirt_machines(text: str) -> tuple[Machine, ...]:
    """`virsh list --all --name --uuid`: `uuid name`."""
    machines = re.findall(r"^([0-9a-f-]{36})\s+(\S+)", text, re.MULTILINE)
    return tuple(Machine(name, id) for id, name in machines)


def bridge(text: str) -> str:
    """`virsh net-info`: the bridge a network is on, if it has one."""
    line = re.search(r"^Bridge:\s+(\S+)", text, re.MULTILINE)
    return line[1] if line else ""
