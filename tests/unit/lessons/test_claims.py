"""Looks at the lab: each question once, all at the same time, and never older than they may be."""

import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.access.capture import Captured
from labctl.engine.steps import StepContext
from labctl.lessons.model import PROBES, Checkpoint
from labctl.lessons.results import CheckpointResult
from labctl.lessons.runner import Runner
from labctl.lessons.transcript import write_record
from labctl.probes import ReadCache
from labctl.state import LabState
from tests.unit.access.test_cloud import WiredGuest, pytestmark  # noqa: F401  # it counts here too
from tests.unit.lessons.bench import Bench, lesson
from tests.unit.lessons.test_runner import Recorded


# -- each question once ----------------------------------------------------------------------------
def test_who_asks_what_is_being_asked_waits_for_the_answer() -> None:
    cache, asked, go = ReadCache(), [], threading.Event()

    def ask() -> str:
        asked.append(threading.current_thread().name)
        assert go.wait(5)
        return "seen"

    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(cache.get_or_ask("x", ask))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert said == ["seen"] * 4
    assert len(asked) == 1
    assert cache.get_or_ask("y", lambda: "other") == "other"


def test_a_question_that_failed_is_asked_anew_and_so_is_a_forgotten_one() -> None:
    cache, turns = ReadCache(), iter([OSError("gone"), "seen", "later"])

    def ask() -> Any:
        turn = next(turns)
        if isinstance(turn, Exception):
            raise turn
        return turn

    with pytest.raises(OSError, match="gone"):
        cache.get_or_ask("x", ask)
    assert [cache.get_or_ask("x", ask), cache.get_or_ask("x", ask)] == ["seen", "seen"]
    cache.forget()
    assert cache.get_or_ask("x", ask) == "later"


# -- ahead -----------------------------------------------------------------------------------------
class Counted(Recorded):
    """A recorded lab that counts what it was asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "day-done")
        self.guest.on("Datapath_Binding", '{"headings": [], "data": []}')
        wired = self.wired
        assert isinstance(wired, WiredGuest)
        self.api = wired

    def asked(self) -> Counter[str]:
        requests = [request.split("/", 3)[-1] for request, _ in self.api.asked]
        return Counter(requests + [one.command for one in self.guest.ran])


@pytest.mark.parametrize("name", ["associate", "ports", "security-group", "nat-rules", "ping-out"])
def test_what_claims_facts_and_the_record_need_is_asked_once_and_ahead(
    tmp_path: Path, name: str
) -> None:
    lab = Counted(tmp_path)
    checker, checkpoint = lab.runner.checker, lab.lesson.checkpoint(name)
    # What was true in the morning alone is asked until its time is up.
    claims = [
        one for one in checkpoint.claims if not one.probe.startswith("wire.") and not one.until
    ]
    with checker.cached_reads():
        checker.prefetch(checkpoint.claims, [checkpoint.explain.model_dump(), *checkpoint.scripts])
        ahead = lab.asked()
        result = CheckpointResult(name, "x", claims=[checker.prove(one, []) for one in claims])
        for claim in checkpoint.claims:
            checker.fill_text(str(claim.text))
        write_record(LabState(tmp_path), lab.lesson, checkpoint, result, checker)
    assert lab.asked() == ahead, "nothing was left to ask one by one"
    assert set(ahead.values()) == {1}, ahead
    assert "v2.0/networks" in ahead


def test_templates_without_facts_ask_nothing(tmp_path: Path) -> None:
    lab = Counted(tmp_path)
    with lab.runner.checker.cached_reads():
        lab.runner.checker.prefetch([], ["{{ lab.router }}", *lab.lesson.checkpoints[0].scripts])
    assert lab.asked() == Counter()


# -- no older than it may be -----------------------------------------------------------------------
TWO = """
  - id: one
    title: {en: One, zh-TW: 一}
    explain: {en: "It is {{ fact.ip }}.", zh-TW: "是 {{ fact.ip }}。"}
    run: ['true']
    claims: [HOLDS]
    undo: 'true'
  - id: two
    title: {en: Two, zh-TW: 二}
    explain: {en: "Now it is {{ fact.ip }}.", zh-TW: "現在是 {{ fact.ip }}。"}
    run: ['true']
    CAPTURE
    claims: [HOLDS]
"""
FACTS = "{ip: {probe: test.rows, column: n}}"


def run(runner: Runner, *checkpoints: Checkpoint) -> None:
    for checkpoint in checkpoints:
        runner.run(checkpoint, StepContext(checkpoint.id))


def proved(runner: Runner) -> list[int]:
    return [row["n"] for one in runner.results for claim in one.claims for row in claim.seen]


def test_what_a_checkpoint_proved_explains_the_next(bench: Bench) -> None:
    what = lesson(TWO.replace("CAPTURE", ""), FACTS)
    runner = bench.runner(what)
    bench.rows["turns"] = [[{"n": n}] for n in range(1, 9)]
    run(runner, *what.checkpoints)
    assert "It is 1." in bench.page.text  # before its command
    assert "Now it is 2." in bench.page.text  # what was seen when the first was proved
    # After a command everything is asked anew.
    assert proved(runner) == [2, 3]
    assert len(bench.asked) == 3


def test_what_was_taken_back_explains_nothing(bench: Bench) -> None:
    what = lesson(TWO.replace("CAPTURE", ""), FACTS)
    runner = bench.runner(what)
    bench.rows["turns"] = [[{"n": n}] for n in range(1, 9)]
    first, second = what.checkpoints
    run(runner, first)
    runner.undo(first, StepContext("undo"))
    run(runner, second)
    assert "Now it is 3." in bench.page.text


def test_commands_that_change_nothing_are_looked_at_while_they_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.lessons.runner.capturing", _nothing_captured)
    captures = "capture: [{node: controller, interface: eth1, filter: icmp}]"
    what = lesson(TWO.replace("CAPTURE", captures), FACTS)
    runner = bench.runner(what)
    bench.rows["turns"] = [[{"n": n}] for n in range(1, 9)]
    run(runner, *what.checkpoints)
    assert proved(runner) == [2, 2]


class _nothing_captured:  # noqa: N801 - stands in for a function
    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Captured:
        return Captured()

    def __exit__(self, *_: object) -> None:
        pass


# -- whose time it was -----------------------------------------------------------------------------
def test_waiting_for_a_claim_is_told_from_looking(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("labctl.lessons.claims.time", SimpleNamespace(monotonic=lambda: clock.now))
    what = lesson("""
  - id: one
    WORDS
    run: ['true']
    claims: [HOLDS]
""")
    checker = bench.runner(what).checker
    (claim,) = what.checkpoints[0].claims
    probe = bench.probe

    def slow(*words: Any) -> Any:
        clock.now += 2
        return probe(*words)

    monkeypatch.setitem(PROBES, "test.rows", slow)
    at_once = checker.prove(claim, [])
    assert (at_once.seconds, at_once.waited) == (2, 0)
    bench.rows["turns"] = [[], [], [{"n": 1}]]
    later = checker.prove(claim, [])
    assert (later.seconds, later.waited) == (6, 4)
