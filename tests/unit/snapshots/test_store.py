"""Names, manifests, the journal, and which way back is open: all of it without a node."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import EXIT_USAGE, LabError
from labctl.snapshots.store import (
    Journal,
    Manifest,
    SnapshotStore,
    checked_name,
    recovery_action,
    restore_methods,
)
from labctl.state import LabState

NODES = ["compute-01", "network-controller"]
LESSON = {
    "current": "floating-ip", "practice": False,
    "lessons": {"floating-ip": {"passed": ["a", "b"], "total": 11}},
}  # fmt: skip
MANIFEST = Manifest(
    name="one",
    at=1000.0,
    lab_id="abcd1234",
    provider="nspawn",
    image="key",
    offline={node: {"size": 5, "sha256": "x"} for node in NODES},
    live={node: {"size": 2, "sha256": "y"} for node in NODES},
    lesson=LESSON,
)


def store(directory: Path) -> SnapshotStore:
    return SnapshotStore(LabState(directory))


def made(directory: Path, manifest: Manifest = MANIFEST) -> SnapshotStore:
    snapshots = store(directory)
    snapshots.begin(manifest.name)
    snapshots.finish(manifest)
    return snapshots


@pytest.mark.parametrize("name", ["base", "before-lunch", "Day.2_x", "7"])
def test_good_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\n", "é", "x.unfinished", "a" * 61]
)
def test_bad_names_are_wrong_use(name: str) -> None:
    with pytest.raises(LabError) as error:
        checked_name(name)
    assert error.value.code == EXIT_USAGE


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert made(tmp_path).read("one") == MANIFEST


@given(at=st.integers(0, 600), byte=st.integers(0, 255))
def test_an_altered_manifest_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    snapshots = made(tmp_path_factory.mktemp("lab"))
    file = snapshots.directory("one") / "manifest.json"
    content = bytearray(file.read_bytes())
    at %= len(content)
    before, content[at] = content[at], byte
    file.write_bytes(content)
    try:
        found = snapshots.read("one")
    except LabError as error:
        hint = error.hint or ""
    else:
        # Another white space is no other manifest.
        assert found == MANIFEST
        assert byte == before or chr(byte).isspace()
        return
    assert "the lab was not touched" in hint


def test_a_truncated_manifest_is_noticed(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    file = snapshots.directory("one") / "manifest.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(LabError, match="altered"):
        snapshots.read("one")
    (row,) = snapshots.rows()
    assert "altered" in row.trouble


def test_a_renamed_snapshot_is_noticed(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    snapshots.directory("one").rename(snapshots.directory("two"))
    with pytest.raises(LabError, match="renamed"):
        snapshots.read("two")


def test_a_missing_snapshot_is_wrong_use_and_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(LabError) as error:
        made(tmp_path).read("two")
    assert error.value.code == EXIT_USAGE
    assert "one" in (error.value.hint or "")


def test_what_is_not_finished_is_no_snapshot(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    (snapshots.begin("two") / "part").write_text("half")
    assert snapshots.names() == ["one"]
    assert not snapshots.exists("two")
    snapshots.remove_leftovers()
    assert [path.name for path in snapshots.root.iterdir()] == ["one"]


def test_rows(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    snapshots.set_current("one")
    (row,) = snapshots.rows()
    assert (row.name, row.size, row.current, row.lesson) == ("one", 14, True, "floating-ip 2/11")
    assert (row.cold, row.warm, row.trouble) == (True, True, "")


def test_a_removed_snapshot_is_not_the_current_one(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    snapshots.set_current("one")
    snapshots.remove("one")
    assert snapshots.names() == []
    assert snapshots.current() is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lab_id": "other"}, "another lab"),
        ({"offline": {NODES[0]: {}}}, "all nodes"),
        ({"live": {**MANIFEST.live, "compute-02": {}}}, "all nodes"),
        ({"image": "older"}, "another version of the image"),
        ({"revision": 1}, "before `labctl apply` changed it"),
        ({"offline": {}, "live": {}}, "empty"),
        ({}, ""),
    ],
)
def test_whether_a_snapshot_is_of_this_lab(change: dict[str, Any], why: str) -> None:
    said = replace(MANIFEST, **change).mismatch(lab_id="abcd1234", nodes=NODES, image="key")
    assert (why in said) if why else not said


@pytest.mark.parametrize(
    ("offline", "live", "running", "forced", "expected"),
    [
        (True, True, [True, True], False, ["live", "offline"]),
        (True, True, [True, False], False, ["offline"]),
        (True, True, [False, False], False, ["offline"]),
        (True, True, [True, True], True, ["offline"]),
        (True, False, [True, True], False, ["offline"]),
        (False, True, [True, True], False, ["live"]),
        (False, True, [True, False], False, []),
        (False, True, [True, True], True, []),
    ],
)
def test_the_methods_that_can_restore(
    offline: bool, live: bool, running: list[bool], forced: bool, expected: list[str]
) -> None:
    manifest = replace(
        MANIFEST, offline=MANIFEST.offline if offline else {}, live=MANIFEST.live if live else {}
    )
    assert restore_methods(manifest, running, offline=forced) == expected


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        (Journal("save", "x"), "undo"),
        (Journal("restore", "x"), "undo"),
        (Journal("restore", "x", "changing"), "finish"),
        (Journal("restore", "x", "changing", "live"), "finish"),
        (Journal("restore", "x", "starting"), "start"),
        (Journal("delete", "x"), "finish"),
    ],
)
def test_what_an_interrupted_work_needs(tmp_path: Path, journal: Journal, expected: str) -> None:
    snapshots = store(tmp_path)
    snapshots.write_journal(journal)
    found = snapshots.journal()
    assert found == journal
    assert found is not None
    assert recovery_action(found) == expected
    snapshots.close_journal()
    assert snapshots.journal() is None


def test_files_keep_the_words_that_labs_made_before_have(tmp_path: Path) -> None:
    snapshots = made(tmp_path)
    manifest = json.loads((snapshots.directory("one") / "manifest.json").read_text())
    assert (manifest["cold"], manifest["warm"]) == (MANIFEST.offline, MANIFEST.live)
    state = LabState(tmp_path)
    for method, word in (("offline", "cold"), ("live", "warm")):
        snapshots.write_journal(Journal("restore", "one", "changing", method))  # type: ignore[arg-type]
        assert json.loads(state.snapshot_journal.read_text()) == {
            "doing": "restore", "name": "one", "phase": "changing", "way": word, "was_up": False,
        }  # fmt: skip


@pytest.mark.parametrize("data", [{"doing": "dance", "name": "x"}, {"name": "x"}, {"x": 1},
                                  {"doing": "save", "name": "x", "way": ["cold"]}])  # fmt: skip
def test_nonsense_in_the_journal(tmp_path: Path, data: dict[str, str]) -> None:
    state = LabState(tmp_path)
    state.root.mkdir()
    state.snapshot_journal.write_text(json.dumps(data))
    with pytest.raises(LabError, match="journal"):
        SnapshotStore(state).journal()


WRONG = [
    ("at", "yesterday"), ("at", float("inf")), ("at", 1e300), ("at", -1), ("seconds", None),
    ("cold", {"n": None}), ("cold", ["n"]), ("warm", {"n": {"size": "many"}}),
    ("warm", {"n": {"size": 10**30}}), ("lesson", "floating-ip"), ("provider", 7), ("image", None),
    ("name", None), ("lab_id", []),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_manifest_whose_checksum_is_right_and_whose_fields_are_not(
    field: str, value: object
) -> None:
    data = {**Manifest("one", 1.0, "12345678", "nspawn", "", {}, {}, None).to_json(), field: value}
    del data["sha256"]
    with pytest.raises(ValueError, match="its manifest was altered"):
        Manifest.from_json(
            {
                **data,
                "sha256": hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
            }
        )


@pytest.mark.parametrize(
    "lesson", [{"current": "x"}, {"current": "x", "lessons": []}, {"current": "x", "lessons": {}}]
)
def test_a_strange_position_in_a_manifest_breaks_no_list(
    lesson: dict[str, object], tmp_path: Path
) -> None:
    state = LabState(tmp_path)
    store = SnapshotStore(state)
    store.directory("one").mkdir(parents=True)
    manifest = Manifest("one", 1.0, "12345678", "nspawn", "", {}, {}, lesson)
    state.write_json(state.snapshot_manifest(store.directory("one")), manifest.to_json())
    assert [row.lesson for row in store.rows()] == [""]


@pytest.mark.parametrize(
    "data",
    [
        {"doing": "delete", "name": "../../etc"},  # root would delete that
        {"doing": "delete", "name": "/etc"},
        {"doing": "delete", "name": 7},
        {"doing": "format", "name": "one"},
        {"doing": "restore", "name": "one", "phase": "late"},
        {"doing": "restore", "name": "one", "way": "sideways"},
        {"doing": "delete", "name": "one", "of": "a later version"},
        {"doing": "restore"},
        {},
    ],
)
def test_a_strange_journal_is_told(data: dict[str, object]) -> None:
    with pytest.raises(LabError, match="journal of the snapshots cannot be read"):
        Journal.from_json(data)
