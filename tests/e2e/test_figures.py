"""The promises of SPECIFICATION.md on a real lab, as `make figures` measures them."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import TOOLS
from tests.scripts import SCRIPTS, load_script

figures = load_script("figures")
PROMISED = figures.promises(figures.SPECIFICATION.read_text("utf-8"))

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def measured(require: Callable[..., None]) -> dict[str, Any]:
    """{figure: what was measured}."""
    require(*TOOLS, root=True)
    done = subprocess.run(
        [sys.executable, SCRIPTS / "figures.py", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # 1: a promise is broken. Which one, the tests say.
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return {row["figure"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_promise_is_kept(measured: dict[str, Any], name: str) -> None:
    row = measured[name]
    assert row["value"] > 0
    assert row["ratio"] <= PROMISED[name].at_most * figures.TOLERANCE, row
