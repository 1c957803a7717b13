"""Changes rows of OVN's northbound database, or of a node's Open vSwitch, so that the change can be
taken back exactly: a row that was deleted comes back with its UUID, its columns and all references.

Each change is planned first, with what takes it back, so that the caller can note that on disk
before anything is changed. Operations are those of RFC 7047, section 5.2; `uuid` in an insert is
Open vSwitch's own (ovsdb-server(7)).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Row, parse_cell
from labctl.errors import LabError
from labctl.i18n import tr, tr_list

SOCKETS = {
    "OVN_Northbound": "unix:/var/run/ovn/ovnnb_db.sock",
    "Open_vSwitch": "unix:/var/run/openvswitch/db.sock",
}
"""{database: where its server listens, on the controller or on every node}."""

Operation = dict[str, Any]
_VOLATILE = ("_version",)


@dataclass(frozen=True)
class Change:
    """A change of rows that was not made yet, and what takes it back. JSON-ready by `asdict`."""

    database: str
    """A key of `SOCKETS`."""
    do: Sequence[Operation]
    undo: Sequence[Operation]
    """Can be run twice, and also when the change was never made."""
    rows: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """{table: {UUID: columns}} that the change touches; no column stands for all of them."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """What stood there: see `touched`."""
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """{column that holds a map: its keys that the change sets}. Somebody else may write the others
    meanwhile: ovn-controller notes in an interface's external_ids when it was bound."""


def plan_delete(
    guest: Guest, database: str, table: str, wanted: Callable[[Row], bool]
) -> Change | None:
    """Delete the rows of a table that are `wanted`; None if there is none.

    Raises LabError for a row that holds others, which would be gone with it.
    """
    schema = _schema(guest, database)
    _require_table(schema, database, table)
    everything = _rows(guest, database, table)
    chosen = {uuid: row for uuid, row in everything.items() if wanted(_plain(row))}
    do: list[Operation] = []
    undo: list[Operation] = []
    touched: dict[str, dict[str, list[str]]] = {}
    for uuid, row in chosen.items():
        _require_alone(schema, table, row)
        columns = {name: value for name, value in row.items() if not name.startswith("_")}
        do.append({"op": "delete", "table": table, "where": [_is(uuid)]})
        undo.append({"op": "insert", "table": table, "uuid": uuid, "row": columns})
        touched.setdefault(table, {})[uuid] = []
    for other, column in _referring(schema, table):
        parents = everything if other == table else _rows(guest, database, other)
        for parent, row in parents.items():
            held = [uuid for uuid in chosen if uuid in json.dumps(row[column])]
            if not held or parent in chosen:
                continue
            uuids = ["set", [["uuid", uuid] for uuid in held]]
            do.insert(0, _mutate(other, parent, [column, "delete", uuids]))
            undo.append(_mutate(other, parent, [column, "insert", uuids]))
            touched.setdefault(other, {}).setdefault(parent, []).append(column)
    return _planned(guest, database, do, undo, touched) if chosen else None


def plan_set(
    guest: Guest,
    database: str,
    table: str,
    wanted: Callable[[Row], bool],
    values: Mapping[str, Any],
) -> Change | None:
    """Set columns of the rows of a table that are `wanted`; None if there is none.

    The value for a column that holds a map is a mapping of the keys to be set; None takes one away.
    None as the value empties a column.
    Raises LabError for a column that the table does not have, or that takes no such value.
    """
    schema = _schema(guest, database)
    _require_table(schema, database, table)
    columns = schema["tables"][table]["columns"]
    do: list[Operation] = []
    undo: list[Operation] = []
    touched: dict[str, dict[str, list[str]]] = {}
    keys = {name: list(value) for name, value in values.items() if isinstance(value, Mapping)}
    for uuid, row in _rows(guest, database, table).items():
        if not wanted(_plain(row)):
            continue
        touched.setdefault(table, {})[uuid] = list(values)
        for name, value in values.items():
            if name not in columns:
                known = tr_list(sorted(columns))
                raise LabError(tr("{table} has no column {name}", table=table, name=name),
                               hint=tr("known are {names}", names=known))  # fmt: skip
            if isinstance(value, Mapping):
                old = parse_cell(row[name]) or {}
                do += _set_keys(table, uuid, name, value)
                undo += _set_keys(table, uuid, name, {key: old.get(key) for key in value})
            else:
                new = _encoded(columns[name]["type"], value)
                do.append(_update(table, uuid, name, new))
                undo.append(_update(table, uuid, name, row[name]))
    return _planned(guest, database, do, undo, touched, keys) if do else None


def make(guest: Guest, change: Change) -> None:
    """Make a planned change, whole or not at all. Raises LabError."""
    _transact(guest, change.database, change.do)


def take_back(guest: Guest, change: Change) -> None:
    """Take a change back, and look whether all is as it was before. Raises LabError if not."""
    undo = []
    for operation in change.undo:
        if operation["op"] == "insert":
            where = [_is(operation["uuid"])]
            select = {"op": "select", "table": operation["table"], "where": where}
            if _transact(guest, change.database, [select])[0]["rows"]:
                continue  # the change was planned, and never made
        undo.append(operation)
    _transact(guest, change.database, undo)
    now = _touched(guest, change.database, change.rows, change.keys)
    if now != change.before:
        names = tr_list(
            sorted(name for name in change.before if now.get(name) != change.before[name])
        )
        raise LabError(tr("not all is as it was before in {database}: {rows}",
                          database=change.database, rows=names))  # fmt: skip


