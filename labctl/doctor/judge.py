"""Host facts -> findings and the choice of a provider. Pure functions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import TypedDict

from labctl.errors import LabError
from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, FindingJson
from labctl.i18n import tr
from labctl.providers.registry import ProviderEntry, auto_order, find, names

IGNORE = "LABCTL_DOCTOR_IGNORE"
"""Environment variable: ids of findings, separated by commas, that are no errors for `create`."""


@dataclass(frozen=True)
class Choice:
    """The provider that will make the lab."""

    provider: str
    """Its name; empty when no provider can."""
    why: str
    """The reason, in words for the user."""
    passed_over: Mapping[str, str]
    """Providers that `auto` prefers but did not choose: provider -> reason."""


class DoctorJson(TypedDict):
    """What `doctor --json` prints: only the texts depend on the user's language."""

    lab: str
    ok: bool
    """Whether the lab can be made."""
    provider: str | None
    """The one that will make it; null when no provider can."""
    why: str
    passed_over: Mapping[str, str]
    """Providers that `auto` prefers but did not choose: provider -> reason."""
    findings: Sequence[FindingJson]
    host: HostFacts


@dataclass(frozen=True)
class DoctorReport:
    """What the doctor found out about this host and this lab."""

    lab: str
    choice: Choice
    findings: tuple[Finding, ...]
    facts: HostFacts
    case: Case

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings because of which the lab cannot be made."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def ok(self) -> bool:
        """Whether the lab can be made."""
        return bool(self.choice.provider) and not self.errors

    def raise_if_not_ok(self, *, box: bool = False) -> None:
        """Raises LabError with every reason, when the lab cannot be made.

        `box`: the lab is the one that a box is made in, of which the user knows nothing.
        """
        if self.ok:
            return
        first, *more = self.errors
        reasons = "\n".join([first.what, *(finding.what for finding in more)])
        fix = tr(": ").join(filter(None, [first.fix, "; ".join(first.commands)]))
        if box:
            raise LabError(tr("the box cannot be made here: {reasons}", reasons=reasons), hint=fix)
        raise LabError(
            tr("this lab cannot be made here: {reasons}", reasons=reasons),
            hint=fix + ("\n" if fix else "") + tr("`labctl doctor` tells more"),
        )

    def to_json(self) -> DoctorJson:
        """For programs."""
        return {
            "lab": self.lab,
            "ok": self.ok,
            "provider": self.choice.provider or None,
            "why": self.choice.why,
            "passed_over": self.choice.passed_over,
            "findings": [finding.to_json() for finding in self.findings],
            "host": self.facts,
        }


def judge(
    provider: str, facts: HostFacts, case: Case, ignored: frozenset[str] = frozenset()
) -> DoctorReport:
    """The report about this host and this lab.

    `provider` is a name or `auto`; `ignored` are ids of findings that are no errors.
    """
    choice = choose(provider, facts, case, ignored)
    lab = case.topology.lab
    if not choice.provider:
        # A finding that several providers have, such as missing Vagrant, is reported once.
        by_id: dict[str, Finding] = {}
        for entry in auto_order():
            for finding in entry.checks.usable(facts, case):
                by_id.setdefault(finding.id, replace(finding, provider=entry.name))
        no_provider = Finding(
            "no-provider",
            "error",
            "programs",
            tr("none of VirtualBox, libvirt and containers can make a lab here"),
            impact=tr("there is nothing that could run the nodes"),
            fix=tr("install what one of them needs; what is missing is listed below"),
        )
        all_findings = (no_provider, *_with_ignored(by_id.values(), ignored))
        return DoctorReport(lab, choice, all_findings, facts, case)
    checks = find(choice.provider).checks
    findings = list(checks.usable(facts, case))
    if not any(finding.id in checks.decisive for finding in findings):
        findings += [*checks.fits(facts, case), *_unreadable_lab(case)]
    findings = [replace(finding, provider=choice.provider) for finding in findings]
    return DoctorReport(lab, choice, tuple(_with_ignored(findings, ignored)), facts, case)


def choose(
    provider: str, facts: HostFacts, case: Case, ignored: frozenset[str] = frozenset()
) -> Choice:
    """Which provider makes the lab, and why; the parameters are those of `judge`."""
    here = case.here
    if provider == "auto" and here.exists and here.provider in names():
        return Choice(here.provider, tr("the lab that is here was made with it"), {})
    if provider != "auto":
        return Choice(provider, tr("you chose it"), {})
    passed_over: dict[str, str] = {}
    for entry in auto_order():
        reason = why_not_auto(entry, facts, case, ignored)
        if reason:
            passed_over[entry.name] = reason
            continue
        return Choice(entry.name, entry.checks.why_auto(facts), passed_over)
    return Choice(
        "", tr("none of VirtualBox, libvirt and containers can make a lab here"), passed_over
    )


def why_not_auto(
    entry: ProviderEntry, facts: HostFacts, case: Case, ignored: frozenset[str]
) -> str:
    """Why `auto` does not take this provider; empty if it does."""
    findings = _with_ignored(entry.checks.usable(facts, case), ignored)
    reasons = [finding.what for finding in findings if finding.level == "error"]
    # One that works, but slowly, is used only if the user asks for it.
    reasons = reasons or [finding.what for finding in entry.checks.slow(facts)]
    return reasons[0] if reasons else ""


def _with_ignored(findings: Iterable[Finding], ignored: frozenset[str]) -> Iterator[Finding]:
    """The findings, with ignored errors changed to warnings."""
    for finding in findings:
        if finding.level == "error" and finding.id in ignored:
            yield replace(finding, level="warning", what=tr("{what} (ignored)", what=finding.what))
        else:
            yield finding


def _unreadable_lab(case: Case) -> Iterator[Finding]:
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
