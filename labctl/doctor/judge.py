"""From what the host is to what that means for the lab: pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from labctl.errors import LabError
from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding
from labctl.i18n import tr
from labctl.providers.registry import ProviderEntry, auto_order, find, names

IGNORE = "LABCTL_DOCTOR_IGNORE"
"""Environment variable: ids of findings that must not keep `create` from trying, by commas."""


@dataclass(frozen=True)
class Choice:
    """The provider that will make the lab."""

    provider: str
    """Empty when none can."""
    why: str
    passed_over: Mapping[str, str]
    """What keeps each provider that `auto` would have preferred: provider -> reason."""


@dataclass(frozen=True)
class Report:
    """The result of an examination."""

    lab: str
    choice: Choice
    findings: tuple[Finding, ...]
    facts: HostFacts
    case: Case

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the lab from being made."""
        return tuple(one for one in self.findings if one.level == "error")

    @property
    def ok(self) -> bool:
        """Whether the lab can be made."""
        return bool(self.choice.provider) and not self.errors

    def raise_if_not(self) -> None:
        """LabError with every reason, when the lab cannot be made."""
        if self.ok:
            return
        first, *more = self.errors
        whats = [first.what, *(one.what for one in more)]
        mend = ": ".join(filter(None, [first.mend, "; ".join(first.commands)]))
        raise LabError(
            tr("this lab cannot be made here: {reasons}", reasons="\n".join(whats)),
            hint=mend + ("\n" if mend else "") + tr("`labctl doctor` tells more"),
        )

    def to_json(self) -> dict[str, Any]:
        """For programs: ids and levels never change, the texts are in the user's language."""
        host = asdict(self.facts)
        if not host["by_provider"]:
            del host["by_provider"]
        return {
            "lab": self.lab,
            "ok": self.ok,
            "provider": self.choice.provider or None,
            "why": self.choice.why,
            "passed_over": dict(self.choice.passed_over),
            "findings": [asdict(one) for one in self.findings],
            "host": host,
        }


def judge(
    provider: str, facts: HostFacts, case: Case, ignored: frozenset[str] = frozenset()
) -> Report:
    """The report that follows from the facts. Pure."""
    choice = choose(provider, facts, case, ignored)
    lab = case.topology.lab
    if not choice.provider:
        # What two of them lack, such as Vagrant, is said once.
        lacks: dict[str, Finding] = {}
        for entry in auto_order():
            for one in entry.checks.usable(facts, case):
                lacks.setdefault(one.id, replace(one, provider=entry.name))
        none = Finding(
            "no-provider",
            "error",
            "programs",
            tr("none of VirtualBox, libvirt and containers can make a lab here"),
            breaks=tr("there is nothing that could run the nodes"),
            mend=tr("give one of them what it lacks, by what is said below"),
        )
        return Report(lab, choice, (none, *_softened(lacks.values(), ignored)), facts, case)
    checks = find(choice.provider).checks
    findings = list(checks.usable(facts, case))
    if not any(one.id in checks.decisive for one in findings):
        findings += [*checks.fits(facts, case), *_unseen(case)]
    mine = [replace(one, provider=choice.provider) for one in findings]
    return Report(lab, choice, tuple(_softened(mine, ignored)), facts, case)


def choose(
    provider: str, facts: HostFacts, case: Case, ignored: frozenset[str] = frozenset()
) -> Choice:
    """Which provider makes the lab, and why, in words for the user. Pure."""
    here = case.here
    if provider == "auto" and here.exists and here.provider in names():
        return Choice(here.provider, tr("the lab that is here was made with it"), {})
    if provider != "auto":
        return Choice(provider, tr("you chose it"), {})
    over: dict[str, str] = {}
    for entry in auto_order():
        reason = keeps(entry, facts, case, ignored)
        if reason:
            over[entry.name] = reason
            continue
        return Choice(entry.name, entry.checks.why_auto(facts), over)
    return Choice("", tr("none of VirtualBox, libvirt and containers can make a lab here"), over)


def keeps(entry: ProviderEntry, facts: HostFacts, case: Case, ignored: frozenset[str]) -> str:
    """Why `auto` does not take this provider; empty if it does."""
    findings = _softened(entry.checks.usable(facts, case), ignored)
    reasons = [one.what for one in findings if one.level == "error"]
    # One that would work, but slowly, nobody gets unasked.
    reasons = reasons or [one.what for one in entry.checks.slow(facts)]
    return reasons[0] if reasons else ""


def _softened(findings: Iterable[Finding], ignored: frozenset[str]) -> Iterator[Finding]:
    """Errors that the user told us to ignore become warnings."""
    for one in findings:
        if one.level == "error" and one.id in ignored:
            yield replace(one, level="warning", what=tr("{what} (ignored)", what=one.what))
        else:
            yield one


def _unseen(case: Case) -> Iterator[Finding]:
    if case.here.unreadable:
        yield Finding(
            "unreadable",
            "note",
            "labs",
            tr(
                "there is a lab here already that belongs to another user, root as a rule: what it"
                " is made of cannot be seen without being that user"
            ),
        )
