"""The results of commands, checkpoints and the verbs of lessons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NotRequired

from typing_extensions import TypedDict

from labctl.access.ovsdb import Rows
from labctl.engine.steps import RunResult
from labctl.errors import LabError
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Lesson
from labctl.lessons.progress import Position, first_open


@dataclass
class CommandResult:
    """One command of a checkpoint as it ran."""

    node: str
    command: str
    output: str
    exit_code: int
    seconds: float
    prompt: str = "$"
    background: bool = False
    """Whether it ran while the others did, and was ended after them."""


def command_rows(commands: "Sequence[CommandResult]") -> Rows:
    """What the probe run.commands shows of them."""
    return [
        {
            "node": ran.node,
            "command": ran.command,
            "background": ran.background,
            "seconds": round(ran.seconds, 3),
            "exit_code": ran.exit_code,
            "output": ran.output,
        }
        for ran in commands
    ]


@dataclass
class QuestionResult:
    """A checkpoint's question, as it was asked."""

    text: str
    answer: str = ""
    """The right answer; empty as long as the learner has not given it."""
    why: str = ""
    """Why it is so, with the right answer, if the lesson says it."""


@dataclass
class CheckpointResult:
    """One checkpoint as it ran, or as it was checked."""

    id: str
    title: str
    explain: str = ""
    commands: list[CommandResult] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    seconds: float = 0.0
    question: QuestionResult | None = None

    @property
    def ok(self) -> bool:
        """Whether all claims hold; False when there are none, as after a command that failed."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)

    def to_json(self) -> "CheckpointJson":
        """For programs."""
        return {
            "ok": self.ok,
            "id": self.id,
            "title": self.title,
            "explain": self.explain,
            "commands": self.commands,
            "claims": self.claims,
            "seconds": self.seconds,
            "question": self.question,
        }


# -- what programs read ----------------------------------------------------------------------------
class CheckpointJson(TypedDict):
    """One checkpoint as it ran, or as it was checked."""

    ok: bool
    """Whether all claims hold; false when there are none, as after a command that failed."""
    id: str
    title: str
    explain: str
    commands: Sequence[CommandResult]
    claims: Sequence[ClaimResult]
    seconds: float
    question: QuestionResult | None
    """What the learner is asked about it; null: nothing."""


class PositionJson(TypedDict):
    """Where the learner is now."""

    lesson: str | None
    """Id of the lesson that is being walked through."""
    practice: bool
    """Whether the learner types the commands."""
    passed: Sequence[str]
    """Ids of the checkpoints whose claims all held."""
    next: str | None
    """Id of the checkpoint that is to be done; null at the end of the lesson."""


class TaskOrHint(TypedDict):
    """What a learner is told: a task, a hint, or the lesson's summary."""

    checkpoint: NotRequired[str]
    """Id of the one that is set as a task; `explain`, `task` and `node` come with it."""
    explain: NotRequired[str]
    task: NotRequired[str]
    node: NotRequired[str]
    """Where to log in for it."""
    only_looks: NotRequired[bool]
    """Whether there is nothing to change, only something to see."""
    held_before: NotRequired[bool]
    """Whether all claims held when the task was set: then they do not tell what was done."""
    commands: NotRequired[Sequence[str]]
    """What the lesson does, once a checkpoint is passed whose claims do not tell what was done."""
    question: NotRequired[str]
    """What the learner is asked about the checkpoint."""
    right: NotRequired[bool]
    """Of `answer`: whether what was given is what the lab shows."""
    wrong: NotRequired[int]
    """How many answers to the question were wrong."""
    answer: NotRequired[str]
    """The right answer, once it was given."""
    why: NotRequired[str]
    """Why it is so, if the lesson says it."""
    hint: NotRequired[str | None]
    """null: the checkpoint has none."""
    number: NotRequired[int]
    """Which hint this is, counted from 1."""
    of: NotRequired[int]
    """How many the checkpoint has."""
    summary: NotRequired[str]
    """What the lesson says at its end, if it says anything; only when all checkpoints passed."""


class OutcomeJson(TaskOrHint):
    """What every verb of the lessons prints with `--json`."""

    lesson: str
    ok: bool
    seconds: float
    failure: str | None
    """Why it did not come to its end, if it did not."""
    skipped: Sequence[str]
    """Ids of the checkpoints that were not run, because one before them failed."""
    undone: Sequence[str]
    """Those that were undone, as LESSON/CHECKPOINT."""
    checkpoints: Sequence[CheckpointJson]
    """Those that were run or checked."""
    position: PositionJson


@dataclass(frozen=True)
class Preview:
    """A checkpoint before it is run."""

    lesson: str
    checkpoint: str
    explain: str
    task: str = ""
    """What the learner has to do; only in practice."""
    commands: Sequence[tuple[str, str]] = ()
    """(prompt, command) of each command; none in practice."""
    question: str = ""
    """What the learner is asked; only in practice."""


@dataclass(frozen=True)
class LessonOutcome:
    """The outcome of one verb, such as `next` or `check`."""

    lesson: Lesson
    position: Position
    result: RunResult | None = None
    """What the engine did; None when there was nothing to do."""
    checkpoints: Sequence[CheckpointResult] = ()
    """Those that were run or checked."""
    undone: Sequence[str] = ()
    """Those that were undone, as LESSON/CHECKPOINT."""
    refuted: LabError | None = None
    """The error of `check` when a claim does not hold."""
    words: TaskOrHint = field(default_factory=lambda: TaskOrHint())
    """A task, a hint or the summary."""

    @property
    def failure(self) -> LabError | None:
        """The error that ended it too early; None when there was none."""
        failed = self.result.failed if self.result is not None else ()
        return failed[0] if failed else self.refuted

    def to_json(self) -> OutcomeJson:
        """Every checkpoint and claim with its evidence, and where the learner is now."""
        progress = self.position.progress(self.lesson)
        reached = first_open(self.lesson, progress)
        ids = [checkpoint.id for checkpoint in self.lesson.checkpoints]
        seconds = self.result.seconds if self.result else sum(r.seconds for r in self.checkpoints)
        return {
            "lesson": self.lesson.id,
            "ok": self.failure is None and (self.result is None or self.result.ok),
            "seconds": round(seconds, 3),
            "failure": None if self.failure is None else self.failure.message,
            "skipped": list(self.result.skipped) if self.result is not None else [],
            "undone": list(self.undone),
            "checkpoints": [result.to_json() for result in self.checkpoints],
            **self.words,
            "position": {
                "lesson": self.position.current,
                "practice": self.position.practice,
                "passed": list(progress.passed),
                "next": ids[reached] if reached < len(ids) else None,
            },
        }
