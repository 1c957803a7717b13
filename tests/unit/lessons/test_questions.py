"""Questions of checkpoints: read, asked, answered, and compared with what the lab shows."""

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.lab import Lab
from labctl.lessons.load import load_lesson
from labctl.lessons.model import PROBES, Answer, Lesson
from labctl.lessons.questions import is_right
from labctl.lessons.transcript import Scene, read_records, transcript
from labctl.page.lesson import lesson_shown
from labctl.spec.problems import SpecError
from tests.documents import expect_document
from tests.unit.lessons.bench import Bench, lesson

DAY = """
  - id: look
    WORDS
    run: [echo looked]
    claims: [HOLDS]
    question:
      text: {en: "Which number has {{ instance.name }}?", zh-TW: 是哪個數字？}
      answer: {probe: test.rows, where: {name: vm}, column: n, kind: number}
      hint: {en: Count them., zh-TW: 數一數。}
      why: {en: It is counted., zh-TW: 是數出來的。}
  - id: fact
    WORDS
    run: [echo made]
    claims: [HOLDS]
    question:
      text: Which address?
      answer: {value: "{{ fact.ip }}", kind: address}
    undo: echo undone
"""
FACTS = "{ip: {probe: test.rows, where: {name: ip}, column: address}}"
VM: dict[str, Any] = {"name": "vm", "n": 63}
IP: dict[str, Any] = {"name": "ip", "address": "10.0.2.9/24"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("LABCTL_LANG", "en")
    made = Bench(tmp_path)
    monkeypatch.setitem(PROBES, "test.rows", made.probe)
    made.rows["rows"] = [VM, IP]
    return made


@pytest.fixture
def day() -> Lesson:
    return lesson(DAY, FACTS)


def answers(bench: Bench) -> Any:
    return bench.progress()["answers"]


# -- what is the same answer -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "right", "given", "expected"),
    [
        ({"kind": "number"}, "63", " 63 ", True),
        ({"kind": "number"}, "63", "63.0", True),
        ({"kind": "number"}, "63", "0x3F", True),
        ({"kind": "number"}, "63", "64", False),
        ({"kind": "number", "tolerance": 1}, "63", "64", True),
        ({"kind": "number", "tolerance": 0.5}, "1.2", "1.8", False),
        ({"kind": "number", "tolerance": 0.1}, "0.3", "0.2", True),
        ({"kind": "address"}, "10.0.2.9/24", "10.0.2.9", True),
        ({"kind": "address"}, "10.0.2.9/24", "10.0.2.9/25", False),
        ({"kind": "address"}, "2001:db8::1", "2001:0db8:0::1", True),
        ({"kind": "address"}, "10.0.2.9", "10.0.2.10", False),
        ({"kind": "mac"}, "fa:16:3e:00:00:0a", "FA-16-3E-00-00-0A", True),
        ({"kind": "mac"}, "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b", False),
        ({}, "compute-01", " `Compute-01` ", True),
        ({}, "compute-01", "compute-02", False),
    ],
)
def test_answers_that_are_the_same(answer: Any, right: str, given: str, expected: bool) -> None:
    assert is_right(Answer(**answer), right, given) is expected


@pytest.mark.parametrize(
    ("kind", "given"),
    [("number", "many"), ("number", "nan"), ("number", "9" * 5000), ("address", "10.0.2"),
     ("mac", "fa:16"), ("word", " '' ")],
)  # fmt: skip
def test_what_is_no_answer_of_its_kind_is_told(kind: Any, given: str) -> None:
    with pytest.raises(LabError) as error:
        is_right(Answer(kind=kind), given, given)
    assert error.value.code == EXIT_USAGE


