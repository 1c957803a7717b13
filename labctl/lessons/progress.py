"""How far the learner is in the lessons, as noted in `.labctl/lesson.json`.

Everything but `read_position` and `write_position` is pure.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.lessons.model import Checkpoint, Claim, Lesson
from labctl.spec.problems import did_you_mean
from labctl.state import LabState

Load = Callable[[str], Lesson]
"""Loads a lesson by a built-in id or a path. Raises LabError."""


@dataclass(frozen=True)
class Answered:
    """How far the learner is with one question."""

    wrong: int = 0
    """Answers that were not right."""
    text: str = ""
    """The right answer, once it was given; empty: the question is open."""
    given_up: bool = False
    """Whether labctl gave it."""


@dataclass(frozen=True)
class Progress:
    """How far the learner is in one lesson."""

    source: str
    """What finds the lesson again: a built-in id, or the absolute path of a file."""
    attempted: tuple[str, ...] = ()
    """Ids of checkpoints that were begun and not undone, in the lesson's order."""
    passed: tuple[str, ...] = ()
    """Those of them whose claims all held."""
    hints: Mapping[str, int] = field(default_factory=dict)
    """{checkpoint id: how many of its hints were given}."""
    total: int = 0
    """How many checkpoints the lesson has."""
    at: float = 0.0
    """When this last changed, in seconds since the epoch."""
    nodes: Mapping[str, str] = field(default_factory=dict)
    """{checkpoint id: the node it was begun on}, where it is undone."""
    held: tuple[str, ...] = ()
    """Ids of checkpoints whose claims all held when they were set as a task."""
    answers: Mapping[str, Answered] = field(default_factory=dict)
    """{checkpoint id: what was answered to its question}."""
    since: float = 0.0
    """When the learner came to the checkpoint that is to be done, in seconds since the epoch."""


@dataclass(frozen=True)
class Position:
    """Where the learner is in all lessons. Never changed: the methods return another position."""

    current: str | None = None
    """Id of the lesson that the learner is in."""
    practice: bool = False
    """Whether the learner types the commands."""
    lessons: Mapping[str, Progress] = field(default_factory=dict)
    """{lesson id: its progress}, in the order in which the first checkpoints were begun."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "Position":
        """The position in a file; an empty one for None, when there is no file.

        Raises LabError when the file holds something else.
        """
        if data is None:
            return cls()
        try:
            position = TypeAdapter(cls).validate_python(data)
            _require(data, cls)
            for progress in data["lessons"].values():
                _require(progress, Progress)
        except (ValidationError, KeyError) as error:
            raise LabError(
                tr("the position in the lessons cannot be read"),
                hint=tr("`labctl destroy` and `labctl create` anew"),
            ) from error
        return position if position.current in position.lessons else replace(position, current=None)

    def to_json(self) -> dict[str, Any]:
        """The position as its file holds it."""
        return asdict(self)

    def progress(self, lesson: Lesson) -> Progress:
        """The progress in that lesson, without checkpoints that the lesson no longer has."""
        progress = self.lessons.get(lesson.id) or Progress(lesson.id)
        ids = [checkpoint.id for checkpoint in lesson.checkpoints]
        return replace(
            progress,
            attempted=tuple(id for id in ids if id in progress.attempted),
            passed=tuple(id for id in ids if id in progress.passed),
            total=len(ids),
        )

    def _with_progress(self, lesson: Lesson, **changes: Any) -> "Position":
        before, now = self.progress(lesson), time.time()
        progress = replace(before, **changes, at=now)
        if progress.passed != before.passed or not progress.since:
            progress = replace(progress, since=now)
        return replace(self, lessons={**self.lessons, lesson.id: progress})

    def with_source(self, lesson: Lesson, source: str) -> "Position":
        """After it is noted what finds the lesson again, before a checkpoint of it is begun."""
        return self._with_progress(lesson, source=source)

    def entered(self, lesson: Lesson, source: str, practice: bool | None = None) -> "Position":
        """After the learner changed to this lesson; `practice` None: as it was before."""
        came_here = {} if self.current == lesson.id else {"since": time.time()}
        position = self._with_progress(lesson, source=source, **came_here)
        chosen = self.practice if practice is None else practice
        return replace(position, current=lesson.id, practice=chosen)

    def attempting(self, lesson: Lesson, checkpoint: Checkpoint, node: str = "") -> "Position":
        """After the checkpoint was begun: from now on it may have to be undone, on `node`."""
        progress = self.progress(lesson)
        position = self
        if not progress.attempted:
            # Lessons are undone in the opposite order. This one may have been entered before the
            # lessons it needs, which were run first.
            others = {id: other for id, other in self.lessons.items() if id != lesson.id}
            position = replace(self, lessons={**others, lesson.id: progress})
        return position._with_progress(
            lesson,
            attempted=(*(id for id in progress.attempted if id != checkpoint.id), checkpoint.id),
            passed=tuple(id for id in progress.passed if id != checkpoint.id),
            nodes={**progress.nodes, checkpoint.id: node} if node else progress.nodes,
        )

    def passing(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """After all claims of the checkpoint held."""
        position = self.attempting(lesson, checkpoint)
        passed = position.progress(lesson).passed
        return position._with_progress(lesson, passed=(*passed, checkpoint.id))

    def without(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """After the checkpoint was undone."""
        progress = self.progress(lesson)
        return self._with_progress(
            lesson,
            attempted=tuple(id for id in progress.attempted if id != checkpoint.id),
            passed=tuple(id for id in progress.passed if id != checkpoint.id),
            hints={id: given for id, given in progress.hints.items() if id != checkpoint.id},
            nodes={id: node for id, node in progress.nodes.items() if id != checkpoint.id},
            answers={id: each for id, each in progress.answers.items() if id != checkpoint.id},
        )

    def holding(self, lesson: Lesson, checkpoint: Checkpoint, held: bool) -> "Position":
        """After the checkpoint was set as a task, when its claims all held already, or did not."""
        others = [id for id in self.progress(lesson).held if id != checkpoint.id]
        return self._with_progress(lesson, held=(*others, *([checkpoint.id] if held else [])))

    def hinted(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """After one more hint of the checkpoint was given."""
        progress = self.progress(lesson)
        given = min(progress.hints.get(checkpoint.id, 0) + 1, len(checkpoint.hints))
        return self._with_progress(lesson, hints={**progress.hints, checkpoint.id: given})

    def answering(self, lesson: Lesson, checkpoint: Checkpoint, answer: Answered) -> "Position":
        """After something was answered to the checkpoint's question."""
        answers = {**self.progress(lesson).answers, checkpoint.id: answer}
        return self._with_progress(lesson, answers=answers)

    def forgetting(self, id: str) -> "Position":
        """Without the lesson of that id: it is undone, or its file is gone and it cannot be."""
        others = {name: progress for name, progress in self.lessons.items() if name != id}
        return replace(self, lessons=others, current=None if self.current == id else self.current)


