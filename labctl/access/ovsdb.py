"""Reads the tables of OVN's databases and of Open vSwitch; no other module does. Pure.

The caller runs the commands, on the node that it wants to know about. One table is
`list_command` and `parse_table`; several at once are `tables_script` and `parse_tables`. The JSON
is that of `--format=json`, its values those of RFC 7047, section 5.1.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from labctl.i18n import tr, tr_list

Tool = Literal["ovn-nbctl", "ovn-sbctl", "ovs-vsctl"]
"""The northbound database's, the southbound database's and Open vSwitch's own."""
Row = dict[str, Any]
"""Column -> value, as plain Python values: see `parse_table`."""
Rows = list[Row]
"""The rows of a table, or what a probe saw: column -> value."""

# Seconds. Longer than the callers' timeouts: it ends a command that nobody waits for any more.
_TIMEOUT = 120


# -- what to run ---------------------------------------------------------------------------------
def list_command(
    tool: Tool,
    table: str,
    columns: str | None,
    *conditions: str,
    timeout: int = _TIMEOUT,
    leader_only: bool = True,
    record: str = "",
) -> list[str]:
    """The command, as argv, whose output `parse_table` reads.

    `columns` is "COLUMN,COLUMN,…" (`_uuid` included, if it is wanted), None for all. With
    `conditions` ("type=geneve", "external_ids:iface-id=x") it prints the rows for which all of them
    hold, else all rows. `record` is the beginning of a UUID (4 digits or more): only that row is
    printed, and the command fails without it. `timeout` is in seconds. `leader_only=False` lets any
    server of an OVN cluster answer.
    """
    return [
        tool,
        *([] if leader_only else ["--no-leader-only"]),
        f"--timeout={timeout}",
        "--format=json",
        *([] if columns is None else [f"--columns={columns}"]),
        "find" if conditions else "list",
        table,
        *conditions,
        *([record] if record else []),
    ]


def tables_script(commands: Mapping[str, Sequence[str]]) -> str:
    """A shell script that prints what `parse_tables` reads; it fails with the first command.

    `commands` has a `list_command` for every table's name; a name has no white space.
    """
    lines = [f"printf '%s ' {name}; {shlex.join(argv)}" for name, argv in commands.items()]
    return "\n".join(["set -e", *lines])


# -- what it printed -----------------------------------------------------------------------------
def parse_table(text: str) -> Rows:
    """The rows that a `list_command` printed, a dict of all its columns for each.

    A UUID becomes its text, a map a dict, a set its one element, None when it is empty, or a list.
    Raises ValueError when the text is not JSON or a row is longer or shorter than the headings,
    KeyError when the JSON is no table.
    """
    data = json.loads(text)
    return [
        dict(zip(data["headings"], (parse_cell(cell) for cell in row), strict=True))
        for row in data["data"]
    ]


def parse_tables(output: str, wanted: Iterable[str] = ()) -> dict[str, Rows]:
    """The rows of each table by its name, from lines of the form `NAME JSON`.

    A line without a table is ignored, so that one of several commands may fail. Raises what
    `parse_table` raises, and ValueError naming those of `wanted` that are missing; for people.
    """
    lines = (line.partition(" ") for line in output.splitlines())
    tables = {name: parse_table(text) for name, _, text in lines if text.startswith("{")}
    if missing := [name for name in wanted if name not in tables]:
        raise ValueError(tr("no {tables}", tables=tr_list(missing)))
    return tables


def parse_cell(cell: Any) -> Any:
    """One value of a row as a plain Python value: see `parse_table`."""
    match cell:
        case ["uuid", str(value)]:
            return value
        case ["set", list(items)]:
            values = [parse_cell(item) for item in items]
            return values[0] if len(values) == 1 else values or None
        case ["map", list(pairs)]:
            return {key: parse_cell(value) for key, value in pairs}
        case _:
            return cell


# -- what its values mean ------------------------------------------------------------------------
def as_list(value: Any) -> list[Any]:
    """The elements of a column that holds a set: none, one or several."""
    return value if isinstance(value, list) else [] if value is None else [value]


def by_uuid(rows: Rows) -> dict[str, Row]:
    """The rows by their UUIDs. Raises KeyError when `_uuid` was not among the columns."""
    return {row["_uuid"]: row for row in rows}


def referenced(value: Any, rows: Mapping[str, Row]) -> Rows:
    """Those of `rows` (see `by_uuid`) that a column refers to, in its order.

    The two tables may have been read at different times: a row that is not there is left out.
    """
    return [rows[uuid] for uuid in as_list(value) if uuid in rows]
