"""What programs read: the published schemas are those of what is printed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from labctl.cli.app import app
from labctl.cli.schemas import DOCUMENTS, Document, schema_file, schema_text
from labctl.graph.planned import planned
from labctl.lessons.load import available, load_lesson
from labctl.snapshots.store import Row, SnapshotStore
from labctl.state import LabState
from tests.documents import expect_document, expect_said_by
from tests.unit.fakes import topology
from tests.unit.golden import GOLDEN

Change = Callable[[dict[str, Any]], object]


def verbs(command: Any, above: tuple[str, ...] = ()) -> dict[str, bool]:
    """Every verb with whether it has --json."""
    if not hasattr(command, "commands"):
        return {" ".join(above): any("--json" in option.opts for option in command.params)}
    return {
        verb: has_json
        for name, below in command.commands.items()
        for verb, has_json in verbs(below, (*above, name)).items()
    }


def recorded(path: str) -> Any:
    return json.loads((GOLDEN / path).read_text("utf-8"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_committed_schema_is_current(name: str) -> None:
    committed = schema_file(name).read_text("utf-8")
    assert schema_text(name) == committed, "run python -m labctl.cli.schemas"


def test_every_verb_with_json_has_a_schema() -> None:
    known = [verb for document in DOCUMENTS.values() for verb in document.verbs]
    with_json = [verb for verb, has in verbs(typer.main.get_command(app)).items() if has]
    assert sorted(known) == sorted(with_json)


def test_every_schema_is_in_the_manual() -> None:
    manual = (GOLDEN.parents[1] / "docs" / "json.md").read_text("utf-8")
    for name, document in DOCUMENTS.items():
        (row,) = [line for line in manual.splitlines() if f"/{name}.schema.json)" in line]
        for verb in document.verbs:
            assert f"`{verb}`" in row, f"docs/json.md: labctl {verb}"


def test_a_schema_leaves_room_for_fields_to_come() -> None:
    assert '"additionalProperties": false' not in "".join(map(schema_text, DOCUMENTS))


def test_what_a_value_means_is_in_the_schema() -> None:
    node = DOCUMENTS["status"].schema()["$defs"]["NodeStatus"]["properties"]
    assert "as 10.0.2.15/24" in node["eth0"]["description"]
    outcome = DOCUMENTS["outcome"].schema()["properties"]  # of a TypedDict, and of its parent
    assert outcome["undone"]["description"] == "Those that were undone, as LESSON/CHECKPOINT."
    assert outcome["number"]["description"] == "Which hint this is, counted from 1."


# -- what is printed -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("status", "screens/status.json"),
        ("status", "report/status.json"),
        ("snapshots", "screens/snapshots.json"),
        *(("graph", f"graph/{case}/graph.json") for case in ("tutorial", "ovn-only")),
    ],
)
def test_what_real_labs_printed(name: str, path: str) -> None:
    expect_document(name, recorded(path))


def test_the_lessons() -> None:
    rows = expect_document("lessons", [load_lesson(name).to_json() for name in available()])
    assert [row["id"] for row in rows] == list(available())
    assert {type(row["title"]) for row in rows} == {str}


def test_a_snapshot_that_cannot_be_used(tmp_path: Path) -> None:
    snapshots = SnapshotStore(LabState(tmp_path))
    snapshots.directory("broken").mkdir(parents=True)
    (row,) = expect_document("snapshots", snapshots.rows())
    assert (row["name"], row["size"], "missing" in row["trouble"]) == ("broken", 0, True)


def test_a_plan() -> None:
    expect_document("graph", planned(topology()))
    expect_document("graph", planned(topology("name: x\nstack: ovn\n")))


# -- and what is not -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        lambda status: status.pop("state"),
        lambda status: status.update(states=status.pop("state")),
        lambda status: status.update(state="sleeping"),
        lambda status: status.update(colour="red"),
        lambda status: status["nodes"][0].pop("eth1"),
        lambda status: status["nodes"][0].update(running="yes"),
        lambda status: status["instances"][0].update(fixed="172.16.100.10"),
    ],
    ids=["missing", "renamed", "another value", "new", "missing below", "another type", "no list"],
)
def test_a_field_that_drifts_is_noticed(change: Change) -> None:
    status = recorded("screens/status.json")
    change(status)
    with pytest.raises(AssertionError, match=r"status\.schema\.json"):
        expect_document("status", status)


def test_a_type_that_drifts_is_noticed() -> None:
    @dataclass(frozen=True)
    class RowWithMore(Row):
        """Another field, which nobody has published."""

        pinned: bool = False

    row = Document(RowWithMore, ()).schema()
    published = json.loads(schema_file("snapshots").read_text("utf-8"))["$defs"]["Row"]
    assert row["required"] == [*published["required"], "pinned"]


def test_a_pair_is_two_and_no_more() -> None:
    graph = recorded("graph/tutorial/graph.json")
    graph["tunnels"][0]["hosts"].append("compute-02")
    with pytest.raises(AssertionError, match="hosts"):
        expect_document("graph", graph)


def test_a_verb_is_known_by_its_words() -> None:
    rows = recorded("screens/snapshots.json")
    assert expect_said_by(("snapshot", "list"), rows) == rows
    with pytest.raises(AssertionError, match="no schema is for labctl snapshot save"):
        expect_said_by(("snapshot", "save", "x"), rows)
