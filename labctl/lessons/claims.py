"""Claims: one sentence each, and the look at the running lab that proves or refutes it."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.engine.wait import WaitTimeout, wait_until
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import tr, tr_n
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.matching import matches
from labctl.lessons.model import CAPTURED, NODES, PROBES, Claim, Fact, Look
from labctl.lessons.templates import fill, fill_all
from labctl.probes import ProbeContext, ReadCache
from labctl.topology import Node, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection


_HYPERVISOR = re.compile(r"node\.hypervisor\b|'hypervisor'")
"""Where templates and claims speak of the node that runs the first instance."""
_AT_ONCE = 8
"""Probes that are asked at once; sshd opens ten sessions on one connection, and no more."""


class ClaimFails(LabError):  # noqa: N818 - a finding, not a mistake
    """Claims do not hold. What was expected and seen is in each of them."""

    def __init__(self, claims: "list[ClaimResult]") -> None:
        first, more = claims[0], len(claims) - 1
        text = tr("claim {id} does not hold: {text}", id=first.id, text=first.text)
        super().__init__(
            text if not more else tr("{first} (and {n} more)", first=text, n=more),
            code=EXIT_CLAIM,
        )
        self.claims = claims


class ClaimChecker:
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
        self._known: ReadCache | None = None

    @contextmanager
    def cached_reads(self, previous: ReadCache | None = None) -> Iterator[ReadCache]:
        """Inside, a probe is asked once for all claims and facts: they speak of one moment.

        A claim that does not hold has everything asked anew. `previous` is what an earlier look
        saw, if nothing can have happened since.
        """
        outer, known = self._known, self._known or previous or ReadCache()
        self._known = known
        try:
            yield known
        finally:
            self._known = outer

    def prefetch(self, claims: Iterable[Claim], templates: Iterable[object] = ()) -> None:
        """Within `cached_reads`: ask all that these claims and templates will ask, at once."""
        claims = list(claims)
        words = " ".join(map(str, (*(claim.model_dump() for claim in claims), *templates)))
        asked = {claim.probe for claim in claims}
        facts = set(self._facts)
        while named := {name for name in facts if f"fact.{name}" in words}:
            facts -= named
            asked |= {self._facts[name].probe for name in named}
            # Facts may be stated with facts.
            words = " ".join(str(self._facts[name].model_dump()) for name in named) + words
        if _HYPERVISOR.search(words) and self._topology.stack == "openstack":
            asked.add("openstack.servers")
        # The others look at what happens, or make it happen.
        asked = {probe for probe in asked if probe.startswith(("openstack.", "ovn."))}
        sight = self.sight()

        def ask(probe: str) -> None:
            with suppress(Exception):  # whoever needs it asks again, and is told
                self._ask(probe, {}, sight)

        if asked:
            with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
                list(pool.map(ask, sorted(asked)))

    def prove(
        self,
        claim: Claim,
        frames: list[Frame],
        cancelled: Callable[[], bool] | None = None,
        patience: float | None = None,
    ) -> ClaimResult:
        """Look until the claim holds or its time is up, which `patience` (seconds) may shorten.

        Where nobody can look (a node does not answer), the claim does not hold. Raises LabError for
        a mistake of the lesson.
        """
        began = looked = time.monotonic()
        sight = self.sight(frames)
        last: Rows = []
        besides: Rows = []
        values: dict[str, Any] = {}
        error = ""
        # What was captured does not change by looking again.
        within = 0.0 if claim.probe in CAPTURED else claim.within
        within *= sight.guest("controller").timeout_factor
        within = within if patience is None else min(within, patience)
        again = False

        def holds() -> bool:
            nonlocal last, besides, values, error, again, looked
            if again:
                looked = time.monotonic()
                if self._known is not None:
                    self._known.forget()
            again = True
            values = self.values()
            error, last, besides = "", [], []
            try:
                every = self._ask(claim.probe, fill_all(claim.arguments, values), sight)
                where = fill_all(claim.where, values)
                last = [row for row in every if _row_matches(row, where)]
                besides = [] if last else every
                count = _count(claim, values)
                each = fill_all(claim.each, values)
                if count == 0 and not last and (absent := values["fact"].absent):
                    # No row is about something that is not there: that would prove nothing.
                    raise LabError(tr("there is no {name} yet", name=f"fact.{absent[0]}"))
            except LabError as trouble:
                if trouble.code == EXIT_USAGE:
                    raise
                error = trouble.message
                return False
            enough = bool(last) if count is None else len(last) == count
            return enough and all(_row_matches(row, each) for row in last)

        try:
            wait_until(claim.id, holds, deadline=within, hint="", interval=0.4, cancelled=cancelled)
            held = True
        except WaitTimeout:
            held = False
        return ClaimResult(
            claim.id,
            self.words(str(claim.text), values),
            held,
            claim.probe,
            "" if error else _expected(claim, values),
            last,
            time.monotonic() - began,
            tuple(dict.fromkeys((*claim.where, *claim.each))),
            [] if held else besides,
            error,
            looked - began,
        )

    def words(self, template: str, values: Mapping[str, Any] | None = None) -> str:
        """A text for the learner; where the lab cannot say a value there is a `…`."""
        try:
            return fill(template, self.values() if values is None else values)
        except LabError as error:
            if error.code == EXIT_USAGE:
                raise
            return re.sub(r"\{\{.*?\}\}", "…", template)

    def look(self, look: Look, values: Mapping[str, Any], sight: ProbeContext) -> Rows:
        """The rows that a probe sees, as far as they match `where`."""
        rows = self._ask(look.probe, fill_all(look.arguments, values), sight)
        where = fill_all(look.where, values)
        return [row for row in rows if _row_matches(row, where)]

    def _ask(self, probe: str, arguments: Mapping[str, str], sight: ProbeContext) -> Rows:
        """What a probe sees; within `cached_reads` what it saw already, but for the wire."""
        if probe not in PROBES:
            raise LabError(
                tr("a lesson asks an unknown probe: {probe}", probe=probe), code=EXIT_USAGE
            )
        if self._known is None or probe.startswith("wire."):
            return self._ask_now(probe, arguments, sight)
        question = (probe, *sorted(arguments.items()))
        rows: Rows = self._known.get_or_ask(
            question, lambda: self._ask_now(probe, arguments, sight)
        )
        return rows

    def _ask_now(self, probe: str, arguments: Mapping[str, str], sight: ProbeContext) -> Rows:
        try:
            return PROBES[probe](sight, arguments)
        except LabError:
            raise
        except Exception as error:
            from labctl.access.cloud import (
                API_ERRORS,  # slow to import, and not every lab has an API
            )

            if not isinstance(error, API_ERRORS):
                raise
            said = " ".join(str(error).split())[:200]
            raise LabError(
                tr("OpenStack does not answer: {said}", said=said),
                hint=tr("`labctl status` shows what is not running"),
            ) from error

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

    def sight(self, frames: "list[Frame] | tuple[Frame, ...]" = ()) -> ProbeContext:
        """What probes look at; `frames` are those of the checkpoint's captures."""
        if self._known is None:
            return ProbeContext(self._topology, self._cloud, self.guest, frames)
        return ProbeContext(self._topology, self._cloud, self.guest, frames, self._known.get_or_ask)

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
                if self._topology.stack == "ovn":
                    return self._topology.computes[0].name
                return self._hypervisor()
            case _:
                return name

    def _hypervisor(self) -> str:
        """Where the first instance runs, whatever it is called by now; gone, the first compute."""
        first, sight = self._topology.instances[0], self.sight()
        rows = self._ask("openstack.servers", {}, sight)
        for row in rows:
            if row["name"] == first.name and row["host"]:
                return str(row["host"])
        for row in rows:
            if str(first.address) in row.get("fixed", ()) and row["host"]:
                return str(row["host"])
        return self._topology.computes[0].name

    def node(self, name: str) -> Node:
        """The topology's node behind an alias, for templates."""
        return self._topology.node(self.node_name(name))