# -- the parts of a change -------------------------------------------------------------------------
def _planned(
    guest: Guest,
    database: str,
    do: list[Operation],
    undo: list[Operation],
    touched: Mapping[str, Mapping[str, Sequence[str]]],
    keys: Mapping[str, Sequence[str]] | None = None,
) -> Change:
    before = _touched(guest, database, touched, keys or {})
    return Change(database, do, undo, touched, before, keys or {})


def _touched(
    guest: Guest,
    database: str,
    rows: Mapping[str, Mapping[str, Sequence[str]]],
    keys: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """{"TABLE UUID": the columns that a change touches}; sets and maps in one order.

    Of a map in `keys`, only those keys.
    """
    found: dict[str, Any] = {}
    for table, uuids in rows.items():
        there = _rows(guest, database, table)
        for uuid, columns in uuids.items():
            row = there.get(uuid, {})
            wanted = columns or [name for name in row if name not in _VOLATILE]
            found[f"{table} {uuid}"] = {
                name: _sorted(_part(row.get(name), keys.get(name))) for name in sorted(wanted)
            }
    return found


def _part(value: Any, keys: Sequence[str] | None) -> Any:
    match value:
        case ["map", list(items)] if keys is not None:
            return ["map", [item for item in items if item[0] in keys]]
    return value


def _sorted(value: Any) -> Any:
    match value:
        case [("set" | "map") as kind, list(items)]:
            return [kind, sorted(items, key=json.dumps)]
    return value


def _is(uuid: str) -> list[Any]:
    return ["_uuid", "==", ["uuid", uuid]]


def _mutate(table: str, uuid: str, *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": table, "where": [_is(uuid)], "mutations": list(mutations)}


def _update(table: str, uuid: str, column: str, value: Any) -> Operation:
    return {"op": "update", "table": table, "where": [_is(uuid)], "row": {column: value}}


def _set_keys(table: str, uuid: str, column: str, values: Mapping[str, Any]) -> list[Operation]:
    """Give keys of a map their values, or take those away whose value is None."""
    pairs = [[key, str(value)] for key, value in values.items() if value is not None]
    mutations: list[list[Any]] = [[column, "delete", ["set", list(values)]]]
    if pairs:
        mutations.append([column, "insert", ["map", pairs]])
    return [_mutate(table, uuid, *mutations)]


def _encoded(type: Any, value: Any) -> Any:
    """A value of a lesson as the database takes it for a column of that type."""
    if value is None:
        return ["map" if isinstance(type, dict) and "value" in type else "set", []]
    kind = type if isinstance(type, str) else type["key"]
    kind = kind if isinstance(kind, str) else kind["type"]
    try:
        match kind:
            case "integer":
                return int(value)
            case "real":
                return float(value)
            case "boolean":
                return str(value).lower() == "true"
            case "uuid":
                return ["uuid", str(value)]
    except ValueError as error:
        raise LabError(tr("must be a number") + tr(": ") + str(value)) from error
    return str(value)


# -- what the database is --------------------------------------------------------------------------
def _require_table(schema: Mapping[str, Any], database: str, table: str) -> None:
    if table not in schema["tables"]:
        known = tr_list(sorted(schema["tables"]))
        raise LabError(tr("{database} has no table {name}", database=database, name=table),
                       hint=tr("known are {names}", names=known))  # fmt: skip


def _referring(schema: Mapping[str, Any], table: str) -> list[tuple[str, str]]:
    """(table, column) of every set of references to rows of a table."""
    return [
        (other, name)
        for other, described in schema["tables"].items()
        for name, column in described["columns"].items()
        if table in _references(column["type"])
    ]


def _references(type: Any, kinds: Sequence[str] = ("strong", "weak")) -> list[str]:
    """The tables that a column's values refer to."""
    parts = [] if isinstance(type, str) else [type["key"], type.get("value")]
    return [
        part["refTable"]
        for part in parts
        if isinstance(part, dict) and "refTable" in part and part.get("refType", "strong") in kinds
    ]


def _require_alone(schema: Mapping[str, Any], table: str, row: Mapping[str, Any]) -> None:
    for name, column in schema["tables"][table]["columns"].items():
        for other in _references(column["type"], ["strong"]):
            root = schema["tables"][other].get("isRoot", False)
            if not root and parse_cell(row[name]):
                raise LabError(
                    tr("a row of {table} cannot be deleted and brought back: it holds rows of"
                       " {other}", table=table, other=other)
                )  # fmt: skip


# -- asking ----------------------------------------------------------------------------------------
def _schema(guest: Guest, database: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        guest.run(["ovsdb-client", "--timeout=30", "get-schema", SOCKETS[database]]).stdout
    )
    return schema


def _rows(guest: Guest, database: str, table: str) -> dict[str, dict[str, Any]]:
    """{UUID: the row as the database has it}."""
    select = {"op": "select", "table": table, "where": []}
    rows = _transact(guest, database, [select])[0]["rows"]
    return {row["_uuid"][1]: row for row in rows}


def _plain(row: Mapping[str, Any]) -> Row:
    return {name: parse_cell(value) for name, value in row.items()}


def _transact(guest: Guest, database: str, operations: Sequence[Operation]) -> list[Any]:
    if not operations:
        return []
    request = json.dumps([database, *operations])
    client = ["ovsdb-client", "--timeout=30", "transact", SOCKETS[database], request]
    results: list[Any] = json.loads(guest.run(client, timeout=40).stdout)
    for result in results:
        if result and "error" in result:
            details = result.get("details", result["error"])
            message = tr("{database} refuses a change: {said}", database=database, said=details)
            raise LabError(message)
    return results
