"""The grades of a class: what labctl says on each machine, and the files that come of it."""

import csv
import io
import json
import threading
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from labctl.classroom.engine import Machine
from labctl.classroom.grades import Grades, collect, exit_code
from labctl.classroom.load import parse_class
from labctl.classroom.sheets import csv_text, workbook
from labctl.errors import EXIT_CLAIM, EXIT_DONE, EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.run import Completed
from tests.documents import expect_document
from tests.unit.classroom.fake_engine import FakeEngine

Answer = Completed | Callable[[], Completed]


def outcome(*, holds: bool = True, next: str | None = "route", **changes: Any) -> Completed:
    """What `labctl check --all --json` prints: as the published schema has it."""
    claim = {"id": "bound", "text": "The port is bound", "holds": holds, "probe": "ovn.nat",
             "expected": "", "seen": [], "seconds": 0.1, "columns": [], "instead": [], "error": "",
             "waited": 0.0, "expected_count": None, "wrong": [], "delta": {},
             "wrong_delta": []}  # fmt: skip
    checkpoint = {"ok": holds, "id": "switch", "title": "Switch", "explain": "", "commands": [],
                  "claims": [claim, {**claim, "id": "up", "holds": True}], "seconds": 0.2,
                  "question": None}  # fmt: skip
    document = {
        "lesson": "ovn-logical-switch", "ok": holds, "seconds": 0.2,
        "failure": None if holds else "1 of 2 claims does not hold", "skipped": [], "undone": [],
        "checkpoints": [checkpoint],
        "position": {"lesson": "ovn-logical-switch", "practice": True, "passed": ["switch"],
                     "next": next}, **changes,
    }  # fmt: skip
    expect_document("outcome", document)
    return Completed(EXIT_DONE if holds else EXIT_CLAIM, json.dumps(document), "asking the lab\n")


def grades(answers: Mapping[str, Answer], more: str = "") -> Grades:
    """The class of these learners, each with a machine that answers so."""
    set_language("en")
    text = f"name: day\nlearners: [{', '.join(answers)}]\n{more}"
    spec = parse_class(text.encode(), "class.yaml")
    engine = FakeEngine()
    for learner in answers:
        engine.there[learner] = Machine(learner, learner, "running")
        engine.addresses[learner] = "192.0.2.1"

    def ask(machine: Machine, words: Sequence[str], seconds: float) -> Completed:
        assert list(words) == ["check", "--all", "--json"]
        assert seconds == 60
        answer = answers[machine.learner]
        return answer() if callable(answer) else answer

    found = collect(spec, engine, ask, spec.learners, 60)
    expect_document("class-check", found)
    return found


def test_each_learner_has_a_row_whatever_their_machine_does() -> None:
    def refuse() -> Completed:
        raise LabError("the machine of gil has no address yet")

    lost = "ssh: connect to host 192.0.2.1 port 22: Connection refused\n"
    found = grades({
        "amy": outcome(next=None),
        "bob": outcome(),
        "cat": outcome(holds=False),
        "dan": Completed(EXIT_USAGE, "", "✗ no lesson was begun\n  begin with `labctl start x`\n"),
        "eve": Completed(255, "", lost),
        "fay": Completed(-9, "half of", "", timed_out=True),
        "gil": refuse,
        "hal": outcome(failure="the question is not answered"),
    })  # fmt: skip
    told = [(row["learner"], row["result"], row["reason"]) for row in found["learners"]]
    assert told == [
        ("amy", "done", ""),
        ("bob", "open", ""),
        ("cat", "failing", "1 of 2 claims does not hold"),
        ("dan", "none", "no lesson was begun"),
        ("eve", "unreachable", "SSH: ssh: connect to host 192.0.2.1 port 22: Connection refused"),
        ("fay", "unreachable", "it did not answer in time"),
        ("gil", "unreachable", "the machine of gil has no address yet"),
        ("hal", "open", "the question is not answered"),
    ]
    cat = found["learners"][2]
    assert (cat["holding"], cat["claims"], cat["passed"]) == (1, 2, 1)
    assert cat["failing"] == [
        {"checkpoint": "switch", "claim": "bound", "text": "The port is bound"}
    ]
    assert cat["checkpoints"] is not None
    assert cat["checkpoints"] > 1
    assert exit_code(found) == EXIT_CLAIM
    assert exit_code(grades({"amy": outcome(next=None)})) == EXIT_DONE