class _Facts:
    """`fact.NAME` in templates: asked of the lab when it is used, once for each evaluation."""

    def __init__(self, checker: ClaimChecker) -> None:
        self._prover = checker
        self._known: dict[str, str] = {}

    @property
    def absent(self) -> list[str]:
        """Those that were asked for and are not there to be seen."""
        return [name for name, value in self._known.items() if value == "-"]

    def __getattr__(self, name: str) -> str:
        if name not in self._prover.facts:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = "-"  # for a fact that is stated with itself
            self._known[name] = self._prover.fact(name, self)
        return self._known[name]


class _Nodes:
    """`node.controller`, `node.gateway`, `node.hypervisor` in templates; found once."""

    def __init__(self, checker: ClaimChecker) -> None:
        self._prover = checker
        self._known: dict[str, Node] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in NODES:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = self._prover.node(name)
        return self._known[name]


def _row_matches(row: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(matches(row.get(column), value) for column, value in expected.items())


def _count(claim: Claim, values: Mapping[str, Any]) -> int | None:
    if not isinstance(claim.count, str):
        return claim.count
    text = fill(claim.count, values)
    if not text.strip().isdecimal():
        raise LabError(
            tr("claim {id}: count is no number: {text!r}", id=claim.id, text=text), code=EXIT_USAGE
        )
    return int(text)


def _expected(claim: Claim, values: Mapping[str, Any]) -> str:
    """What the claim asks for, in one line."""
    count = _count(claim, values)
    rows = tr("at least one row") if count is None else tr_n("{n} row", "{n} rows", n=count)
    parts = [claim.probe, rows]
    for name, conditions in (("where", claim.where), ("each", claim.each)):
        if conditions:
            filled = fill_all(conditions, values)
            parts.append(f"{name} " + ", ".join(f"{key}={value}" for key, value in filled.items()))
    return "; ".join(parts)
