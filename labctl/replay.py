"""A lesson on a running lab: runs its checkpoints, proves their claims, remembers the position."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from labctl.capture import Tap, capturing
from labctl.console import Console
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.guest import Guest, GuestResult
from labctl.i18n import tr
from labctl.lesson import (
    NODES,
    PROBES,
    Checkpoint,
    Claim,
    Lesson,
    Look,
    fill,
    fill_all,
    matches,
)
from labctl.packets import Frame, sighting
from labctl.probes import Rows, Sight
from labctl.state import LabState
from labctl.steps import Step, StepContext
from labctl.topology import Topology
from labctl.waiting import WaitTimeout, wait_until

if TYPE_CHECKING:
    from openstack.connection import Connection

VARIABLES = "/var/lib/labctl/lesson.sh"
"""On the nodes: the shell variables that checkpoints set; profile.sh reads it at login."""


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
class CommandResult:
    """One command of a checkpoint as it ran."""

    node: str
    command: str
    output: str
    exit_code: int
    seconds: float


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


@dataclass
class CheckpointResult:
    """One checkpoint as it ran."""

    id: str
    title: str
    commands: list[CommandResult] = field(default_factory=list)
    claims: list[ClaimResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything that was run and claimed is as it should be."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)


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


class Runner:
    """Runs the checkpoints of one lesson on one lab."""

    def __init__(
        self,
        lesson: Lesson,
        topology: Topology,
        state: LabState,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
        console: Console,
    ) -> None:
        """`guest` finds a node's handle by the node's name; `cloud` connects the SDK."""
        self._lesson = lesson
        self._topology = topology
        self._state = state
        self._guest_of = guest
        self._cloud = cloud
        self._console = console
        self.results: list[CheckpointResult] = []

    # -- position --------------------------------------------------------------------------------
    def attempted(self) -> list[str]:
        """Checkpoints of this lesson that were begun and not taken back."""
        position = self._state.read_json(self._state.lesson_position) or {}
        begun = position.get(self._lesson.id, {}).get("attempted", [])
        return [one for one in begun if isinstance(one, str)]

    def _note(self, **changes: Any) -> None:
        position = self._state.read_json(self._state.lesson_position) or {}
        mine = {**position.get(self._lesson.id, {}), **changes, "at": time.time()}
        position[self._lesson.id] = mine
        position["current"] = self._lesson.id
        self._state.write_json(self._state.lesson_position, position)

    def steps(self) -> list[Step]:
        """The lesson for the engine: the last run is taken back, then comes each checkpoint."""
        steps: list[Step] = []
        if self.attempted():
            steps.append(Step("take-back", tr("take back the last run"), self.take_back))
        for checkpoint in self._lesson.checkpoints:
            steps.append(
                Step(
                    checkpoint.id,
                    str(checkpoint.title),
                    partial(self.run, checkpoint),
                    needs=(steps[-1].id,) if steps else (),
                )
            )
        return steps

    # -- running ---------------------------------------------------------------------------------
    def take_back(self, context: StepContext) -> None:
        """Undo every checkpoint that was begun, the last first. Raises LabError when one cannot."""
        begun = self.attempted()
        for checkpoint in reversed(self._lesson.checkpoints):
            if checkpoint.id in begun and checkpoint.undo:
                self._undo(checkpoint, context)
            begun = [one for one in begun if one != checkpoint.id]
            self._note(attempted=begun, passed=[])
        self._note(attempted=[])  # what is left is no checkpoint of this lesson any more
        self._guest("controller").run(["rm", "-f", VARIABLES])

    def _undo(self, checkpoint: Checkpoint, context: StepContext) -> None:
        context.progress(str(checkpoint.title))
        node = self._node_name("controller")
        script = fill(checkpoint.undo, self._values(), quoting=True)
        done = self._shell(node, script, (), context)
        if not done.ok:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise LabError(
                tr(
                    "cannot take back {checkpoint} on {node} (exit {code}): {said}",
                    checkpoint=checkpoint.id,
                    node=node,
                    code=done.returncode,
                    said=" / ".join(said[-3:]),
                ),
                hint=tr("mend that by hand, then run `labctl replay` again"),
            )

    def run(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Explain, run, prove. Raises LabError when a command fails, ClaimFails for a claim."""
        began = time.monotonic()
        result = CheckpointResult(checkpoint.id, str(checkpoint.title))
        self.results.append(result)
        self._note(attempted=[*(x for x in self.attempted() if x != checkpoint.id), checkpoint.id])
        ids = [one.id for one in self._lesson.checkpoints]
        console, values = self._console, self._values()
        console.heading(f"{ids.index(checkpoint.id) + 1}/{len(ids)} {checkpoint.title}")
        console.explain(fill(str(checkpoint.explain), values))
        try:
            with self._captured(checkpoint) as frames:
                self._run_commands(checkpoint, values, result, context)
            self._prove(checkpoint, result, frames or [], context)
        finally:
            result.seconds = time.monotonic() - began
        if failed := [claim for claim in result.claims if not claim.holds]:
            raise ClaimFails(failed)
        self._note(passed=[one.id for one in self.results if one.ok])

    def _captured(self, checkpoint: Checkpoint) -> Any:
        if not checkpoint.capture:
            return nullcontext([])
        taps = [
            Tap(self._node_name(one.node), one.interface, fill(one.filter, self._values()))
            for one in checkpoint.capture
        ]
        return capturing(taps, self._guest_of)

    def _run_commands(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        context: StepContext,
    ) -> None:
        inside = checkpoint.node == "instance"
        node = self._node_name("controller" if inside else checkpoint.node)
        user, name = self._topology.image.user, self._topology.instances[0].name
        prompt = f"{user}@{name}$" if inside else f"{node}#"
        for template in checkpoint.run:
            command = fill(template, values, quoting=True).strip()
            self._console.command(command, prompt)
            context.progress(command.splitlines()[0])
            script = self._into_instance(command) if inside else command
            done = self._shell(node, script, checkpoint.sets, context)
            text = done.stdout + done.stderr
            self._console.output(text)
            result.commands.append(
                CommandResult(
                    name if inside else node, command, text, done.returncode, done.seconds
                )
            )
            if not done.ok:
                raise LabError(
                    tr(
                        "`{command}` failed on {node} (exit {code})",
                        command=command.splitlines()[0],
                        node=name if inside else node,
                        code=done.returncode,
                    ),
                    hint=tr("what it said is above; `labctl replay` starts the day anew"),
                )

    def _shell(
        self, node: str, script: str, sets: Sequence[str], context: StepContext
    ) -> GuestResult:
        keep = f"for v in {' '.join(sets)}; do declare -p $v; done >>{VARIABLES} 2>/dev/null"
        # Variables live on in a file that profile.sh reads too: the learner who logs in has them.
        lines = [
            ". /etc/profile.d/labctl.sh",
            "shopt -s expand_aliases",
            script,
            "labctl_exit=$?",
            *([keep] if sets else []),
            "exit $labctl_exit",
        ]
        return self._guest_of(node).run(
            "mkdir -p /var/lib/labctl\n" + "\n".join(lines),
            timeout=300,
            check=False,
            cancelled=context.cancelled,
        )

    def _into_instance(self, command: str) -> str:
        instance = self._topology.instances[0]
        floating = [
            row["address"]
            for row in PROBES["openstack.floating_ips"](self._sight(), {})
            if row["fixed_address"] == str(instance.address)
        ]
        if not floating:
            raise LabError(
                tr("{name} has no floating IP to log in through", name=instance.name),
                hint=tr("run the checkpoints before this one first"),
            )
        target = f"{self._topology.image.user}@{floating[0]}"
        return shlex.join(["ssh", "-o", "BatchMode=yes", target, command])

    # -- proving ---------------------------------------------------------------------------------
    def _prove(
        self,
        checkpoint: Checkpoint,
        result: CheckpointResult,
        frames: list[Frame],
        context: StepContext,
    ) -> None:
        for claim in checkpoint.claims:
            context.progress(claim.id)
            one = self.prove(claim, frames, context.cancelled)
            result.claims.append(one)
            if one.holds:
                self._console.claim(True, one.text, evidence=one.seen_text)
            else:
                self._console.claim(False, one.text, expected=one.expected, seen=one.seen_text)

    def prove(
        self,
        claim: Claim,
        frames: list[Frame],
        cancelled: Callable[[], bool] | None = None,
    ) -> ClaimResult:
        """Look until the claim holds or its time is up."""
        began = time.monotonic()
        sight = self._sight(frames)
        last: Rows = []
        values: dict[str, Any] = {}
        # What was captured does not change by looking again.
        within = 0.0 if claim.probe == "wire.packets" else claim.within

        def holds() -> bool:
            nonlocal last, values
            values = self._values()
            last = self._look(claim, values, sight)
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

    def _look(self, look: Look, values: Mapping[str, Any], sight: Sight) -> Rows:
        if look.probe not in PROBES:
            raise LabError(f"lesson {self._lesson.id} asks an unknown probe: {look.probe}")
        rows = PROBES[look.probe](sight, fill_all(look.arguments, values))
        where = fill_all(look.where, values)
        return [row for row in rows if _row_matches(row, where)]

    # -- what templates see ----------------------------------------------------------------------
    def _values(self) -> dict[str, Any]:
        return {
            "lab": self._topology,
            "instance": self._topology.instances[0],
            "fact": _Facts(self),
            "node": _Nodes(self),
        }

    def fact(self, name: str, known: "_Facts") -> str:
        """A fact of the lesson, asked now; `-` when nothing is there to be seen."""
        fact = self._lesson.facts[name]
        rows = self._look(fact, {**self._values(), "fact": known}, self._sight())
        value = rows[0].get(fact.column) if rows else None
        return "-" if value is None else str(value)

    @property
    def facts(self) -> Iterable[str]:
        """The names of the lesson's facts."""
        return self._lesson.facts

    def _sight(self, frames: "list[Frame] | tuple[Frame, ...]" = ()) -> Sight:
        return Sight(self._topology, self._cloud, self._guest, frames)

    def _guest(self, name: str) -> Guest:
        return self._guest_of(self._node_name(name))

    def _node_name(self, name: str) -> str:
        """The node that `controller`, `gateway`, `hypervisor` or a name stands for."""
        match name:
            case "controller":
                return self._topology.controller.name
            case "gateway":
                return self._topology.gateways[0].name
            case "hypervisor":
                wanted = self._topology.instances[0].name
                for row in PROBES["openstack.servers"](self._sight(), {}):
                    if row["name"] == wanted and row["host"]:
                        return str(row["host"])
                raise LabError(tr("no hypervisor runs {name}", name=wanted))
            case _:
                return name

    def node(self, name: str) -> Any:
        """The topology's node behind an alias, for templates."""
        return self._topology.node(self._node_name(name))


class _Facts:
    """`fact.NAME` in templates: asked of the lab when it is used, once for each evaluation."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: dict[str, str] = {}

    def __getattr__(self, name: str) -> str:
        if name not in self._runner.facts:
            raise AttributeError(name)
        if name not in self._known:
            self._known[name] = "-"  # for a fact that is stated with itself
            self._known[name] = self._runner.fact(name, self)
        return self._known[name]


class _Nodes:
    """`node.controller`, `node.gateway`, `node.hypervisor` in templates."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        if name not in NODES:
            raise AttributeError(name)
        return self._runner.node(name)


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
