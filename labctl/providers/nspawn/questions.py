"""What the doctor asks about containers: which other labs of containers there are."""

import re
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import ContainerLab, HostFacts
from labctl.host.files import PROC, RUN, read
from labctl.host.questions import Host
from labctl.state import STATE_DIRECTORY


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds the labs of containers on this machine to the facts."""
    return replace(facts, containers=containers())


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
        root = _option(command, "--directory=").removeprefix("--directory=")
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
        return directory is not None and not (Path(directory) / STATE_DIRECTORY).exists()
    except PermissionError:
        return False
