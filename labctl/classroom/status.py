"""How a class is: each learner's machine, whether SSH answers there, and how they get on."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from typing_extensions import TypedDict

from labctl.classroom.ends import end_of, has_ended
from labctl.classroom.engine import Engine, Machine, State
from labctl.classroom.labels import end_text
from labctl.classroom.model import ClassSpec
from labctl.classroom.pace import Pace, pace
from labctl.classroom.remote import AT_A_TIME, Ask

_PATIENCE = 2.0
"""Seconds for a connection."""


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
    pace: Pace | None
    """How the learner gets on in the lab; null: not known."""
    silent: str
    """Why that is not known; empty if it is, or if the machine does not answer."""


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


def collect(
    spec: ClassSpec, engine: Engine, ask: Ask | None = None, stuck_after: float = 900
) -> ClassStatus:
    """The state of every learner's machine and lab: two calls to the engine, one command on each.

    Without `ask` no lab is asked. `stuck_after` is in seconds.
    """
    machines = engine.machines()
    end = end_of(spec, machines)
    by_learner = {machine.learner: machine for machine in machines}
    rows = [by_learner.get(learner) or Machine("", learner, "absent") for learner in spec.learners]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = list(pool.map(greets, rows))
        paces = list(pool.map(
            lambda machine, greets: _pace(machine, ask if greets else None, stuck_after),
            rows, answers,
        ))  # fmt: skip
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
                "pace": how,
                "silent": silent,
            }
            for machine, answer, (how, silent) in zip(rows, answers, paces, strict=True)
        ],
        "others": sorted({machine.learner for machine in machines} - set(spec.learners)),
    }


def _pace(machine: Machine, ask: Ask | None, stuck_after: float) -> tuple[Pace | None, str]:
    if ask is None or machine.state != "running":
        return None, ""
    return pace(machine, ask, stuck_after)


def greets(machine: Machine) -> bool:
    """Whether an SSH server greets at the address of a machine."""
    if not machine.address:
        return False
    place = (machine.address, machine.port)
    with suppress(OSError), socket.create_connection(place, _PATIENCE) as connection:
        return connection.recv(4) == b"SSH-"
    return False
