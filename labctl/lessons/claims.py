"""Claims: one sentence each, proved or refuted by asking a probe about the running lab."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from labctl.access.capture import Captured
from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.engine.wait import WaitTimeout, wait_until
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list, tr_n
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.matching import matches
from labctl.lessons.model import (
    CAPTURED,
    MEASURED,
    NODES,
    PROBES,
    Claim,
    Fact,
    first_client,
    node_names,
)
from labctl.lessons.templates import fill, fill_all
from labctl.probes import ProbeContext, ReadCache
from labctl.spec.problems import quoted
from labctl.topology import Machine, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection


_HYPERVISOR = re.compile(r"node\.hypervisor\b|'hypervisor'")
"""How templates and claims name the node that runs the first instance."""
_AT_THEIR_TIME = ("wire.", "run.", "node.", "ovs.")
"""Probes whose answer is another the next moment: it is never remembered."""
_AT_ONCE = 8
"""Probes that are asked at the same time: below 10, the sessions that sshd allows on one connection
by default (MaxSessions in sshd_config(5))."""


class ClaimFails(LabError):  # noqa: N818 - a finding, not a mistake
    """Some claims do not hold; `claims` has what was expected and seen for each."""

    def __init__(self, claims: "list[ClaimResult]") -> None:
        first, more = claims[0], len(claims) - 1
        text = tr("claim {id} does not hold: {text}", id=first.id, text=first.text)
        super().__init__(
            text if not more else tr("{first} (and {n} more)", first=text, n=more),
            code=EXIT_CLAIM,
        )
        self.claims = claims


class ClaimChecker:
    """Proves the claims of one lesson on one lab."""

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
        """Inside the block each probe is asked only once, so all claims see the same moment.

        When a claim does not hold, the cache is emptied and everything is asked again. `previous`
        is the cache of an earlier block, if nothing can have changed since.
        """
        outer, known = self._known, self._known or previous or ReadCache()
        self._known = known
        try:
            yield known
        finally:
            self._known = outer

    def prefetch(self, claims: Iterable[Claim], templates: Iterable[object] = ()) -> None:
        """Within `cached_reads`: ask the probes that these claims and templates need, in parallel.

        A probe that fails here is asked again by the claim that needs it, which reports the error.
        """
        claims = [claim for claim in claims if not claim.delta]
        texts = " ".join(map(str, (*(claim.model_dump() for claim in claims), *templates)))
        probes = {claim.probe for claim in claims}
        facts = set(self._facts)
        while named := {name for name in facts if f"fact.{name}" in texts}:
            facts -= named
            probes |= {self._facts[name].probe for name in named}
            # A fact's definition may use other facts.
            texts = " ".join(str(self._facts[name].model_dump()) for name in named) + texts
        if _HYPERVISOR.search(texts) and self._topology.stack == "openstack":
            probes.add("openstack.servers")
        # wire.* probes read captured packets or send some, so they must run at their own time.
        probes = {probe for probe in probes if probe.startswith(("openstack.", "ovn."))}
        context = self.probe_context()

        def ask(probe: str) -> None:
            with suppress(Exception):
                self._ask(probe, {}, context)

        if probes:
            with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
                list(pool.map(ask, sorted(probes)))

    def prove(
        self,
        claim: Claim,
        frames: list[Frame],
        cancelled: Callable[[], bool] | None = None,
        time_limit: float | None = None,
    ) -> ClaimResult:
        """Ask until the claim holds or its time is up, which `time_limit` (seconds) may shorten.

        When the probe cannot be asked, because a node does not answer, the claim does not hold.
        Raises LabError for a mistake in the lesson.
        """
        began = asked = time.monotonic()
        context = self.probe_context(frames)
        seen: Rows = []
        instead: Rows = []
        wrong: list[list[str]] = []
        count: int | None = None
        values: dict[str, Any] = {}
        grown: dict[str, list[float]] = {}
        wrong_columns: list[str] = []
        error = ""
        # Captured packets do not change, so asking again gives the same rows.
        within = 0.0 if claim.probe in CAPTURED else claim.within
        within *= context.guest("controller").timeout_factor
        within = within if time_limit is None else min(within, time_limit)
        again = False

        def holds() -> bool:
            nonlocal seen, instead, wrong, count, values, error, again, asked, grown, wrong_columns
            if again:
                asked = time.monotonic()
                if self._known is not None:
                    self._known.forget()
            again = True
            values = self.values()
            error, seen, instead, wrong = "", [], [], []
            grown, wrong_columns = {}, []
            try:
                arguments, where = (
                    fill_all(part, values) for part in (claim.arguments, claim.where)
                )
                count = _count(claim, values)
                each = fill_all(claim.each, values)
                if claim.probe in CAPTURED:
                    _require_listening(frames, arguments, where)
                if claim.probe in MEASURED and isinstance(frames, Captured) and frames.failure:
                    raise LabError(frames.failure)
                ask = self._ask_now if claim.delta else self._ask  # a counter is not remembered
                rows = ask(claim.probe, arguments, context)
                seen = [row for row in rows if _row_matches(row, where)]
                instead = [] if seen else rows
                wrong = [_misfits(row, each if seen else where) for row in seen or rows]
                if claim.delta:
                    grown = growth(claim, frames, seen)
                    wanted = fill_all(claim.delta, values)
                    wrong_columns = [
                        column
                        for column, (first, last) in grown.items()
                        if not matches(_number(last - first), wanted[column])
                    ]
                if count == 0 and not seen:
                    # No row is about something that is not there: that would prove nothing.
                    if absent := values["fact"].absent:
                        raise LabError(tr("there is no {name} yet", name=f"fact.{absent[0]}"))
                    if claim.probe in CAPTURED and (command := getattr(frames, "not_sent", "")):
                        raise LabError(tr("{command} failed, so nothing was sent", command=command))
            except LabError as trouble:
                if trouble.code == EXIT_USAGE:
                    raise
                error = trouble.message
                return False
            enough = bool(seen) if count is None else len(seen) == count
            fits = not wrong_columns and all(_row_matches(row, each) for row in seen)
            return enough and fits

        try:
            wait_until(claim.id, holds, deadline=within, hint="", interval=0.4, cancelled=cancelled)
            held = True
        except WaitTimeout:
            held = False
        more = ("differs",) if claim.probe == "wire.pairs" and not held else ()
        return ClaimResult(
            claim.id,
            self.fill_text(str(claim.text), values),
            held,
            claim.probe,
            "" if error else _expected(claim, values),
            seen,
            time.monotonic() - began,
            tuple(dict.fromkeys((*claim.where, *claim.each, *more))),
            [] if held else instead,
            error,
            asked - began,
            count,
            wrong if not held else [],
            grown,
            wrong_columns if not held else [],
        )

    def counters(self, claims: Iterable[Claim]) -> dict[str, Rows]:
        """{id of a claim with `delta`: the rows it is about, now}; without those nobody can ask."""
        before: dict[str, Rows] = {}
        for claim in claims:
            if not claim.delta:
                continue
            with suppress(LabError):  # `prove` says that the counters are not known
                values = self.values()
                arguments, where = (
                    fill_all(part, values) for part in (claim.arguments, claim.where)
                )
                rows = self._ask_now(claim.probe, arguments, self.probe_context())
                before[claim.id] = [row for row in rows if _row_matches(row, where)]
        return before

    def fill_text(self, template: str, values: Mapping[str, Any] | None = None) -> str:
        """A text for the learner, filled in; every value becomes `…` when one cannot be found.

        Raises LabError for a mistake in the lesson.
        """
        try:
            return fill(template, self.values() if values is None else values)
        except LabError as error:
            if error.code == EXIT_USAGE:
                raise
            return re.sub(r"\{\{.*?\}\}", "…", template)

    def _ask(self, probe: str, arguments: Mapping[str, str], context: ProbeContext) -> Rows:
        """The rows of a probe; within `cached_reads` from the cache, if a row is so for a while."""
        if probe not in PROBES:
            raise LabError(
                tr("a lesson asks an unknown probe: {probe}", probe=probe), code=EXIT_USAGE
            )
        if self._known is None or probe.startswith(_AT_THEIR_TIME):
            return self._ask_now(probe, arguments, context)
        question = (probe, *sorted(arguments.items()))
        rows: Rows = self._known.get_or_ask(
            question, lambda: self._ask_now(probe, arguments, context)
        )
        return rows

    def _ask_now(self, probe: str, arguments: Mapping[str, str], context: ProbeContext) -> Rows:
        try:
            return PROBES[probe](context, arguments)
        except LabError:
            raise
        except Exception as error:
            from labctl.access.cloud import (
                API_ERRORS,  # slow to import, and not every lab has an API
            )

            if not isinstance(error, API_ERRORS):
                raise
            message = " ".join(str(error).split())[:200]
            raise LabError(
                tr("OpenStack does not answer: {said}", said=message),
                hint=tr("`labctl status` shows what is not running"),
            ) from error

    # -- values for templates --------------------------------------------------------------------
    def values(self) -> dict[str, Any]:
        """The names that a template may use: lab, instance, fact, node."""
        return {
            "lab": self._topology,
            "instance": self._topology.instances[0],
            "fact": _Facts(self),
            "node": _Nodes(self),
        }

    def fact(self, name: str, known: "_Facts") -> str:
        """A fact of the lesson, asked of its probe; `-` when no row matches.

        `known` are the facts that the definition of this one may use.
        """
        fact = self._facts[name]
        values = {**self.values(), "fact": known}
        rows = self._ask(fact.probe, fill_all(fact.arguments, values), self.probe_context())
        where = fill_all(fact.where, values)
        matching = [row for row in rows if _row_matches(row, where)]
        if preferred := fill_all(fact.prefer, values):
            matching.sort(key=lambda row: not _row_matches(row, preferred))
        value = matching[0].get(fact.column) if matching else None
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value)) if value else None
        return "-" if value is None else str(value)

    @property
    def facts(self) -> Iterable[str]:
        """The names of the lesson's facts."""
        return self._facts

    def probe_context(self, frames: "list[Frame] | tuple[Frame, ...]" = ()) -> ProbeContext:
        """What probes are given; `frames` are those of the checkpoint's captures."""
        context = ProbeContext(self._topology, self._cloud, self.guest, frames)
        if isinstance(frames, Captured):
            context.windows, context.arp = frames.windows, frames.arp
            context.neighbors = frames.neighbors
            context.commands = frames.commands
        if self._known is not None:
            context.get_or_ask = self._known.get_or_ask
        return context

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
            case "client":
                return first_client(self._topology)
            case "hypervisor":
                if self._topology.stack == "ovn":
                    return self._topology.computes[0].name
                return self._hypervisor()
            case _:
                return name

    def place(self, template: str) -> str:
        """The name of the node that a template names or an alias stands for.

        Raises LabError when the lab has none of that name, as long as a fact in it is not known.
        """
        filled = fill(template, self.values()).strip()
        name = self.node_name(filled)
        if name not in [machine.name for machine in self._topology.machines]:
            known = tr_list(node_names(self._topology))
            raise LabError(
                tr("this lab has no node {name}", name=quoted(filled)),
                hint=tr("known are {names}", names=known),
            )
        return name

    def _hypervisor(self) -> str:
        """The node that runs the first instance; the first compute node when none does."""
        first = self._topology.instances[0]
        rows = self._ask("openstack.servers", {}, self.probe_context())
        for row in rows:
            if row["name"] == first.name and row["host"]:
                return str(row["host"])
        # The learner may have renamed the instance, or made it again: its address tells.
        for row in rows:
            if str(first.address) in row.get("fixed", ()) and row["host"]:
                return str(row["host"])
        return self._topology.computes[0].name

    def node(self, name: str) -> Machine:
        """The node or client of the topology that a name or alias stands for.

        Raises AttributeError, as templates know it, when there is none.
        """
        try:
            return self._topology.machine(self.node_name(name))
        except KeyError:
            raise AttributeError(name) from None


