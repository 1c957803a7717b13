"""The one reader of OVN's and Open vSwitch's tables: commands, JSON -> rows, no other reader."""

import json
import subprocess
from pathlib import Path

import pytest

from labctl.access.ovsdb import (
    as_list,
    by_uuid,
    list_command,
    parse_table,
    parse_tables,
    referenced,
    tables_script,
)

PACKAGE = Path(__file__).parents[3] / "labctl"
EMPTY = '{"headings": ["name"], "data": []}'


# -- commands --------------------------------------------------------------------------------------
def test_all_rows_are_listed() -> None:
    assert list_command("ovn-nbctl", "NAT", "_uuid,type") == [
        "ovn-nbctl", "--timeout=120", "--format=json", "--columns=_uuid,type", "list", "NAT",
    ]  # fmt: skip


def test_rows_with_conditions_are_found() -> None:
    assert list_command(
        "ovn-nbctl", "NAT", "type", "type=snat", "logical_ip=x", timeout=5, leader_only=False
    ) == [
        "ovn-nbctl", "--no-leader-only", "--timeout=5", "--format=json", "--columns=type",
        "find", "NAT", "type=snat", "logical_ip=x",
    ]  # fmt: skip


def test_a_script_prints_what_is_parsed() -> None:
    table = '{"headings": ["name"], "data": [["it\'s"]]}'
    script = tables_script({"Bridge": ["echo", table], "Port": ["echo", EMPTY]})
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert parse_tables(done.stdout) == {"Bridge": [{"name": "it's"}], "Port": []}


def test_a_script_ends_with_the_first_command_that_fails() -> None:
    script = tables_script({"Bridge": ["sh", "-c", "exit 7"], "Port": ["echo", EMPTY]})
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, parse_tables(done.stdout)) == (7, {})


# -- JSON -> rows ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cell", "plain"),
    [
        ("text", "text"),
        (7, 7),
        (True, True),
        (["uuid", "ab-cd"], "ab-cd"),
        (["set", []], None),
        (["set", ["one"]], "one"),
        (["set", [["uuid", "a"]]], "a"),
        (["set", ["one", "two"]], ["one", "two"]),
        (["set", [["uuid", "a"], ["uuid", "b"]]], ["a", "b"]),
        (["map", []], {}),
        (["map", [["k", "v"], ["n", ["uuid", "a"]]]], {"k": "v", "n": "a"}),
    ],
    ids=str,
)
def test_values_become_plain(cell: object, plain: object) -> None:
    assert parse_table(json.dumps({"headings": ["x"], "data": [[cell]]})) == [{"x": plain}]


def test_a_table_without_rows_and_one_that_is_broken() -> None:
    assert parse_table('{"headings": ["a"], "data": []}') == []
    with pytest.raises(ValueError, match="shorter"):
        parse_table('{"headings": ["a", "b"], "data": [["x"]]}')
    with pytest.raises(ValueError, match="Expecting value"):
        parse_table("")
    with pytest.raises(KeyError, match="headings"):
        parse_table('{"data": [[1]]}')


def test_lines_without_a_table_are_passed_over() -> None:
    output = f"Bridge \n\nwarning: no leader\nPort {EMPTY}\naddresses [1]\n"
    assert parse_tables(output) == {"Port": []}


def test_tables_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"no Bridge, Mirror$"):
        parse_tables(f"Port {EMPTY}", ["Bridge", "Port", "Mirror"])


@pytest.mark.parametrize(
    ("value", "elements"), [(None, []), ("a", ["a"]), (0, [0]), (["a", "b"], ["a", "b"])]
)
def test_a_set_is_a_list_again(value: object, elements: list[object]) -> None:
    assert as_list(value) == elements


def test_references_lead_to_rows_that_are_there() -> None:
    first, second = {"_uuid": "a", "name": "first"}, {"_uuid": "b", "name": "second"}
    rows = by_uuid([first, second])
    assert referenced(["b", "gone", "a"], rows) == [second, first]
    assert referenced("a", rows) == [first]
    assert referenced(None, rows) == []


# -- the only one ----------------------------------------------------------------------------------
READER = "access/ovsdb.py"
WRITER = "access/ovsdb_edit.py"


@pytest.mark.parametrize(
    ("mark", "held_by"),
    [
        ('"headings"', {READER}),
        ("--format=json", {READER}),
        ("--columns", {READER}),
        ('["uuid", ', {READER, WRITER}),
        ('["set", ', {READER, WRITER}),
        ('["map", ', {READER, WRITER}),
    ],
)
def test_no_other_module_knows_the_form_of_tables(mark: str, held_by: set[str]) -> None:
    modules = {
        module.relative_to(PACKAGE).as_posix()
        for module in PACKAGE.rglob("*.py")
        if mark in module.read_text(encoding="utf-8").replace("'", '"')
    }
    assert modules == held_by, "tables are read by labctl/access/ovsdb.py"
