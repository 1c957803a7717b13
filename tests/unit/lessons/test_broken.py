"""Checkpoints that break the lab first: unseen, once, and mended by their undo alone."""

import json

import pytest

from labctl.engine.events import EventBus
from labctl.engine.steps import run_steps
from labctl.lessons import prove
from labctl.lessons.load import parse_lesson
from labctl.lessons.model import PROBES, Lesson
from labctl.lessons.prove import Prover
from labctl.spec.problems import SpecError
from tests.unit.lessons.bench import Bench

# A lamp is a file; the checkpoint `dark` puts it out and wants it lit again.
DAY = """
id: lamps
title: Lamps
goal: Find what is wrong.
checkpoints:
  - id: light
    title: Light
    explain: x
    run: [touch lamp]
    claims: [{id: first-light, text: It is lit, probe: test.rows, within: 0}]
    undo: rm -f lamp
  - id: dark
    title: Dark
    explain: The room is dark.
    break:
      - echo secret; rm lamp; echo x >>broken
    run: [touch lamp]
    claims: [{id: lit-again, text: It is lit, probe: test.rows, within: 0}]
    undo: UNDO
"""


@pytest.fixture
def room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose probe sees the lamp."""
    monkeypatch.setitem(
        PROBES, "test.rows", lambda context, arguments: [{"n": 1}] if bench.has("lamp") else []
    )
    monkeypatch.setattr(prove, "FAIL_SECONDS", 0.3)
    monkeypatch.setenv("LABCTL_LANG", "en")
    bench.node.stub("ovn-nbctl", "true")
    return bench


def lamps(undo: str = "touch lamp", text: str = DAY) -> Lesson:
    return parse_lesson(text.replace("UNDO", undo).encode(), "lamps.yaml")


def test_what_breaks_is_neither_shown_nor_kept(room: Bench) -> None:
    outcome, result = room.replay(lamps())
    assert result.ok
    assert outcome.failure is None
    assert room.text("broken") == "x\n"
    printed = room.page.text + json.dumps(
        [command.command for row in outcome.checkpoints for command in row.commands]
    )
    assert "touch lamp" in printed
    assert "secret" not in printed
    assert "broken" not in printed


def test_in_practice_the_task_breaks_once_until_it_is_taken_back(room: Bench) -> None:
    session = room.classroom(lamps())
    session.start("lamps", practice=True)
    session.solve()
    assert room.has("lamp")
    session.next()
    assert not room.has("lamp")
    assert session.check().refuted is not None
    room.node.run("touch lamp")
    session.next()  # the task once more, which must not undo what the learner has mended
    assert room.has("lamp")
    assert room.text("broken") == "x\n"
    assert session.check().refuted is None


def test_solving_begins_with_the_lab_broken_anew(room: Bench) -> None:
    session = room.classroom(lamps())
    session.start("lamps", practice=True)
    session.solve()
    session.next()
    assert session.solve().failure is None
    assert room.has("lamp")
    assert room.text("broken") == "x\nx\n"


def test_what_labctl_has_not_broken_is_not_mended(room: Bench) -> None:
    lesson = lamps("touch lamp mended")
    session = room.classroom(lesson)
    session.start("lamps", practice=True)
    session.solve()
    session.start("lamps", practice=True)
    assert not room.has("mended")
    assert not room.has("lamp")


def test_a_break_that_fails_says_so(room: Bench) -> None:
    lesson = lamps(text=DAY.replace("echo secret; rm lamp", "echo no lamp; exit 7"))
    outcome, _ = room.replay(lesson)
    assert outcome.failure is not None
    assert "cannot prepare dark on network-controller (exit 7): no lamp" in str(outcome.failure)


def test_what_breaks_must_be_mended_by_an_undo() -> None:
    with pytest.raises(SpecError, match=r"undo: is missing; it mends what `break` breaks"):
        lamps(text=DAY.replace("    undo: UNDO\n", ""))


@pytest.mark.parametrize("mends", [True, False])
def test_it_is_proved_broken_then_mended_by_its_undo_alone(room: Bench, mends: bool) -> None:
    lesson = lamps("touch lamp" if mends else "true")
    room.classroom(lesson)  # knows it by its id
    prover = Prover(
        "lamps",
        prove.Bench(room.topology, room.state, room.guests.__getitem__, room.cloud,
                    room.lessons.__getitem__),
    )  # fmt: skip
    result = run_steps(prover.steps(), bus=EventBus(), title="prove")
    proof = prover.end(result)
    wrong = [asked.text.partition(" (")[0] for asked in proof.wrong]
    if mends:
        assert (wrong, proof.failure) == ([], "")
        assert [proof.cell("dark", phase) for phase in ("before", "after", "undone", "solved")] == [
            "✓ 1"
        ] * 4
    else:
        assert "lit-again does not hold after dark was taken back" in wrong
