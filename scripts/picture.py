#!/usr/bin/env python3
"""A picture of a command as it really ran: types it into tmux, takes the screen, draws an SVG.

usage: picture.py OUT.svg --title TITLE [--until TEXT] [--columns N] [--rows N] -- COMMAND...

With --until the screen is taken as soon as TEXT is on it (the middle of a run), else at the end of
the command, scrolled-off lines included and cut to the last N rows. `make pictures` draws those of
the README.
"""

import argparse
import io
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

# Readable in light and dark pages alike: the picture has its own dark ground.
THEME = TerminalTheme(
    (24, 26, 31),
    (208, 212, 220),
    [(40, 44, 52), (224, 108, 117), (140, 200, 120), (229, 192, 123),
     (97, 175, 239), (198, 120, 221), (86, 182, 194), (208, 212, 220)],
    [(128, 136, 150), (240, 130, 138), (160, 220, 140), (240, 210, 150),
     (130, 195, 250), (214, 150, 235), (120, 205, 215), (255, 255, 255)],
)  # fmt: skip
SESSION = "labctl-picture"


def tmux(*words: str) -> str:
    done = subprocess.run(
        ["tmux", "-L", SESSION, *words], capture_output=True, text=True, check=False
    )
    return done.stdout


def screen(columns: int, rows: int, until: str | None, command: list[str], deadline: float) -> str:
    """The text on the screen, with its colours as escape sequences."""
    tmux("kill-server")
    # What this shell knows of its own window must not reach the one in the picture.
    bare = "env -u COLUMNS -u LINES -u NO_COLOR"
    # The shell stays when the command is over, so that the screen can still be read.
    shell = f"{bare} {shlex.join(command)}; printf '\\033]2;over\\007'; sleep 600"
    tmux("new-session", "-d", "-s", "s", "-x", str(columns), "-y", str(rows), shell)
    tmux("set-option", "-g", "history-limit", "5000")
    try:
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            shown = tmux("capture-pane", "-p", "-t", "s")
            if until is not None and until in shown:
                return tmux("capture-pane", "-p", "-e", "-t", "s")
            if tmux("display-message", "-p", "-t", "s", "#{pane_title}").strip() == "over":
                return tmux("capture-pane", "-p", "-e", "-S", "-2000", "-t", "s")
            time.sleep(0.2)
        sys.exit(f"{command} did not get there within {deadline:.0f} s")
    finally:
        tmux("kill-server")


def draw(text: str, columns: int, rows: int, title: str) -> str:
    """The SVG of the last rows, without a font from somebody's server."""
    lines = Text.from_ansi(text.rstrip()).split()[-rows:]  # colours go on from line to line
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, crop=True)
    head, _, rest = CONSOLE_SVG_FORMAT.partition("@font-face")
    form = head + rest[rest.index(".{unique_id}-matrix") :]
    return console.export_svg(title=title, theme=THEME, code_format=form, unique_id="labctl")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--until")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--deadline", type=float, default=900)
    parser.add_argument("command", nargs="+")
    told = parser.parse_args()
    text = screen(told.columns, told.rows, told.until, told.command, told.deadline)
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(draw(text, told.columns, told.rows, told.title), encoding="utf-8")


if __name__ == "__main__":
    main()
