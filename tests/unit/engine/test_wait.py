"""The only wait: what it asks, how long, and what it says when the time is up."""

from collections.abc import Callable, Iterator

import pytest

from labctl.engine.wait import NotYet, WaitTimeout, wait_until
from labctl.errors import Cancelled, LabError


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answers(*sequence: object) -> Callable[[], object]:
    """A probe that gives these answers in turn; exceptions are raised."""
    rest: Iterator[object] = iter(sequence)

    def probe() -> object:
        answer = next(rest)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return probe


def test_returns_the_first_true_answer_at_once() -> None:
    clock = Clock()
    found = wait_until("x", lambda: [7], deadline=5, hint="", clock=clock, sleep=clock.sleep)
    assert found == [7]
    assert clock.slept == []


def test_asks_again_after_falsy_answers_and_listed_exceptions() -> None:
    clock = Clock()
    probe = answers(None, False, 0, "", ConnectionRefusedError("no"), NotYet("BUILD"), "up")
    found = wait_until(
        "x",
        probe,
        deadline=60,
        hint="",
        interval=2,
        transient=(OSError,),
        clock=clock,
        sleep=clock.sleep,
    )
    assert found == "up"
    assert clock.slept == [2] * 6


def test_other_exceptions_are_the_callers() -> None:
    probe = answers(KeyError("port"))
    with pytest.raises(KeyError):
        wait_until("x", probe, deadline=60, hint="", transient=(OSError,))


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (None, "nothing"),
        (False, "False"),
        ([], "[]"),
        (NotYet("state is BUILD"), "state is BUILD"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_expiry_says_what_for_how_long_and_what_was_seen(answer: object, last: str) -> None:
    clock = Clock()
    with pytest.raises(WaitTimeout) as raised:
        wait_until(
            "vm_1 is active",
            answers(*[answer] * 10),
            deadline=2.5,
            hint="see nova-compute.log",
            interval=1,
            transient=(OSError,),
            clock=clock,
            sleep=clock.sleep,
        )
    error = raised.value
    assert (error.description, error.seconds, error.last) == ("vm_1 is active", 2.5, last)
    assert error.message == f"waited 2.5 s for: vm_1 is active; last seen: {last}"
    assert str(error) == f"{error.message}\nhint: see nova-compute.log"
    assert isinstance(error, LabError)
    assert error.hint == "see nova-compute.log"
    # The last look is at the deadline, neither before nor after it.
    assert clock.slept == [1, 1, 0.5]
    assert error.__cause__ is (answer if isinstance(answer, Exception) else None)


def test_without_hint_there_is_no_empty_line() -> None:
    assert str(WaitTimeout("x", 1, "y", "")) == "waited 1 s for: x; last seen: y"


def test_the_probe_is_asked_once_even_without_time() -> None:
    assert wait_until("x", lambda: "there", deadline=0, hint="") == "there"
    with pytest.raises(WaitTimeout):
        wait_until("x", lambda: None, deadline=0, hint="")


def test_a_slow_probe_overshoots_by_one_look_at_most() -> None:
    clock = Clock()
    asked = 0

    def slow() -> None:
        nonlocal asked
        asked += 1
        clock.now += 10

    with pytest.raises(WaitTimeout):
        wait_until("x", slow, deadline=15, hint="", clock=clock, sleep=clock.sleep)
    # At 0 s and at 10.3 s, and the last look, which was due at 15 s, at 20.6 s.
    assert asked == 3


def test_cancelling_ends_the_wait() -> None:
    clock = Clock()
    with pytest.raises(Cancelled, match="vm_1 is active"):
        wait_until(
            "vm_1 is active",
            lambda: None,
            deadline=1e9,
            hint="",
            clock=clock,
            sleep=clock.sleep,
            cancelled=lambda: clock.now > 110,
        )
    assert clock.now < 111