class _Facts:
    """`fact.NAME` in templates: the probe is asked when the name is first used."""

    def __init__(self, checker: ClaimChecker) -> None:
        self._checker = checker
        self._known: dict[str, str] = {}

    @property
    def absent(self) -> list[str]:
        """Those that were asked for and are not there to be seen."""
        return [name for name, value in self._known.items() if value == "-"]

    def __getattr__(self, name: str) -> str:
        if name not in self._checker.facts:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = "-"  # ends the recursion when a fact is defined by itself
            self._known[name] = self._checker.fact(name, self)
        return self._known[name]


class _Nodes:
    """`node.controller`, `node.gateway`, `node.hypervisor`, `node.client` in templates; each is
    found once."""

    def __init__(self, checker: ClaimChecker) -> None:
        self._checker = checker
        self._known: dict[str, Machine] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in NODES:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = self._checker.node(name)
        return self._known[name]


def _misfits(row: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """The columns of a row that are not as expected."""
    return [name for name, value in expected.items() if not matches(row.get(name), value)]


def _require_listening(
    frames: Sequence[Frame], arguments: Mapping[str, str], where: Mapping[str, Any]
) -> None:
    """Raise LabError if no capture listened where a claim about packets looks.

    With `count: 0` it would hold, for nobody was there to see anything.
    """
    if not isinstance(frames, Captured):
        return
    if frames.failure:
        raise LabError(frames.failure)
    listened = list(frames.windows)
    for place in arguments.values():
        if tuple(place.split()) not in listened:
            raise _nobody_listened(*place.split()[::-1])
    node, interface = (where.get(name, {}) for name in ("node", "interface"))
    if not any(matches(there[0], node) and matches(there[1], interface) for there in listened):
        raise _nobody_listened(*(place for place in (interface, node) if isinstance(place, str)))


def _nobody_listened(*place: str) -> LabError:
    if len(place) == 2:
        name = tr("{interface} of {node}", interface=place[0], node=place[1])
    else:
        name = place[0] if place else "…"
    return LabError(tr("no capture of this checkpoint listens on {name}", name=name))


def growth(claim: Claim, frames: Sequence[Frame], rows: Rows) -> dict[str, list[float]]:
    """{column: [its sum before the commands ran, its sum in these rows]} of a claim's `delta`.

    Raises LabError when the counters were not read before, or a column holds no number.
    """
    if not isinstance(frames, Captured) or claim.id not in frames.before:
        raise LabError(tr("its counters could not be read before the commands ran"))
    if frames.failure:
        raise LabError(frames.failure)
    return {
        column: [_sum(frames.before[claim.id], column), _sum(rows, column)]
        for column in claim.delta
    }


def _sum(rows: Rows, column: str) -> float:
    try:
        return sum((float(row[column]) for row in rows), 0.0)
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(tr("{column} is no number", column=column)) from error


def _number(value: float) -> float | int:
    """A whole number without its decimal point, as claims write it."""
    return int(value) if value.is_integer() else value


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
    """What the probe must give for the claim to hold, in one line."""
    count = _count(claim, values)
    rows = tr("at least one row") if count is None else tr_n("{n} row", "{n} rows", n=count)
    parts = [claim.probe, rows]
    for name, conditions in (
        ("where", claim.where),
        ("each", claim.each),
        ("delta", claim.delta),
    ):
        if conditions:
            filled = fill_all(conditions, values)
            parts.append(f"{name} " + ", ".join(f"{key}={value}" for key, value in filled.items()))
    return tr("; ").join(parts)
