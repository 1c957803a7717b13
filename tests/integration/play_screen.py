"""Shows recorded scenes on the terminal it runs in, through labctl's own display.

usage: python play_screen.py LANGUAGE SCENE...

After each scene it says so in the terminal's title and waits for a line, so that whoever started
it can look. The clock is that of the recording: what is shown does not depend on this machine.
"""

import json
import os
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from labctl.engine import events  # noqa: E402
from labctl.i18n import set_language  # noqa: E402
from labctl.terminal.console import Console, make_console  # noqa: E402

SCREENS = ROOT / "tests/golden/screens"
MIDDLE = 14
"""Steps of `create` that are over in the middle of it."""


class Clock:
    """Time as it was when the scene was recorded."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def event_of(said: dict[str, Any]) -> events.Event:
    """The event that `to_json` made this of."""
    fields = dict(said)
    name = "".join(word.capitalize() for word in fields.pop("event").split("_"))
    if "steps" in fields:
        fields["steps"] = tuple(events.PlannedStep(**step) for step in fields["steps"])
    made: events.Event = getattr(events, name)(**fields)
    return made


def recorded(scene: str, language: str) -> Iterator[dict[str, Any]]:
    """The calls of a recording."""
    with (SCREENS / f"{scene}.{language}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def play(console: Console, clock: Clock, calls: Iterator[dict[str, Any]]) -> None:
    """Tell the console what it was told then."""
    for call in calls:
        clock.now = call["t"]
        if call["call"] == "event":
            console(event_of(call["args"][0]))
        else:
            getattr(console, call["call"])(*call["args"], **call.get("options", {}))


def upto(over: int, calls: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The calls up to where so many steps are over."""
    for call in calls:
        yield call
        over -= call["call"] == "event" and call["args"][0]["event"] == "step_finished"
        if not over:
            return


def show_walk(console: Console, case: str) -> None:
    """A walk of tests/golden/walk."""
    import pytest

    from labctl.walks.show import show
    from tests.unit.walks.walks import WALKS, RecordedLab

    with pytest.MonkeyPatch.context() as patch:
        show(RecordedLab(WALKS / case, patch).walk(), console)


def show_report(console: Console, name: str) -> None:
    """A report that was kept as JSON."""
    report = json.loads((SCREENS / f"{name}.json").read_text(encoding="utf-8"))
    if name == "status":
        from labctl.actions.status import show

        show(report, console, "labctl")
        return
    from labctl.cli.snapshots import show_rows
    from labctl.snapshots.store import Row

    ages = (300.0, 7200.0, 172_800.0)
    rows = [Row(**row | {"at": time.time() - age}) for row, age in zip(report, ages, strict=False)]
    show_rows(rows, console)


def scene(name: str, language: str) -> None:
    """One scene; in the middle of `create` it waits before the end of the display."""
    clock = Clock()
    what, _, how = name.partition("-")
    console = make_console(clock=clock)
    try:
        with console:
            if how in ("running", "interrupted", "resized"):
                calls = recorded(what, language)
                play(console, clock, upto(MIDDLE, calls))
                if how == "interrupted":
                    raise KeyboardInterrupt
                if how == "resized":
                    ready(f"{name}: middle", clear=False)
                    play(console, clock, calls)
                else:
                    ready(name)
            elif what == "walk":
                show_walk(console, how)
            elif (SCREENS / f"{what}.json").exists():
                show_report(console, what)
            else:
                play(console, clock, recorded(what, language))
    except KeyboardInterrupt:
        from labctl.cli.app import show_interruption

        show_interruption()
    if how != "running":
        ready(name)


def ready(name: str, *, clear: bool = True) -> None:
    """Say that the scene is there, wait for whoever looks, and clear the screen."""
    sys.stdout.flush()
    sys.stderr.write(f"\033]2;{name}\007")
    sys.stderr.flush()
    sys.stdin.readline()
    if clear:
        sys.stderr.write("\033[2J\033[H\033[3J")
        sys.stderr.flush()


def main(language: str, *names: str) -> None:
    """Show the scenes one after the other."""
    attributes = termios.tcgetattr(sys.stdin)
    attributes[3] &= ~termios.ECHO  # the key that goes on must leave no trace
    termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)
    set_language(language)
    os.environ.pop("LABCTL_LANG", None)
    for name in names:
        scene(name, language)


if __name__ == "__main__":
    main(*sys.argv[1:])
