"""From what the host is to what that means for the lab: pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from labctl.doctor.checks import Case, Finding, libvirt, nspawn, virtualbox
from labctl.doctor.facts import HostFacts
from labctl.errors import LabError
from labctl.i18n import tr

IGNORE = "LABCTL_DOCTOR_IGNORE"
"""Environment variable: ids of findings that must not keep `create` from trying, by commas."""

Check = Callable[[HostFacts, Case], Iterator[Finding]]

_USABLE: Mapping[str, Check] = {
    "virtualbox": virtualbox.usable,
    "libvirt": libvirt.usable,
    "nspawn": nspawn.usable,
}

_FITS: Mapping[str, Check] = {
    "virtualbox": virtualbox.fits,
    "libvirt": libvirt.fits,
    "nspawn": nspawn.fits,
}

PROVIDERS = ("auto", "nspawn", "virtualbox", "libvirt")

# Where these are found, nothing else about the provider is worth telling.
_ELSEWHERE = ("architecture", "libvirt-linux", "nspawn-linux")

NAMES = {"virtualbox": "VirtualBox", "libvirt": "libvirt", "nspawn": "nspawn"}


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
        return {
            "lab": self.lab,
            "ok": self.ok,
            "provider": self.choice.provider or None,
            "why": self.choice.why,
            "passed_over": dict(self.choice.passed_over),
            "findings": [asdict(one) for one in self.findings],
            "host": asdict(self.facts),
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
        for name, check in _USABLE.items():
            for one in check(facts, case):
                lacks.setdefault(one.id, replace(one, provider=name))
        none = Finding(
            "no-provider",
            "error",
            "programs",
            tr("none of VirtualBox, libvirt and containers can make a lab here"),
            breaks=tr("there is nothing that could run the nodes"),
            mend=tr("give one of them what it lacks, by what is said below"),
        )
        return Report(lab, choice, (none, *_softened(lacks.values(), ignored)), facts, case)
    findings = list(_USABLE[choice.provider](facts, case))
    if not any(one.id in _ELSEWHERE for one in findings):
        findings += [*_FITS[choice.provider](facts, case), *_unseen(case)]
    mine = [replace(one, provider=choice.provider) for one in findings]
    return Report(lab, choice, tuple(_softened(mine, ignored)), facts, case)


def choose(
    provider: str, facts: HostFacts, case: Case, ignored: frozenset[str] = frozenset()
) -> Choice:
    """Which provider makes the lab, and why, in words for the user. Pure."""
    here = case.here
    if provider == "auto" and here.exists and here.provider in NAMES:
        return Choice(here.provider, tr("the lab that is here was made with it"), {})
    if provider != "auto":
        return Choice(provider, tr("you chose it"), {})
    over: dict[str, str] = {}
    for name in ("virtualbox", "libvirt", "nspawn"):
        reason = _keeps(name, facts, case, ignored)
        if reason:
            over[name] = reason
            continue
        return Choice(name, _praise(name, facts), over)
    return Choice("", tr("none of VirtualBox, libvirt and containers can make a lab here"), over)


def _keeps(name: str, facts: HostFacts, case: Case, ignored: frozenset[str]) -> str:
    """Why `auto` does not take this provider; empty if it does."""
    findings = _softened(_USABLE[name](facts, case), ignored)
    reasons = [one.what for one in findings if one.level == "error"]
    if name == "libvirt" and not reasons:
        # It would work, tenfold slower than containers: nobody gets that unasked.
        reasons = [one.what for one in libvirt.accelerated(facts)]
    return reasons[0] if reasons else ""


def _praise(name: str, facts: HostFacts) -> str:
    match name:
        case "virtualbox":
            return tr(
                "VirtualBox {virtualbox} and Vagrant {vagrant} are installed",
                virtualbox=(facts.virtualbox and facts.virtualbox.version) or "?",
                vagrant=(facts.vagrant and facts.vagrant.version) or "?",
            )
        case "libvirt":
            return tr("libvirt answers, Vagrant has its plugin, and KVM works")
        case _:
            return tr("containers are what works here without a hypervisor")


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
