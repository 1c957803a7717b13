"""One engine for the stages of `create` and the checkpoints of a lesson.

It runs the steps that are not done yet, as parallel as their needs and the number of
workers allow, and starts no more steps after the first failure. Whether a step is done
is asked of the node each time (`Step.done`) and stored nowhere: a run that was killed
at any point continues when it is run again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.engine.events import (
    EventBus,
    Note,
    Outcome,
    OutputLine,
    PlannedStep,
    RunFinished,
    RunForecast,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
    Stream,
)
from labctl.engine.plan import Plan
from labctl.engine.timings import Timings
from labctl.errors import Cancelled, LabError
from labctl.i18n import tr


class StepContext:
    """The link from a running step to its run: report progress and output, ask for a cancel.

    It can be used from any thread.
    """

    def __init__(
        self,
        id: str,
        node: str | None = None,
        *,
        bus: EventBus | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self.id = id
        self.node = node
        self._bus = bus or EventBus()
        self._cancel = cancel or threading.Event()
        self._closed = False

    def progress(self, message: str) -> None:
        """Reports in a few words what the step does now."""
        if not self._closed:
            self._bus.emit(StepProgress(self.id, message))

    def output(self, line: str, stream: Stream = "stdout") -> None:
        """Reports one line that a command of this step wrote."""
        if not self._closed:
            self._bus.emit(OutputLine(self.id, self.node, stream, line.rstrip("\r\n")))

    def cancelled(self) -> bool:
        """Whether to stop as soon as possible.

        Long work asks this often, and raises `Cancelled` if so: a step that returns counts as done.
        """
        return self._cancel.is_set()

    def close(self) -> None:
        """Sends no more events: the end of this step has been reported."""
        self._closed = True


@dataclass(frozen=True)
class Step:
    """One unit of work, named by `id`, that can be run again without harm.

    `needs` are ids of steps that must be done before it starts, in this run or earlier.
    `done` looks whether the work is done already; without it the step always runs. It is
    called after the needs are done, even if one of them ran just now. A step whose result
    depends on what its needs made must check that in `done`. If `done` raises, the step runs.
    `priority`: among ready steps the higher starts first; equal ones by the longest path of
    estimates to the end of the run.
    `log`: the file to read if the step fails, unless the exception has a `log` of its own.
    """

    id: str
    title: str
    run: Callable[[StepContext], None]
    needs: tuple[str, ...] = ()
    done: Callable[[], bool] | None = None
    node: str | None = None
    priority: int = 0
    log: Path | None = None


class StepFailed(LabError):  # noqa: N818 - an outcome of a step, as in `failed`
    """A step failed. `cause` is the exception that its work raised.

    `message`, `hint` and `log` are the cause's, as far as it has them.
    """

    def __init__(self, step: Step, cause: BaseException) -> None:
        super().__init__(_message(cause), hint=getattr(cause, "hint", None))
        self.step_id = step.id
        self.title = step.title
        self.node = step.node
        self.cause = cause
        self.log = getattr(cause, "log", None) or step.log
        self.__cause__ = cause

    def __str__(self) -> str:
        return self.title + tr(": ") + self.message


def _message(cause: BaseException) -> str:
    # An exception with a hint has a message for people. Any other needs its type to be
    # understood: the text of KeyError("port") is only "'port'".
    message = getattr(cause, "message", None)
    text = message if isinstance(message, str) else str(cause)
    if hasattr(cause, "hint") and text:
        return text
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


@dataclass(frozen=True)
class RunResult:
    """Step ids by outcome, in the order they ended (`skipped`: in the order given)."""

    done: tuple[str, ...]
    already: tuple[str, ...]
    failed: tuple[StepFailed, ...]
    skipped: tuple[str, ...]
    seconds: float
    cancelled: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step is done, now or before."""
        return not (self.failed or self.skipped)

    def raise_if_failed(self) -> None:
        """Raises the first `StepFailed`, or `Cancelled` if steps are missing without one."""
        if self.failed:
            raise self.failed[0]
        if not self.ok:
            raise Cancelled


