"""`labctl logs`: what it says when there is nothing to show."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.actions.logs import read_log
from labctl.errors import EXIT_USAGE, LabError
from labctl.state import LabState
from tests.unit.fakes import FakeGuest, topology

NODE = "compute-01"


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    made = topology()
    state = LabState(tmp_path)
    state.node_logs(NODE).mkdir(parents=True)
    state.stage_log(NODE, "network").write_text("one\ntwo\n", encoding="utf-8")
    guest = FakeGuest(NODE).on("journalctl", "").on("-u ovn-controller", "it runs\n")
    return cast(Any, SimpleNamespace(
        require_created=lambda: None, node=made.node, topology=made, state=state,
        guest=lambda name: guest,
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "hint"),
    [
        ("netwrok", "did you mean network?"),
        ("nova-compte", "did you mean nova-compute?"),
        ("xyzzy", f"labctl logs {NODE} lists"),
    ],
)
def test_a_log_that_is_not_there_is_told(lab: Any, unit: str, hint: str) -> None:
    with pytest.raises(LabError, match=f"{NODE} has no log of '{unit}'") as error:
        read_log(lab, NODE, unit, 50)
    assert hint in error.value.hint
    assert error.value.code == EXIT_USAGE


def test_one_that_is_there_is_shown(lab: Any) -> None:
    assert read_log(lab, NODE, "network", 1) == "two\n"
    assert read_log(lab, NODE, "ovn-controller", 50) == "it runs\n"
