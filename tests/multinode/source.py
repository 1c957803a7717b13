"""What is downloaded: OVN's source as Debian has it for the nodes, and the programs they lack.

apt checks signatures by the keys that labctl brings along. Its lists and files are in a directory
of their own, so that nothing of this machine's apt is changed.
"""

import re
import subprocess
from pathlib import Path

from labctl.images.keys import archive_keys
from tests.multinode import ASSETS

PROGRAMS = ("net-tools",)
"""Packages with programs that the tests run in nodes and a lab has not: arp."""
_SETTINGS = """
Dir::Etc::SourceList "{directory}/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "{keys}";
Dir::State::Lists "{directory}/lists";
Dir::Cache "{directory}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
"""


class SourceError(Exception):
    """What cannot be had; its text says what to do."""


def installed_version(status: str, package: str) -> str:
    """Version of a package by dpkg's list of all (/var/lib/dpkg/status). Raises SourceError."""
    for paragraph in status.split("\n\n"):
        fields: dict[str, str] = dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Package") == package and fields.get("Status", "").endswith(" installed"):
            return fields["Version"]
    raise SourceError(f"the nodes' image has no {package}")


def with_sources(sources: str) -> str:
    """A sources.list with a `deb-src` line for each `deb` line."""
    lines = [line for line in sources.splitlines() if line.startswith("deb ")]
    return "".join(f"{line}\ndeb-src {line.removeprefix('deb ')}\n" for line in lines)


def source(directory: Path, sources: str, version: str) -> Path:
    """OVN's source of that Debian version, unpacked in `directory`. Raises SourceError.

    `sources` is the nodes' sources.list. What is there already is not downloaded again.
    """
    tree = directory / f"ovn-{version.rpartition('-')[0]}"
    if not (tree / "debian").is_dir():
        _apt(directory, sources, "source", f"ovn={version}")
    return tree


def programs(directory: Path, sources: str) -> list[Path]:
    """The packages of PROGRAMS, as files. Raises SourceError."""
    if not all(list(directory.glob(f"{name}_*.deb")) for name in PROGRAMS):
        _apt(directory, sources, "download", *PROGRAMS)
    return [next(directory.glob(f"{name}_*.deb")) for name in PROGRAMS]


def _apt(directory: Path, sources: str, *words: str) -> None:
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "sources.list").write_text(with_sources(sources), encoding="utf-8")
    settings = directory / "apt.conf"
    with archive_keys(ASSETS / "provision") as keys:
        settings.write_text(_SETTINGS.format(directory=directory, keys=keys), encoding="utf-8")
        for command in (("update",), words):
            done = subprocess.run(
                ["env", f"APT_CONFIG={settings}", "apt-get", "--quiet=2", *command],
                cwd=directory, capture_output=True, text=True, timeout=900, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                wrong = re.findall(r"^E: (.*)", done.stderr, re.MULTILINE) or [done.stderr.strip()]
                raise SourceError(
                    f"apt-get {' '.join(command)}: {wrong[0]}\n"
                    "Is dpkg-dev installed, and does the mirror (LABCTL_MIRROR) have sources? A "
                    "tree of the same version that is here already: --source DIRECTORY"
                )
