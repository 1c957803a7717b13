"""What may be wrong with a host: findings, and the lab that they matter to.

A check is a pure function of the facts and the lab: it yields findings and acts on nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.host.facts import HostFacts, LabHere
from labctl.i18n import tr
from labctl.topology import Topology

Level: TypeAlias = Literal["error", "warning", "note"]
Group: TypeAlias = Literal["programs", "machine", "disk", "network", "image", "labs"]


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way, or should be known."""

    id: str
    """Its name, which never changes: `vagrant-missing`."""
    level: Level
    """error: the lab cannot be made; warning: something of it will not work as it should."""
    group: Group
    what: str
    """What is wrong."""
    breaks: str = ""
    """What that would break."""
    mend: str = ""
    """What to do about it, in words."""
    commands: tuple[str, ...] = ()
    """What to type for that, each a line for a shell."""
    provider: str = ""
    """The provider it concerns."""


@dataclass(frozen=True)
class Case:
    """The lab that somebody wants here."""

    topology: Topology
    here: LabHere


APT, DNF = ("debian", "ubuntu"), ("fedora", "rhel", "centos")


def install(facts: HostFacts, apt: Iterable[str], dnf: Iterable[str] = ()) -> tuple[str, ...]:
    """The command that installs packages on this distribution, if we know one."""
    if any(name in APT for name in facts.distribution):
        return ("sudo apt install " + " ".join(apt),)
    if dnf and any(name in DNF for name in facts.distribution):
        return ("sudo dnf install " + " ".join(dnf),)
    return ()


def with_package_manager(names: Iterable[str]) -> str:
    """What to say where `install` knows no command."""
    return tr("install with your system's package manager: {names}", names=", ".join(names))


def size(mib: float) -> str:
    """`2.7 GiB`, `512 MiB`."""
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"
