"""How the learners of a class get on: one short command on each machine, `labctl progress`.

It reads files of the lab and asks no node, so that a class can be asked every few seconds.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from labctl.classroom.engine import Machine
from labctl.classroom.remote import Ask, reason_of, shown
from labctl.errors import LabError
from labctl.i18n import tr

SECONDS = 20.0
"""For one answer: a login, the start of labctl, a few files."""
_LEAST = 0.05
"""Part of memory and disk: with less a lab begins to fail."""
_MOST_LOAD = 4.0
"""Processes for each processor: with more a lab answers too late."""
_MOST_FAILING = 20


class Pace(TypedDict):
    """How one learner gets on. Times are ages in seconds, by the clock of their machine."""

    lesson: str | None
    """Id of the lesson that the learner is in; null: none was begun."""
    checkpoint: str | None
    """Id of the checkpoint that is to be done; null: none, or the lesson is done."""
    passed: int
    """Checkpoints of the lesson that are passed."""
    checkpoints: int
    """How many it has; 0: not known."""
    hints: int
    """Hints that were given for this checkpoint."""
    here: float | None
    """Seconds since the learner came to this checkpoint."""
    idle: float | None
    """Seconds since labctl last worked there, or somebody typed."""
    failing: list[str]
    """Claims of this checkpoint that did not hold when the learner last ran `check`."""
    troubles: list[str]
    """What is wrong with the machine, for people: memory, disk, load."""
    stuck: bool
    """Whether the learner is at this checkpoint for longer than was asked for."""


Age = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, le=10_000)]


class _Claim(BaseModel):
    text: str


class _Progress(BaseModel):
    """What is read of ProgressReport; newer versions of labctl may say more."""

    lesson: str | None
    checkpoint: str | None
    passed: Number
    checkpoints: Number
    hints: Number
    here: Age | None
    idle: Age | None
    failing: list[_Claim]
    load: Age | None
    memory: Part | None
    disk: Part | None


def pace(machine: Machine, ask: Ask, stuck_after: float) -> tuple[Pace | None, str]:
    """How the learner of a machine gets on; else None and why it is not known.

    `stuck_after` is in seconds.
    """
    try:
        done = ask(machine, ["progress", "--json"], SECONDS)
        found = _Progress.model_validate_json(done.stdout)
    except LabError as error:
        return None, shown(error.message)
    except ValidationError:
        return None, reason_of(done)
    open_ = found.lesson is not None and found.checkpoint is not None
    return {
        "lesson": shown(found.lesson) if found.lesson is not None else None,
        "checkpoint": shown(found.checkpoint) if found.checkpoint is not None else None,
        "passed": found.passed,
        "checkpoints": found.checkpoints,
        "hints": found.hints,
        "here": found.here,
        "idle": found.idle,
        "failing": [shown(claim.text) for claim in found.failing[:_MOST_FAILING]],
        "troubles": list(_troubles(found)),
        "stuck": open_ and found.here is not None and found.here >= stuck_after,
    }, ""


def _troubles(found: _Progress) -> Sequence[str]:
    troubles = []
    if found.memory is not None and found.memory < _LEAST:
        troubles.append(tr("{percent} % of the memory is left", percent=round(found.memory * 100)))
    if found.disk is not None and found.disk < _LEAST:
        troubles.append(tr("{percent} % of the disk is left", percent=round(found.disk * 100)))
    if found.load is not None and found.load > _MOST_LOAD:
        troubles.append(tr("load {load} for each processor", load=f"{found.load:.1f}"))
    return troubles
