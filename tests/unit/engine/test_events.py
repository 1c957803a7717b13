"""The bus: one order, and no subscriber can break the work."""

import json
import threading

import pytest

from labctl.engine.events import (
    Event,
    EventBus,
    Note,
    OutputLine,
    PlannedStep,
    RunFinished,
    RunForecast,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            RunStarted("Create", (PlannedStep("db", "MariaDB", 3.5), PlannedStep("x", "X"))),
            {
                "event": "run_started",
                "title": "Create",
                "steps": [
                    {"id": "db", "title": "MariaDB", "estimate_s": 3.5},
                    {"id": "x", "title": "X", "estimate_s": None},
                ],
            },
        ),
        (RunForecast(None), {"event": "run_forecast", "remaining_s": None}),
        (
            StepStarted("db", "MariaDB", "n1"),
            {"event": "step_started", "id": "db", "title": "MariaDB", "node": "n1"},
        ),
        (
            StepProgress("db", "50 %"),
            {"event": "step_progress", "id": "db", "message": "50 %"},
        ),
        (
            StepFinished("db", "failed", 1.5, "no", "try", "a.log"),
            {
                "event": "step_finished",
                "id": "db",
                "outcome": "failed",
                "seconds": 1.5,
                "detail": "no",
                "hint": "try",
                "log": "a.log",
            },
        ),
        (RunFinished(True, 2.0), {"event": "run_finished", "ok": True, "seconds": 2.0}),
        (Note("info", "hi"), {"event": "note", "level": "info", "message": "hi"}),
        (
            OutputLine("db", None, "stderr", "\x1b[1mx"),
            {
                "event": "output_line",
                "step_id": "db",
                "node": None,
                "stream": "stderr",
                "text": "\x1b[1mx",
            },
        ),
    ],
)
def test_every_event_is_one_line_of_json(event: Event, expected: object) -> None:
    assert event.to_json() == expected
    assert json.loads(json.dumps(event.to_json())) == expected


def test_unsubscribing_ends_delivery() -> None:
    seen: list[Event] = []
    bus = EventBus()
    leave = bus.subscribe(seen.append)
    bus.emit(Note("info", "1"))
    leave()
    leave()
    bus.emit(Note("info", "2"))
    assert seen == [Note("info", "1")]


def test_a_failing_subscriber_is_noted_once_and_keeps_its_subscription() -> None:
    calls: list[Event] = []
    seen: list[Event] = []

    def full_disk(event: Event) -> None:
        calls.append(event)
        raise OSError("no space left")

    bus = EventBus()
    bus.subscribe(full_disk)
    bus.subscribe(seen.append)
    for number in range(3):
        bus.emit(Note("info", str(number)))

    warning = Note("warning", "full_disk missed an event: OSError: no space left")
    assert seen == [Note("info", "0"), warning, Note("info", "1"), Note("info", "2")]
    assert calls == seen


def test_ctrl_c_in_a_subscriber_gets_through_and_the_bus_still_works() -> None:
    seen: list[Event] = []
    bus = EventBus()

    def interrupted(event: Event) -> None:
        if event == Note("info", "1"):
            raise KeyboardInterrupt

    bus.subscribe(interrupted)
    bus.subscribe(seen.append)
    with pytest.raises(KeyboardInterrupt):
        bus.emit(Note("info", "1"))
    bus.emit(Note("info", "2"))
    assert seen == [Note("info", "2")]


def test_what_a_subscriber_emits_comes_after_the_event_it_answers() -> None:
    bus = EventBus()
    seen: list[Event] = []

    def echo(event: Event) -> None:
        if event == Note("info", "call"):
            bus.emit(Note("info", "answer"))

    bus.subscribe(echo)
    bus.subscribe(seen.append)
    bus.emit(Note("info", "call"))
    assert seen == [Note("info", "call"), Note("info", "answer")]


def test_threads_never_enter_a_subscriber_together() -> None:
    bus = EventBus()
    inside = threading.Lock()
    orders: tuple[list[Event], list[Event]] = ([], [])

    def alone(event: Event) -> None:
        assert inside.acquire(blocking=False), "two threads at once"
        orders[0].append(event)
        inside.release()

    bus.subscribe(alone)
    bus.subscribe(orders[1].append)

    def shout(name: str) -> None:
        for number in range(200):
            bus.emit(StepProgress(name, str(number)))

    threads = [threading.Thread(target=shout, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(orders[0]) == 800
    assert orders[0] == orders[1]
