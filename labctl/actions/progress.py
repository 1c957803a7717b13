"""How a learner is getting on, for a teacher who asks many labs: files only, no node is asked."""

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from typing_extensions import TypedDict

from labctl.errors import LabError
from labctl.host.files import memory
from labctl.lab import Lab
from labctl.lessons.load import load_lesson
from labctl.lessons.model import Lesson
from labctl.lessons.progress import first_open, read_failing, read_position

_TERMINALS = Path("/dev/pts")


class ClaimBrief(TypedDict):
    """A claim that did not hold."""

    claim: str
    text: str


class ProgressReport(TypedDict):
    """What `progress --json` prints. Times are ages, in seconds: no two clocks are compared."""

    lab: str
    """Name of the lab; empty: there is none yet."""
    lesson: str | None
    """Id of the lesson that the learner is in; null: none was begun."""
    practice: bool
    """Whether the learner types the commands."""
    checkpoint: str | None
    """Id of the checkpoint that is to be done; null: none, or the lesson is done."""
    passed: int
    """Checkpoints of the lesson that are passed."""
    checkpoints: int
    """How many it has; 0: its file cannot be read."""
    hints: int
    """Hints that were given for this checkpoint."""
    here: float | None
    """Seconds since the learner came to this checkpoint; null: not known."""
    failing: list[ClaimBrief]
    """Claims of this checkpoint that did not hold when `check` was last run at it."""
    checked: float | None
    """Seconds since then; null: it was not run at this checkpoint."""
    idle: float | None
    """Seconds since labctl last worked on the lab, or somebody typed at a terminal of this machine;
    null: not known."""
    load: float | None
    """Processes that want to run, for each processor, over a minute; null: not known."""
    memory: float | None
    """The part of the memory that is available, 0 to 1; null: not known."""
    disk: float | None
    """The part of the lab's disk that is free, 0 to 1; null: not known."""


def collect(lab: Lab) -> ProgressReport:
    """Read it from the lab's files. Raises LabError for a position that cannot be read."""
    now = time.time()
    total, available = memory()
    report: ProgressReport = {
        "lab": "", "lesson": None, "practice": False, "checkpoint": None, "passed": 0,
        "checkpoints": 0, "hints": 0, "here": None, "failing": [], "checked": None,
        "idle": _age(_last_activity(lab), now),
        "load": _load(),
        "memory": round(available / total, 3) if total and available is not None else None,
        "disk": _disk(lab.file.parent),
    }  # fmt: skip
    if lab.state.exists:
        report["lab"] = lab.state.identity().lab
        _add_lesson(lab, report, now)
    return report


def _add_lesson(lab: Lab, report: ProgressReport, now: float) -> None:
    position = read_position(lab.state)
    if position.current is None:
        return
    mine = position.lessons[position.current]
    report["lesson"], report["practice"] = position.current, position.practice
    report["passed"] = len(mine.passed)
    report["here"] = _age(mine.since, now)
    try:
        lesson: Lesson = load_lesson(mine.source)
    except LabError:
        return  # its file is gone or wrong
    progress = position.progress(lesson)
    number = first_open(lesson, progress)
    report["passed"], report["checkpoints"] = len(progress.passed), len(lesson.checkpoints)
    if number == len(lesson.checkpoints):
        return
    checkpoint = lesson.checkpoints[number].id
    report["checkpoint"], report["hints"] = checkpoint, progress.hints.get(checkpoint, 0)
    failing = read_failing(lab.state)
    if failing is not None and (failing.lesson, failing.checkpoint) == (lesson.id, checkpoint):
        report["checked"] = _age(failing.at, now)
        report["failing"] = [{"claim": id, "text": text} for id, text in failing.claims.items()]


def _age(at: float, now: float) -> float | None:
    return round(max(0.0, now - at), 1) if at else None


def _last_activity(lab: Lab) -> float:
    """Seconds since the epoch; 0: not known."""
    times = [0.0]
    for path in (lab.state.events, lab.state.lesson_position):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    with suppress(OSError):
        # The kernel notes when a terminal was read, to 8 seconds (drivers/tty/tty_io.c).
        times += [path.stat().st_atime for path in _TERMINALS.iterdir() if path.name.isdigit()]
    return max(times)


def _load() -> float | None:
    if sys.platform == "win32":  # it has none
        return None
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    except OSError:
        return None


def _disk(directory: Path) -> float | None:
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return round(usage.free / usage.total, 3) if usage.total else None
