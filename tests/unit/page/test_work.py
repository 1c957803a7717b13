"""What the page's buttons run, and the messages that come of it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.engine.steps import Step, StepContext
from labctl.errors import LabError
from labctl.lab import Lab
from labctl.page.snapshots import SNAPSHOT_VERBS, snapshots_shown
from labctl.page.work import LabVerb, Work
from labctl.terminal.console import Console

LAB = "name: worked\nprovider: nspawn\nstack: ovn\n"


def _steps(lab: Lab, argument: str, console: Console, labctl: str) -> None:
    def work(context: StepContext) -> None:
        context.progress(f"{argument} with {labctl}")

    lab.run("a run", [Step("one", "the first step", work)]).raise_if_failed()
    console.say("it is done")


def _refuse(_: Lab, argument: str, __: Console, ___: str) -> None:
    raise LabError(f"not {argument}", hint="do something else")


def messages_of(directory: Path, verb: str, argument: str, verbs: Mapping[str, LabVerb]) -> Any:
    """All that the page is told, and the work afterwards."""
    (directory / "lab.yaml").write_text(LAB, encoding="utf-8")
    messages: list[Mapping[str, Any]] = []
    work = Work(directory / "lab.yaml", messages.append, "labctl", verbs)
    work.begin(verb, argument)
    deadline = time.monotonic() + 30
    while not messages or messages[-1]["kind"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return messages, work


def test_a_verb_of_the_lab_tells_its_steps_as_the_console_does(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    messages, work = messages_of(tmp_path, "steps", "mine", {"steps": _steps})
    events = [message for message in messages if message["kind"] == "event"]
    assert [event["event"] for event in events] == [
        "run_started", "step_started", "step_progress", "step_finished", "run_finished",
    ]  # fmt: skip
    assert events[1]["title"] == "the first step"
    assert events[2]["message"] == "mine with labctl"
    assert {"kind": "text", "text": "it is done"} in messages
    assert (messages[0]["kind"], messages[-1]["ok"]) == ("begun", True)
    assert (work.verb, work.ended) == ("", 1)
    assert work.seconds == {"steps mine": messages[-1]["seconds"]}


def test_a_verb_that_fails_says_why_and_what_to_do(tmp_path: Path) -> None:
    messages, work = messages_of(tmp_path, "refuse", "you", {"refuse": _refuse})
    done = messages[-1]
    assert (done["ok"], done["text"], done["hint"]) == (False, "not you", "do something else")
    assert work.seconds == {}  # what failed says nothing about how long it takes
    assert work.verb == ""


def test_snapshots_without_a_lab_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    for verb in SNAPSHOT_VERBS:
        messages, _ = messages_of(tmp_path, verb, "mine", SNAPSHOT_VERBS)
        assert (messages[-1]["ok"], messages[-1]["text"]) == (False, "there is no lab here")
    assert not (tmp_path / ".labctl").exists()
    assert snapshots_shown(Lab(tmp_path / "lab.yaml"), {})["rows"] == []
