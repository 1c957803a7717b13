"""`labctl box add` with the real Vagrant: it takes the box, whatever the directory is called."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.actions.test_box import publish


@pytest.mark.parametrize("named", ["the box", "its catalogue"])
def test_vagrant_knows_the_box(require: Callable[..., None], tmp_path: Path, named: str) -> None:
    require("vagrant")
    directory = tmp_path / "王小明 box"
    directory.mkdir()
    box = publish(directory)
    env = {
        **os.environ, "VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_CHECKPOINT_DISABLE": "1",
        "LABCTL_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    source = box.name if named == "the box" else "labctl-lab.json"
    subprocess.run(
        [sys.executable, "-m", "labctl", "box", "add", source, "--provider", "virtualbox"],
        cwd=directory, env=env, check=True,
    )  # fmt: skip
    listed = subprocess.run(
        ["vagrant", "box", "list"], env=env, check=True, capture_output=True, text=True
    ).stdout
    assert listed.startswith("labctl/lab (virtualbox, 20261128.9.1"), listed
