"""What the doctor asks about containers: other labs of containers, the keys for their image."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import ContainerLab, HostFacts
from labctl.host.files import PROC, RUN, read
from labctl.host.questions import Host
from labctl.images.debian import KEYRING
from labctl.state import STATE_DIRECTORY, LabState


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds the labs of containers on this machine to the facts."""
    return replace(facts, containers=containers())


APT_KEYS = Path("/etc/apt/trusted.gpg.d")


def keys(host: Host, facts: HostFacts) -> HostFacts:
    """Adds the keys of Debian's archives, if the image is to be built of their packages.

    mmdebstrap has packages checked with apt's own keys, or with the keyring if apt lacks some.
    """
    files = [file for file in (KEYRING, *sorted(APT_KEYS.glob("*"))) if file.is_file()]
    if facts.image != "none" or "gpg" not in facts.commands or not KEYRING.exists():
        return facts
    # gpg makes the directory of its settings: not the user's, for the doctor changes nothing.
    with tempfile.TemporaryDirectory() as home:
        command = [
            host.which("gpg") or "gpg",
            "--batch",
            "--homedir",
            home,
            "--with-colons",
            "--show-keys",
            *files,
        ]
        listed = host.answers({"keys": [str(word) for word in command]})["keys"].stdout
    return replace(facts, archive_keys=key_ids(listed) or None)


def key_ids(listed: str) -> tuple[str, ...]:
    """The long IDs of the keys in `gpg --with-colons` (doc/DETAILS in GnuPG: field 5 of `pub`)."""
    rows = [line.split(":") for line in listed.splitlines()]
    return tuple(row[4] for row in rows if row[0] == "pub" and len(row) > 4)


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
