"""One engine for the stages of `create` and the checkpoints of a lesson.

It runs what is missing, as parallel as needs and workers allow, and stops
scheduling at the first failure. What is done is asked of the node each time
(`Step.done`), never remembered here: a run killed at any point resumes by being
run again.
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
    """What the work of one step may say and ask; safe to use from any thread."""

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
        """Says in a few words what is going on now."""
        if not self._closed:
            self._bus.emit(StepProgress(self.id, message))

    def output(self, line: str, stream: Stream = "stdout") -> None:
        """Passes on one line that a command of this step wrote."""
        if not self._closed:
            self._bus.emit(OutputLine(self.id, self.node, stream, line.rstrip("\r\n")))

    def cancelled(self) -> bool:
        """Whether to stop as soon as possible.

        Long work asks often and then raises `Cancelled`: a step that returns counts as done.
        """
        return self._cancel.is_set()

    def close(self) -> None:
        """Mutes this context: its step has been reported as over."""
        self._closed = True


@dataclass(frozen=True)
class Step:
    """One unit of work, named by `id`, that can be run again without harm.

    `needs` are ids of steps that must be over, as done or already done, before it starts.
    `done` looks whether the work is there already; without it the step always runs. It is
    asked after the needs are over, also if one of them really ran: what the node says
    is the truth, and a step that its needs make stale has to see that in its `done`.
    If `done` raises, the step runs.
    `priority`: among ready steps the higher starts first; equals go by the longest
    path of estimates behind them.
    `log`: the file a reader should open if it fails, unless the exception has a `log`.
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
    """A step did not reach its end. `cause` is the exception that its work raised.

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
        return f"{self.title}: {self.message}"


def _message(cause: BaseException) -> str:
    # An exception with a hint was written for readers; any other needs its type to make
    # sense ("'port'" alone does not tell of a KeyError).
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
    """Runs `steps`, at most `workers` at a time, and returns what became of each.

    After a failure nothing more starts; steps that are running end on their own. When
    `cancel` is set (or on Ctrl-C, which sets it) nothing more starts either, and running
    steps have `grace` seconds to notice; they are reported as skipped.

    Raises ValueError for an impossible graph, KeyboardInterrupt after Ctrl-C. A step's
    exception is never raised here; see `RunResult.raise_if_failed`.
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
    step: Step
    outcome: Outcome
    error: BaseException | None = None


@dataclass
class _Running:
    context: StepContext
    since: float
    thread: threading.Thread


@dataclass
class _Run:
    """The state of one `run_steps`; only the thread that called it touches it."""

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
        self._forecast()
        while True:
            self._start_ready()
            if not self.running:
                return
            if self.cancel.is_set():
                self.wind_down()
                return
            self._collect()

    def _over(self) -> set[str]:
        return {id for id, outcome in self.outcomes.items() if outcome in ("done", "already")}

    def _start_ready(self) -> None:
        if self.failed or self.cancel.is_set():
            return
        ready = self.plan.ready(self._over(), {*self.outcomes, *self.running})
        for id in ready[: self.workers - len(self.running)]:
            step = self.steps[id]
            context = StepContext(step.id, step.node, bus=self.bus, cancel=self.cancel)
            # A daemon, and so no ThreadPoolExecutor: after Ctrl-C the process must be able to
            # end although a step hangs in a read.
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
            # All of them: a worker that dies unheard would keep the run waiting for ever.
            # After a cancel anything may break (Ctrl-C also hits the child processes), and the
            # next run will tell: that is no failure to show in red.
            ended = _Ended(step, "skipped" if self.cancel.is_set() else "failed", error)
        self.ended.put(ended)

    def _is_done(self, step: Step) -> bool:
        if step.done is None:
            return False
        try:
            return bool(step.done())
        except Exception as error:
            message = tr("{title}: cannot tell whether it is done", title=step.title)
            self.bus.emit(Note("warning", f"{message}: {_message(error)}"))
            return False

    def _collect(self) -> None:
        try:
            # Short, to notice a cancel that comes from elsewhere.
            ended = self.ended.get(timeout=0.1)
        except queue.Empty:
            return
        step, outcome, error = ended.step, ended.outcome, ended.error
        seconds = self.clock() - self.running[step.id].since
        # What ends after a cancel may have cut itself short.
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
        running = {id: now - each.since for id, each in self.running.items()}
        remaining = None if self.failed else self.plan.remaining(self._over(), running)
        self.bus.emit(RunForecast(remaining))

    def wind_down(self) -> None:
        """Gives running steps the time to stop, and gives up on those that do not."""
        if self.running:
            seconds = f"{self.grace:g}"
            text = tr("stopping; running steps have {seconds} s to end", seconds=seconds)
            self.bus.emit(Note("info", text))
        until = time.monotonic() + self.grace
        while self.running and time.monotonic() < until:
            threads = [each.thread for each in self.running.values()]
            if not any(thread.is_alive() for thread in threads) and self.ended.empty():
                return
            self._collect()

    def close(self) -> RunResult:
        """Reports what never started or never ended, keeps the timings, ends the run."""
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
        by = {
            outcome: tuple(id for id, its in self.outcomes.items() if its == outcome)
            for outcome in ("done", "already", "skipped")
        }
        seconds = self.clock() - self.began
        skipped = tuple(id for id in self.steps if id in by["skipped"])
        result = RunResult(
            by["done"], by["already"], tuple(self.failed), skipped, seconds, self.cancel.is_set()
        )
        self.bus.emit(RunFinished(result.ok, seconds))
        return result
