"""`labctl class join`: teacher and learner in one terminal, by a real sshd and tmux."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from labctl.access import keys
from labctl.classroom.join import BEGIN
from tests.integration.class_machines import TOOLS, Machine, Teacher, running

pytestmark = [pytest.mark.timeout(200), pytest.mark.long]
WATCHES, TYPES = "Your teacher is watching.", "Your teacher is here and may type."
LEFT = "Your teacher has left this terminal."


class Screens:
    """Terminals of people: windows of a tmux of the test's own."""

    def __init__(self) -> None:
        self._socket = f"labctl-{uuid4().hex[:8]}"
        self._tmux("new-session", "-d", "-s", "people", "-x", "100", "-y", "24", "sleep", "1000")
        self._tmux("set-option", "-g", "remain-on-exit", "on")

    def _tmux(self, *words: str) -> str:
        argv = ["tmux", "-u", "-L", self._socket, "-f", os.devnull, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20).stdout

    def open_window(self, name: str, *argv: object, cwd: Path) -> None:
        command = shlex.join(["env", "-u", "TMUX", "TERM=screen", *map(str, argv)])
        self._tmux("new-window", "-d", "-n", name, "-c", str(cwd), command)

    def screen_text(self, name: str) -> str:
        return self._tmux("capture-pane", "-p", "-t", f"people:{name}")

    def type_keys(self, name: str, *keys: str) -> None:
        self._tmux("send-keys", "-t", f"people:{name}", *keys)

    def comes_to_show(self, name: str, words: str) -> bool:
        """Whether the screen comes to show these words."""
        return self._becomes(name, lambda: words in self.screen_text(name))

    def comes_to_lose(self, name: str, words: str) -> bool:
        """Whether these words go from the screen."""
        return self._becomes(name, lambda: words not in self.screen_text(name))

    def _becomes(self, name: str, holds: Callable[[], bool]) -> bool:
        until = time.monotonic() + 20
        while not holds():
            if time.monotonic() > until:
                sys.stdout.write(self.screen_text(name))  # pytest shows it
                return False
            time.sleep(0.1)
        return True

    def close_all(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def screens(require: Callable[..., None]) -> Iterator[Screens]:
    require("tmux")
    made = Screens()
    yield made
    made.close_all()


@pytest.fixture
def place(require: Callable[..., None]) -> Iterator[Path]:
    require(*TOOLS, root=True)
    with tempfile.TemporaryDirectory(prefix="labctl-class-", dir="/var/tmp") as made:
        keys.ensure(Path(made) / "key")
        yield Path(made)


@pytest.fixture
def teacher(place: Path) -> Teacher:
    return Teacher(place / "laptop", place / "key")


@pytest.fixture
def amy(place: Path, teacher: Teacher) -> Iterator[Machine]:
    """A learner's machine, ready."""
    with running(place, place / "key", "amy") as (machine,):
        teacher.writes({"amy": machine.port})
        assert teacher("create").returncode == 0
        yield machine


def log_in(screens: Screens, teacher: Teacher, amy: Machine, *command: str) -> None:
    screens.open_window(
        "learner", "ssh", "-F", "none", "-i", "owner.key", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-t", "-p", amy.port,
        "root@127.0.0.1", *command, cwd=teacher.directory,
    )  # fmt: skip


def join_learner(screens: Screens, teacher: Teacher, *options: str) -> None:
    labctl = [sys.executable, "-m", "labctl", "--lang", "en", "class", "join", "amy", *options]
    screens.open_window("teacher", *labctl, cwd=teacher.directory)


def test_both_see_and_type_and_the_learner_is_told(
    screens: Screens,
    teacher: Teacher,
    amy: Machine,
) -> None:
    log_in(screens, teacher, amy, BEGIN)
    assert screens.comes_to_show("learner", "[labctl]")
    screens.type_keys("learner", "echo I am $((40+2))", "Enter")
    assert screens.comes_to_show("learner", "I am 42")
    join_learner(screens, teacher)
    assert screens.comes_to_show("teacher", "I am 42")
    assert screens.comes_to_show("learner", TYPES)
    screens.type_keys("teacher", "echo see $((50+5))", "Enter")
    assert screens.comes_to_show("learner", "see 55")
    screens.type_keys("teacher", "C-b", "d")
    assert screens.comes_to_show("learner", LEFT)
    assert screens.comes_to_lose("learner", TYPES)
    screens.type_keys("learner", "echo alone $((60+6))", "Enter")
    assert screens.comes_to_show("learner", "alone 66")


def test_who_watches_types_nothing(
    screens: Screens,
    teacher: Teacher,
    amy: Machine,
) -> None:
    log_in(screens, teacher, amy, "tmux -u")  # a session of another name
    assert screens.comes_to_show("learner", "[0]")
    join_learner(screens, teacher, "--watch")
    assert screens.comes_to_show("learner", WATCHES)
    screens.type_keys("teacher", "echo no $((70+7))", "Enter")
    screens.type_keys("learner", "echo yes $((80+8))", "Enter")
    assert screens.comes_to_show("teacher", "yes 88")
    assert "no 77" not in screens.screen_text("learner") + screens.screen_text("teacher")
    screens.type_keys("teacher", "C-b", "d")
    assert screens.comes_to_show("learner", LEFT)


def test_a_learner_without_tmux_is_asked_to_come(
    screens: Screens,
    teacher: Teacher,
    amy: Machine,
) -> None:
    log_in(screens, teacher, amy)
    screens.type_keys("learner", "echo here $((90+9))", "Enter")
    assert screens.comes_to_show("learner", "here 99")
    join_learner(screens, teacher)
    assert screens.comes_to_show("learner", "Type: tmux -u attach")
    screens.type_keys("learner", "tmux -u attach", "Enter")
    assert screens.comes_to_show("learner", TYPES)
    screens.type_keys("learner", "echo come $((10+1))", "Enter")
    assert screens.comes_to_show("teacher", "come 11")


@pytest.mark.usefixtures("amy")
def test_it_needs_a_terminal(teacher: Teacher) -> None:
    refused = teacher("join", "amy")
    assert refused.returncode == 2
    assert "a terminal is shared with a terminal" in refused.stderr
    assert "labctl class ssh amy -- COMMAND" in refused.stderr
