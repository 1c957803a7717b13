"""Which checkpoints to take back and to run, in which order; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import Load, Position, Progress, first_open


@dataclass(frozen=True)
class RouteStep:
    """A checkpoint that is run, or taken back (`back`)."""

    lesson: Lesson
    checkpoint: Checkpoint
    back: bool


def with_needs(lesson: Lesson, load: Load) -> list[Lesson]:
    """A lesson behind all that it needs, each once, the first needed first.

    Raises LabError for a lesson that needs itself.
    """
    ordered: list[Lesson] = []

    def visit(one: Lesson, above: tuple[str, ...]) -> None:
        if one.id in above:
            circle = " → ".join((*above, one.id))
            raise LabError(tr("lessons need each other: {circle}", circle=circle), code=EXIT_USAGE)
        if one.id not in [known.id for known in ordered]:
            for name in one.needs:
                visit(load(name), (*above, one.id))
            ordered.append(one)

    visit(lesson, ())
    return ordered


def plan_route(
    position: Position,
    lesson: Lesson,
    number: int,
    begun: Sequence[Lesson],
    needs: Sequence[Lesson] = (),
) -> list[RouteStep]:
    """The shortest way to where checkpoint `number` of `lesson` is the next to be run.

    `begun` are the lessons of which something was begun, in that order; `needs` those that have to
    be passed before. What belongs to neither is taken back, the last first. A checkpoint that was
    begun and not passed is taken back before it is run again: who knows what it did.
    """
    kept = [*(one.id for one in needs), lesson.id]
    steps = [
        step
        for other in reversed(begun)
        if other.id not in kept
        for step in _back(other, position.progress(other), 0)
    ]
    whole = [(one, len(one.checkpoints)) for one in needs if one.id != lesson.id]
    backwards: list[RouteStep] = []
    forwards: list[RouteStep] = []
    anew = False
    for one, end in [*whole, (lesson, number)]:
        progress = position.progress(one)
        # Undoing a prerequisite undoes everything that depends on it.
        keeps = 0 if anew else min(first_open(one, progress), end)
        back = _back(one, progress, keeps)
        anew = anew or bool(back and one is not lesson)
        backwards = [*back, *backwards]
        forwards += [
            RouteStep(one, checkpoint, back=False) for checkpoint in one.checkpoints[keeps:end]
        ]
    return [*steps, *backwards, *forwards]


def _back(lesson: Lesson, progress: Progress, keeps: int) -> list[RouteStep]:
    return [
        RouteStep(lesson, checkpoint, back=True)
        for checkpoint in reversed(lesson.checkpoints[keeps:])
        if checkpoint.id in progress.attempted
    ]
