"""What a provider asks of this machine, and what of it the doctor judges: no provider by name."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, Group

if TYPE_CHECKING:
    from labctl.run import Completed


class Host(Protocol):
    """This machine, for who has a question."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of whoever asks."""
        ...

    def which(self, name: str) -> str | None:
        """Where a program is, those of root included."""
        ...

    def answers(self, questions: Mapping[str, Sequence[str]]) -> "dict[str, Completed]":
        """What each command says; all run at the same time, each with a time limit."""
        ...

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        """The facts, and whether /dev/kvm is any good; a tenth of a second if it is there."""
        ...


Question = Callable[[Host, HostFacts], HostFacts]
"""The facts, and what this question has found out."""
Check = Callable[[HostFacts, Case], Iterator[Finding]]


def _nothing(facts: HostFacts) -> Iterator[Finding]:
    yield from ()


def _unchanged(host: Host, facts: HostFacts) -> HostFacts:
    return facts


def _no_places(env: Mapping[str, str]) -> dict[str, Path]:
    return {}


@dataclass(frozen=True)
class HostChecks:
    """What one provider wants to know about a host, and what it makes of the answers."""

    usable: Check
    """Whether the provider works here at all, whatever the lab."""
    fits: Check
    """Whether this lab fits into it."""
    why_auto: Callable[[HostFacts], str]
    """Why `auto` takes it, in words for the user."""
    summary: Callable[[HostFacts, Case], Mapping[Group, list[str]]]
    """What is well, a line or two for each group: shown where a check found nothing."""
    slow: Callable[[HostFacts], Iterator[Finding]] = _nothing
    """What makes `auto` pass it over although it would work: nobody gets it so slow unasked."""
    decisive: frozenset[str] = frozenset({"architecture"})
    """Ids of findings: where one of these is, nothing else about the provider is worth telling."""
    programs: tuple[str, ...] = ()
    """Commands to look for; `facts.commands` has those that are there."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Name -> file: no command, but missed like one."""
    places: Callable[[Mapping[str, str]], Mapping[str, Path]] = _no_places
    """Name -> directory whose disk matters, from the environment; `facts.disks` has the disks."""
    look: Question = _unchanged
    """What files tell, in no time."""
    questions: tuple[Question, ...] = ()
    """What programs tell, the quickest first: `auto` asks no more once an answer rules it out."""


def trouble(answer: "Completed") -> str:
    """The line of an answer that tells best what is wrong."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines()]
    telling = [line for line in lines if re.search(r"(?i)error|fail|denied|not ", line)]
    said = (telling or [line for line in lines if line] or [f"exit {answer.returncode}"])[-1]
    return re.sub(r"(?i)^\S*error: ", "", said)[:200]
