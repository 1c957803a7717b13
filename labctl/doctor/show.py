"""The report of the doctor, for people."""

from collections.abc import Mapping
from typing import get_args

from labctl.doctor.judge import Report
from labctl.host.findings import Group, Level
from labctl.i18n import mark, tr
from labctl.providers.registry import find
from labctl.terminal.console import Console


def show(report: Report, console: Console) -> None:
    """The report for a person, within 80 columns: what is well, what is not, what to type."""
    choice = report.choice
    _title(report, console)
    if choice.provider:
        for provider, reason in choice.passed_over.items():
            console.say(
                tr("not {provider}: {reason}", provider=find(provider).title, reason=reason)
            )
    lines: dict[Group, list[str]] = {}
    checks = find(choice.provider).checks if choice.provider else None
    if checks and not any(one.id in checks.decisive for one in report.findings):
        lines = {**checks.summary(report.facts, report.case)}
        if not report.case.here.unreadable:
            lines["labs"] = [tr("nothing of another lab is in the way")]
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
            whose = "" if choice.provider or not one.provider else f"{find(one.provider).title}: "
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
    choice = report.choice
    console.heading(
        tr("{lab} on {provider}: {why}",
           lab=report.lab, provider=find(choice.provider).title, why=choice.why)
        if choice.provider
        else report.lab
    )  # fmt: skip


_ORDER: Mapping[Level, int] = {"error": 0, "warning": 1, "note": 2}

_TITLES: Mapping[Group, str] = {
    "programs": mark("Programs and rights"),
    "machine": mark("Processor and memory"),
    "disk": mark("Disk"),
    "network": mark("Networks and ports"),
    "image": mark("Image"),
    "labs": mark("Other labs"),
}


def _summary(report: Report) -> str:
    warnings = sum(one.level == "warning" for one in report.findings)
    if not report.ok:
        return tr("the lab cannot be made here; errors: {n}", n=len(report.errors))
    if warnings:
        return tr("the lab can be made here; warnings: {n}", n=warnings)
    return tr("the lab can be made here")
