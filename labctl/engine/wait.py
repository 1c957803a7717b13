"""The only wait in labctl: call a probe again and again until it succeeds or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import Cancelled, LabError
from labctl.i18n import tr

T = TypeVar("T")


class NotYet(Exception):  # noqa: N818 - a state, not a mistake
    """Raised by a probe: not true yet. The message says what it saw instead."""


class WaitTimeout(LabError):  # noqa: N818 - a state, not a mistake
    """The probe did not succeed before the deadline.

    `message` says what was awaited and what was seen last; `str()` adds the hint.
    """

    def __init__(self, description: str, seconds: float, last: str, hint: str) -> None:
        self.description = description
        self.seconds = seconds
        self.last = last
        message = tr(
            "waited {seconds} s for: {description}; last seen: {last}",
            seconds=f"{seconds:g}",
            description=description,
            last=last,
        )
        super().__init__(message, hint=hint)

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        return f"{self.message}\n" + tr("hint") + tr(": ") + self.hint


def wait_until(
    description: str,
    probe: Callable[[], T | None],
    *,
    deadline: float,
    hint: str,
    interval: float = 0.3,
    transient: tuple[type[Exception], ...] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    cancelled: Callable[[], bool] | None = None,
) -> T:
    """Calls `probe` every `interval` seconds until it returns something true, and returns that.

    `description` completes "waited for: …", e.g. "Keystone answers on port 5000".
    After a falsy result, `NotYet` or an exception listed in `transient` the probe is called
    again; any other exception passes through. The probe is called at least once, and a last
    time when `deadline` seconds have passed. It must limit its own duration.

    Raises `WaitTimeout` when the deadline has passed, `Cancelled` as soon as
    `cancelled()` is true.
    """
    ask_again: tuple[type[Exception], ...] = (NotYet, *transient)
    began = clock()
    while True:
        if cancelled is not None and cancelled():
            raise Cancelled(description)
        # Computed before the call, so that the last call begins after the deadline.
        remaining = began + deadline - clock()
        cause: Exception | None = None
        try:
            answer = probe()
        except ask_again as error:
            cause = error
            last = str(error) or type(error).__name__
        else:
            if answer:
                return answer
            last = tr("nothing") if answer is None else repr(answer)
        if remaining <= 0:
            raise WaitTimeout(description, deadline, last, hint) from cause
        sleep(min(interval, remaining))
