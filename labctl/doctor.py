"""Can this lab be made on this host, and by which provider? The findings, the choice, the reason.

Facts are collected by survey.py and judged by the pure checks in checks/. `examine` is what
`labctl doctor` shows and what `create` asks before it begins.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from labctl.checks import Case, Finding, Group, Level, libvirt, nspawn, virtualbox
from labctl.checks.well import well
from labctl.errors import LabError
from labctl.hostfacts import HostFacts, LabHere
from labctl.hostfiles import read
from labctl.i18n import tr
from labctl.image import ImageCache
from labctl.state import LabState
from labctl.survey import Survey
from labctl.terminal.console import Console
from labctl.topology import Topology

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


def examine(
    topology: Topology,
    state: LabState,
    *,
    provider: str,
    cache: Path,
    provision: Path,
    env: Mapping[str, str] | None = None,
    thorough: bool = False,
) -> Report:
    """Look at the host and judge it for this lab; changes nothing, needs no root.

    `provider` is lab.yaml's or the one the user names, `auto` included; `cache` is where baked
    images are, `provision` what they are baked from. `thorough` also tries what only matters to a
    reader of the report. Never raises for a fault of the host: that is a finding.
    """
    env = os.environ if env is None else env
    ports = [forward.host for node in topology.nodes for forward in node.forwards]
    survey = Survey(state.root.parent, cache, env, ports)
    facts = replace(survey.look(), image=_image(ImageCache(cache, provision)))
    case = Case(topology, lab_here(state, topology))
    ignored = frozenset(word.strip() for word in env.get(IGNORE, "").split(",") if word.strip())
    wanted = provider
    if wanted == "auto" and case.here.exists and case.here.provider:
        wanted = case.here.provider
    if wanted != "auto":
        facts = survey.ask(wanted, facts)
    else:
        for name in ("virtualbox", "libvirt"):
            # The slow programs of one that files alone, or KVM, rule out are not called.
            if name == "libvirt" and not _keeps(name, facts, case, ignored):
                facts = survey.try_kvm(facts)
            if not _keeps(name, facts, case, ignored):
                facts = survey.ask(name, facts)
            if not _keeps(name, facts, case, ignored):
                break
    if thorough:
        facts = survey.try_kvm(facts)
    return judge(provider, facts, case, ignored)


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


def _image(images: ImageCache) -> Any:
    try:
        if images.find() is not None:
            return "baked"
        return "packages" if (images.root / f"packages-{images.packages_key}").is_dir() else "none"
    except OSError:
        return "none"


def lab_here(state: LabState, topology: Topology) -> LabHere:
    """What the lab's directory holds already, as far as this user may read it."""
    if state.root.exists() and not os.access(state.root, os.R_OK | os.X_OK):
        return LabHere(unreadable=True)
    if not state.exists:
        return LabHere()
    try:
        identity = state.identity()
    except LabError:
        return LabHere(exists=True)
    files = [
        state.machine_id(node.name, provider)
        for node in topology.nodes
        for provider in ("virtualbox", "libvirt")
    ]
    machines = tuple(text.strip() for file in files if (text := read(file)))
    return LabHere(True, identity.lab_id, identity.provider, machines)


# -- for people ------------------------------------------------------------------------------------
def show(report: Report, console: Console) -> None:
    """The report for a person, within 80 columns: what is well, what is not, what to type."""
    choice = report.choice
    _title(report, console)
    if choice.provider:
        for provider, reason in choice.passed_over.items():
            console.say(tr("not {provider}: {reason}", provider=NAMES[provider], reason=reason))
    lines: dict[Group, list[str]] = {}
    if choice.provider and not any(one.id in _ELSEWHERE for one in report.findings):
        lines = well(choice.provider, report.facts, report.case)
    for group in get_args(Group):
        found = [one for one in report.findings if one.group == group]
        fine = [] if any(one.level != "note" for one in found) else lines.get(group, [])
        if not found and not fine:
            continue
        console.say()
        console.say(tr(_TITLES[group]))
        for line in fine:
            console.finding("ok", line)
        for one in sorted(found, key=lambda one: _ORDER[one.level]):
            whose = "" if choice.provider or not one.provider else f"{NAMES[one.provider]}: "
            console.finding(
                one.level, whose + one.what, breaks=one.breaks, mend=one.mend, commands=one.commands
            )
    console.summary(report.ok, _summary(report))


def show_briefly(report: Report, console: Console) -> None:
    """What `create` says before it begins: the provider and why, and what may go wrong."""
    _title(report, console)
    for one in report.findings:
        if one.level == "warning":
            console.finding(
                one.level, one.what, breaks=one.breaks, mend=one.mend, commands=one.commands
            )


def _title(report: Report, console: Console) -> None:
    name, why = NAMES.get(report.choice.provider, ""), report.choice.why
    console.heading(
        tr("{lab} on {provider}: {why}", lab=report.lab, provider=name, why=why)
        if name
        else report.lab
    )


_ORDER: Mapping[Level, int] = {"error": 0, "warning": 1, "note": 2}
_TITLES: Mapping[Group, str] = {
    "programs": "Programs and rights",
    "machine": "Processor and memory",
    "disk": "Disk",
    "network": "Networks and ports",
    "image": "Image",
    "labs": "Other labs",
}


def _summary(report: Report) -> str:
    warnings = sum(one.level == "warning" for one in report.findings)
    if not report.ok:
        return tr("the lab cannot be made here; errors: {n}", n=len(report.errors))
    if warnings:
        return tr("the lab can be made here; warnings: {n}", n=warnings)
    return tr("the lab can be made here")
