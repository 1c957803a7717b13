"""What is asked of a host about libvirt, and what the answers mean."""

import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Libvirt, Machine
from labctl.host.files import RUN
from labctl.host.questions import Host, trouble
from labctl.providers.libvirt import NAME
from labctl.providers.vagrant import questions as vagrant
from labctl.providers.vagrant.questions import boxes_directory, vagrant_questions, vagrant_told
from labctl.run import Completed

_SOCKETS = ("libvirt/libvirt-sock", "libvirt/virtqemud-sock")
_POOL = Path("/var/lib/libvirt/images")
_URI = "qemu:///system"


def places(env: Mapping[str, str]) -> dict[str, Path]:
    """Where boxes and disks are kept."""
    return {"boxes": boxes_directory(env), NAME: _POOL}


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Whether Vagrant is there, and libvirt's daemon takes calls."""
    linux = facts.family in ("linux", "wsl")
    return replace(vagrant.look(host, facts), libvirt=libvirt_socket() if linux else None)


def try_kvm(host: Host, facts: HostFacts) -> HostFacts:
    """Whether KVM works: `auto` asks nothing else if it does not."""
    return host.try_kvm(facts)


def ask(host: Host, facts: HostFacts) -> HostFacts:
    """What Vagrant and virsh say."""
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
    said = host.answers(questions)
    daemon = facts.libvirt
    if "daemon" in said:
        daemon = libvirt_daemon(said["daemon"])
    if daemon is not None and daemon.reachable and "machines" in said:
        names = [name for name in said["networks"].stdout.split() if name.startswith("labctl-")]
        infos = host.answers({name: [*virsh, "net-info", name] for name in names})
        daemon = replace(
            daemon,
            machines=libvirt_machines(said["machines"].stdout),
            networks=tuple((name, bridge(infos[name].stdout)) for name in names),
        )
    return replace(facts, libvirt=daemon, vagrant=vagrant_told(facts.vagrant, said))


def libvirt_socket(run: Path = RUN) -> Libvirt | None:
    """Whether libvirt's daemon takes calls; None when there is none."""
    for name in _SOCKETS:
        if not (run / name).exists():
            continue
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
    """`virsh version`: it tells the library's version even where no daemon answers."""
    if answer.returncode == 0:
        return Libvirt(reachable=True)
    said = answer.stderr + answer.stdout
    denied = re.search(r"(?i)permission denied|authentication|polkit|access denied", said)
    return Libvirt(reachable=False, denied=denied is not None, trouble=trouble(answer))


def libvirt_machines(text: str) -> tuple[Machine, ...]:
    """`virsh list --all --name --uuid`: `uuid name`."""
    found = re.findall(r"^([0-9a-f-]{36})\s+(\S+)", text, re.MULTILINE)
    return tuple(Machine(name, id) for id, name in found)


def bridge(text: str) -> str:
    """`virsh net-info`: the bridge a network is on, if it has one."""
    found = re.search(r"^Bridge:\s+(\S+)", text, re.MULTILINE)
    return found[1] if found else ""
