#!/usr/bin/env python3
"""Records what labctl tells its console in a real lab, for tests/integration/test_screens.py.

usage: sudo python scripts/record-screens.py SCENE [labctl's arguments...]
e.g. `record-screens.py create.zh-TW --lang zh-TW -f LAB.YAML create`. With --json among the
arguments the report is kept, else every call of the console with its time. UUIDs and dates are
replaced, so that recording again changes what has changed. Then LABCTL_UPDATE_GOLDEN=1 pytest
tests/integration/test_screens.py writes what is expected of it: look at it.
"""

import contextlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import labctl.terminal.console
from labctl.cli.app import main as labctl_main
from labctl.engine.events import Event

SCREENS = Path(__file__).parents[1] / "tests/golden/screens"
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d")


class Recorder:
    """A console that remembers what it was told."""

    def __init__(self, console: Any, calls: list[dict[str, Any]]) -> None:
        self._console = console
        self._calls = calls

    def _note(self, name: str, args: list[Any], options: dict[str, Any]) -> None:
        call = {"t": round(time.monotonic(), 3), "call": name, "args": args}
        self._calls.append(call | ({"options": options} if options else {}))

    def __call__(self, event: Event) -> None:
        self._note("event", [event.to_json()], {})
        self._console(event)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: Any) -> None:
        self._console.close()

    def __getattr__(self, name: str) -> Any:
        of_console = getattr(self._console, name)
        if not callable(of_console) or name == "close":
            return of_console

        def told(*args: Any, **options: Any) -> Any:
            self._note(name, list(args), options)
            return of_console(*args, **options)

        return told


def steady(text: str) -> str:
    """`text` with the same UUIDs and dates in every recording."""
    known: dict[str, str] = {}

    def uuid(found: re.Match[str]) -> str:
        number = known.setdefault(found[0], f"{len(known) + 1:012x}")
        return f"{number[-8:]}-0000-4000-8000-{number}"

    return _DATE.sub("2026-01-02T03:04:05", _UUID.sub(uuid, text))


def main(scene: str, *words: str) -> int:
    """Run labctl and write the scene."""
    calls: list[dict[str, Any]] = []
    real = labctl.terminal.console.make_console
    labctl.terminal.console.make_console = lambda **options: Recorder(real(**options), calls)
    sys.argv = ["labctl", *words]
    SCREENS.mkdir(parents=True, exist_ok=True)
    if "--json" in words:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = labctl_main()
        report = json.dumps(json.loads(said.getvalue()), indent=1, ensure_ascii=False)
        (SCREENS / f"{scene}.json").write_text(steady(report) + "\n", encoding="utf-8")
        return code
    code = labctl_main()
    began = calls[0]["t"] if calls else 0.0
    for call in calls:
        call["t"] = round(call["t"] - began, 3)
    text = "".join(json.dumps(call, ensure_ascii=False) + "\n" for call in calls)
    (SCREENS / f"{scene}.jsonl").write_text(steady(text), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
