"""How a class gets on: what `labctl progress` says on each machine, judged and shown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from labctl.classroom.engine import Machine
from labctl.classroom.load import parse_class
from labctl.classroom.pace import Pace, pace
from labctl.classroom.status import collect
from labctl.errors import LabError
from labctl.i18n import set_language
from labctl.run import Completed
from tests.documents import expect_document
from tests.unit.classroom.fake_engine import FakeEngine

AMY = Machine("id", "amy", "running", "192.0.2.1")


def progress(**changes: Any) -> Completed:
    """What `labctl progress --json` prints: as the published schema has it."""
    document = {
        "lab": "mine", "lesson": "ovn-geneve", "practice": True, "checkpoint": "tunnel",
        "passed": 2, "checkpoints": 6, "hints": 0, "here": 120.0, "failing": [], "checked": None,
        "idle": 5.0, "load": 0.5, "memory": 0.6, "disk": 0.4, **changes,
    }  # fmt: skip
    expect_document("progress", document)
    return Completed(0, json.dumps(document), "")


def asked(answer: Completed, minutes: float = 15) -> tuple[Pace | None, str]:
    set_language("en")

    def ask(machine: Machine, words: Sequence[str], seconds: float) -> Completed:
        assert list(words) == ["progress", "--json"]
        return answer

    return pace(AMY, ask, 60 * minutes)


@pytest.mark.parametrize(
    ("changes", "stuck"),
    [
        ({"here": 899.0}, False),
        ({"here": 900.0}, True),
        ({"here": None}, False),
        ({"here": 9000.0, "checkpoint": None}, False),  # the lesson is done
        ({"here": 9000.0, "lesson": None, "checkpoint": None}, False),
    ],
)
def test_who_is_at_one_checkpoint_for_too_long_is_stuck(
    changes: Mapping[str, Any], stuck: bool
) -> None:
    found, silent = asked(progress(**changes))
    assert found is not None
    assert (found["stuck"], silent) == (stuck, "")


@pytest.mark.parametrize(
    ("changes", "troubles"),
    [
        ({"memory": 0.04}, ["4 % of the memory is left"]),
        ({"disk": 0.0, "load": 4.5}, ["0 % of the disk is left", "load 4.5 for each processor"]),
        ({"disk": None, "load": None, "memory": None}, []),
    ],
)
def test_a_machine_that_is_at_its_limit_is_told(
    changes: Mapping[str, Any], troubles: list[str]
) -> None:
    found, _ = asked(progress(**changes))
    assert found is not None
    assert found["troubles"] == troubles


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Completed(127, "", "sh: 1: labctl: not found\n"), "sh: 1: labctl: not found"),
        (Completed(255, "", "Connection refused\n"), "SSH: Connection refused"),
        (Completed(-9, "", "", timed_out=True), "it did not answer in time"),
        (Completed(2, "", "✗ lab.yaml is missing\n  hint\n"), "lab.yaml is missing"),
        (Completed(0, "NaN", ""), "the command ended with exit code 0"),
        (Completed(0, progress().stdout.replace("120.0", "NaN"), ""),
         "the command ended with exit code 0"),
        (Completed(0, progress().stdout.replace("0.6", "-5"), "\x1b[2J\n"), "the command ended"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(answer: Completed, why: str) -> None:
    found, silent = asked(answer)
    assert found is None
    assert silent.startswith(why) or why in silent
    assert "\x1b" not in silent


def test_control_characters_do_not_come_through() -> None:
    nasty = "\x1b]0;evil\x07" + "x" * 1000
    found, _ = asked(progress(lesson=nasty, failing=[{"claim": "c", "text": nasty}] * 100))
    assert found is not None
    for text in (found["lesson"], *found["failing"]):
        assert text is not None
        assert "\x1b" not in text
        assert len(text) <= 200
    assert len(found["failing"]) == 20


def test_only_machines_that_greet_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_class(b"name: day\nlearners: [amy, bob, cat]\n", "class.yaml")
    engine = FakeEngine()
    for learner, state in (("amy", "running"), ("bob", "running"), ("cat", "stopped")):
        engine.there[learner] = Machine(learner, learner, state)  # type: ignore[arg-type]
        engine.addresses[learner] = f"192.0.2.{len(engine.there)}"
    monkeypatch.setattr(
        "labctl.classroom.status.greets", lambda machine: machine.learner in ("amy", "cat")
    )
    names = []

    def ask(machine: Machine, words: Sequence[str], seconds: float) -> Completed:
        names.append(machine.learner)
        if machine.learner == "bob":
            raise LabError("never")
        return progress(here=1000.0)

    report = expect_document("class-status", collect(spec, engine, ask, 900))
    assert names == ["amy"]
    amy, bob, cat = report["learners"]
    assert amy["pace"]["stuck"]
    assert (bob["pace"], bob["silent"], bob["ssh"]) == (None, "", False)
    assert (cat["pace"], cat["ssh"]) == (None, True)
    without = expect_document("class-status", collect(spec, engine))
    assert [row["pace"] for row in without["learners"]] == [None] * 3
