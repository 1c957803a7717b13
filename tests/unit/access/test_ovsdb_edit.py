"""A change of a row that others write as well: what is theirs is no reason to refuse."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from labctl.access.guest import GuestResult
from labctl.access.ovsdb_edit import make, plan_set, take_back
from labctl.errors import LabError
from tests.unit.fakes import FakeGuest

UUID = "c52242cf-136a-4a9a-9347-9dc6e0d7c9c6"
SCHEMA = {"tables": {"Interface": {"columns": {
    "name": {"type": "string"},
    "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
}}}}  # fmt: skip


class Database(FakeGuest):
    """A node whose Open vSwitch has one interface. It does select and mutate (RFC 7047, 5.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = {"iface-id": "sw0-b", "netns": "sw0-b"}

    def run(self, command: Sequence[str] | str, **_: Any) -> GuestResult:
        assert not isinstance(command, str)
        if command[2] == "get-schema":
            return GuestResult(0, json.dumps(SCHEMA), "", 0)
        results: list[dict[str, Any]] = []
        for operation in json.loads(command[-1])[1:]:
            if operation["op"] == "select":
                columns = ["map", [list(pair) for pair in self.ids.items()]]
                row = {"_uuid": ["uuid", UUID], "name": "tap", "external_ids": columns}
                results.append({"rows": [row]})
                continue
            for column, mutator, (_kind, values) in operation["mutations"]:
                assert column == "external_ids"
                if mutator == "delete":
                    for key in values:
                        self.ids.pop(key, None)
                else:
                    self.ids.update(dict(values))
            results.append({"count": 1})
        return GuestResult(0, json.dumps(results), "", 0)


def test_a_key_that_somebody_else_wrote_meanwhile_is_let_be() -> None:
    node = Database()
    change = plan_set(
        node, "Open_vSwitch", "Interface", lambda row: row["name"] == "tap",
        {"external_ids": {"iface-id": "nobody"}},
    )  # fmt: skip
    assert change is not None
    make(node, change)
    assert node.ids["iface-id"] == "nobody"
    node.ids["ovn-installed-ts"] = "1795907316992"  # as ovn-controller does when it binds a port
    take_back(node, change)
    assert node.ids == {
        "iface-id": "sw0-b", "netns": "sw0-b", "ovn-installed-ts": "1795907316992",
    }  # fmt: skip


def test_a_map_is_emptied_as_a_map_and_comes_back_whole() -> None:
    """A server refuses the empty set for it (RFC 7047, 5.1)."""
    node = Database()
    change = plan_set(
        node, "Open_vSwitch", "Interface", lambda _: True, {"external_ids": None, "name": None}
    )
    assert change is not None
    assert [operation["row"] for operation in change.do] == [
        {"external_ids": ["map", []]}, {"name": ["set", []]},
    ]  # fmt: skip
    assert change.undo[0]["row"] == {
        "external_ids": ["map", [["iface-id", "sw0-b"], ["netns", "sw0-b"]]]
    }


def test_a_key_that_does_not_come_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    node = Database()
    change = plan_set(
        node, "Open_vSwitch", "Interface", lambda _: True, {"external_ids": {"iface-id": "nobody"}}
    )
    assert change is not None
    node.ids["iface-id"] = "sw0-b"
    plain = node.run

    def stubborn(command: Sequence[str] | str, **more: Any) -> GuestResult:
        result = plain(command, **more)
        node.ids["iface-id"] = "another"
        return result

    monkeypatch.setattr(node, "run", stubborn)
    with pytest.raises(LabError, match=f"not all is as it was before .*: Interface {UUID}"):
        take_back(node, change)
