"""Reads the tables of OVN's databases and of Open vSwitch (RFC 7047)."""

import json
from typing import Any

Rows = list[dict[str, Any]]
"""The rows of a table, or what a probe saw: column -> value."""


def parse_table(text: str) -> Rows:
    """The rows of `ovn-nbctl --format=json list TABLE` (RFC 7047 values made plain).

    A set becomes its one element, None when it is empty, or a list; a map becomes a dict.
    """
    data = json.loads(text)
    return [
        dict(zip(data["headings"], (_plain(cell) for cell in row), strict=True))
        for row in data["data"]
    ]


def _plain(cell: Any) -> Any:
    match cell:
        case ["uuid", str(value)]:
            return value
        case ["set", list(items)]:
            values = [_plain(item) for item in items]
            return values[0] if len(values) == 1 else values or None
        case ["map", list(pairs)]:
            return {key: _plain(value) for key, value in pairs}
        case _:
            return cell


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
