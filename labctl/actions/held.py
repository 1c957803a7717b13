"""A lab that is being worked on: its lock, its event log, and what a killed labctl left."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.engine.events import Event
from labctl.lab import Lab
from labctl.own_directory import open_text
from labctl.snapshots.recover import recover


@contextmanager
def held(lab: Lab, verb: str) -> Iterator[None]:
    """Hold the lab for `verb`: nobody else changes it, and every event goes to its event log.

    What a killed labctl left undone is finished or taken back first. Raises LabError when another
    labctl holds it.
    """
    state = lab.state
    with state.locked(verb):
        state.logs.mkdir(parents=True, exist_ok=True)
        with open_text(state.events, "a") as sink:

            def record(event: Event) -> None:
                sink.write(json.dumps({"at": time.time(), **event.to_json()}) + "\n")
                sink.flush()

            unsubscribe = lab.bus.subscribe(record)
            try:
                if state.exists:
                    recover(lab, start=verb != "halt")
                yield
            finally:
                unsubscribe()
