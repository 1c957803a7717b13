"""How a class is: for each learner the machine's state, its address, and whether SSH answers."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from typing_extensions import TypedDict

from labctl.classroom.ends import end_of, has_ended
from labctl.classroom.engine import Engine, Machine, State
from labctl.classroom.labels import end_text
from labctl.classroom.model import ClassSpec

_PATIENCE = 2.0
"""Seconds for a connection."""
_AT_A_TIME = 64


class LearnerStatus(TypedDict):
    """One learner of the class."""

    learner: str
    state: State
    """Of the machine; absent: there is none."""
    address: str
    """Where it is reached; empty if it has no address."""
    ssh: bool
    """Whether its SSH port at the address answers from here with the greeting of an SSH server."""
    reason: str
    """Why the machine failed, in the engine's words."""


class ClassStatus(TypedDict):
    """What `class status --json` prints."""

    name: str
    engine: str
    ends: str | None
    """When it ends, by the labels of its machines, or by class.yaml without one: ISO 8601 with its
    zone; null: it has no end."""
    ended: bool
    """Whether that is over."""
    learners: list[LearnerStatus]
    others: list[str]
    """Machines with the label of the class whose learner is not in class.yaml."""


def collect(spec: ClassSpec, engine: Engine) -> ClassStatus:
    """The state of every learner's machine: two calls to the engine, then one look at each."""
    machines = engine.machines()
    end = end_of(spec, machines)
    by_learner = {machine.learner: machine for machine in machines}
    rows = [by_learner.get(learner) or Machine("", learner, "absent") for learner in spec.learners]
    answers = _answers(rows)
    return {
        "name": spec.name,
        "engine": spec.engine,
        "ends": end_text(end) if end else None,
        "ended": has_ended(end, datetime.now(UTC)),
        "learners": [
            {
                "learner": machine.learner,
                "state": machine.state,
                "address": machine.address,
                "ssh": answer,
                "reason": machine.reason,
            }
            for machine, answer in zip(rows, answers, strict=True)
        ],
        "others": sorted({machine.learner for machine in machines} - set(spec.learners)),
    }


def _answers(machines: Sequence[Machine]) -> list[bool]:
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(_greets, machines))


def _greets(machine: Machine) -> bool:
    if not machine.address:
        return False
    place = (machine.address, machine.port)
    with suppress(OSError), socket.create_connection(place, _PATIENCE) as connection:
        return connection.recv(4) == b"SSH-"
    return False
