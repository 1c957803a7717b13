"""Waiting for a lock that another labctl holds."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from labctl.engine.wait import NotYet, wait_until
from labctl.i18n import tr
from labctl.operating_system import locks


@contextmanager
def hold_when_free(
    description: str,
    path: Path,
    open_text: Callable[[Path], TextIO],
    *,
    deadline: float,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Hold the lock of the file `path`, as soon as no other process holds it.

    `description` completes "waited for: …"; `on_wait` is called once if there is something to wait
    for. Raises WaitTimeout after `deadline` seconds, Cancelled, and what `open_text` raises.
    """
    with ExitStack() as held:

        def take() -> bool:
            try:
                who = tr("process {pid}", pid=os.getpid())
                held.enter_context(locks.holding(path, who, open_text))
            except locks.HeldError as other:
                raise NotYet(str(other)) from None
            except locks.GoneError:
                return False  # the next attempt makes the file anew
            return True

        holder = "?"
        try:
            free = take()
        except NotYet as other:
            free, holder = False, str(other)
            on_wait()
        if not free:
            hint = tr(
                "{holder} holds it: wait for it or stop it, then run the same command again",
                holder=holder,
            )
            wait_until(
                description,
                take,
                deadline=deadline,
                hint=hint,
                interval=0.05,
                cancelled=cancelled,
            )
        yield
