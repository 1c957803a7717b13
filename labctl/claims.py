"""Claims: one sentence each, and the look at the running lab that proves or refutes it."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.guest import Guest
from labctl.i18n import tr
from labctl.lesson import NODES, PROBES, Claim, Fact, Look, fill, fill_all, matches
from labctl.packets import Frame, sighting
from labctl.probes import Rows, Sight
from labctl.topology import Node, Topology
from labctl.waiting import WaitTimeout, wait_until

if TYPE_CHECKING:
    from openstack.connection import Connection


class ClaimFails(LabError):  # noqa: N818 - a finding, not a mistake
    """A claim does not hold."""

    def __init__(self, claims: "list[ClaimResult]") -> None:
        first = claims[0]
        super().__init__(
            tr(
                "claim {id}: {text}; expected {expected}; seen {seen}",
                id=first.id,
                text=first.text,
                expected=first.expected,
                seen=first.seen_text,
            ),
            code=EXIT_CLAIM,
        )
        self.claims = claims


@dataclass
class ClaimResult:
    """One claim with its evidence."""

    id: str
    text: str
    holds: bool
    probe: str
    expected: str
    seen: Rows
    seconds: float
    columns: tuple[str, ...] = ()
    """Of `seen`: those the claim speaks of."""

    @property
    def seen_text(self) -> str:
        """The evidence in one line: of each row what the claim speaks of (JSON has the rest)."""
        if self.probe == "wire.packets" and self.seen:
            # Alike but for their numbers and their time.
            alike = Counter(sighting(row) for row in self.seen)
            return " | ".join(f"{n} × {text}" if n > 1 else text for text, n in alike.items())
        rows = [{name: row.get(name) for name in self.columns} for row in self.seen]
        return describe(rows if self.columns else self.seen)


def describe(rows: Rows, limit: int = 3) -> str:
    """Rows in one line, for a person; alike ones once, with their number."""
    if not rows:
        return tr("nothing")
    alike = Counter(_one(row) for row in rows)
    shown = [f"{n} × {text}" if n > 1 else text for text, n in list(alike.items())[:limit]]
    more = [tr("… {count} rows in all", count=len(rows))] if len(alike) > limit else []
    return " | ".join(shown + more)


def _one(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={_short(value)}" for key, value in row.items() if value not in (None, "")
    )


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class Prover:
    """Proves claims on one lab, with the facts of one lesson."""

    def __init__(
        self,
        facts: Mapping[str, Fact],
        topology: Topology,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
    ) -> None:
        """`guest` finds a node's handle by the node's name; `cloud` connects the SDK."""
        self._facts = facts
        self._topology = topology
        self._guest_of = guest
        self._cloud = cloud

    def prove(
        self,
        claim: Claim,
        frames: list[Frame],
        cancelled: Callable[[], bool] | None = None,
    ) -> ClaimResult:
        """Look until the claim holds or its time is up."""
        began = time.monotonic()
        sight = self.sight(frames)
        last: Rows = []
        values: dict[str, Any] = {}
        # What was captured does not change by looking again.
        within = 0.0 if claim.probe == "wire.packets" else claim.within

        def holds() -> bool:
            nonlocal last, values
            values = self.values()
            last = self.look(claim, values, sight)
            count = _count(claim, values)
            enough = bool(last) if count is None else len(last) == count
            each = fill_all(claim.each, values)
            return enough and all(_row_matches(row, each) for row in last)

        try:
            wait_until(claim.id, holds, deadline=within, hint="", interval=0.4, cancelled=cancelled)
            held = True
        except WaitTimeout:
            held = False
        return ClaimResult(
            claim.id,
            fill(str(claim.text), values),
            held,
            claim.probe,
            _expected(claim, values),
            last,
            time.monotonic() - began,
            tuple(dict.fromkeys((*claim.where, *claim.each))),
        )

    def look(self, look: Look, values: Mapping[str, Any], sight: Sight) -> Rows:
        """The rows that a probe sees, as far as they match `where`."""
        if look.probe not in PROBES:
            raise LabError(f"a lesson asks an unknown probe: {look.probe}")
        rows = PROBES[look.probe](sight, fill_all(look.arguments, values))
        where = fill_all(look.where, values)
        return [row for row in rows if _row_matches(row, where)]

    # -- what templates see ----------------------------------------------------------------------
    def values(self) -> dict[str, Any]:
        """What a template can name: lab, instance, fact, node."""
        return {
            "lab": self._topology,
            "instance": self._topology.instances[0],
            "fact": _Facts(self),
            "node": _Nodes(self),
        }

    def fact(self, name: str, known: "_Facts") -> str:
        """A fact of the lesson, asked now; `-` when nothing is there to be seen."""
        fact = self._facts[name]
        rows = self.look(fact, {**self.values(), "fact": known}, self.sight())
        value = rows[0].get(fact.column) if rows else None
        return "-" if value is None else str(value)

    @property
    def facts(self) -> Iterable[str]:
        """The names of the lesson's facts."""
        return self._facts

    def sight(self, frames: "list[Frame] | tuple[Frame, ...]" = ()) -> Sight:
        """What probes look at; `frames` are those of the checkpoint's captures."""
        return Sight(self._topology, self._cloud, self.guest, frames)

    def guest(self, name: str) -> Guest:
        """A node's handle, by its name or alias."""
        return self._guest_of(self.node_name(name))

    def node_name(self, name: str) -> str:
        """The node that `controller`, `gateway`, `hypervisor` or a name stands for."""
        match name:
            case "controller":
                return self._topology.controller.name
            case "gateway":
                return self._topology.gateways[0].name
            case "hypervisor":
                wanted = self._topology.instances[0].name
                for row in PROBES["openstack.servers"](self.sight(), {}):
                    if row["name"] == wanted and row["host"]:
                        return str(row["host"])
                raise LabError(tr("no hypervisor runs {name}", name=wanted))
            case _:
                return name

    def node(self, name: str) -> Node:
        """The topology's node behind an alias, for templates."""
        return self._topology.node(self.node_name(name))


