"""Faults that `labctl prove` puts into a lab and takes out again: what is wrong with how a lesson
names them, and the keeper of the one that is in the lab.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Row
from labctl.access.ovsdb_edit import Change, make, plan_delete, plan_set, take_back
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.lessons.matching import OPERATORS, matches
from labctl.lessons.model import Fault, Lesson
from labctl.lessons.progress import expected_claims
from labctl.lessons.templates import fill_all
from labctl.spec.problems import KeyPath, Problem, did_you_mean, quoted
from labctl.spec.source import YamlSource
from labctl.state import LabState

_SYNC = 20
"""Seconds for all chassis to take over a change; one that is stopped does not."""


# -- what is wrong with a lesson's faults ----------------------------------------------------------
def fault_problems(lesson: Lesson, source: YamlSource) -> Iterator[Problem]:
    """Faults that say too little or too much, or name what is not there."""
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    seen: set[str] = set()
    for index, fault in enumerate(lesson.faults):
        path: KeyPath = ("faults", index)
        if fault.id in seen:
            yield source.problem((*path, "id"), tr("another fault has this id"))
        seen.add(fault.id)
        if sum((bool(fault.change), fault.delete, bool(fault.stop))) != 1:
            yield source.problem(path, tr("must have one of set, delete and stop"))
        elif bool(fault.stop) == bool(fault.table):
            missing = "node" if fault.stop else "table"
            yield source.problem((*path, missing), tr("is missing"))
        elif fault.stop and not fault.node:
            yield source.problem((*path, "node"), tr("is missing"))
        for column, expected in fault.where.items():
            for name in expected if isinstance(expected, dict) else ():
                if name not in OPERATORS:
                    yield source.problem((*path, "where", column, name), tr("unknown operator"))
        if fault.after and fault.after not in ids:
            message = tr("{name} is not the id of a checkpoint", name=quoted(fault.after))
            yield source.problem((*path, "after"), message, _suggestion(fault.after, ids))
            continue
        known = claims_under(lesson, fault) if ids else []
        for part in ("fails", "either"):
            for number, claim in enumerate(getattr(fault, part)):
                if claim not in known:
                    message = tr("no claim {name} is asked at this point", name=quoted(claim))
                    fix = _suggestion(claim, known)
                    yield source.problem((*path, part, number), message, fix)


def claims_under(lesson: Lesson, fault: Fault) -> list[str]:
    """Ids of the claims that are asked while the fault is in the lab."""
    ids = [checkpoint.id for checkpoint in lesson.checkpoints]
    upto = ids.index(fault.after) if fault.after in ids else len(ids) - 1
    return [claim.id for _, claims in expected_claims(lesson, upto) for claim in claims]


def _suggestion(word: str, known: list[str]) -> str:
    meant = did_you_mean(word, known)
    if meant:
        return tr("did you mean {meant}?", meant=meant)
    return tr("known are {names}", names=tr_list(known))


# -- the fault that is in the lab ------------------------------------------------------------------
@dataclass(frozen=True)
class _Note:
    """What takes the fault back, as it is on disk while the fault may be in the lab."""

    lesson: str
    fault: str
    node: str
    unit: str = ""
    change: Mapping[str, Any] | None = None


class FaultKeeper:
    """Puts one fault into the lab and takes it back, also when labctl was killed in between.

    It may be used from two threads: after Ctrl-C the one that works may still be at it.
    """

    def __init__(self, state: LabState, guest: Callable[[str], Guest]) -> None:
        """`guest` finds a node's handle by the node's name."""
        self._state = state
        self._guest_of = guest
        self._lock = Lock()
        self._closed = False

    def inject(self, lesson: Lesson, fault: Fault, node: str, values: Mapping[str, Any]) -> None:
        """Put a fault into the lab. Raises LabError when there is nothing to break.

        `node` has the database or the service; `values` are those of templates.
        """
        with self._lock:
            if self._closed:
                return
            guest = self._guest_of(node)
            if fault.stop:
                if not _is_active(guest, fault.stop):
                    raise LabError(tr("{unit} does not run on {node}", unit=fault.stop, node=node))
                self._write(_Note(lesson.id, fault.id, node, unit=fault.stop))
                guest.run(["systemctl", "stop", fault.stop], timeout=60)
                return
            where = fill_all(fault.where, values)

            def wanted(row: Row) -> bool:
                return all(matches(row.get(name), value) for name, value in where.items())

            database = "Open_vSwitch" if fault.node else "OVN_Northbound"
            if fault.delete:
                change = plan_delete(guest, database, fault.table, wanted)
            else:
                new = fill_all(fault.change, values)
                change = plan_set(guest, database, fault.table, wanted, new)
            if change is None:
                raise LabError(tr("no row of {table} is as the fault wants it", table=fault.table))
            self._write(_Note(lesson.id, fault.id, node, change=asdict(change)))
            make(guest, change)

    def take_back(self) -> str:
        """Take the fault back that is in the lab; its id, "" if there is none.

        Raises LabError when that cannot be done; it is then tried again by the next labctl.
        """
        with self._lock:
            data = self._state.read_json(self._state.fault)
            if data is None:
                return ""
            note = _Note(**data)
            guest = self._guest_of(note.node)
            try:
                if note.unit:
                    guest.run(["systemctl", "start", note.unit], timeout=90)
                elif note.change is not None:
                    take_back(guest, Change(**note.change))
            except LabError as error:
                raise LabError(
                    tr("the fault {fault} cannot be taken back on {node}: {why}",
                       fault=note.fault, node=note.node, why=error.message),
                    hint=tr("`labctl reset` puts the whole lab back"),
                ) from error  # fmt: skip
            self._state.fault.unlink(missing_ok=True)
            return note.fault

    def close(self) -> None:
        """Take back what is in the lab, and put nothing in any more. Raises LabError."""
        self._closed = True
        self.take_back()

    def _write(self, note: _Note) -> None:
        self._state.write_json(self._state.fault, asdict(note))


def sync(controller: Guest) -> None:
    """Wait until all chassis have taken over the last change, as far as they run."""
    controller.run(
        ["ovn-nbctl", f"--timeout={_SYNC}", "--wait=hv", "sync"], timeout=60, check=False
    )


def _is_active(guest: Guest, unit: str) -> bool:
    return guest.run(["systemctl", "is-active", "--quiet", unit], check=False).ok
