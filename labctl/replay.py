"""A lesson on a running lab: runs its checkpoints, proves their claims, remembers the position."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from labctl.capture import Tap, capturing
from labctl.claims import ClaimFails, ClaimResult, Prover
from labctl.console import Console
from labctl.errors import LabError
from labctl.guest import Guest, GuestResult
from labctl.i18n import tr
from labctl.lesson import (
    PROBES,
    Checkpoint,
    Lesson,
    fill,
)
from labctl.packets import Frame
from labctl.state import LabState
from labctl.steps import Step, StepContext
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

VARIABLES = "/var/lib/labctl/lesson.sh"
"""On the nodes: the shell variables that checkpoints set; profile.sh reads it at login."""


@dataclass
class CommandResult:
    """One command of a checkpoint as it ran."""

    node: str
    command: str
    output: str
    exit_code: int
    seconds: float


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
        self.prover = Prover(lesson.facts, topology, guest, cloud)
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
        self.prover.guest("controller").run(["rm", "-f", VARIABLES])

    def _undo(self, checkpoint: Checkpoint, context: StepContext) -> None:
        context.progress(str(checkpoint.title))
        node = self.prover.node_name("controller")
        script = fill(checkpoint.undo, self.prover.values(), quoting=True)
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
        console, values = self._console, self.prover.values()
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
            Tap(
                self.prover.node_name(one.node),
                one.interface,
                fill(one.filter, self.prover.values()),
            )
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
        node = self.prover.node_name("controller" if inside else checkpoint.node)
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
            for row in PROBES["openstack.floating_ips"](self.prover.sight(), {})
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
            one = self.prover.prove(claim, frames, context.cancelled)
            result.claims.append(one)
            if one.holds:
                self._console.claim(True, one.text, evidence=one.seen_text)
            else:
                self._console.claim(False, one.text, expected=one.expected, seen=one.seen_text)
