"""The grades of a class: what `labctl check` says in each learner's lab."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from labctl.classroom.engine import Engine, Machine
from labctl.classroom.model import ClassSpec
from labctl.classroom.remote import AT_A_TIME, NOT_REACHED, Ask, reason_of, shown
from labctl.errors import EXIT_CLAIM, EXIT_DONE, LabError
from labctl.i18n import mark, tr
from labctl.lessons.load import available, load_lesson
from labctl.run import Completed

Result = Literal["done", "open", "failing", "elsewhere", "none", "unreachable"]
RESULTS: Mapping[Result, str] = {
    "done": mark("done"),
    "open": mark("under way"),
    "failing": mark("claims fail"),
    "elsewhere": mark("in another lesson"),
    "none": mark("no result"),
    "unreachable": mark("does not answer"),
}
"""{result: what people read}."""
_MOST_FAILING = 50
"""Claims that are told of one learner."""


class FailingClaim(TypedDict):
    """A claim that does not hold in a learner's lab."""

    checkpoint: str
    claim: str
    text: str


class Grade(TypedDict):
    """One learner."""

    learner: str
    result: Result
    """done: every checkpoint is passed, and every claim still holds. open: all claims up to here
    hold, and checkpoints are left. failing: a claim does not hold. elsewhere: the learner is in
    another lesson than the one of class.yaml. none: labctl there had no result; the reason says
    why. unreachable: no answer by SSH, or none in time."""
    lesson: str
    """Id of the lesson that the learner is in; empty: not known."""
    passed: int
    """Checkpoints of it that are passed."""
    checkpoints: int | None
    """How many it has; null: it is not one of the built-in lessons."""
    holding: int
    """Claims that hold now."""
    claims: int
    """Claims that were asked: those of all checkpoints up to the present one."""
    failing: list[FailingClaim]
    reason: str
    """Why there is no better result, for people."""
    seconds: float
    """How long the answer took."""


class Grades(TypedDict):
    """What `class check --json` prints."""

    name: str
    lesson: str | None
    """The lesson of class.yaml; null: each learner's own."""
    at: float
    """When it was asked, in seconds since the epoch."""
    learners: list[Grade]


def collect(
    spec: ClassSpec, engine: Engine, ask: Ask, learners: Sequence[str], seconds: float
) -> Grades:
    """Check the labs of these learners together. Who has no result is a row as well.

    `seconds` is what each machine may take.
    """
    at = time.time()
    machines = {machine.learner: machine for machine in engine.machines()}

    def grade(learner: str) -> Grade:
        machine = machines.get(learner) or Machine("", learner, "absent")
        return _grade(spec, machine, ask, seconds)

    with ThreadPoolExecutor(max(1, min(AT_A_TIME, len(learners)))) as pool:
        rows = list(pool.map(grade, learners))
    return {"name": spec.name, "lesson": spec.lesson, "at": at, "learners": rows}


def exit_code(grades: Grades) -> int:
    """0 if every learner is done, else 3."""
    done = all(grade["result"] == "done" for grade in grades["learners"])
    return EXIT_DONE if done else EXIT_CLAIM


# -- one learner -----------------------------------------------------------------------------------
class _Claim(BaseModel):
    id: str
    text: str
    holds: bool


class _Checkpoint(BaseModel):
    id: str
    claims: list[_Claim]


class _Position(BaseModel):
    passed: list[str]
    next: str | None


class _Outcome(BaseModel):
    """What is read of OutcomeJson; newer versions of labctl may say more."""

    lesson: str
    failure: str | None
    checkpoints: list[_Checkpoint]
    position: _Position


def _grade(spec: ClassSpec, machine: Machine, ask: Ask, seconds: float) -> Grade:
    if not machine.address or machine.state != "running":
        reason = machine.reason or tr("there is no machine")
        return _without(machine.learner, "unreachable", reason, 0.0)
    began = time.monotonic()
    try:
        done = ask(machine, ["check", "--all", "--json"], seconds)
    except LabError as error:
        return _without(machine.learner, "unreachable", error.message, 0.0)
    took = round(time.monotonic() - began, 1)
    try:
        outcome = _Outcome.model_validate_json(done.stdout)
    except ValidationError:
        return _without(machine.learner, _kind(done), reason_of(done), took)
    return _of_outcome(spec, machine.learner, outcome, took)


def _kind(done: Completed) -> Result:
    return "unreachable" if done.timed_out or done.returncode == NOT_REACHED else "none"


def _without(learner: str, result: Result, reason: str, seconds: float) -> Grade:
    return {
        "learner": learner, "result": result, "lesson": "", "passed": 0, "checkpoints": None,
        "holding": 0, "claims": 0, "failing": [], "reason": shown(reason), "seconds": seconds,
    }  # fmt: skip


def _of_outcome(spec: ClassSpec, learner: str, outcome: _Outcome, seconds: float) -> Grade:
    claims = [(checkpoint, claim) for checkpoint in outcome.checkpoints
              for claim in checkpoint.claims]  # fmt: skip
    failing = [pair for pair in claims if not pair[1].holds]
    result: Result = "open"
    reason = outcome.failure or ""
    if spec.lesson is not None and outcome.lesson != spec.lesson:
        result, reason = "elsewhere", ""
    elif failing:
        result = "failing"
    elif outcome.position.next is None:
        result = "done"
    return {
        "learner": learner,
        "result": result,
        "lesson": shown(outcome.lesson),
        "passed": len(outcome.position.passed),
        "checkpoints": _length(outcome.lesson),
        "holding": len(claims) - len(failing),
        "claims": len(claims),
        "failing": [
            {"checkpoint": shown(checkpoint.id), "claim": shown(claim.id),
             "text": shown(claim.text)}
            for checkpoint, claim in failing[:_MOST_FAILING]
        ],
        "reason": shown(reason),
        "seconds": seconds,
    }  # fmt: skip


def _length(lesson: str) -> int | None:
    return len(load_lesson(lesson).checkpoints) if lesson in available() else None