def _require(data: Mapping[str, Any], of: type) -> None:
    """Raises KeyError unless every field is there, also those with defaults.

    `nodes`, `held`, `answers` and `since` are newer than some files.
    """
    for field_ in fields(of):
        if field_.name not in ("nodes", "held", "answers", "since"):
            data[field_.name]


# -- within one lesson -----------------------------------------------------------------------------
def first_open(lesson: Lesson, progress: Progress) -> int:
    """Index of the first checkpoint that is not passed; the lesson's length when all are."""
    for number, checkpoint in enumerate(lesson.checkpoints):
        if checkpoint.id not in progress.passed:
            return number
    return len(lesson.checkpoints)


def current_checkpoint(lesson: Lesson, progress: Progress, *, practice: bool) -> int:
    """Index of the checkpoint that `check` proves.

    In practice it is the one that the learner has to do, else the one that was run last. At the
    lesson's end it is the last one.
    """
    reached = first_open(lesson, progress)
    if not practice and not (
        reached < len(lesson.checkpoints) and lesson.checkpoints[reached].id in progress.attempted
    ):
        reached -= 1
    return max(0, min(reached, len(lesson.checkpoints) - 1))


def expected_claims(
    lesson: Lesson, upto: int, since: int = 0
) -> Iterator[tuple[Checkpoint, list[Claim]]]:
    """The claims of checkpoints `since` to `upto` that must still hold after checkpoint `upto`.

    A claim with `until` is left out once that checkpoint has begun. `since` and `upto` are indexes.
    """
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    for checkpoint in lesson.checkpoints[since : upto + 1]:
        claims = [
            claim for claim in checkpoint.claims if not claim.until or ids.index(claim.until) > upto
        ]
        yield checkpoint, claims


def checkpoint_number(lesson: Lesson, name: str) -> int:
    """Index of a checkpoint in its lesson, by its id. Raises LabError, which suggests an id."""
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    if name in ids:
        return ids.index(name)
    meant = did_you_mean(name, ids)
    raise LabError(
        tr("lesson {lesson} has no checkpoint {name}", lesson=lesson.id, name=repr(name)),
        hint=tr("did you mean {meant}?", meant=meant)
        if meant
        else tr("its checkpoints are: {names}", names=tr_list(ids)),
        code=EXIT_USAGE,
    )


# -- on disk ---------------------------------------------------------------------------------------
def read_position(state: LabState) -> Position:
    """The position of this lab's learner. Raises LabError when its file cannot be read."""
    return Position.from_json(state.read_json(state.lesson_position))


def write_position(state: LabState, position: Position) -> None:
    """Note the position of this lab's learner on disk."""
    state.write_json(state.lesson_position, position.to_json())


@dataclass(frozen=True)
class Failing:
    """What did not hold when `check` was last run."""

    lesson: str
    checkpoint: str
    at: float
    """Seconds since the epoch."""
    claims: Mapping[str, str]
    """{claim id: its text}; empty when all held."""


def read_failing(state: LabState) -> Failing | None:
    """What `check` found last; None if it was never run, or its note cannot be read."""
    try:
        return TypeAdapter(Failing).validate_python(state.read_json(state.last_check))
    except (LabError, ValidationError):
        return None


def write_failing(state: LabState, failing: Failing) -> None:
    """Note what `check` found. Raises LabError."""
    state.write_json(state.last_check, asdict(failing))
