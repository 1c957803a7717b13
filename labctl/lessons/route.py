"""Which checkpoints to undo and to run, in which order; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import Load, Position, first_open


@dataclass(frozen=True)
class RouteStep:
    """A checkpoint that is run or undone."""

    lesson: Lesson
    checkpoint: Checkpoint
    direction: Literal["run", "undo", "clear"]
    """`clear` undoes a checkpoint that was not begun: the learner may have worked ahead by hand."""


def with_needs(lesson: Lesson, load: Load) -> list[Lesson]:
    """All lessons that this one needs, each once and in the order to pass them, then this one.

    Raises LabError for a lesson that needs itself.
    """
    ordered: list[Lesson] = []

    def visit(needed: Lesson, dependents: tuple[str, ...]) -> None:
        if needed.id in dependents:
            circle = " → ".join((*dependents, needed.id))
            raise LabError(tr("lessons need each other: {circle}", circle=circle), code=EXIT_USAGE)
        if needed.id not in [visited.id for visited in ordered]:
            for name in needed.needs:
                visit(load(name), (*dependents, needed.id))
            ordered.append(needed)

    visit(lesson, ())
    return ordered


def plan_route(
    position: Position,
    lesson: Lesson,
    number: int,
    begun: Sequence[Lesson],
    needs: Sequence[Lesson] = (),
) -> list[RouteStep]:
    """The fewest steps after which checkpoint `number` (an index) of `lesson` is the next to run.

    `begun` are the lessons that have a begun checkpoint, in the order they were begun; `needs` are
    those that have to be passed before. Other lessons are undone, the last begun first. What was
    begun and not passed is undone before it is run again: it may have done half of its work, or the
    learner some of it by hand, and of later checkpoints too, which are then cleared.
    """
    kept = [*(need.id for need in needs), lesson.id]
    other_steps = [
        step
        for other in reversed(begun)
        if other.id not in kept
        for step in _undo_steps(other, position, 0)
    ]
    complete = [(need, len(need.checkpoints)) for need in needs if need.id != lesson.id]
    undo_steps: list[RouteStep] = []
    run_steps: list[RouteStep] = []
    need_undone = False
    for each, end in [*complete, (lesson, number)]:
        progress = position.progress(each)
        # Undoing a prerequisite undoes everything that depends on it.
        keep = 0 if need_undone else min(first_open(each, progress), end)
        undone = _undo_steps(each, position, keep)
        need_undone = need_undone or bool(undone and each is not lesson)
        undo_steps = [*undone, *undo_steps]
        run_steps += [
            RouteStep(each, checkpoint, "run") for checkpoint in each.checkpoints[keep:end]
        ]
    return [*other_steps, *undo_steps, *run_steps]


def _undo_steps(lesson: Lesson, position: Position, keep: int) -> list[RouteStep]:
    """Steps that undo what was begun of a lesson, except its first `keep` checkpoints.

    After practice, or when a checkpoint failed, all later ones are cleared: what a learner made
    ahead of the lesson may stand in the way.
    """
    progress = position.progress(lesson)
    practised = position.practice and position.current == lesson.id
    by_hand = progress.attempted and (practised or progress.attempted != progress.passed)
    return [
        RouteStep(lesson, checkpoint, "undo" if checkpoint.id in progress.attempted else "clear")
        for checkpoint in reversed(lesson.checkpoints[keep:])
        if checkpoint.id in progress.attempted
        # What labctl has not broken yet needs no mending.
        or (by_hand and checkpoint.undo and not checkpoint.breaks)
    ]