class _Facts:
    """`fact.NAME` in templates: asked of the lab when it is used, once for each evaluation."""

    def __init__(self, prover: Prover) -> None:
        self._prover = prover
        self._known: dict[str, str] = {}

    def __getattr__(self, name: str) -> str:
        if name not in self._prover.facts:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = "-"  # for a fact that is stated with itself
            self._known[name] = self._prover.fact(name, self)
        return self._known[name]


class _Nodes:
    """`node.controller`, `node.gateway`, `node.hypervisor` in templates."""

    def __init__(self, prover: Prover) -> None:
        self._prover = prover

    def __getattr__(self, name: str) -> Any:
        if name not in NODES:
            raise AttributeError(name)
        return self._prover.node(name)


def _row_matches(row: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(matches(row.get(column), value) for column, value in expected.items())


def _count(claim: Claim, values: Mapping[str, Any]) -> int | None:
    if not isinstance(claim.count, str):
        return claim.count
    text = fill(claim.count, values)
    if not text.strip().isdecimal():
        raise LabError(f"claim {claim.id}: count is no number: {text!r}", code=EXIT_USAGE)
    return int(text)


def _expected(claim: Claim, values: Mapping[str, Any]) -> str:
    """What the claim asks for, in one line."""
    count = _count(claim, values)
    rows = tr("at least one row") if count is None else tr("{n} rows", n=count)
    parts = [claim.probe, rows]
    for name, conditions in (("where", claim.where), ("each", claim.each)):
        if conditions:
            filled = fill_all(conditions, values)
            parts.append(f"{name} " + ", ".join(f"{key}={value}" for key, value in filled.items()))
    return "; ".join(parts)