def test_a_learner_without_a_machine_has_a_row() -> None:
    spec = parse_class(b"name: day\nlearners: [amy]\n", "class.yaml")
    found = collect(spec, FakeEngine(), lambda *_: pytest.fail("asked"), ["amy"], 60)
    (row,) = found["learners"]
    assert (row["result"], row["reason"]) == ("unreachable", "there is no machine")


def test_another_lesson_than_that_of_the_class_is_told() -> None:
    found = grades({"amy": outcome(next=None)}, "lesson: ovn-geneve\n")
    assert found["learners"][0]["result"] == "elsewhere"
    assert exit_code(found) == EXIT_CLAIM
    found = grades({"amy": outcome(next=None)}, "lesson: ovn-logical-switch\n")
    assert found["learners"][0]["result"] == "done"


def test_the_machines_are_asked_together() -> None:
    together = threading.Barrier(30)

    def answer() -> Completed:
        together.wait(10)
        return outcome(next=None)

    found = grades({f"learner-{number}": answer for number in range(30)})
    assert [row["result"] for row in found["learners"]] == ["done"] * 30


@pytest.mark.parametrize(
    "answer",
    ["", "null", "[]", "{}", '{"lesson": 3}', "[" * 100_000, "\x1b[2J", '{"lesson": "x"}',
     json.dumps({"lesson": "x", "failure": None, "checkpoints": [{"id": "y", "claims": 3}],
                 "position": {"passed": [], "next": None}})],
)  # fmt: skip
def test_what_is_no_outcome_is_no_result(answer: str) -> None:
    (row,) = grades({"amy": Completed(0, answer, "\x1b[31mred\x07\n")})["learners"]
    assert row["result"] == "none"
    assert "\x1b" not in row["reason"]


def hostile() -> Grades:
    document = json.loads(outcome(holds=False).stdout)
    document["lesson"] = '=HYPERLINK("http://evil","x")'
    claim = document["checkpoints"][0]["claims"][0]
    claim["text"] = '\x1b[2J,"quoted"\nline' + "long " * 100
    document["checkpoints"][0]["id"] = "@SUM(A1)"
    starts = ["+1", "-1", "\t=1", "@x", "=1+1"]
    answers: dict[str, Answer] = {"amy": Completed(3, json.dumps(document), "")}
    answers |= {f"bob-{number}": Completed(1, "", f"✗ {start}\n")
                for number, start in enumerate(starts)}  # fmt: skip
    return grades(answers)


def test_no_cell_of_the_csv_begins_a_formula_and_all_of_it_can_be_read_back() -> None:
    found = hostile()
    content = csv_text(found)
    assert content.startswith(b"\xef\xbb\xbf"), "Excel takes it for cp950 without"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row["learner"] for row in rows] == [row["learner"] for row in found["learners"]]
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert rows[0]["lesson"] == '\'=HYPERLINK("http://evil","x")'
    assert rows[0]["failing"].startswith("'@SUM(A1)/bound: ")
    assert [row["reason"] for row in rows[1:]] == ["'+1", "'-1", "'=1", "'@x", "'=1+1"]
    assert (rows[0]["holding"], rows[0]["claims"]) == ("1", "2")


def test_the_workbook_holds_texts_and_numbers_and_no_formula() -> None:
    found = hostile()
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(workbook(found))) as archive:
        assert archive.testzip() is None
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        shared = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
        book = archive.read("xl/workbook.xml").decode()
        assert not any("hyperlink" in name for name in archive.namelist())
    assert 'name="day"' in book
    assert list(sheet.iter(f"{space}f")) == []
    assert list(sheet.iter(f"{space}hyperlink")) == []
    texts = ["".join(text.text or "" for text in item.iter(f"{space}t"))
             for item in shared.iter(f"{space}si")]  # fmt: skip
    rows = []
    for row in sheet.iter(f"{space}row"):
        cells = [(cell.get("t"), cell.findtext(f"{space}v")) for cell in row.iter(f"{space}c")]
        rows.append([texts[int(value)] if kind == "s" and value else value
                     for kind, value in cells])  # fmt: skip
    assert len(rows) == 1 + len(found["learners"])
    assert rows[0][0] == "learner"
    assert rows[1][:3] == ["amy", "claims fail", '=HYPERLINK("http://evil","x")']
    assert "=1+1" in rows[6]
    assert rows[1][3] == "1"
