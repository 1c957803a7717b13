"""What labctl shows in a real terminal, tmux's: recorded scenes at two widths, in both languages.

`play_screen.py` tells labctl's own display what a real lab told it, and the screen is compared with
the one in tests/golden/screens. LABCTL_UPDATE_GOLDEN=1 writes what is there now: look at it.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from labctl.terminal.text import cell_width, sanitize
from tests.unit.golden import GOLDEN, expect_text

PLAYER = Path(__file__).parent / "play_screen.py"
SCREENS = GOLDEN / "screens"
SCENES = {
    "en": ["create", "next", "check", "walk-in", "status", "snapshots"],
    "zh-TW": ["create", "next", "solve", "walk-in", "status", "snapshots"],
}
MOVING = ["create-running", "create-interrupted"]
HEIGHT = 50
SPINNER = re.compile("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")


@dataclass
class Terminal:
    """A terminal of tmux's with the player in it."""

    socket: str
    width: int

    def tmux(self, *words: str) -> str:
        """What tmux says to a command."""
        argv = ["tmux", "-L", self.socket, "-f", os.devnull, *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
        return done.stdout

    def start(self, language: str, scenes: list[str], env: dict[str, str]) -> None:
        """Begin to play."""
        sets = [f"{name}={value}" for name, value in env.items()]
        unset = [word for name in ("NO_COLOR", "COLUMNS", "LINES") for word in ("-u", name)]
        argv = ["env", *unset, *sets, sys.executable, str(PLAYER), language, *scenes]
        size = ("-x", str(self.width), "-y", str(HEIGHT))
        self.tmux(
            "set-option", "-g", "history-limit", "5000", ";",
            "new-session", "-d", "-s", "s", *size, *argv,
        )  # fmt: skip
        self.tmux("set-option", "-g", "remain-on-exit", "on")

    def wait(self, scene: str, seconds: float = 20) -> None:
        """Until the player says that the scene is there."""
        until = time.monotonic() + seconds
        while self.tmux("display-message", "-p", "#{pane_title}").strip() != scene:
            assert time.monotonic() < until, f"no {scene}; the screen:\n{self.screen()}"
            time.sleep(0.05)

    def go_on(self) -> None:
        """Let the player show the next scene on an empty screen."""
        self.tmux("send-keys", "Enter")

    def screen(self, *options: str) -> str:
        """What can be seen, with what has scrolled off."""
        said = self.tmux("capture-pane", "-p", "-S", "-", *options)
        return re.sub(r"[ \t]+$", "", said, flags=re.MULTILINE).strip("\n") + "\n"

    def coloured_screen(self, expected: Path | None = None) -> str:
        """The screen with its colours; what is expected may take a moment to be drawn."""
        wanted = ""
        if expected is not None and expected.exists():
            wanted = expected.read_text(encoding="utf-8")
        for _ in range(10):
            said = self.screen("-e").replace("\x1b", "␛")
            if said == wanted or expected is None:
                break
            time.sleep(0.1)
        return said


@pytest.fixture
def open_terminal(require: Callable[..., None]) -> Iterator[Callable[[int], Terminal]]:
    """Makes a terminal of that many columns."""
    require("tmux")
    opened: list[Terminal] = []

    def open_one(width: int) -> Terminal:
        opened.append(Terminal(f"labctl-test-{uuid4().hex[:8]}", width))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.tmux("kill-server")


def fits(terminal: Terminal, scene: str) -> None:
    """Fails if the terminal had to break a line: -J joins what it broke."""
    for line in sanitize(terminal.screen("-J")).split("\n"):
        assert cell_width(line) <= terminal.width, f"{scene}: too long for the terminal:\n{line}"


@pytest.mark.parametrize("colours", [True, False], ids=["colours", "no-color"])
@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize("width", [80, 120])
def test_screens(
    open_terminal: Callable[[int], Terminal], width: int, language: str, colours: bool
) -> None:
    terminal = open_terminal(width)
    scenes = SCENES[language] + (MOVING if colours else [])
    env = {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    terminal.start(language, scenes, env if colours else env | {"NO_COLOR": "1"})
    kind = "colours" if colours else "plain"
    for scene in scenes:
        terminal.wait(scene)
        golden = SCREENS / f"{scene}.{language}.{width}.{kind}.txt"
        said = terminal.coloured_screen(golden)
        expect_text(golden, said)
        fits(terminal, scene)
        assert ("␛" in said) == colours
        # What spins is gone when the work is over or was interrupted.
        assert bool(SPINNER.search(said)) == (scene == "create-running")
        terminal.go_on()


@pytest.mark.parametrize(("before", "after"), [(120, 50), (50, 120)])
def test_nothing_is_left_of_the_display_when_the_window_changes(
    open_terminal: Callable[[int], Terminal], before: int, after: int
) -> None:
    terminal = open_terminal(before)
    terminal.start("en", ["create-resized"], {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8"})
    terminal.wait("create-resized: middle")
    terminal.tmux("resize-window", "-x", str(after), "-y", str(HEIGHT))
    time.sleep(0.6)  # tmux tells programs a quarter of a second later
    terminal.go_on()
    terminal.wait("create-resized")
    said = terminal.coloured_screen()
    assert not SPINNER.search(said)
    assert said.count("libvirt and QEMU") == 1


@pytest.mark.parametrize(("width", "term"), [(40, "tmux-256color"), (20, "tmux"), (80, "dumb")])
def test_narrow_and_dumb_terminals_show_all_of_it(
    open_terminal: Callable[[int], Terminal], width: int, term: str
) -> None:
    terminal = open_terminal(width)
    scenes = ["create", "next", "walk-in", "status", "snapshots"]
    terminal.start("en", scenes, {"TERM": term, "LC_ALL": "C.UTF-8"})
    for scene in scenes:
        terminal.wait(scene)
        said = terminal.coloured_screen()
        assert "Traceback" not in said
        assert ("␛" in said) == (term != "dumb")
        terminal.go_on()
