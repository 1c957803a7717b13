"""The state of a class as people read it, on a terminal and on the teacher's page."""

from typing import Any

import pytest

from labctl.classroom.pace import Pace
from labctl.classroom.status import ClassStatus, LearnerStatus
from labctl.classroom.table import heads, notes, row
from labctl.i18n import set_language


def pace(**changes: Any) -> Pace:
    found: Pace = {
        "lesson": "ovn-geneve", "checkpoint": "tunnel", "passed": 2, "checkpoints": 6, "hints": 0,
        "here": 120.0, "idle": 5.0, "failing": [], "troubles": [], "stuck": False,
    }  # fmt: skip
    found.update(changes)  # type: ignore[typeddict-item]
    return found


def learner(pace: Pace | None = None, **changes: Any) -> LearnerStatus:
    found: LearnerStatus = {
        "learner": "amy", "state": "running", "address": "192.0.2.1", "ssh": True, "reason": "",
        "pace": pace, "silent": "",
    }  # fmt: skip
    found.update(changes)  # type: ignore[typeddict-item]
    return found


@pytest.mark.parametrize(
    ("status", "mark", "cells"),
    [
        (learner(pace()), "ok",
         {"machine": "runs", "checkpoint": "ovn-geneve/tunnel (2/6)", "here": "2m 00s",
          "remarks": ""}),
        (learner(pace(stuck=True, failing=["a tunnel is there", "x"], troubles=["load 9"])),
         "stuck", {"remarks": "stuck; did not hold: a tunnel is there; load 9"}),
        (learner(pace(checkpoint=None, passed=6)), "ok",
         {"checkpoint": "ovn-geneve/done (6/6)", "here": ""}),
        (learner(pace(lesson=None, checkpoint=None)), "ok", {"checkpoint": "no lesson was begun"}),
        (learner(None, ssh=False), "bad", {"machine": "no answer", "checkpoint": ""}),
        (learner(None, ssh=False, state="failed", address="", reason="No valid host"), "bad",
         {"machine": "failed", "remarks": "No valid host"}),
        (learner(None, silent="SSH: no"), "bad", {"remarks": "SSH: no"}),
    ],
)  # fmt: skip
def test_a_learner_is_told_in_words(
    status: LearnerStatus, mark: str, cells: dict[str, str]
) -> None:
    set_language("en")
    shown = row(status)
    assert shown["mark"] == mark
    assert {name: shown["cells"][name] for name in cells} == cells
    assert list(shown["cells"]) == list(heads())


def test_what_there_is_to_say_of_the_class() -> None:
    set_language("en")
    report: ClassStatus = {
        "name": "ovn-day", "engine": "ssh", "ends": "2027-03-05T17:00+08:00", "ended": False,
        "learners": [learner(pace(stuck=True)), learner(pace(), learner="bob")],
        "others": ["eve"],
    }  # fmt: skip
    assert notes(report) == [
        "stuck: amy",
        "eve has a machine and is not in class.yaml",
        "the class ends at 2027-03-05 17:00 +08:00",
    ]
    assert notes({**report, "ended": True})[-1].startswith("the class ended")
    assert notes({**report, "learners": [], "others": [], "ends": None}) == []
