"""When a class ends: on every machine, for every laptop, moved, and asked for by `destroy`."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labctl.classroom.cards import write_cards
from labctl.classroom.ends import end_of, has_ended, new_end, shown
from labctl.classroom.engine import Machine
from labctl.classroom.labels import end_in, end_text, metadata
from labctl.classroom.load import ClassSpec, parse_class
from labctl.classroom.status import collect
from labctl.classroom.work import ClassWork
from labctl.errors import LabError
from labctl.i18n import set_language
from tests.documents import expect_document
from tests.unit.classroom.fake_engine import FakeEngine

NOW = datetime(2027, 3, 5, 8, 0, tzinfo=UTC)
FIVE, SEVEN = "2027-03-05T17:00:00+08:00", "2027-03-05T19:00:00+08:00"


def spec(ends: str = FIVE, learners: int = 3) -> ClassSpec:
    more = f"ends: {ends}\n" if ends else ""
    return parse_class(f"name: day\nlearners: {learners}\n{more}".encode(), "class.yaml")


def work(engine: FakeEngine, directory: Path, of: ClassSpec | None = None) -> ClassWork:
    return ClassWork(of or spec(), engine, directory, lambda _: None, sleep=lambda _: None)


def ends(engine: FakeEngine) -> list[str]:
    return [end_text(machine.ends) if machine.ends else "" for machine in engine.there.values()]


@pytest.mark.parametrize(
    ("text", "present", "end"),
    [
        ("2h", FIVE, "2027-03-05 19:00 +08:00"),
        ("+90m", FIVE, "2027-03-05 18:30 +08:00"),
        ("1d", FIVE, "2027-03-06 17:00 +08:00"),
        ("2h", "2027-03-05T15:00:00+08:00", "2027-03-05 18:00 +08:00"),  # over: from now
        ("2h", None, "2027-03-05 18:00 +08:00"),
        ("2027-03-05 20:00 +08:00", FIVE, "2027-03-05 20:00 +08:00"),
        ("2027-03-05T12:00Z", FIVE, "2027-03-05 12:00 +00:00"),
        ("", SEVEN, "2027-03-05 17:00 +08:00"),
    ],
)
def test_extend_takes_a_time_or_a_duration(text: str, present: str | None, end: str) -> None:
    found = new_end(text, spec(), datetime.fromisoformat(present) if present else None, NOW)
    assert shown(found) == end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2027-03-05T20:00", "neither a duration nor a time with its zone"),
        ("later", "neither a duration nor a time"),
        ("0h", "no time within a year"),
        ("99999d", "no time within a year"),
        ("2027-03-05T15:00+08:00", "is over already"),
    ],
)
def test_what_is_no_end_is_refused(text: str, message: str) -> None:
    set_language("en")
    with pytest.raises(LabError, match=message):
        new_end(text, spec(), None, NOW)
    with pytest.raises(LabError, match="says no end"):
        new_end("", spec(ends=""), None, NOW)


def test_every_machine_carries_the_end_also_those_that_come_later(tmp_path: Path) -> None:
    engine = FakeEngine(refuse={"learner-02"})
    work(engine, tmp_path).create()
    assert ends(engine) == [FIVE] * 2
    end, outcome = work(engine, tmp_path).extend("2h", NOW)
    assert {machine.learner for machine in outcome.machines} == {"learner-01", "learner-03"}
    assert set(ends(engine)) == {SEVEN}
    engine.refuse = set()
    work(engine, tmp_path).create()
    assert (ends(engine), end_text(end)) == ([SEVEN] * 3, SEVEN)
    work(engine, tmp_path).reset(["learner-01", "learner-02", "learner-03"])
    assert ends(engine) == [SEVEN] * 3, "no machine was left that told it"


def test_an_extension_that_fails_at_one_machine_is_told_and_holds_for_all(tmp_path: Path) -> None:
    engine = FakeEngine()
    work(engine, tmp_path).create()
    engine.refuse = {"learner-02"}
    _, outcome = work(engine, tmp_path).extend("2h", NOW)
    assert outcome.failed == {"learner-02": "the cloud answered 403: no"}
    assert end_of(spec(), engine.machines()) == datetime.fromisoformat(SEVEN)


def test_a_class_without_machines_cannot_be_extended(tmp_path: Path) -> None:
    set_language("en")
    with pytest.raises(LabError, match="no machine"):
        work(FakeEngine(), tmp_path).extend("2h", NOW)


def test_the_label_counts_and_class_yaml_without_one() -> None:
    labelled = Machine("a", "amy", "running", ends=datetime.fromisoformat(SEVEN))
    bare = Machine("b", "bob", "running")
    assert end_of(spec(), [bare, labelled]) == labelled.ends
    assert end_of(spec(), [bare]) == datetime.fromisoformat(FIVE)
    assert end_of(spec(ends=""), []) is None
    assert has_ended(datetime.fromisoformat(FIVE), NOW + timedelta(hours=1))
    assert not has_ended(datetime.fromisoformat(FIVE), NOW)
    assert not has_ended(None, NOW)


@pytest.mark.parametrize("text", ["", "soon", "2027-03-05T17:00", None])
def test_a_label_that_somebody_changed_tells_no_end(text: str | None) -> None:
    assert end_in(text) is None
    assert "labctl-ends" not in metadata("day", "amy", end_in(text))


def test_a_label_is_read_as_it_was_written() -> None:
    end = datetime.fromisoformat(FIVE)
    assert end_in(metadata("day", "amy", end)["labctl-ends"]) == end


def test_status_and_cards_tell_it(tmp_path: Path) -> None:
    set_language("en")
    engine = FakeEngine()
    work(engine, tmp_path, spec("2000-01-01T17:00+08:00")).create()
    report = expect_document("class-status", collect(spec(), engine))
    assert (report["ends"], report["ended"]) == ("2000-01-01T17:00:00+08:00", True)
    write_cards(spec(), tmp_path, engine.machines(), tmp_path / "cards")
    page = (tmp_path / "cards/cards.html").read_text("utf-8")
    assert page.count("The class ends at 2000-01-01 17:00 +08:00") == 3
    with (tmp_path / "cards/cards.csv").open(encoding="utf-8", newline="") as table:
        assert [row["ends"] for row in csv.DictReader(table)] == ["2000-01-01 17:00 +08:00"] * 3
