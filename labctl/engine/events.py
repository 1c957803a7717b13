"""What happens while labctl works, as data.

Work code emits events and never prints. The console, the log under `.labctl/`
and the report subscribe. Every duration is in seconds.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

Outcome: TypeAlias = Literal["done", "already", "failed", "skipped"]
NoteLevel: TypeAlias = Literal["info", "warning", "error"]
Stream: TypeAlias = Literal["stdout", "stderr"]


class _Event:
    """What all events have in common."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """This event as one line of `events.jsonl`: its fields, and its name as `event`.

        It holds no time: the subscriber that writes the file adds it.
        """
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return {"event": name, **asdict(self)}  # type: ignore[call-overload]


class PlannedStep(NamedTuple):
    """One step a run intends to take; `estimate_s` is None if it was never timed."""

    id: str
    title: str
    estimate_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunStarted(_Event):
    """The start of a run, with every step it intends to take."""

    title: str
    steps: tuple[PlannedStep, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as for any event, but each step becomes an object."""
        return {
            "event": "run_started",
            "title": self.title,
            "steps": [step._asdict() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class RunForecast(_Event):
    """How long the rest of the run should take; None as long as nothing was ever timed."""

    remaining_s: float | None


@dataclass(frozen=True, slots=True)
class StepStarted(_Event):
    """The start of a step; `node` is the lab's node it works on, None for the host."""

    id: str
    title: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class StepProgress(_Event):
    """What a running step does now, in a few words."""

    id: str
    message: str


@dataclass(frozen=True, slots=True)
class StepFinished(_Event):
    """The end of a step; also sent for steps that never started (`skipped`).

    `detail` says why it failed or was skipped. `hint` and `log` come with a failure.
    """

    id: str
    outcome: Outcome
    seconds: float
    detail: str | None = None
    hint: str | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class RunFinished(_Event):
    """The end of a run; `ok` if every step is done, now or before."""

    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Note(_Event):
    """A message that belongs to no step."""

    level: NoteLevel
    message: str


@dataclass(frozen=True, slots=True)
class OutputLine(_Event):
    """One line that a command of a step wrote, without its newline. It is not sanitized."""

    step_id: str
    node: str | None
    stream: Stream
    text: str


Event: TypeAlias = (
    RunStarted
    | RunForecast
    | StepStarted
    | StepProgress
    | StepFinished
    | RunFinished
    | Note
    | OutputLine
)
Subscriber: TypeAlias = Callable[[Event], None]


class EventBus:
    """Delivers every event to every subscriber, one at a time, in the same order for all.

    Several threads may emit at the same time; a subscriber needs no lock of its own. A
    subscriber may emit too: its event is delivered after the current one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._reported: set[int] = set()
        self._pending: deque[Event] = deque()
        self._delivering = False

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Sends `subscriber` all events from now on. Returns a function that unsubscribes it."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)
                    self._reported.discard(id(subscriber))

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Delivers `event` before it returns. An `Exception` of a subscriber is not raised here.

        A subscriber that raises stays subscribed, for the cause may go away (a full disk). Its
        first exception is sent to all subscribers as a warning.
        """
        with self._lock:
            self._pending.append(event)
            if self._delivering:
                return
            self._delivering = True
            try:
                while self._pending:
                    self._deliver(self._pending.popleft())
            finally:
                self._delivering = False

    def _deliver(self, event: Event) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception as error:
                if id(subscriber) not in self._reported:
                    self._reported.add(id(subscriber))
                    name = getattr(subscriber, "__name__", type(subscriber).__name__)
                    cause = f"{type(error).__name__}: {error}"
                    self._pending.append(Note("warning", f"{name} missed an event: {cause}"))