# -- on the way ------------------------------------------------------------------------------------
def test_a_learner_answers_after_next(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    asked = room.next()
    assert asked.failure is None
    assert "Which number has vm_1?" in bench.page.text
    assert "answer: labctl answer TEXT" in bench.page.text
    assert "63" not in bench.page.text, "it is the learner's to find out"
    assert expect_document("outcome", asked.to_json())["question"] == "Which number has vm_1?"

    wrong = room.answer("64")
    assert wrong.failure is not None
    assert (wrong.failure.code, wrong.words["right"], wrong.words["wrong"]) == (3, False, 1)
    assert "63" not in wrong.failure.message + wrong.failure.hint
    assert "Count them" not in wrong.failure.hint
    with pytest.raises(LabError, match="is no number: 'many'"):
        room.answer("many")
    wrong = room.answer("1")
    assert wrong.failure is not None
    assert wrong.failure.hint == "Count them; `labctl answer --tell` gives the answer"
    assert answers(bench) == {"look": {"wrong": 2, "text": "", "given_up": False}}

    right = room.answer("63")
    assert (right.failure, right.words["answer"], right.words["why"]) == (
        None, "63", "It is counted.",
    )  # fmt: skip
    assert "right: 63" in bench.page.text
    assert answers(bench) == {"look": {"wrong": 2, "text": "63", "given_up": False}}
    expect_document("outcome", right.to_json())
    with pytest.raises(LabError, match="no question is open") as error:
        room.answer("63")
    assert error.value.code == EXIT_USAGE
    text = transcript(day, read_records(bench.state, day), Scene("x", []))
    assert "**Question**: Which number has vm_1?\n\n**Answer**: `63`\n\nIt is counted." in text


def test_what_the_lab_shows_when_it_is_answered_counts(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    bench.rows["rows"] = [{**VM, "n": 7}, IP]
    assert room.answer("63").failure is not None
    assert room.answer("7").failure is None


def test_an_answer_that_the_lab_does_not_have_counts_for_nothing(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    bench.rows["rows"] = [VM, {**VM, "n": 64}]
    with pytest.raises(LabError, match="it shows several: 63, 64"):
        room.answer("63")
    room.next()
    bench.rows["rows"] = [VM]
    with pytest.raises(LabError, match=r"there is no fact\.ip yet"):
        room.answer("10.0.2.9")
    assert answers(bench) == {}


def test_whoever_gives_up_is_told_and_it_does_not_count_as_theirs(
    bench: Bench, day: Lesson
) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    assert room.answer(tell=True).words["answer"] == "63"
    assert answers(bench)["look"]["given_up"] is True
    assert "next: labctl next" in bench.page.text.splitlines()[-1]


def test_in_practice_a_checkpoint_passes_when_it_was_answered(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    started = room.start("test", practice=True)
    assert started.words["question"] == "Which number has vm_1?"
    assert "cannot know whether you have looked" not in bench.page.text
    checked = room.check()
    assert checked.failure is not None
    assert (checked.failure.code, checked.failure.message) == (
        EXIT_CLAIM, "the question is not answered yet",
    )  # fmt: skip
    assert bench.progress()["passed"] == []
    assert room.answer("63").failure is None
    assert "next: labctl check" in bench.page.text.splitlines()[-1]
    assert room.check().failure is None
    assert bench.progress()["passed"] == ["look"]
    assert "There was nothing to change" not in bench.page.text
    record = read_records(bench.state, day)["look"]
    assert record["question"]["answer"] == "63"
    room.next()
    assert room.solve().failure is None, "who lets labctl do it is told the answer"
    assert answers(bench)["fact"] == {"wrong": 0, "text": "10.0.2.9/24", "given_up": True}


def test_what_was_taken_back_is_asked_again(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    room.answer("63")
    room.goto("look")
    assert answers(bench) == {}


# -- a replay proves that it can be answered -------------------------------------------------------
def test_a_replay_answers_itself(bench: Bench, day: Lesson) -> None:
    outcome, result = bench.replay(day)
    assert result.ok
    shown = expect_document("outcome", outcome.to_json())
    assert [point["question"]["answer"] for point in shown["checkpoints"]] == ["63", "10.0.2.9/24"]
    assert "the answer is 63" in bench.page.text


def test_a_replay_fails_where_the_lab_has_no_answer(bench: Bench, day: Lesson) -> None:
    bench.rows["rows"] = [VM]
    outcome, result = bench.replay(day)
    assert outcome.failure is not None
    (failed,) = result.failed
    assert getattr(failed.cause, "code", None) == EXIT_CLAIM
    assert "fact: there is no fact.ip yet" in outcome.failure.message
    assert bench.progress()["answers"]["look"]["text"] == "63"


def test_a_replay_fails_where_the_answer_is_not_of_its_kind(bench: Bench, day: Lesson) -> None:
    bench.rows["rows"] = [{**VM, "n": "many"}, IP]
    outcome, _ = bench.replay(day)
    assert outcome.failure is not None
    assert "is no number: 'many'" in outcome.failure.message


# -- reading ---------------------------------------------------------------------------------------
def test_everything_wrong_with_a_question_is_told_at_its_line() -> None:
    def point(name: str, answer: str, more: str = "") -> str:
        return f"""
  - id: {name}
    WORDS
    run: [echo x]
    {more}
    claims: [{{id: c-{name}, text: It is so, probe: ovn.chassis}}]
    question: {{text: What, answer: {answer}}}"""

    answers = [
        ("plain", '{value: "63", kind: number}', ""),
        ("both", '{value: "{{ fact.ip }}", probe: ovn.chassis}', ""),
        ("none", "{kind: colour}", ""),
        ("column", "{probe: ovn.chassis}", ""),
        ("typo", "{probe: ovn.chassis, column: adress, where: {nmae: x}}", ""),
        ("deaf", "{probe: wire.packets, column: ttl}", ""),
        ("late", "{probe: run.commands, column: seconds}", "undo: echo"),
        ("loose", '{probe: ovn.chassis, column: address, tolerance: 1}', ""),
        ("fact", '{value: "{{ fact.nothing }}"}', ""),
    ]  # fmt: skip
    with pytest.raises(SpecError) as error:
        lesson(
            "".join(point(*each) for each in answers), "{ip: {probe: ovn.chassis, column: name}}"
        )
    told = [f"{problem.path}: {problem.message}" for problem in error.value.problems]
    place = "checkpoints[{}].question.answer"
    assert sorted(told) == [
        place.format(0) + ".value: is the same in every lab, so nothing is asked",
        place.format(1) + ".column: is missing",
        place.format(1) + ": must be asked of the lab in one way",
        place.format(2) + ".kind: must be number, address, mac or word",
        place.format(3) + ".column: is missing",
        place.format(4) + ".column: ovn.chassis has no such column",
        place.format(4) + ".where.nmae: ovn.chassis has no such column",
        place.format(5) + ".probe: this checkpoint has no capture, so wire.packets sees nothing",
        place.format(6) + ".probe: is measured while the commands run, and they change the lab",
        place.format(7) + ".tolerance: only a number has a tolerance",
        place.format(8) + ".value: asks for fact.nothing, which does not exist",
    ]
    assert all(problem.line > 4 for problem in error.value.problems)


def test_built_in_lessons_ask() -> None:
    for name in ("ovn-logical-router", "ovn-snat-dnat"):
        questions = [c.question for c in load_lesson(name).checkpoints if c.question is not None]
        assert [question.answer.column for question in questions] == ["ttl"]
        assert all(question.text.zh_tw and question.why for question in questions)


# -- the page --------------------------------------------------------------------------------------
def test_the_page_shows_the_question_and_no_answer_before_it_is_given(tmp_path: Path) -> None:
    set_language("en")
    file = tmp_path / "lab.yaml"
    file.write_text("name: asked\nprovider: nspawn\nstack: ovn\n", encoding="utf-8")
    lab, name = Lab(file), "ovn-logical-router"
    ids = [checkpoint.id for checkpoint in load_lesson(name).checkpoints]
    passed = ids[: ids.index("two-nodes") + 1]
    texts = {"en": "Which TTL?", "zh-TW": "TTL 是多少？"}
    record = {"id": "two-nodes", "source": name, "at": 1.0, "explain": texts, "typed": False,
              "commands": [], "claims": [], "question": {"texts": texts, "answer": "",
                                                         "why": texts}}  # fmt: skip
    lab.state.write_json(lab.state.record(name, "two-nodes"), record)

    def shown(answers: dict[str, Any]) -> Any:
        progress = {"source": name, "attempted": passed, "passed": passed, "hints": {},
                    "total": len(ids), "at": 0, "answers": answers}  # fmt: skip
        position = {"current": name, "practice": False, "lessons": {name: progress}}
        lab.state.write_json(lab.state.lesson_position, position)
        points = lesson_shown(lab)["lesson"]["checkpoints"]
        assert [p["id"] for p in points if p["asks"]] == ([] if answers else ["two-nodes"])
        point = next(p for p in points if p["id"] == "two-nodes")
        return {key: point[key] for key in ("question", "answer", "why")}

    assert shown({})["answer"] == ""
    assert shown({})["why"] == ""
    lab.state.write_json(
        lab.state.record(name, "two-nodes"),
        {**record, "question": {"texts": texts, "answer": "63", "why": texts}},
    )
    assert shown({}) == {"question": "Which TTL?", "answer": "", "why": ""}, "of an earlier run"
    given = shown({"two-nodes": {"wrong": 1, "text": "63", "given_up": False}})
    assert (given["answer"], bool(given["why"])) == ("63", True)
