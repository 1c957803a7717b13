"""A lesson on a bench: its commands run in a real shell, its claims look at scripted sights."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows
from labctl.engine.events import EventBus
from labctl.engine.steps import RunResult, Step, run_steps
from labctl.errors import EXIT_USAGE, LabError
from labctl.lessons.load import parse_lesson
from labctl.lessons.model import Lesson
from labctl.lessons.results import LessonOutcome
from labctl.lessons.runner import Runner
from labctl.lessons.session import Session
from labctl.probes import ProbeContext
from labctl.state import LabState
from tests.unit.fakes import FakeGuest, LocalGuest, PlainPage, no_cloud, topology

CONTROLLER, COMPUTE = "network-controller", "compute-01"


def lesson(checkpoints: str, facts: str = "{}") -> Lesson:
    """A lesson of checkpoints that need no words; `{claim}` is a claim that holds."""
    head = "id: test\ntitle: {en: Test, zh-TW: 測試}\ngoal: {en: x, zh-TW: 甲}\n"
    words = "title: {en: Step, zh-TW: 步驟}\n    explain: {en: x, zh-TW: 甲}"
    claim = "{id: NAME, text: {en: It is so, zh-TW: 就是這樣}, probe: test.rows}"
    text = f"{head}facts: {facts}\ncheckpoints:\n" + checkpoints.replace("WORDS", words)
    count = iter(range(100))
    text = re.sub("HOLDS", lambda _: claim.replace("NAME", f"holds-{next(count)}"), text)
    return parse_lesson(text.encode(), "test.yaml")


@dataclass
class Bench:
    """A runner and everything it touches."""

    directory: Path
    rows: dict[str, Any] = field(default_factory=lambda: {"rows": [{"n": 1}]})
    """What the probe test.rows sees: rows, or a list of answers in turn under `turns`."""
    asked: list[Mapping[str, str]] = field(default_factory=list)
    page: PlainPage = field(default_factory=PlainPage)
    cloud: Callable[[], Any] = no_cloud

    def __post_init__(self) -> None:
        self.node = LocalGuest(self.directory / "node")
        self.guests: dict[str, Guest] = {CONTROLLER: self.node, COMPUTE: FakeGuest(COMPUTE)}
        self.lessons: dict[str, Lesson] = {}
        self.steps: list[Step] = []
        """Of the last run."""
        self.state = LabState(self.directory)
        self.topology = topology()

    def probe(self, context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
        self.asked.append(arguments)
        turns = self.rows.get("turns")
        if turns:
            return list(turns.pop(0) if len(turns) > 1 else turns[0])
        return list(self.rows["rows"])

    def runner(self, what: Lesson) -> Runner:
        return Runner(
            what, self.topology, self.state, self.guests.__getitem__, self.cloud, self.page
        )

    def engine(self, title: str, steps: list[Step]) -> RunResult:
        self.steps = steps
        return run_steps(steps, bus=EventBus(), title=title)

    def classroom(self, *lessons: Lesson) -> Session:
        self.lessons |= {str(Path(one.id).absolute()): one for one in lessons}
        self.lessons |= {one.id: one for one in lessons}

        def load(name: str) -> Lesson:
            if name not in self.lessons:
                raise LabError(f"there is no lesson {name!r}", code=EXIT_USAGE)
            return self.lessons[name]

        return Session(
            self.topology, self.state, self.guests.__getitem__, self.cloud, self.page, self.engine,
            load=load,
        )  # fmt: skip

    def replay(self, what: Lesson) -> tuple[LessonOutcome, RunResult]:
        report = self.classroom(what).replay(what.id)
        assert report.result is not None
        return report, report.result

    def ran(self) -> list[str]:
        """Ids of the last run's steps."""
        return [step.id for step in self.steps]

    def begun(self, what: Lesson, *attempted: str) -> None:
        """As if these checkpoints had been begun earlier."""
        self.classroom(what)
        mine = {"source": what.id, "attempted": attempted, "passed": [], "hints": {},
                "total": 0, "at": 0}  # fmt: skip
        data = {"current": what.id, "practice": False, "lessons": {what.id: mine}}
        self.state.write_json(self.state.lesson_position, data)

    def position(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.state.lesson_position.read_text(encoding="utf-8"))
        return data

    def progress(self, name: str = "test") -> dict[str, Any]:
        mine: dict[str, Any] = self.position()["lessons"][name]
        return mine

    def has(self, name: str) -> bool:
        return (self.node.root / name).exists()

    def text(self, name: str) -> str:
        return (self.node.root / name).read_text(encoding="utf-8")
