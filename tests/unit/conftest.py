"""Fixtures of several modules."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.i18n import set_language
from labctl.lessons.model import PROBES
from tests.unit.lessons.bench import Bench

PROVISION = Path(__file__).parents[2] / "provision"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setitem(PROBES, "test.rows", made.probe)
    return made


@pytest.fixture
def with_profile(bench: Bench) -> Bench:
    """The node has the profile that learners get, which reads the variables."""
    profile = (PROVISION / "files" / "profile.sh").read_text(encoding="utf-8")
    moved = profile.replace("/var/lib/", f"{bench.node.root}/var/lib/")
    bench.node.put(moved.replace("/root/", f"{bench.node.root}/root/").encode(),
                   "/etc/profile.d/labctl.sh")  # fmt: skip
    return bench


@pytest.fixture(autouse=True)
def _english_afterwards() -> Iterator[None]:
    """The language is the process's: no test may leave its own to the next."""
    yield
    set_language("en")


USER, GROUP = 54321, 54322
"""Numbers that belong to nobody on this machine."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of the user, who may also go through those above it.

    Those stay open: a test in another process may need them at the same time.
    """
    for path in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.stat().st_uid == os.geteuid() and not mode & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, USER, GROUP)
    return home
