"""For every verb that changes a lab: the lock, the event log, recovery after a killed labctl."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.engine.events import Event
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.lessons.faults import FaultKeeper
from labctl.own_directory import open_text
from labctl.snapshots.recover import recover


@contextmanager
def held(lab: Lab, verb: str, *, new: bool = False) -> Iterator[None]:
    """Lock the lab while the body runs, and write every event to the lab's event log.

    What a killed labctl left half done is first finished or undone. Raises LabError when another
    labctl has the lock; and, unless the verb may make a `new` one, when there is no lab.
    """
    state = lab.state
    if not new:
        lab.require_created()  # before the lock, whose file would make a `.labctl` here
    with state.locked(verb):
        state.logs.mkdir(parents=True, exist_ok=True)
        with open_text(state.events, "a") as sink:

            def record(event: Event) -> None:
                sink.write(json.dumps({"at": time.time(), **event.to_json()}) + "\n")
                sink.flush()

            unsubscribe = lab.bus.subscribe(record)
            try:
                lab.refuse_half_destroyed()
                _refuse_half_renewed(lab, verb)
                if state.exists:
                    recover(lab, start=verb != "halt")
                    _take_back_fault(lab)
                yield
            finally:
                unsubscribe()


def _refuse_half_renewed(lab: Lab, verb: str) -> None:
    """Raise LabError where `renew` has begun: disks and state may hold different passwords.

    In a lab that is not finished `create` has begun it, of a template.
    """
    if not lab.state.renewal.exists():
        return
    finisher = "renew" if lab.state.created.exists() else "create"
    if verb != finisher:
        raise LabError(
            tr("this lab is getting new passwords and keys, and has not all of them yet"),
            hint=tr("`{command}` finishes it", command=f"labctl {finisher}"),
        )


def _take_back_fault(lab: Lab) -> None:
    """Take back what a `labctl prove` that was killed has broken; later, where nothing runs."""
    if not lab.state.fault.exists():
        return
    try:
        fault = FaultKeeper(lab.state, lab.guest).take_back()
    except LabError as error:
        lab.note("warning", error.message)
    else:
        lab.note("info", tr("taken back what `labctl prove` had broken: {fault}", fault=fault))
