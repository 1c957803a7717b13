"""What runs on the nodes to keep and put back their state, on stand-ins for their services."""

import importlib
import json
import os
import sqlite3
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.assets import assets
from labctl.engine.steps import StepContext
from labctl.snapshots.live import LiveSnapshots
from tests.unit.fakes import FakeGuest, topology

SCRIPTS = assets() / "provision" / "warm"


@pytest.fixture(scope="module")
def scripts() -> Iterator[types.SimpleNamespace]:
    """The scripts as modules; what only nodes have is not needed by what is tested here."""
    pymysql, converters = types.ModuleType("pymysql"), types.ModuleType("pymysql.converters")
    converters.encoders = {}  # type: ignore[attr-defined]
    names = {"pymysql": pymysql, "pymysql.converters": converters,
             "libvirt": types.ModuleType("libvirt")}  # fmt: skip
    before = {name: sys.modules.get(name) for name in (*names, "sql", "ovsdb", "files",
                                                       "instances")}  # fmt: skip
    sys.modules.update(names)
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield types.SimpleNamespace(
            **{name: importlib.import_module(name) for name in ("sql", "ovsdb", "files",
                                                                "instances")}
        )  # fmt: skip
    finally:
        sys.path.remove(str(SCRIPTS))
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


# -- SQL -----------------------------------------------------------------------------------------
class Cursor:
    """MariaDB's dialect, as far as it is used, for SQLite."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()

    @staticmethod
    def _said(statement: str) -> str:
        return statement.replace("<=>", "IS").replace("<>", "!=").replace("%s", "?")

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        self._cursor.execute(self._said(statement), tuple(values))

    def executemany(self, statement: str, values: list[tuple[Any, ...]]) -> None:
        self._cursor.executemany(self._said(statement), values)

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()


VALUES = st.one_of(st.none(), st.text("ab", max_size=2), st.binary(max_size=2))
KEYED = st.dictionaries(st.integers(0, 5), VALUES)
LOOSE = st.sets(st.tuples(st.integers(0, 3), st.text("ab", max_size=1)), max_size=5)
TAKEN = st.sets(st.integers(1, 9), max_size=5)
STATE = st.tuples(KEYED, LOOSE, TAKEN, st.integers(0, 1))


def fill(connection: sqlite3.Connection, state: Any) -> None:
    keyed, loose, taken, disabled = state
    for table in ("keyed", "loose", "ml2_geneve_allocations", "services"):
        connection.execute(f"DELETE FROM neutron.{table}")
    connection.executemany("INSERT INTO neutron.keyed VALUES (?, ?)", list(keyed.items()))
    connection.executemany("INSERT INTO neutron.loose VALUES (?, ?)", list(loose))
    connection.executemany(
        "INSERT INTO neutron.ml2_geneve_allocations VALUES (?, ?)",
        [(number, int(number in taken)) for number in range(1, 10)],
    )
    connection.execute("INSERT INTO neutron.services VALUES (1, ?, ?)", (disabled, 100 + disabled))


def content(connection: sqlite3.Connection) -> list[Any]:
    return [
        sorted(connection.execute(f"SELECT * FROM neutron.{table}"), key=repr)
        for table in ("keyed", "loose", "ml2_geneve_allocations")
    ]


@given(before=STATE, after=STATE)
def test_rows_come_back_whatever_became_of_them(
    scripts: types.SimpleNamespace, before: Any, after: Any
) -> None:
    sql = scripts.sql
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("ATTACH ':memory:' AS neutron")
    connection.execute("CREATE TABLE neutron.keyed (id INTEGER PRIMARY KEY, value)")
    connection.execute("CREATE TABLE neutron.loose (a, b)")
    connection.execute(
        "CREATE TABLE neutron.ml2_geneve_allocations (vni INTEGER PRIMARY KEY, allocated)"
    )
    connection.execute("CREATE TABLE neutron.services (id INTEGER PRIMARY KEY, disabled, seen)")
    chosen = [
        sql.Table("neutron", "keyed", ["id", "value"], ["id"]),
        sql.Table("neutron", "loose", ["a", "b"], []),
        sql.Table("neutron", "ml2_geneve_allocations", ["vni", "allocated"], ["vni"]),
        sql.Table("neutron", "services", ["id", "disabled", "seen"], ["id"]),
    ]
    fill(connection, before)
    wanted = content(connection)
    cursor = Cursor(connection)
    kept = {
        name: {
            "columns": table.columns,
            "rows": [[sql.packed(value) for value in row] for row in rows.values()],
        }
        for name, (table, rows) in sql.everything(cursor, chosen).items()
    }
    kept = json.loads(json.dumps(kept))
    fill(connection, after)
    changed = sql.once(cursor, chosen, kept)
    assert content(connection) == wanted
    # Nothing is written that is as it was, and what a service says of itself stays.
    assert sql.once(cursor, chosen, kept) == {}
    assert bool(changed) == (before != after)
    (service,) = connection.execute("SELECT disabled, seen FROM neutron.services")
    assert service == (before[3], 100 + after[3])


# -- OVSDB ---------------------------------------------------------------------------------------
UUIDS = st.sampled_from([f"{number:08x}-0000-0000-0000-000000000000" for number in range(6)])
ATOMS = st.one_of(st.integers(0, 3), st.text("xy", max_size=2), st.booleans())
SETS = st.lists(ATOMS, max_size=3, unique_by=repr).map(lambda its: ["set", its])
MAPS = st.dictionaries(
    st.sampled_from(["a", "b", "ovn-installed", "ct-zone-x"]), st.text("xy", max_size=1)
).map(lambda its: ["map", [list(pair) for pair in its.items()]])
ROWS = st.fixed_dictionaries({"name": st.text("pq", max_size=2), "ports": SETS, "options": MAPS})
DATABASE = st.fixed_dictionaries(
    {"Switch": st.dictionaries(UUIDS, ROWS), "Port": st.dictionaries(UUIDS, ROWS)}
)


def apply(rows: Any, operations: list[Any]) -> Any:
    """What an OVSDB server makes of these operations."""
    rows = json.loads(json.dumps(rows))
    for one in operations:
        table = rows[one["table"]]
        if one["op"] == "insert":
            assert one["uuid"] not in table
            table[one["uuid"]] = one["row"]
            continue
        ((column, function, (kind, uuid)),) = one["where"]
        assert (column, function, kind) == ("_uuid", "==", "uuid")
        if one["op"] == "delete":
            del table[uuid]
        else:
            table[uuid].update(one["row"])
    return rows


def normal(ovsdb: Any, rows: Any) -> Any:
    return {
        table: {
            uuid: {column: ovsdb.plain(value) for column, value in row.items()}
            for uuid, row in its.items()
        }
        for table, its in rows.items()
    }


@given(saved=DATABASE, current=DATABASE)
def test_a_database_becomes_what_it_was(
    scripts: types.SimpleNamespace, saved: Any, current: Any
) -> None:
    ovsdb = scripts.ovsdb
    operations = ovsdb.difference(saved, current)
    after = apply(current, operations)
    assert normal(ovsdb, after) == normal(ovsdb, saved)
    assert ovsdb.difference(saved, after) == []
    for table, rows in current.items():  # what daemons keep beside it stays theirs
        for uuid, row in rows.items():
            if uuid in after[table]:
                theirs = {k: v for k, v in row["options"][1] if k.startswith(("ovn-", "ct-"))}
                assert theirs.items() <= dict(after[table][uuid]["options"][1]).items()


def test_the_order_of_a_set_and_a_set_of_one_are_no_difference(
    scripts: types.SimpleNamespace,
) -> None:
    one = {"T": {"u": {"c": ["set", [["uuid", "a"], ["uuid", "b"]]], "d": ["set", ["x"]]}}}
    two = {"T": {"u": {"c": ["set", [["uuid", "b"], ["uuid", "a"]]], "d": "x"}}}
    assert scripts.ovsdb.difference(one, two) == []


def interface(name: str, **ids: str) -> dict[str, Any]:
    return {"name": name, "external_ids": ["map", [list(pair) for pair in ids.items()]]}


def switch(*interfaces: dict[str, Any]) -> dict[str, Any]:
    """An Open vSwitch with one bridge and these interfaces in it."""
    return {
        "Interface": {f"i-{one['name']}": one for one in interfaces},
        "Port": {
            f"p-{one['name']}": {"name": one["name"], "interfaces": ["uuid", f"i-{one['name']}"]}
            for one in interfaces
        },
        "Bridge": {"b": {"ports": ["set", [["uuid", f"p-{one['name']}"] for one in interfaces]]}},
    }


def test_only_taps_of_instances_that_came_since_are_foreign(
    scripts: types.SimpleNamespace,
) -> None:
    ours = interface("tapaaa", **{"vm-uuid": "1"})
    since = interface("tapbbb", **{"vm-uuid": "2"})
    metadata = interface("tapccc0", **{"iface-id": "3"})
    tunnel = interface("ovn-comput-0", **{"ovn-chassis-id": "compute-01"})
    workload = {**interface("tap-vm_1"), "type": "internal"}  # of a lesson without OpenStack
    before = switch(interface("eth0"), ours)
    now = switch(interface("eth0"), ours, since, metadata, tunnel, workload, interface("mine"))
    assert scripts.ovsdb.foreign_taps(before, now) == {"p-tapbbb"}
    rest, theirs = scripts.ovsdb.parted(now)
    assert {name for name, _ in theirs.values()} == {
        "tapaaa", "tapbbb", "tapccc0", "ovn-comput-0"
    }  # fmt: skip
    assert set(rest["Port"]) == {"p-eth0", "p-tap-vm_1", "p-mine"}
    assert rest["Bridge"]["b"]["ports"][1] == [
        ["uuid", "p-eth0"], ["uuid", "p-tap-vm_1"], ["uuid", "p-mine"]
    ]  # fmt: skip


# -- files ---------------------------------------------------------------------------------------
def tree(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115
        else:
            found[name] = (
                path.stat().st_mode,
                path.read_bytes() if path.is_file() else None,
            )
    return found


def test_files_come_back_and_new_ones_go(
    scripts: types.SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = scripts.files
    etc, kept = tmp_path / "etc", tmp_path / "kept"
    kept.mkdir()
    (etc / "nova").mkdir(parents=True)
    (etc / "nova" / "nova.conf").write_text("debug = false\n")
    (etc / "secret").write_text("x")
    (etc / "secret").chmod(0o600)
    (etc / "link").symlink_to("secret")
    (etc / "dir" / "below").mkdir(parents=True)
    (etc / "conf.db").write_text("a database")
    monkeypatch.setattr(files, "ROOTS", (str(etc),))
    monkeypatch.setattr(files, "SKIPPED", {str(etc / "conf.db")})
    monkeypatch.setattr(files, "addresses", lambda: "eth1 192.168.33.10/24\n")
    monkeypatch.setattr(files, "namespaces", lambda: ["mine"])
    before = tree(etc)
    files.save(kept)
    assert files.restore(kept) == []

    (etc / "nova" / "nova.conf").write_text("debug = frue.\n")  # of the same length
    (etc / "secret").chmod(0o644)
    (etc / "link").unlink()
    (etc / "link").mkdir()
    (etc / "link" / "in").write_text("x")
    (etc / "dir" / "below").rmdir()
    (etc / "dir").rmdir()
    (etc / "dir").write_text("a file now")
    (etc / "new" / "deep").mkdir(parents=True)
    (etc / "new" / "deep" / "er").write_text("x")
    changed = files.restore(kept)
    assert tree(etc) == before
    assert str(etc / "nova" / "nova.conf") in changed
    assert files.restore(kept) == []
    (etc / "conf.db").write_text("other rows")
    assert files.restore(kept) == []
    assert not files.addresses_differ(kept)
    monkeypatch.setattr(files, "addresses", lambda: "")
    assert files.addresses_differ(kept)


# -- instances -----------------------------------------------------------------------------------
RUNS = {"running": True, "active": True, "definition": "<domain/>", "files": {"disk": [1, 2]}}
OFF = {**RUNS, "running": False, "active": False}


@pytest.mark.parametrize(
    ("kept", "now", "expected"),
    [
        (RUNS, RUNS, "leave"),
        (OFF, OFF, "leave"),
        (RUNS, None, "reboot"),  # deleted
        (OFF, None, "prepare"),
        (RUNS, OFF, "reboot"),  # stopped
        (OFF, RUNS, "prepare"),  # started
        (RUNS, {**RUNS, "running": False}, "reboot"),  # paused
        (RUNS, {**RUNS, "definition": "<domain><memory/></domain>"}, "reboot"),  # resized
        (RUNS, {**RUNS, "files": {"disk": [3, 2]}}, "reboot"),  # its disk was written to
        (OFF, {**OFF, "files": {}}, "prepare"),
    ],
)
def test_what_an_instance_needs(
    scripts: types.SimpleNamespace, kept: Any, now: Any, expected: str
) -> None:
    assert scripts.instances.decide(kept, now) == expected


# -- the conductor ---------------------------------------------------------------------------------
class Compute:
    def __init__(self) -> None:
        self.rebooted: list[tuple[str, str]] = []

    def reboot_server(self, uuid: str, kind: str) -> None:
        self.rebooted.append((uuid, kind))


def conductor() -> tuple[LiveSnapshots, dict[str, FakeGuest], Compute]:
    made = topology()
    guests = {node.name: FakeGuest(node.name) for node in made.nodes}
    cloud = types.SimpleNamespace(compute=Compute())
    warm = LiveSnapshots(made, lambda node: guests[node.name], lambda: cloud, SCRIPTS)  # type: ignore[arg-type,return-value]
    return warm, guests, cloud.compute


def test_every_node_keeps_what_its_roles_have() -> None:
    warm, guests, _ = conductor()
    said = json.dumps({"size": 7, "sha256": "abc", "seconds": {"sql": 0.2}})
    for guest in guests.values():
        guest.on("main.py save", said)
    proofs = warm.save("one", ["base", "one"], StepContext("x"))
    assert proofs == {name: {"size": 7, "sha256": "abc"} for name in guests}
    controller = guests["network-controller"].ran[0].command
    compute = guests["compute-01"].ran[0].command
    assert " save one controller,database " in controller
    assert " save one instances " in compute
    assert controller.endswith(" base,one")
    assert "nova-compute" in compute
    assert "nova-compute" not in controller


def test_nova_starts_what_has_to_start_again() -> None:
    warm, guests, compute = conductor()
    for name, guest in guests.items():
        reboot = ["uuid-1"] if name == "compute-01" else []
        guest.on("main.py restore", json.dumps({"reboot": reboot, "seconds": {}}))
    warm.restore("one", StepContext("x"))
    assert compute.rebooted == [("uuid-1", "HARD")]


def test_trouble_names_the_node() -> None:
    warm, guests, _ = conductor()
    guests["network-controller"].on("main.py check one aa", json.dumps({"trouble": ""}))
    guests["compute-01"].on("main.py check one bb", json.dumps({"trouble": "disk was altered"}))
    proofs = {"network-controller": {"sha256": "aa"}, "compute-01": {"sha256": "bb"}}
    assert warm.trouble("one", proofs) == "compute-01: disk was altered"
