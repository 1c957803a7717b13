"""Where the learner is in the lessons, and the way from there to somewhere else.

Decides and acts on nothing: what has been begun and passed goes in, what to take back and what to
run comes out.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.model import Checkpoint, Claim, Lesson
from labctl.spec.problems import did_you_mean
from labctl.state import LabState

Load = Callable[[str], Lesson]
"""Finds a lesson by what it was called by: a built-in id, or a path."""


@dataclass(frozen=True)
class Progress:
    """How far the learner is in one lesson."""

    source: str
    """What finds the lesson again: a built-in id, or the absolute path of a file."""
    attempted: tuple[str, ...] = ()
    """Ids of checkpoints that were begun and not taken back, in order."""
    passed: tuple[str, ...] = ()
    """Those of them whose claims all held."""
    hints: Mapping[str, int] = field(default_factory=dict)
    """How many hints of a checkpoint were given."""
    total: int = 0
    """How many checkpoints the lesson has."""
    at: float = 0.0
    """When it changed, in seconds since the epoch."""


@dataclass(frozen=True)
class Position:
    """Where the learner is: `.labctl/lesson.json`."""

    current: str | None = None
    """Id of the lesson that is being walked through."""
    practice: bool = False
    """Whether the learner types the commands."""
    lessons: Mapping[str, Progress] = field(default_factory=dict)
    """By their ids, in the order in which their first checkpoints were begun."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "Position":
        """What the file holds; a fresh position for a missing one. Raises LabError for nonsense."""
        if data is None:
            return cls()
        try:
            position = TypeAdapter(cls).validate_python(data)
            _require(data, cls)
            for its in data["lessons"].values():
                _require(its, Progress)
        except (ValidationError, KeyError) as error:
            raise LabError(
                tr("the position in the lessons cannot be read"),
                hint=tr("`labctl destroy` and `labctl create` anew"),
            ) from error
        return position if position.current in position.lessons else replace(position, current=None)

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)

    def progress(self, lesson: Lesson) -> Progress:
        """How far that lesson is; checkpoints it no longer has are forgotten."""
        mine = self.lessons.get(lesson.id) or Progress(lesson.id)
        known = [one.id for one in lesson.checkpoints]
        return replace(
            mine,
            attempted=tuple(one for one in known if one in mine.attempted),
            passed=tuple(one for one in known if one in mine.passed),
            total=len(known),
        )

    def _with(self, lesson: Lesson, **changes: Any) -> "Position":
        mine = replace(self.progress(lesson), **changes, at=time.time())
        return replace(self, lessons={**self.lessons, lesson.id: mine})

    def known(self, lesson: Lesson, source: str) -> "Position":
        """Where the lesson comes from, before anything of it is begun."""
        return self._with(lesson, source=source)

    def entered(self, lesson: Lesson, source: str, practice: bool | None = None) -> "Position":
        """The learner turns to this lesson; `practice` None leaves that as it is."""
        there = self._with(lesson, source=source)
        chosen = self.practice if practice is None else practice
        return replace(there, current=lesson.id, practice=chosen)

    def attempting(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """The checkpoint is begun: from now on it has to be taken back."""
        mine = self.progress(lesson)
        here = self
        if not mine.attempted:
            # Lessons are taken back in the opposite order. This one may have been entered before
            # the lessons it needs, which were run first.
            others = {id: its for id, its in self.lessons.items() if id != lesson.id}
            here = replace(self, lessons={**others, lesson.id: mine})
        return here._with(
            lesson,
            attempted=(*(x for x in mine.attempted if x != checkpoint.id), checkpoint.id),
            passed=tuple(x for x in mine.passed if x != checkpoint.id),
        )

    def passing(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """All claims of the checkpoint held."""
        there = self.attempting(lesson, checkpoint)
        return there._with(lesson, passed=(*there.progress(lesson).passed, checkpoint.id))

    def without(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """The checkpoint was taken back."""
        mine = self.progress(lesson)
        return self._with(
            lesson,
            attempted=tuple(x for x in mine.attempted if x != checkpoint.id),
            passed=tuple(x for x in mine.passed if x != checkpoint.id),
            hints={name: n for name, n in mine.hints.items() if name != checkpoint.id},
        )

    def hinted(self, lesson: Lesson, checkpoint: Checkpoint) -> "Position":
        """One more hint of the checkpoint was given."""
        mine = self.progress(lesson)
        given = min(mine.hints.get(checkpoint.id, 0) + 1, len(checkpoint.hints))
        return self._with(lesson, hints={**mine.hints, checkpoint.id: given})

    def forgetting(self, id: str) -> "Position":
        """Without that lesson: all of it is taken back, or it cannot be any more."""
        left = {name: its for name, its in self.lessons.items() if name != id}
        return replace(self, lessons=left, current=None if self.current == id else self.current)


def _require(data: Mapping[str, Any], of: type) -> None:
    """Raises KeyError unless every field is there, also those with defaults."""
    for field_ in fields(of):
        data[field_.name]


# -- within one lesson -----------------------------------------------------------------------------
def first_open(lesson: Lesson, progress: Progress) -> int:
    """Number of the first checkpoint that is not passed; the lesson's length when all are."""
    for number, checkpoint in enumerate(lesson.checkpoints):
        if checkpoint.id not in progress.passed:
            return number
    return len(lesson.checkpoints)


def at_hand(lesson: Lesson, progress: Progress, *, practice: bool) -> int:
    """Number of the checkpoint that `check` is about.

    In practice the one that is to be done, else the one that was run last; at the lesson's end its
    last one.
    """
    reached = first_open(lesson, progress)
    if not practice and not (
        reached < len(lesson.checkpoints) and lesson.checkpoints[reached].id in progress.attempted
    ):
        reached -= 1
    return max(0, min(reached, len(lesson.checkpoints) - 1))


def standing(lesson: Lesson, upto: int, since: int = 0) -> Iterator[tuple[Checkpoint, list[Claim]]]:
    """The claims of checkpoints `since` to `upto` that are still meant to hold at `upto`.

    A claim with `until` was true until that checkpoint began.
    """
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    for checkpoint in lesson.checkpoints[since : upto + 1]:
        claims = [
            claim for claim in checkpoint.claims if not claim.until or ids.index(claim.until) > upto
        ]
        yield checkpoint, claims


def checkpoint_number(lesson: Lesson, name: str) -> int:
    """The place of a checkpoint in its lesson. Raises LabError with what was meant."""
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    if name in ids:
        return ids.index(name)
    meant = did_you_mean(name, ids)
    raise LabError(
        tr("lesson {lesson} has no checkpoint {name}", lesson=lesson.id, name=repr(name)),
        hint=tr("did you mean {meant}?", meant=meant)
        if meant
        else tr("its checkpoints are: {names}", names=", ".join(ids)),
        code=EXIT_USAGE,
    )


# -- the way -------------------------------------------------------------------------------------


def read_position(state: LabState) -> Position:
    """Where the learner is."""
    return Position.from_json(state.read_json(state.lesson_position))


def write_position(state: LabState, position: Position) -> None:
    """Remember where the learner is, also across a reboot."""
    state.write_json(state.lesson_position, position.to_json())
