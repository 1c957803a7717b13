"""What became of commands and checkpoints."""

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
        """Whether everything that was run and claimed is as it should be."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)


@dataclass(frozen=True)
class LessonOutcome:
    """What became of one verb."""

    lesson: Lesson
    position: Position
    result: RunResult | None = None
    """What the engine did; None when there was nothing to do."""
    checkpoints: Sequence[CheckpointResult] = ()
    """Those that were run or checked."""
    undone: Sequence[str] = ()
    """Those that were taken back, as LESSON/CHECKPOINT."""
    refuted: LabError | None = None
    """What `check` says when a claim does not hold."""
    words: dict[str, Any] = field(default_factory=dict)
    """A task or a hint."""

    @property
    def failure(self) -> LabError | None:
        """Why it did not come to its end, if it did not."""
        failed = self.result.failed if self.result is not None else ()
        return failed[0] if failed else self.refuted

    def to_json(self) -> dict[str, Any]:
        """Every checkpoint and claim with its evidence, and where the learner is now."""
        progress = self.position.progress(self.lesson)
        reached = first_open(self.lesson, progress)
        ids = [one.id for one in self.lesson.checkpoints]
        seconds = self.result.seconds if self.result else sum(x.seconds for x in self.checkpoints)
        return {
            "lesson": self.lesson.id,
            "ok": self.failure is None and (self.result is None or self.result.ok),
            "seconds": round(seconds, 3),
            "failure": None if self.failure is None else self.failure.message,
            "skipped": list(self.result.skipped) if self.result is not None else [],
            "undone": list(self.undone),
            "checkpoints": [{"ok": one.ok, **asdict(one)} for one in self.checkpoints],
            **self.words,
            "position": {
                "lesson": self.position.current,
                "practice": self.position.practice,
                "passed": list(progress.passed),
                "next": ids[reached] if reached < len(ids) else None,
            },
        }
