"""What the doctor asks about containers: other labs of containers, and the host's firewall."""

import re
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import ContainerLab, HostFacts
from labctl.host.files import PROC, RUN, SYS, read
from labctl.host.questions import Host
from labctl.providers.nspawn import TRANSIT
from labctl.state import STATE_DIRECTORY, LabState


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds the labs of containers on this machine, and whether Docker is here."""
    if facts.family not in ("linux", "wsl"):
        return facts
    docker = (SYS / "class/net/docker0").exists()
    return replace(facts, containers=containers(), docker=docker)


def firewall(host: Host, facts: HostFacts) -> HostFacts:
    """Adds which chains of the firewall drop what is forwarded; only root may see them."""
    if not facts.root or "nft" not in facts.commands:
        return facts
    answer = host.answers({"rules": [host.which("nft") or "nft", "list", "ruleset"]})["rules"]
    return replace(
        facts, forward_drops=forward_drops(answer.stdout) if answer.returncode == 0 else None
    )


def forward_drops(ruleset: str) -> tuple[tuple[str, str], ...]:
    """(table, chain) of the chains for forwarded packets in `nft list ruleset` that end in a drop.

    None of them if a rule accepts the transit links of labs: somebody has taken our advice.
    """
    if re.search(rf"saddr {re.escape(str(TRANSIT))} .*\baccept\b", ruleset):
        return ()
    found, table, chain = [], "", ""
    for line in ruleset.splitlines():
        words = line.split()
        match words:
            case ["table", family, name, "{"]:
                table = f"{family} {name}"
            case ["chain", name, "{"]:
                chain = name
            case ["type", "filter", "hook", "forward", *_] if line.endswith("policy drop;"):
                found.append((table, chain))
    return tuple(found)


DIRECTORY_OPTION = "--directory="
"""How the command line of a node's systemd-nspawn says which directory is its root."""


def containers(proc: Path = PROC, run: Path = RUN) -> tuple[ContainerLab, ...]:
    """The labs of containers on this machine.

    Their namespaces tell the labs' IDs, the command lines of systemd-nspawn their directories.
    """
    names = [path.name for path in run.glob("netns/labctl-*")]
    ids = {match[1] for name in names if (match := re.match(r"labctl-([0-9a-f]{8})-", name))}
    if not ids:
        return ()
    directories: dict[str, str] = {}
    for file in proc.glob("[0-9]*/cmdline"):
        command = (read(file) or "").split("\0")
        match = re.match(r"--machine=labctl-([0-9a-f]{8})-", _option(command, "--machine="))
        root = _option(command, DIRECTORY_OPTION).removeprefix(DIRECTORY_OPTION)
        if match and f"/{STATE_DIRECTORY}/" in root:
            directories.setdefault(match[1], root.rpartition(f"/{STATE_DIRECTORY}/")[0])
    return tuple(
        ContainerLab(id, directories.get(id, ""), gone=_gone(directories.get(id)))
        for id in sorted(ids)
    )


def _option(command: list[str], name: str) -> str:
    return next((word for word in command if word.startswith(name)), "")


def _gone(directory: str | None) -> bool:
    try:
        return directory is not None and not LabState(Path(directory)).identity_file.exists()
    except PermissionError:
        return False
