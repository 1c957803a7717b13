"""`labctl fault`: what is known and injected, put in, taken out; the judge of secret ones."""

import random
from dataclasses import dataclass

from labctl.actions.held import held
from labctl.errors import LabError
from labctl.faults import keeper
from labctl.faults.catalogue import RANDOM, faults_of, find_fault
from labctl.faults.records import Record, read_records
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.snapshots.health import health_step


@dataclass(frozen=True)
class KnownFault:
    """A fault of the catalogue, as it is for this lab."""

    id: str
    effect: str
    """What it does."""
    symptoms: str
    """What a learner sees."""
    remedy: str
    """How it is mended by hand."""
    nodes: tuple[str, ...]
    """On which nodes it can be; the first is chosen where none is named."""
    exercise: bool
    """Whether `random` may choose it."""
    refusal: str | None
    """Why this lab cannot have it; null: it can, or there is no lab yet."""


@dataclass(frozen=True)
class InjectedFault:
    """A fault that was put into the lab."""

    fault: str
    node: str
    at: float
    """When, in seconds since the epoch."""
    secret: bool
    complete: bool
    """false: labctl was killed while it was put in, so half of it may be there."""
    present: bool | None
    """Whether it is there now; somebody may have mended it. null: it cannot be found out."""


@dataclass(frozen=True)
class Faults:
    """What `fault list`, `fault inject` and `fault clear` print with `--json`."""

    known: tuple[KnownFault, ...]
    """Those that the stack of this lab has."""
    injected: tuple[InjectedFault, ...]
    """Those in the lab, but for secret ones; the oldest first."""
    secret: int
    """How many more there are, which are secret."""
    cleared: tuple[InjectedFault, ...] = ()
    """Those that this command has taken back, secret ones too; `present` is from before."""


def faults(lab: Lab, cleared: tuple[InjectedFault, ...] = ()) -> Faults:
    """What is known, and what is in the lab. Needs no lock. Raises LabError."""
    exists = lab.state.exists
    known = []
    for fault in faults_of(lab):
        nodes = fault.nodes(lab.topology)
        known.append(
            KnownFault(
                fault.id,
                fault.text(fault.effect),
                fault.text(fault.symptoms),
                fault.text(fault.remedy),
                tuple(node.name for node in nodes),
                fault.exercise,
                (fault.mechanism.refusal(lab, nodes[0]) or None) if exists else None,
            )
        )
    records = read_records(lab.state) if exists else []
    shown = [record for record in records if not record.secret]
    return Faults(tuple(known), _injected(lab, shown), len(records) - len(shown), cleared)


def inject(
    lab: Lab, name: str, node: str = "", *, secret: bool = False, dice: random.Random | None = None
) -> Faults:
    """Put a fault into the lab, or with the name `random` any that `check` tells.

    `dice` decides which. Raises LabError.
    """
    lab.require_finished()
    if name != RANDOM:
        find_fault(name)  # a slip of the pen is told at once
    with held(lab, "fault inject"):
        if name == RANDOM:
            keeper.inject_random(lab, dice or random.SystemRandom(), node, secret=secret)
        else:
            keeper.inject(lab, name, node, secret=secret)
        return faults(lab)


def clear(lab: Lab) -> Faults:
    """Take back all faults, and wait until the lab is whole, where all of it runs.

    Raises LabError naming what could not be taken back, or what is wrong besides.
    """
    lab.require_finished()
    with held(lab, "fault clear"):
        before = _injected(lab, read_records(lab.state))
        keeper.clear(lab)
        if before and all(lab.running()):
            result = lab.run(tr("after the faults"), [health_step(lab, ())])
            if result.failed:
                why = result.failed[0].message
                raise LabError(
                    tr("the faults are taken back, and the lab is not whole: {why}", why=why),
                    hint=tr("`labctl reset` puts the whole lab back"),
                )
            result.raise_if_failed()
        return faults(lab, before)


def refuse_injected(lab: Lab) -> None:
    """Raises LabError while faults are in the lab, which a snapshot would keep."""
    if read_records(lab.state):
        raise LabError(
            tr("a fault is injected into this lab, and would be saved with it"),
            hint=tr("take it back first: `labctl fault clear`"),
        )


def judge_secret(lab: Lab) -> None:
    """Tell which secret faults were mended meanwhile, and whether some are left.

    What a mended one has left behind is taken away. The caller holds the lock.
    """
    secret = [record for record in read_records(lab.state) if record.secret]
    mended = [record for record, there in keeper.with_presence(lab, secret) if there is False]
    for record in keeper.clear(lab, mended):
        lab.note("info", tr("mended: {fault}", fault=f"{record.fault} ({record.node})"))
    if len(mended) < len(secret):
        lab.note("warning", tr("a secret fault is still in the lab"))


def _injected(lab: Lab, records: list[Record]) -> tuple[InjectedFault, ...]:
    return tuple(
        InjectedFault(record.fault, record.node, record.at, record.secret, record.complete, there)
        for record, there in keeper.with_presence(lab, records)
    )
