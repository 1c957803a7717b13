"""The lessons of a lab as the report shows them: commands, outputs, claims. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labctl.i18n import tr, tr_n
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import Position
from labctl.lessons.proof import Proof, legend, tables, verdict
from labctl.lessons.transcript import Record, abbreviated, summary_of
from labctl.report.walks import WalkShown
from labctl.report.words import Both, Prose, both, utc
from labctl.terminal.fit import fit_output
from labctl.terminal.text import cell_width, sanitize
from labctl.walks.walk import Walk

Standing = Literal["passed", "failed", "back", "open"]
"""back: it passed and was undone since; open: it never ran."""

Step = tuple[str, str]
"""(id of the lesson, id of the checkpoint)."""

_PAPER = 100
"""Columns of monospaced text that fit on the page."""


@dataclass(frozen=True)
class Command:
    """A command and its output."""

    prompt: str
    command: str
    output: str

    @property
    def paper(self) -> str:
        """The output with tables narrowed to the page; empty if it fits unchanged."""
        if all(cell_width(line) <= _PAPER for line in self.output.splitlines()):
            return ""
        return "\n".join(fit_output(self.output, _PAPER))


@dataclass(frozen=True)
class ClaimShown:
    """One claim with its evidence."""

    holds: bool
    text: Both
    expected: str
    """The expected value; empty for a claim that holds."""
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
    walks: tuple[WalkShown, ...] = ()
    """The packet walks that belong to it; see `checkpoint_of`."""


@dataclass(frozen=True)
class ProofShown:
    """The certificate of a lesson."""

    good: bool
    verdict: Both
    legend: Both
    tables: tuple[tuple[tuple[Both, ...], ...], ...]
    """Of the checkpoints and of the faults; rows of cells, the headings first."""
    wrong: tuple[Both, ...]
    """What is not as it must be."""


def proof_shown(proof: Proof) -> ProofShown:
    """A certificate in both languages."""

    def cells(table: int, row: int, column: int) -> Both:
        return both(lambda: list(tables(proof))[table][row][column])

    return ProofShown(
        good=proof.ok,
        verdict=both(lambda: verdict(proof)),
        legend=both(legend),
        tables=tuple(
            tuple(
                tuple(cells(number, place, column) for column in range(len(row)))
                for place, row in enumerate(rows)
            )
            for number, rows in enumerate(tables(proof))
        ),
        wrong=tuple(both(lambda asked=asked: asked.text) for asked in proof.wrong),  # type: ignore[misc]
    )


@dataclass(frozen=True)
class LessonShown:
    """One lesson."""

    id: str
    title: Both
    goal: Both
    begun: bool
    """Whether any checkpoint was ever run in this lab."""
    score: Both
    checkpoints: tuple[CheckpointShown, ...]
    summary: Prose | None = None
    """What it says at its end; None until its end was reached."""
    proof: ProofShown | None = None
    """What `labctl prove` found of it."""


def lesson_shown(
    lesson: Lesson,
    records: Mapping[str, Record],
    position: Position,
    walks: Mapping[Step, Sequence[WalkShown]],
    proof: Proof | None = None,
) -> LessonShown:
    """A lesson with the records of its runs, and the walks at their checkpoints."""
    begun = set(position.progress(lesson).attempted)
    shown = tuple(
        _checkpoint(
            checkpoint,
            records.get(checkpoint.id),
            tuple(walks.get((lesson.id, checkpoint.id), ())),
            begun=checkpoint.id in begun,
        )
        for checkpoint in lesson.checkpoints
    )
    passed = sum(checkpoint.standing == "passed" for checkpoint in shown)
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
        summary=Prose(dict(summary)) if (summary := summary_of(lesson, records)) else None,
        proof=proof_shown(proof) if proof is not None else None,
    )


# -- walks -----------------------------------------------------------------------------------------
_PROGRAMS: Mapping[tuple[str, int | None], frozenset[str]] = {
    ("ping", None): frozenset({"ping"}),
    ("tcp", 22): frozenset({"ssh"}),
    ("tcp", 80): frozenset({"curl", "wget"}),
}
"""By (protocol, port): what a lesson sends such packets with; `nc` sends all others."""


def checkpoint_of(walk: Walk, records: Mapping[Step, Record]) -> Step | None:
    """The checkpoint that a walk belongs to; None if it was made before all of them.

    One that sends the same packet: the same program from the same place to the same address.
    Without one, the checkpoint that was run last before the walk, whose effects the walk shows.
    """
    same = {step: record for step, record in records.items() if _sends(record, walk)}
    before = {step: record for step, record in records.items() if record["at"] <= walk.began}
    both_hold = {step: record for step, record in same.items() if step in before}
    candidates = both_hold or same or before
    return max(candidates, key=lambda step: candidates[step]["at"], default=None)


def _sends(record: Record, walk: Walk) -> bool:
    programs = _PROGRAMS.get((walk.protocol, walk.port), frozenset({"nc"}))
    evidence = json.dumps([claim["result"] for claim in record["claims"]])
    for command in record["commands"]:
        typed = set(re.findall(r"[\w.-]+", f"{command['prompt']} {command['command']}"))
        # What the learner typed has no host in its prompt.
        if programs & typed and (walk.source.name in typed or record["typed"]):
            seen = re.findall(r"[\w.:-]*\w", f"{command['command']} {command['output']} {evidence}")
            if walk.target.address in seen:
                return True
    return False


def _words(text: Any) -> Both:
    return both(lambda: str(text))


def _checkpoint(
    checkpoint: Checkpoint,
    record: Record | None,
    walks: tuple[WalkShown, ...],
    *,
    begun: bool,
) -> CheckpointShown:
    title = _words(checkpoint.title)
    if record is None:
        return CheckpointShown(checkpoint.id, title, "open", both(lambda: tr("not run")))
    claims = tuple(_claim(claim) for claim in record["claims"])
    standing: Standing = "failed"
    words = both(lambda: tr("failed"))
    if all(claim.holds for claim in claims):
        standing, words = "passed", both(lambda: tr("passed"))
        if not begun:
            standing, words = "back", both(lambda: tr("passed, taken back since"))
    return CheckpointShown(
        id=checkpoint.id,
        title=title,
        standing=standing,
        standing_words=words,
        at=utc(record["at"]),
        explain=Prose(dict(record["explain"])),
        typed=bool(record["typed"]),
        commands=_commands(record["commands"]),
        claims=claims,
        walks=walks,
    )


def _commands(recorded: Sequence[Mapping[str, str]]) -> tuple[Command, ...]:
    return tuple(
        Command(command["prompt"], command["command"], abbreviated(sanitize(command["output"])))
        for command in recorded
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
    # A line may contain translated words, so the list is made once for each language.
    lines = both(lambda: "\n".join(_lines(result)))
    split = {language: text.split("\n") for language, text in lines.texts.items()}
    count = max(len(texts) for texts in split.values())
    return tuple(
        Both({language: texts[n] if n < len(texts) else "" for language, texts in split.items()})
        for n in range(count)
    )


def _lines(result: ClaimResult) -> list[str]:
    return [" ".join(abbreviated(sanitize(text)).split("\n")) for text in result.evidence]
