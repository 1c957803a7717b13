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
Level: TypeAlias = Literal["info", "warning", "error"]
Stream: TypeAlias = Literal["stdout", "stderr"]


class _Event:
    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """This event as one line of `events.jsonl`: its fields, and its name as `event`.

        There is no time in it: whoever writes the file stamps the line.
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
    title: str
    steps: tuple[PlannedStep, ...]

    def to_json(self) -> dict[str, Any]:
        """As any event; each step becomes an object."""
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
    id: str
    title: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class StepProgress(_Event):
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
    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Note(_Event):
    """Something worth a line that belongs to no step."""

    level: Level
    message: str


@dataclass(frozen=True, slots=True)
class OutputLine(_Event):
    """One line a command of a step wrote, without its newline and as it came: unsanitized."""

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
    """Hands every event to every subscriber, in one order, one at a time.

    Threads may emit at once; a subscriber needs no lock of its own. A subscriber
    may emit as well: that event is delivered after the one being delivered.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._complained: set[int] = set()
        self._pending: deque[Event] = deque()
        self._delivering = False

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Sends `subscriber` all events from now on; returns what ends that."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)
                    self._complained.discard(id(subscriber))

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Delivers `event` before it returns. Never raises for a subscriber's `Exception`.

        A subscriber that raises keeps its subscription (a full disk may be emptied),
        and its first failure is told to the others as a warning.
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
                if id(subscriber) not in self._complained:
                    self._complained.add(id(subscriber))
                    name = getattr(subscriber, "__name__", type(subscriber).__name__)
                    cause = f"{type(error).__name__}: {error}"
                    self._pending.append(Note("warning", f"{name} missed an event: {cause}"))
