"""What a provider must define for the doctor: its questions about the host, and its checks."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, Group

if TYPE_CHECKING:
    from labctl.run import Completed


class Host(Protocol):
    """What a question can use to find out something about this machine."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment variables."""
        ...

    def which(self, name: str) -> str | None:
        """The path of a program, also of one for root; None if there is none."""
        ...

    def answers(self, questions: Mapping[str, Sequence[str]]) -> "dict[str, Completed]":
        """The result of each command; all run at the same time, each with a time limit."""
        ...

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        """The facts, with whether KVM works; trying it takes a tenth of a second."""
        ...


Question = Callable[[Host, HostFacts], HostFacts]
"""Returns the facts with what it has found out."""
Check = Callable[[HostFacts, Case], Iterator[Finding]]


def _nothing(facts: HostFacts) -> Iterator[Finding]:
    yield from ()


def _unchanged(host: Host, facts: HostFacts) -> HostFacts:
    return facts


def _no_places(env: Mapping[str, str]) -> dict[str, Path]:
    return {}


@dataclass(frozen=True)
class HostChecks:
    """The questions of one provider about a host, and its checks of the answers."""

    usable: Check
    """Whether the provider works here at all, for any lab."""
    fits: Check
    """Whether this lab can be made with it here."""
    why_auto: Callable[[HostFacts], str]
    """Why `auto` chooses it, in words for the user."""
    summary: Callable[[HostFacts, Case], Mapping[Group, list[str]]]
    """What is fine, one or two lines for each group: shown if no check of the group found more
    than a note."""
    slow: Callable[[HostFacts], Iterator[Finding]] = _nothing
    """Why it would be very slow here: `auto` does not choose it then, though it works."""
    decisive: frozenset[str] = frozenset({"architecture"})
    """Ids of findings after which no other finding about this provider is of interest."""
    programs: tuple[str, ...] = ()
    """Commands to look for; those that exist are in `facts.commands`."""
    places: Callable[[Mapping[str, str]], Mapping[str, Path]] = _no_places
    """Takes the environment; returns name -> directory whose disk to look at for `facts.disks`."""
    look: Question = _unchanged
    """The question that reads files only, and is fast."""
    questions: tuple[Question, ...] = ()
    """Those that call programs, the fastest first: `auto` stops when an answer rules it out."""


def trouble(answer: "Completed") -> str:
    """The line of a command's output that probably says what is wrong."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines()]
    matching = [line for line in lines if re.search(r"(?i)error|fail|denied|not ", line)]
    best = (matching or [line for line in lines if line] or [f"exit {answer.returncode}"])[-1]
    return re.sub(r"(?i)^\S*error: ", "", best)[:200]
