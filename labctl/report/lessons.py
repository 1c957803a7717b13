"""The lessons of a lab as the page shows them: what ran, what it said, what was proved."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labctl.i18n import tr, tr_n
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import Position
from labctl.lessons.transcript import Record, abbreviated
from labctl.report.words import Both, Prose, both
from labctl.terminal.fit import fit_output
from labctl.terminal.text import cell_width, sanitize

Standing = Literal["passed", "failed", "back", "open"]
"""back: it ran, and was taken back since; open: it never ran."""

_PAPER = 100
"""Columns of a terminal that fit on a page."""


@dataclass(frozen=True)
class Command:
    """A command and what it said."""

    prompt: str
    command: str
    output: str

    @property
    def paper(self) -> str:
        """The output with its tables made narrow for a page; "" if it fits as it is."""
        if all(cell_width(line) <= _PAPER for line in self.output.splitlines()):
            return ""
        return "\n".join(fit_output(self.output, _PAPER))


@dataclass(frozen=True)
class ClaimShown:
    """One claim with its evidence."""

    holds: bool
    text: Both
    expected: str
    """What would have been right; empty for a claim that holds."""
    evidence: tuple[Both, ...]


@dataclass(frozen=True)
class CheckpointShown:
    """One checkpoint, with its last run if there was any."""

    id: str
    title: Both
    standing: Standing
    standing_words: Both
    at: str = ""
    explain: Prose | None = None
    typed: bool = False
    commands: tuple[Command, ...] = ()
    claims: tuple[ClaimShown, ...] = ()


@dataclass(frozen=True)
class LessonShown:
    """One lesson."""

    id: str
    title: Both
    goal: Both
    begun: bool
    """Whether any of it was ever run in this lab."""
    score: Both
    checkpoints: tuple[CheckpointShown, ...]


def lesson_shown(lesson: Lesson, records: Mapping[str, Record], position: Position) -> LessonShown:
    """A lesson with what is recorded of its runs."""
    begun = set(position.progress(lesson).attempted)
    shown = tuple(
        _checkpoint(one, records.get(one.id), begun=one.id in begun) for one in lesson.checkpoints
    )
    passed = sum(one.standing == "passed" for one in shown)
    return LessonShown(
        id=lesson.id,
        title=_words(lesson.title),
        goal=_words(lesson.goal),
        begun=bool(records),
        score=both(
            lambda: tr_n(
                "{passed} of {n} checkpoint passed",
                "{passed} of {n} checkpoints passed",
                n=len(shown),
                passed=passed,
            )
        ),
        checkpoints=shown,
    )


def _words(text: Any) -> Both:
    return both(lambda: str(text))


def _checkpoint(one: Checkpoint, record: Record | None, *, begun: bool) -> CheckpointShown:
    if record is None:
        return CheckpointShown(one.id, _words(one.title), "open", both(lambda: tr("not run")))
    claims = tuple(_claim(claim) for claim in record["claims"])
    standing: Standing = "failed"
    words = both(lambda: tr("failed"))
    if all(claim.holds for claim in claims):
        standing, words = "passed", both(lambda: tr("passed"))
        if not begun:
            standing, words = "back", both(lambda: tr("passed, taken back since"))
    return CheckpointShown(
        id=one.id,
        title=_words(one.title),
        standing=standing,
        standing_words=words,
        at=utc(record["at"]),
        explain=Prose(dict(record["explain"])),
        typed=bool(record["typed"]),
        commands=_commands(record["commands"]),
        claims=claims,
    )


def _commands(recorded: Sequence[Mapping[str, str]]) -> tuple[Command, ...]:
    return tuple(
        Command(one["prompt"], one["command"], abbreviated(sanitize(one["output"])))
        for one in recorded
    )


def _claim(recorded: Mapping[str, Any]) -> ClaimShown:
    result = ClaimResult(**recorded["result"])
    return ClaimShown(
        holds=result.holds,
        text=Both({language: sanitize(text) for language, text in recorded["texts"].items()}),
        expected="" if result.holds else result.expected,
        evidence=_evidence(result),
    )


def _evidence(result: ClaimResult) -> tuple[Both, ...]:
    # Each line may hold words of ours, so the whole list is made once for each language.
    lines = both(lambda: "\n".join(_lines(result)))
    split = {language: text.split("\n") for language, text in lines.texts.items()}
    count = max(len(texts) for texts in split.values())
    return tuple(
        Both({language: texts[n] if n < len(texts) else "" for language, texts in split.items()})
        for n in range(count)
    )


def _lines(result: ClaimResult) -> list[str]:
    return [" ".join(abbreviated(sanitize(one)).split("\n")) for one in result.evidence]


def utc(seconds: float) -> str:
    """A moment for people, in UTC: where the report is read nobody knows the lab's zone."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
