"""The lesson as the page shows it: where the learner is, and each checkpoint with its state."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from labctl.errors import LabError
from labctl.i18n import current_language, tr
from labctl.lab import Lab
from labctl.lessons.course import built_in_course
from labctl.lessons.load import load_lesson
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import Answered, Position, Progress, first_open, read_position
from labctl.lessons.questions import open_question
from labctl.lessons.transcript import (
    Record,
    abbreviated,
    answer_shown,
    read_records,
    summary_of,
)
from labctl.page.work import MOST_OUTPUT
from labctl.terminal.text import one_line, sanitize

Standing = Literal["passed", "begun", "now", "open"]
"""now: the next to be done; begun: it ran, and a claim did not hold."""


def lesson_shown(lab: Lab) -> Mapping[str, Any]:
    """Where the learner is, JSON-ready. Raises LabError when a file of it cannot be read."""
    position = read_position(lab.state)
    if position.current is None:
        return {"lesson": None, "choices": _choices(lab)}
    lesson = _load(position.lessons[position.current].source)
    return {"lesson": _shown(lesson, position, lab), "choices": _choices(lab)}


@cache
def _built_in() -> Sequence[Lesson]:
    """In the order of the course."""
    return [load_lesson(name) for name in built_in_course().ids]


def _load(source: str) -> Lesson:
    """A built-in lesson is read once; a learner's own file may change meanwhile."""
    return next((lesson for lesson in _built_in() if lesson.id == source), None) or load_lesson(
        source
    )


def _choices(lab: Lab) -> Sequence[Mapping[str, str]]:
    """The built-in lessons for this kind of lab; `needs` is what this one lacks for a lesson."""
    return [
        {"id": lesson.id, "title": str(lesson.title), "goal": str(lesson.goal),
         "needs": _needs(lesson, lab)}
        for lesson in _built_in()
        if lesson.stack in (None, lab.topology.stack)
    ]  # fmt: skip


def _needs(lesson: Lesson, lab: Lab) -> str:
    try:
        lesson.require(lab.topology)
    except LabError as error:
        return sanitize(tr(". ").join([error.message, *([error.hint] if error.hint else [])]))
    return ""


def _shown(lesson: Lesson, position: Position, lab: Lab) -> Mapping[str, Any]:
    progress = position.progress(lesson)
    try:
        records = read_records(lab.state, lesson)
    except LabError:
        records = {}
    reached = first_open(lesson, progress)
    at_end = reached == len(lesson.checkpoints)
    asks = open_question(lesson, position)
    return {
        "id": lesson.id,
        "title": str(lesson.title),
        "goal": str(lesson.goal),
        "practice": position.practice,
        "passed": len(progress.passed),
        "summary": summary_of(lesson, records).get(current_language(), "") if at_end else "",
        "checkpoints": [
            {
                **_checkpoint(checkpoint, number == reached, progress, records.get(checkpoint.id)),
                "asks": checkpoint is asks,
            }
            for number, checkpoint in enumerate(lesson.checkpoints)
        ],
    }


def _checkpoint(
    checkpoint: Checkpoint, is_next: bool, progress: Progress, record: Record | None
) -> Mapping[str, Any]:
    begun, passed = checkpoint.id in progress.attempted, checkpoint.id in progress.passed
    standing: Standing = "open"
    if passed:
        standing = "passed"
    elif begun and record is not None:
        standing = "begun"
    elif is_next:
        standing = "now"
    hints = [str(hint) for hint in checkpoint.hints[: progress.hints.get(checkpoint.id, 0)]]
    shown: dict[str, Any] = {
        "id": checkpoint.id,
        "title": str(checkpoint.title),
        "standing": standing,
        "next": is_next,
        "hints": len(hints),
        "of": len(checkpoint.hints),
        "explain": "",
        "commands": [],
        "claims": [],
        "question": "",
        "answer": one_line(progress.answers.get(checkpoint.id, Answered()).text),
        "why": "",
    }
    if record is None or not begun:  # what an earlier time proved was taken back since
        return shown
    language = current_language()
    question, _, why = answer_shown(record, language)
    # The record may be of an earlier run, which was taken back: it is no answer of now.
    return {
        **shown,
        "question": sanitize(question),
        "why": sanitize(why) if shown["answer"] else "",
        "explain": sanitize(record["explain"][language]),
        "commands": [
            {
                "prompt": one_line(command["prompt"]),
                "text": sanitize(command["command"], keep_tabs=True),
                "output": sanitize(abbreviated(command["output"]))[-MOST_OUTPUT:],
            }
            for command in record["commands"]
        ],
        "claims": [
            {"ok": claim["result"]["holds"], "text": one_line(claim["texts"][language])}
            for claim in record["claims"]
        ],
    }
