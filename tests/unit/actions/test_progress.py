"""`labctl progress`: how a learner gets on, from the lab's files."""

import json
import os
import time
from pathlib import Path

import pytest

from labctl.actions.progress import ProgressReport, collect
from labctl.lab import Lab
from labctl.lessons.load import load_lesson
from labctl.lessons.progress import Failing, Position, write_failing, write_position
from tests.documents import expect_document

LESSON = load_lesson("ovn-logical-switch")
FIRST, SECOND = LESSON.checkpoints[:2]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "lab.yaml").write_text("name: mine\nstack: ovn\nprovider: nspawn\n")
    made = Lab(tmp_path / "lab.yaml")
    made.state.begin("mine", "nspawn")
    return made


def report(lab: Lab) -> ProgressReport:
    found = collect(lab)
    expect_document("progress", found)
    return found


def begun(lab: Lab) -> Position:
    position = Position().entered(LESSON, LESSON.id, practice=True)
    write_position(lab.state, position)
    return position


def test_without_a_lab_or_a_lesson(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: mine\nstack: ovn\nprovider: nspawn\n")
    lab = Lab(tmp_path / "lab.yaml")
    assert (report(lab)["lab"], report(lab)["lesson"]) == ("", None)
    lab.state.begin("mine", "nspawn")
    assert (report(lab)["lab"], report(lab)["lesson"]) == ("mine", None)


def test_the_checkpoint_that_is_to_be_done(lab: Lab) -> None:
    position = begun(lab).passing(LESSON, FIRST)
    write_position(lab.state, position.hinted(LESSON, SECOND))
    found = report(lab)
    assert (found["lesson"], found["practice"]) == (LESSON.id, True)
    assert (found["checkpoint"], found["passed"]) == (SECOND.id, 1)
    assert found["checkpoints"] == len(LESSON.checkpoints)
    assert found["hints"] == (1 if SECOND.hints else 0)
    for checkpoint in LESSON.checkpoints:
        position = position.passing(LESSON, checkpoint)
    write_position(lab.state, position)
    assert report(lab)["checkpoint"] is None


def test_how_long_the_learner_is_here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock[0])
        position = begun(lab)
        clock[0] += 100
        position = position.passing(LESSON, FIRST)
        for wait in (100, 100, 100):  # what a learner does there does not make them new there
            clock[0] += wait
            position = position.attempting(LESSON, SECOND).hinted(LESSON, SECOND)
            position = position.holding(LESSON, SECOND, held=False)
        position = position.entered(LESSON, LESSON.id)
        write_position(lab.state, position)
        clock[0] += 5
        assert report(lab)["here"] == 305
        other = load_lesson("ovn-geneve")
        write_position(lab.state, position.entered(other, other.id).entered(LESSON, LESSON.id))
        clock[0] += 7
        assert report(lab)["here"] == 7
        write_position(lab.state, position.without(LESSON, FIRST))
        assert report(lab)["here"] == 0


def test_a_position_of_an_older_labctl_tells_no_time(lab: Lab) -> None:
    position = begun(lab).to_json()
    del position["lessons"][LESSON.id]["since"]
    lab.state.write_json(lab.state.lesson_position, position)
    assert report(lab)["here"] is None


def test_what_did_not_hold_is_that_of_this_checkpoint(lab: Lab) -> None:
    position = begun(lab)
    write_failing(lab.state, Failing(LESSON.id, FIRST.id, time.time() - 60, {"bound": "Bound"}))
    found = report(lab)
    assert found["failing"] == [{"claim": "bound", "text": "Bound"}]
    assert found["checked"] is not None
    assert 60 <= found["checked"] < 70
    write_position(lab.state, position.passing(LESSON, FIRST))
    assert (report(lab)["failing"], report(lab)["checked"]) == ([], None)


@pytest.mark.parametrize("content", ["", "{}", '{"lesson": 3}', "[]", "not JSON"])
def test_a_note_of_the_last_check_that_is_broken_is_none(lab: Lab, content: str) -> None:
    begun(lab)
    lab.state.last_check.write_text(content)
    assert report(lab)["failing"] == []


def test_the_machine(lab: Lab) -> None:
    begun(lab)
    lab.state.events.parent.mkdir(exist_ok=True)
    lab.state.events.touch()
    # The file system has the kernel's clock, and these tests run on another day, too.
    os.utime(lab.state.events, (time.time(), time.time()))
    found = report(lab)
    assert found["idle"] is not None
    assert found["idle"] < 10
    usage = os.statvfs(lab.file.parent)
    assert found["disk"] is not None
    assert abs(found["disk"] - usage.f_bavail / usage.f_blocks) < 0.05
    assert found["memory"] is not None
    assert 0 < found["memory"] <= 1
    assert found["load"] is not None
    assert json.loads(json.dumps(found)) == found