def run_steps(
    steps: Sequence[Step],
    *,
    bus: EventBus,
    timings: Timings | None = None,
    workers: int = 1,
    cancel: threading.Event | None = None,
    title: str = "",
    grace: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> RunResult:
    """Runs `steps`, at most `workers` at a time, and returns the outcome of each.

    After a failure no more steps start; running ones continue to their end. When `cancel` is
    set (Ctrl-C sets it) no more steps start either, and running ones have `grace` seconds to
    stop; they are reported as skipped. `clock` counts seconds.

    Raises ValueError for an invalid graph, KeyboardInterrupt after Ctrl-C. The exception of a
    step is not raised here; see `RunResult.raise_if_failed`.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    estimates = {step.id: timings.estimate(step.id) if timings else None for step in steps}
    plan = Plan(steps, estimates, workers)
    run = _Run(
        {s.id: s for s in steps},
        plan,
        bus,
        timings,
        workers,
        cancel or threading.Event(),
        grace,
        clock,
    )
    planned = tuple(PlannedStep(step.id, step.title, estimates[step.id]) for step in steps)
    try:
        bus.emit(RunStarted(title, planned))
        run.work()
    except KeyboardInterrupt:
        run.cancel.set()
        run.wind_down()
        raise
    finally:
        result = run.close()
    return result


@dataclass(frozen=True)
class _Ended:
    """How the thread of a step ended."""

    step: Step
    outcome: Outcome
    error: BaseException | None = None


@dataclass
class _Running:
    """A step whose thread was started."""

    context: StepContext
    since: float
    """On the run's clock, in seconds."""
    thread: threading.Thread


@dataclass
class _Run:
    """The state of one `run_steps`; only the thread that called it changes it."""

    steps: dict[str, Step]
    plan: Plan
    bus: EventBus
    timings: Timings | None
    workers: int
    cancel: threading.Event
    grace: float
    clock: Callable[[], float]
    running: dict[str, _Running] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failed: list[StepFailed] = field(default_factory=list)
    ended: queue.SimpleQueue[_Ended] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def work(self) -> None:
        """Starts steps and collects their results until no step runs any more."""
        self._forecast()
        while True:
            self._start_ready()
            if not self.running:
                return
            if self.cancel.is_set():
                self.wind_down()
                return
            self._collect()

    def _finished_ids(self) -> set[str]:
        return {id for id, outcome in self.outcomes.items() if outcome in ("done", "already")}

    def _start_ready(self) -> None:
        if self.failed or self.cancel.is_set():
            return
        ready = self.plan.ready(self._finished_ids(), {*self.outcomes, *self.running})
        for id in ready[: self.workers - len(self.running)]:
            step = self.steps[id]
            context = StepContext(step.id, step.node, bus=self.bus, cancel=self.cancel)
            # Daemon threads, which ThreadPoolExecutor does not have: after Ctrl-C the process
            # must be able to exit while a step is blocked in a read.
            thread = threading.Thread(
                target=self._in_thread, args=(step, context), name=step.id, daemon=True
            )
            self.running[step.id] = _Running(context, self.clock(), thread)
            self.bus.emit(StepStarted(step.id, step.title, step.node))
            thread.start()

    def _in_thread(self, step: Step, context: StepContext) -> None:
        try:
            if self._is_done(step):
                ended = _Ended(step, "already")
            elif context.cancelled():
                ended = _Ended(step, "skipped")
            else:
                step.run(context)
                ended = _Ended(step, "done")
        except BaseException as error:
            # BaseException, because the run would wait for ever for a thread that ended without
            # a result. After a cancel anything may fail, for Ctrl-C also stops the child
            # processes: that is not shown as a failure, and the next run does the step again.
            ended = _Ended(step, "skipped" if self.cancel.is_set() else "failed", error)
        self.ended.put(ended)

    def _is_done(self, step: Step) -> bool:
        if step.done is None:
            return False
        try:
            return bool(step.done())
        except Exception as error:
            message = tr("{title}: cannot tell whether it is done", title=step.title)
            self.bus.emit(Note("warning", message + tr(": ") + _message(error)))
            return False

    def _collect(self) -> None:
        try:
            # A short timeout, to notice soon when another thread sets `cancel`.
            ended = self.ended.get(timeout=0.1)
        except queue.Empty:
            return
        step, outcome, error = ended.step, ended.outcome, ended.error
        seconds = self.clock() - self.running[step.id].since
        # A step that ended after a cancel may have stopped early: its time is no estimate.
        if outcome == "done" and self.timings and not self.cancel.is_set():
            self.timings.record(step.id, seconds)
        finished = StepFinished(step.id, outcome, seconds)
        if outcome == "failed" and error is not None:
            failure = StepFailed(step, error)
            self.failed.append(failure)
            log = str(failure.log) if failure.log else None
            hint = failure.hint or None
            finished = StepFinished(step.id, outcome, seconds, failure.message, hint, log)
        elif outcome == "skipped":
            finished = StepFinished(step.id, outcome, seconds, tr("interrupted"))
        self._finish(finished)
        self._forecast()

    def _finish(self, event: StepFinished) -> None:
        if running := self.running.pop(event.id, None):
            running.context.close()
        self.outcomes[event.id] = event.outcome
        self.bus.emit(event)

    def _forecast(self) -> None:
        now = self.clock()
        running = {id: now - step.since for id, step in self.running.items()}
        remaining = None if self.failed else self.plan.remaining(self._finished_ids(), running)
        self.bus.emit(RunForecast(remaining))

    def wind_down(self) -> None:
        """Waits up to `grace` seconds for running steps to stop."""
        if self.running:
            seconds = f"{self.grace:g}"
            message = tr("stopping; running steps have {seconds} s to end", seconds=seconds)
            self.bus.emit(Note("info", message))
        until = time.monotonic() + self.grace
        while self.running and time.monotonic() < until:
            threads = [step.thread for step in self.running.values()]
            if not any(thread.is_alive() for thread in threads) and self.ended.empty():
                return
            self._collect()

    def close(self) -> RunResult:
        """Reports steps that did not start or did not end, saves the timings, ends the run."""
        for id, running in list(self.running.items()):
            seconds = self.clock() - running.since
            self._finish(StepFinished(id, "skipped", seconds, tr("interrupted")))
        for id in self.steps:
            if id not in self.outcomes:
                self._finish(StepFinished(id, "skipped", 0.0, tr("not started")))
        if self.timings:
            try:
                self.timings.save()
            except (OSError, LabError) as error:
                self.bus.emit(Note("warning", tr("timings not saved: {error}", error=error)))
        by_outcome = {
            wanted: tuple(id for id, outcome in self.outcomes.items() if outcome == wanted)
            for wanted in ("done", "already", "skipped")
        }
        seconds = self.clock() - self.began
        skipped = tuple(id for id in self.steps if id in by_outcome["skipped"])
        result = RunResult(
            by_outcome["done"],
            by_outcome["already"],
            tuple(self.failed),
            skipped,
            seconds,
            self.cancel.is_set(),
        )
        self.bus.emit(RunFinished(result.ok, seconds))
        return result
