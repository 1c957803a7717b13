"""A lab as the report finds it: records of a real run (tests/golden/report), walks of real packets.

`hostile` puts into every text that a guest, an instance or an API chooses what would become markup,
script or a terminal's command if anybody believed it.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.actions.status import Report
from labctl.graph.model import Graph
from labctl.graph.planned import planned
from labctl.report import collect
from labctl.report.page import ReportPage
from labctl.state import LabState, as_json
from labctl.walks.walk import Walk
from tests.unit.fakes import topology
from tests.unit.golden import GOLDEN
from tests.unit.walks.walks import WALKS, RecordedLab

RECORDED = GOLDEN / "report"
LESSON = "floating-ip"

HOSTILE = (
    "<script>window.hit=1</script></script>\"onload=\"window.hit=1' onclick='window.hit=1"
    "]]><img src=x onerror=window.hit=1></style></title>&lt;b&gt;"
    "\x1b[31mred\x1b]0;title\x07\u202eoverride\x00"
)
SHOWN = HOSTILE.split("\x1b", 1)[0]
"""What of it people see as text; the rest is for terminals and goes."""


@dataclass
class RecordedReport:
    """What `collect` asks of a lab; `page` collects."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch
    walks: Sequence[str] = ("blocked", "in", "out")
    hostile: bool = False
    up: bool = True

    def __post_init__(self) -> None:
        self.topology = topology()
        self.state = LabState(self.directory)
        self.file = self.directory / "lab.yaml"
        self.provider = SimpleNamespace(running=lambda node: False)
        self.state.begin("ovn-tutorial", "nspawn")
        shutil.copytree(RECORDED / "records", self.state.root / "records" / LESSON)
        shutil.copy(RECORDED / "lesson.json", self.state.lesson_position)
        self.recorded = []
        for number, case in enumerate(self.walks):
            with pytest.MonkeyPatch.context() as patch:
                walk = RecordedLab(WALKS / case, patch).walk()
            self.recorded.append(walk)
            data = json.loads(as_json(walk))
            self._write(self.state.walks / f"{1000 + number}.json", data)
        if self.hostile:
            for path in (self.state.root / "records").rglob("*.json"):
                self._write(path, json.loads(path.read_text("utf-8")))

    def _write(self, path: Path, data: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.state.write_json(path, poisoned(data) if self.hostile else data)

    def graph(self) -> Graph:
        """The network; live if the lab is up."""
        graph = planned(self.topology)
        if self.hostile:
            graph = replace(
                graph,
                lab=HOSTILE,
                notes=(HOSTILE,),
                hosts=tuple(
                    replace(
                        host,
                        chassis=HOSTILE,
                        vms=tuple(replace(vm, name=HOSTILE) for vm in host.vms),
                    )
                    for host in graph.hosts
                ),
                switches=tuple(replace(one, label=HOSTILE) for one in graph.switches),
            )
        return replace(graph, live=True)

    def status(self) -> Report:
        """As `labctl status` reported it."""
        report: Report = json.loads((RECORDED / "status.json").read_text("utf-8"))
        if self.hostile:
            report["instances"] = poisoned(report["instances"])
            for node in report["nodes"]:
                node |= {"chassis": HOSTILE, "failed": [HOSTILE]}
        return report

    def page(self) -> ReportPage:
        """What the page is made of."""
        if self.up:
            self.monkeypatch.setattr(collect, "status", lambda lab: self.status())
            self.monkeypatch.setattr("labctl.graph.observed.live", lambda lab: self.graph())
        return collect.collect(self)  # type: ignore[arg-type]


_LABELS = {"datapaths", "ports", "macs", "addresses", "groups"}
"""Of a walk: mappings whose values are names."""


def poisoned(data: Any, key: str = "") -> Any:
    """JSON with every text that a guest or a learner chooses made hostile."""
    if isinstance(data, dict):
        return {
            name: poisoned(value, key if key in _LABELS else name) for name, value in data.items()
        }
    if isinstance(data, list):
        return [poisoned(one, key) for one in data]
    if isinstance(data, str) and data and key in _CHOSEN:
        return f"{data} {HOSTILE}"
    return data


# Of records, of the status, and of walks. What is empty stays so: the page has the same elements.
_CHOSEN = {
    "output", "name", "command", "prompt", "text", "en", "zh-TW", "expected", "error", "outcome",
    "addresses", "fixed", "floating", "status", "host", "by", "datapath", "server",
    "ingress_port", "egress_port", "assumed", "notes", *_LABELS,
}  # fmt: skip


def walks_of(made: RecordedReport) -> list[Walk]:
    """The walks as the page has them: the newest first."""
    return list(reversed(made.recorded))
