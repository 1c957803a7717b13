"""Print the report of the doctor for people."""

from collections.abc import Mapping
from typing import get_args

from labctl.doctor.judge import DoctorReport
from labctl.host.findings import Group, Severity
from labctl.i18n import mark, tr
from labctl.providers.registry import find
from labctl.terminal.console import Console


def show(report: DoctorReport, console: Console) -> None:
    """Print the whole report: what is fine, what is not, how to fix it, what to type."""
    choice = report.choice
    _title(report, console)
    if choice.provider:
        for provider, reason in choice.passed_over.items():
            console.say(
                tr("not {provider}: {reason}", provider=find(provider).title, reason=reason)
            )
    lines: dict[Group, list[str]] = {}
    checks = find(choice.provider).checks if choice.provider else None
    if checks and not any(finding.id in checks.decisive for finding in report.findings):
        lines = {**checks.summary(report.facts, report.case)}
        if not report.case.here.unreadable:
            lines["labs"] = [tr("nothing of another lab is in the way")]
    for group in get_args(Group):
        in_group = [finding for finding in report.findings if finding.group == group]
        passed = (
            [] if any(finding.level != "note" for finding in in_group) else lines.get(group, [])
        )
        if not in_group and not passed:
            continue
        console.say()
        console.say(tr(TITLES[group]))
        for line in passed:
            console.finding("ok", line)
        for finding in sorted(in_group, key=lambda finding: _ORDER[finding.level]):
            prefix = (
                ""
                if choice.provider or not finding.provider
                else find(finding.provider).title + tr(": ")
            )
            console.finding(
                finding.level,
                prefix + finding.what,
                impact=finding.impact,
                fix=finding.fix,
                commands=finding.commands,
            )
    console.summary(report.ok, _summary(report))


def show_briefly(report: DoctorReport, console: Console) -> None:
    """Print what `create` shows before it begins: the provider and why, and all warnings."""
    _title(report, console)
    for finding in report.findings:
        if finding.level == "warning":
            console.finding(
                finding.level,
                finding.what,
                impact=finding.impact,
                fix=finding.fix,
                commands=finding.commands,
            )


def _title(report: DoctorReport, console: Console) -> None:
    choice = report.choice
    console.heading(
        tr("{lab} on {provider}: {why}",
           lab=report.lab, provider=find(choice.provider).title, why=choice.why)
        if choice.provider
        else report.lab
    )  # fmt: skip


_ORDER: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}

TITLES: Mapping[Group, str] = {
    "programs": mark("Programs and rights"),
    "machine": mark("Processor and memory"),
    "disk": mark("Disk"),
    "network": mark("Networks and ports"),
    "image": mark("Image"),
    "labs": mark("Other labs"),
}


def _summary(report: DoctorReport) -> str:
    warnings = sum(finding.level == "warning" for finding in report.findings)
    if not report.ok:
        return tr("the lab cannot be made here; errors: {n}", n=len(report.errors))
    if warnings:
        return tr("the lab can be made here; warnings: {n}", n=warnings)
    return tr("the lab can be made here")
