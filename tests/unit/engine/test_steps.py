"""The engine: what may start when, what a failure stops, what Ctrl-C leaves, what is timed."""

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.engine.events import (
    Event,
    EventBus,
    Note,
    OutputLine,
    RunFinished,
    RunForecast,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from labctl.engine.steps import Step, StepContext, StepFailed, run_steps
from labctl.engine.timings import Timings
from labctl.errors import Cancelled, LabError

Work = Callable[[StepContext], None]


def nothing(context: StepContext) -> None:
    pass


def fails(error: BaseException) -> Work:
    def work(context: StepContext) -> None:
        raise error

    return work


def step(id: str, *needs: str, run: Work = nothing, done: bool | None = None) -> Step:
    look = None if done is None else lambda: done
    return Step(id, id.upper(), run, needs, done=look)


class Recorder:
    """A bus, and what was said on it."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self.events: list[Event] = []
        self.bus.subscribe(self.events.append)

    def finished(self) -> dict[str, StepFinished]:
        return {event.id: event for event in self.events if isinstance(event, StepFinished)}

    def outcomes(self) -> dict[str, str]:
        return {id: event.outcome for id, event in self.finished().items()}

    def started(self) -> list[str]:
        return [event.id for event in self.events if isinstance(event, StepStarted)]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


# -- the graph ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("a"), step("b"), step("a")], "duplicate step 'a'"),
        ([step("a", "nova")], "step 'a' needs unknown step 'nova'"),
        ([step("a", "a")], "steps need each other: a -> a"),
        (
            [step("a", "c"), step("b", "a"), step("c", "b")],
            r"steps need each other: (a -> c -> b -> a|b -> a -> c -> b|c -> b -> a -> c)",
        ),
        ([step("a", "x"), step("a")], "duplicate step 'a'; step 'a' needs unknown step 'x'"),
    ],
)
def test_an_impossible_graph_is_named_before_anything_runs(
    steps: list[Step], message: str, recorder: Recorder
) -> None:
    with pytest.raises(ValueError, match=message):
        run_steps(steps, bus=recorder.bus)
    assert recorder.events == []


def test_no_workers_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        run_steps([], bus=EventBus(), workers=0)


# -- running -----------------------------------------------------------------


def test_runs_everything_after_its_needs(recorder: Recorder) -> None:
    order: list[str] = []
    work: Work = lambda context: order.append(context.id)  # noqa: E731
    steps = [step("c", "a", "b", run=work), step("b", "a", run=work), step("a", run=work)]
    result = run_steps(steps, bus=recorder.bus, workers=3, title="Create")
    assert order == ["a", "b", "c"]
    assert (result.ok, result.done, result.failed) == (True, ("a", "b", "c"), ())
    first, *_, last = recorder.events
    assert isinstance(first, RunStarted)
    assert (first.title, [each.id for each in first.steps]) == ("Create", ["c", "b", "a"])
    assert isinstance(last, RunFinished)
    assert last.ok
    result.raise_if_failed()


def test_independent_steps_run_at_once_and_no_more_than_workers(recorder: Recorder) -> None:
    pair = threading.Barrier(2)
    lock = threading.Lock()
    now = peak = 0

    def work(context: StepContext) -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        pair.wait(timeout=10)  # alone, a step would never get past this
        with lock:
            now -= 1

    result = run_steps([step(id, run=work) for id in "abcd"], bus=recorder.bus, workers=2)
    assert result.ok
    assert peak == 2


def test_a_step_speaks_between_its_start_and_its_end(recorder: Recorder) -> None:
    def work(context: StepContext) -> None:
        context.progress("half")
        context.output("text\r\n", "stderr")

    run_steps([Step("db", "MariaDB", work, node="n1")], bus=recorder.bus)
    assert [event for event in recorder.events if not isinstance(event, RunForecast)][1:4] == [
        StepStarted("db", "MariaDB", "n1"),
        StepProgress("db", "half"),
        OutputLine("db", "n1", "stderr", "text"),
    ]


def test_what_is_done_is_not_run_again(recorder: Recorder) -> None:
    steps = [step("a", done=True, run=fails(AssertionError("ran"))), step("b", "a")]
    result = run_steps(steps, bus=recorder.bus)
    assert (result.ok, result.already, result.done) == (True, ("a",), ("b",))
    assert recorder.outcomes() == {"a": "already", "b": "done"}


def test_done_is_asked_when_the_needs_are_over_even_if_they_ran(recorder: Recorder) -> None:
    order: list[str] = []

    def look() -> bool:
        order.append("look")
        return True

    steps = [
        Step("b", "B", fails(AssertionError("ran")), ("a",), done=look),
        step("a", run=lambda context: order.append("a")),
    ]
    result = run_steps(steps, bus=recorder.bus, workers=2)
    assert order == ["a", "look"]
    assert (result.done, result.already) == (("a",), ("b",))


def test_a_look_that_fails_means_run_it_and_says_so(recorder: Recorder) -> None:
    ran: list[str] = []

    def look() -> bool:
        raise ConnectionError("unreachable")

    result = run_steps(
        [Step("a", "Boot", lambda context: ran.append("a"), done=look)], bus=recorder.bus
    )
    assert result.ok
    assert ran == ["a"]
    warning = "Boot: cannot tell whether it is done: ConnectionError: unreachable"
    assert Note("warning", warning) in recorder.events


# -- failing -----------------------------------------------------------------


def test_after_a_failure_running_steps_end_and_nothing_starts(recorder: Recorder) -> None:
    failed = threading.Event()

    def breaks(context: StepContext) -> None:
        failed.set()
        raise LabError("no database", hint="start it")

    def slow(context: StepContext) -> None:
        failed.wait(10)
        time.sleep(0.3)  # until the engine has surely seen the failure
        assert not context.cancelled()

    steps = [
        step("slow", run=slow),
        step("breaks", run=breaks),
        step("independent"),
        step("after", "breaks"),
        step("far", "after"),
    ]
    result = run_steps(steps, bus=recorder.bus, workers=2)
    assert not result.ok
    assert result.done == ("slow",)
    assert [failure.step_id for failure in result.failed] == ["breaks"]
    assert result.skipped == ("independent", "after", "far")
    assert set(recorder.started()) == {"slow", "breaks"}
    assert recorder.finished()["far"].detail == "not started"
    assert not result.cancelled
    with pytest.raises(StepFailed, match="BREAKS: no database"):
        result.raise_if_failed()


def test_a_failure_carries_message_hint_and_log(recorder: Recorder) -> None:
    cause = LabError("exit status 1", hint="is the disk full?")
    broken = Step("db", "MariaDB", fails(cause), node="n1", log=Path("logs/db.log"))
    (failure,) = run_steps([broken], bus=recorder.bus).failed
    assert (failure.step_id, failure.node, failure.cause) == ("db", "n1", cause)
    assert failure.__cause__ is cause
    event = recorder.finished()["db"]
    assert (event.outcome, event.detail) == ("failed", "exit status 1")
    assert (event.hint, event.log) == ("is the disk full?", "logs/db.log")


def test_the_log_of_the_exception_is_the_nearer_one(recorder: Recorder) -> None:
    cause = LabError("no")
    cause.log = Path("logs/exact.log")
    broken = Step("db", "MariaDB", fails(cause), log=Path("logs/db.log"))
    run_steps([broken], bus=recorder.bus)
    assert recorder.finished()["db"].log == "logs/exact.log"


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (KeyError("port"), "KeyError: 'port'"),
        (AssertionError(), "AssertionError"),
        (SystemExit(3), "SystemExit: 3"),
        (Cancelled("nobody asked"), "Cancelled: nobody asked"),
    ],
)
def test_any_exception_is_a_failure_of_its_step(
    cause: BaseException, message: str, recorder: Recorder
) -> None:
    (failure,) = run_steps([step("a", run=fails(cause))], bus=recorder.bus).failed
    assert failure.message == message
    assert failure.hint == ""


# -- stopping ----------------------------------------------------------------


def test_cancelling_lets_running_steps_stop_and_starts_nothing(recorder: Recorder) -> None:
    cancel = threading.Event()

    def work(context: StepContext) -> None:
        cancel.set()
        while not context.cancelled():
            time.sleep(0.01)
        raise Cancelled

    result = run_steps(
        [step("a", run=work), step("b", "a")], bus=recorder.bus, workers=2, cancel=cancel
    )
    assert (result.cancelled, result.ok, result.failed) == (True, False, ())
    assert result.skipped == ("a", "b")
    assert recorder.finished()["a"].detail == "interrupted"
    with pytest.raises(Cancelled):
        result.raise_if_failed()


def test_what_ends_well_after_a_cancel_is_done_but_not_timed(tmp_path: Path) -> None:
    cancel, path = threading.Event(), tmp_path / "timings.json"
    steps = [step("a", run=lambda context: cancel.set()), step("b")]
    result = run_steps(steps, bus=EventBus(), cancel=cancel, timings=Timings(path))
    assert (result.done, result.skipped) == (("a",), ("b",))
    assert not path.exists()


def test_a_step_that_does_not_listen_is_given_up_and_muted(recorder: Recorder) -> None:
    cancel, release, ended = threading.Event(), threading.Event(), threading.Event()

    def deaf(context: StepContext) -> None:
        cancel.set()
        release.wait(10)
        context.progress("late")
        ended.set()

    began = time.monotonic()
    result = run_steps([step("deaf", run=deaf)], bus=recorder.bus, cancel=cancel, grace=0.2)
    assert time.monotonic() - began < 5
    assert result.skipped == ("deaf",)
    count = len(recorder.events)
    release.set()
    assert ended.wait(10)
    assert len(recorder.events) == count, "a step spoke after its end was reported"


def test_cancelled_before_the_start_runs_nothing(recorder: Recorder) -> None:
    cancel = threading.Event()
    cancel.set()
    result = run_steps([step("a", run=fails(AssertionError()))], bus=recorder.bus, cancel=cancel)
    assert (result.skipped, recorder.started()) == (("a",), [])


def test_ctrl_c_stops_the_work_and_ends_a_process_whose_step_hangs() -> None:
    script = textwrap.dedent("""
        import signal, sys, time
        from labctl.engine.events import EventBus
        from labctl.engine.steps import Step, run_steps

        def polite(context):
            while not context.cancelled():
                time.sleep(0.01)
            print("polite noticed", flush=True)

        def hangs(context):
            print("running", flush=True)
            time.sleep(600)

        # A shell starts background jobs with Ctrl-C ignored, and CI may be one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        bus = EventBus()
        bus.subscribe(lambda event: print(event, flush=True))
        steps = [Step("polite", "P", polite), Step("hangs", "H", hangs), Step("c", "C", polite)]
        try:
            run_steps(steps, bus=bus, workers=2, grace=0.5)
        except KeyboardInterrupt:
            print("raised again", flush=True)
            sys.exit(130)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line == "running\n":
                    break
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "polite noticed" in rest
    assert "id='polite', outcome='done'" in rest
    assert "id='hangs', outcome='skipped'" in rest
    assert "id='c', outcome='skipped'" in rest
    assert rest.rstrip().endswith("raised again")
    assert "RunFinished(ok=False" in rest


# -- timing ------------------------------------------------------------------


def test_what_really_ran_is_timed_and_estimated_the_next_time(
    tmp_path: Path, recorder: Recorder
) -> None:
    path = tmp_path / "state" / "timings.json"
    steps = [
        step("slow", run=lambda context: time.sleep(0.2)),
        step("there", done=True),
        step("broken", run=fails(OSError("no"))),
    ]
    run_steps(steps, bus=recorder.bus, timings=Timings(path, "nspawn/"))
    assert list(json.loads(path.read_text())) == ["nspawn/slow"]

    again = Recorder()
    run_steps(steps, bus=again.bus, timings=Timings(path, "nspawn/"))
    (started,) = [event for event in again.events if isinstance(event, RunStarted)]
    slow, there, broken = started.steps
    assert slow.estimate_s is not None
    assert 0.2 <= slow.estimate_s < 5
    assert (there.estimate_s, broken.estimate_s) == (None, None)
    assert any(isinstance(e, RunForecast) and e.remaining_s is not None for e in again.events)


def test_times_that_cannot_be_saved_are_a_warning(tmp_path: Path, recorder: Recorder) -> None:
    (tmp_path / "file").write_text("in the way")
    timings = Timings(tmp_path / "file" / "timings.json")
    result = run_steps([step("a")], bus=recorder.bus, timings=timings)
    assert result.ok
    (note,) = [event for event in recorder.events if isinstance(event, Note)]
    assert note.level == "warning"
    assert "timings not saved" in note.message
