"""The results of commands, checkpoints and the verbs of lessons."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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


@dataclass
class CheckpointResult:
    """One checkpoint as it ran, or as it was checked."""

    id: str
    title: str
    explain: str = ""
    commands: list[CommandResult] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all claims hold; False when there are none, as after a command that failed."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)


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
    words: dict[str, Any] = field(default_factory=dict)
    """A task or a hint."""

    @property
    def failure(self) -> LabError | None:
        """The error that ended it too early; None when there was none."""
        failed = self.result.failed if self.result is not None else ()
        return failed[0] if failed else self.refuted

    def to_json(self) -> dict[str, Any]:
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
            "checkpoints": [{"ok": result.ok, **asdict(result)} for result in self.checkpoints],
            **self.words,
            "position": {
                "lesson": self.position.current,
                "practice": self.position.practice,
                "passed": list(progress.passed),
                "next": ids[reached] if reached < len(ids) else None,
            },
        }
