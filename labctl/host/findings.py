"""What may be wrong with a host for a lab: the types of findings.

A check is a pure function of host facts and a lab that yields findings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from labctl.host.facts import HostFacts, LabHere
from labctl.i18n import tr, tr_list
from labctl.topology import Topology

Severity: TypeAlias = Literal["error", "warning", "note"]
Group: TypeAlias = Literal["programs", "machine", "disk", "network", "image", "labs"]


@dataclass(frozen=True)
class Finding:
    """Something about the host that prevents the lab, or that the user should know."""

    id: str
    """Its name, such as `vagrant-missing`; it never changes."""
    level: Severity
    """error: the lab cannot be made; warning: a part of it will not work well."""
    group: Group
    what: str
    """What is wrong."""
    impact: str = ""
    """What will not work because of it."""
    fix: str = ""
    """How to fix it, in words."""
    commands: tuple[str, ...] = ()
    """Shell commands that fix it."""
    provider: str = ""
    """The provider it concerns."""

    def to_json(self) -> "FindingJson":
        """For programs, which know the impact as `breaks` and the fix as `mend`."""
        return {
            "id": self.id,
            "level": self.level,
            "group": self.group,
            "what": self.what,
            "breaks": self.impact,
            "mend": self.fix,
            "commands": self.commands,
            "provider": self.provider,
        }


class FindingJson(TypedDict):
    """A finding in what `doctor --json` prints."""

    id: str
    """Its name, such as `vagrant-missing`; it never changes."""
    level: Severity
    """error: the lab cannot be made; warning: a part of it will not work well."""
    group: Group
    what: str
    """What is wrong."""
    breaks: str
    """What will not work because of it."""
    mend: str
    """How to fix it, in words."""
    commands: Sequence[str]
    """Shell commands that fix it."""
    provider: str
    """The provider it concerns."""


@dataclass(frozen=True)
class Case:
    """The lab that is to be made here, and what exists of it already."""

    topology: Topology
    here: LabHere


APT, DNF = ("debian", "ubuntu"), ("fedora", "rhel", "centos")


def install(facts: HostFacts, apt: Iterable[str], dnf: Iterable[str] = ()) -> tuple[str, ...]:
    """The command that installs packages on this distribution; empty if labctl knows none."""
    if any(name in APT for name in facts.distribution):
        return ("sudo apt install " + " ".join(apt),)
    if dnf and any(name in DNF for name in facts.distribution):
        return ("sudo dnf install " + " ".join(dnf),)
    return ()


def with_package_manager(names: Iterable[str]) -> str:
    """The fix for a distribution for which `install` knows no command."""
    return tr("install with your system's package manager: {names}", names=tr_list(names))


def size(mib: float) -> str:
    """An amount of MiB for people: `2.7 GiB`, `512 MiB`."""
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"
