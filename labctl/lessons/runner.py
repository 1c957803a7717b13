"""One lesson on a running lab: runs, checks and takes back its checkpoints, notes the position."""

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from labctl.access.capture import Tap, capturing
from labctl.access.guest import Guest, GuestResult
from labctl.access.packets import Frame
from labctl.engine.steps import StepContext
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lessons.claims import ClaimFails, Prover
from labctl.lessons.model import CAPTURED, Checkpoint, Claim, Lesson
from labctl.lessons.progress import Position, read_position, write_position
from labctl.lessons.results import CheckpointResult, CommandResult
from labctl.lessons.templates import fill
from labctl.lessons.transcript import write_record
from labctl.probes import Answers
from labctl.probes.in_instance import run_inside
from labctl.state import LabState
from labctl.terminal.console import Console
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

VARIABLES = "/var/lib/labctl/lesson.sh"
"""On the nodes: the shell variables that checkpoints set; profile.sh reads it at login."""
COMMAND_SECONDS = 300
"""How long one command of a checkpoint may take."""
CHECK_PATIENCE = 3.0
"""Seconds that `check` waits for a claim: what the learner did is a while ago."""
CHECK_BUDGET = 10.0
"""Seconds that it waits in all; then each claim is asked once."""


class Runner:
    """Works on the checkpoints of one lesson on one lab."""

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
        self.lesson = lesson
        self._topology = topology
        self._state = state
        self._guest_of = guest
        self.prover = Prover(lesson.facts, topology, guest, cloud)
        self._console = console
        self.results: list[CheckpointResult] = []
        self._lately: Answers | None = None
        """What was seen when the checkpoint before was proved, a moment ago."""

    def note(self, change: Callable[[Position], Position]) -> None:
        """Change the position, on disk."""
        write_position(self._state, change(read_position(self._state)))

    # -- telling ---------------------------------------------------------------------------------
    def explain(self, checkpoint: Checkpoint) -> str:
        """Show the heading and the explanation of a checkpoint; the latter as it was shown."""
        ids = [one.id for one in self.lesson.checkpoints]
        text = self.prover.words(str(checkpoint.explain))
        self._console.heading(f"{ids.index(checkpoint.id) + 1}/{len(ids)} {checkpoint.title}")
        self._console.explain(text)
        return text

    def task(self, checkpoint: Checkpoint) -> str:
        """What the learner is to do; where the lesson gives no task, what is to be true then."""
        if checkpoint.task is not None:
            return self.prover.words(str(checkpoint.task))
        values = self.prover.values()
        wanted = [f"- {self.prover.words(str(one.text), values)}" for one in checkpoint.claims]
        return "\n".join([tr("See to it that this holds:"), "", *wanted])

    # -- running ---------------------------------------------------------------------------------
    def run(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Explain, run, prove. Raises LabError when a command fails, ClaimFails for a claim."""
        began = time.monotonic()
        result = CheckpointResult(checkpoint.id, str(checkpoint.title))
        self.results.append(result)
        self.note(lambda position: position.attempting(self.lesson, checkpoint))
        lately, self._lately = self._lately, None
        with self.prover.one_look(lately) as before:
            explain = checkpoint.explain.model_dump()  # the record has both languages
            self.prover.look_ahead([], [explain, *checkpoint.run, *checkpoint.capture])
            values = self.prover.values()
            result.explain = self.explain(checkpoint)
            listening = self._listening(checkpoint)
        try:
            with listening as frames, self._looking(checkpoint, before) as meanwhile:
                self._run_commands(checkpoint, values, result, context)
            with (
                self.prover.one_look(meanwhile) as seen,
                ThreadPoolExecutor(max_workers=1) as beside,
            ):
                sharing = beside.submit(self._share, checkpoint)
                self.prover.look_ahead(checkpoint.claims, [explain, *checkpoint.run])
                self._prove(checkpoint.claims, result, frames, context)
                sharing.result()
                write_record(self._state, self.lesson, checkpoint, result, self.prover)
                self._lately = seen
        finally:
            result.seconds = time.monotonic() - began
        if failed := [claim for claim in result.claims if not claim.holds]:
            raise ClaimFails(failed)
        self.note(lambda position: position.passing(self.lesson, checkpoint))

    def _listening(self, checkpoint: Checkpoint) -> AbstractContextManager[list[Frame]]:
        if not checkpoint.capture:
            return nullcontext([])
        values = self.prover.values()
        taps = [
            Tap(self.prover.node_name(one.node), one.interface, fill(one.filter, values))
            for one in checkpoint.capture
        ]
        return _capturing(taps, self._guest_of)

    @contextmanager
    def _looking(self, checkpoint: Checkpoint, before: Answers) -> Iterator[Answers | None]:
        """Look at the lab while the commands run, if they change nothing; what was seen then."""
        if not checkpoint.capture:
            yield None
            return
        with (
            self.prover.one_look(before) as seen,
            ThreadPoolExecutor(max_workers=1) as beside,
        ):
            beside.submit(self.prover.look_ahead, checkpoint.claims)
            yield seen

    def commands(
        self, checkpoint: Checkpoint, values: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        """(prompt, command) of what the checkpoint runs, one after the other."""
        if checkpoint.node == "instance":
            prompt = f"{self._topology.image.user}@{self._topology.instances[0].name}$"
        else:
            prompt = f"{self._place(checkpoint)}#"
        for template in checkpoint.run:
            yield prompt, fill(template, values, quoting=True).strip()

    def _run_commands(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        context: StepContext,
        *,
        checking: bool = False,
    ) -> None:
        inside = checkpoint.node == "instance"
        node = self._place(checkpoint)
        name = self._topology.instances[0].name if inside else node
        for prompt, command in self.commands(checkpoint, values):
            if not checking:
                self._console.command(command, prompt)
            context.progress(command.splitlines()[0])
            if inside:
                done = run_inside(
                    self.prover.sight(),
                    command,
                    timeout=COMMAND_SECONDS,
                    cancelled=context.cancelled,
                )
            else:
                sets = () if checking else tuple(checkpoint.sets)
                done = self._shell(node, command, sets, context)
            text = done.stdout + done.stderr
            result.commands.append(
                CommandResult(name, command, text, done.returncode, done.seconds, prompt)
            )
            if checking:
                continue  # the claims tell
            self._console.output(text)
            if not done.ok:
                raise LabError(
                    tr(
                        "`{command}` failed on {node} (exit {code})",
                        command=command.splitlines()[0],
                        node=name,
                        code=done.returncode,
                    ),
                    hint=tr(
                        "what it said is above; `labctl next` tries this checkpoint again,"
                        " `labctl replay` starts the day anew"
                    ),
                )

    def _shell(
        self, node: str, script: str, sets: Sequence[str], context: StepContext | None = None
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
            timeout=COMMAND_SECONDS,
            check=False,
            cancelled=None if context is None else context.cancelled,
        )

    # -- variables -------------------------------------------------------------------------------
    def keep(self, checkpoint: Checkpoint) -> None:
        """Set the checkpoint's variables for a learner who typed its commands elsewhere."""
        values = self.prover.values()
        known = {
            name: fill(template, values) for name, template in checkpoint.sets.items() if template
        }
        if script := "\n".join(f"{name}={shlex.quote(its)}" for name, its in known.items()):
            self._shell(self._place(checkpoint), script, tuple(known))
            self._share(checkpoint)

    def _place(self, checkpoint: Checkpoint) -> str:
        inside = checkpoint.node == "instance"
        return self.prover.node_name("controller" if inside else checkpoint.node)

    def _share(self, checkpoint: Checkpoint) -> None:
        """Give what the checkpoint set to the other nodes, as far as they are there."""
        if not checkpoint.sets:
            return
        place = self._place(checkpoint)
        others = [node.name for node in self._topology.nodes if node.name != place]
        with suppress(LabError):  # nothing was set
            content = self._guest_of(place).get(VARIABLES)

            def give(name: str) -> None:
                with suppress(LabError):
                    self._guest_of(name).put(content, VARIABLES)

            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(give, others))

    # -- taking back -----------------------------------------------------------------------------
    def undo(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Take a checkpoint back. Raises LabError when that does not work."""
        context.progress(str(checkpoint.title))
        self._lately = None
        node = self._place(checkpoint)
        forget = [f"unset -v {' '.join(checkpoint.sets)}"] if checkpoint.sets else []
        if checkpoint.undo:
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
                    hint=tr("mend that by hand, then run the same command again"),
                )
        if forget:
            self._guest_of(node).run(
                f"test ! -e {VARIABLES} || echo {shlex.quote(forget[0])} >>{VARIABLES}"
            )
            self._share(checkpoint)
        self.note(lambda position: position.without(self.lesson, checkpoint))

    # -- proving ---------------------------------------------------------------------------------
    def check(
        self, standing: Sequence[tuple[Checkpoint, list[Claim]]], context: StepContext
    ) -> None:
        """Prove these claims of these checkpoints again; all of them, also after one has failed.

        Where packets have to be looked at, the checkpoint's commands are run once more.
        """
        until = time.monotonic() + CHECK_BUDGET
        with self.prover.one_look():
            self.prover.look_ahead([one for _, claims in standing for one in claims])
            for checkpoint, claims in standing:
                began = time.monotonic()
                result = CheckpointResult(checkpoint.id, str(checkpoint.title))
                self.results.append(result)
                self._console.heading(str(checkpoint.title))
                frames = self._traffic(checkpoint, claims, result, context)
                patience = max(0.0, min(CHECK_PATIENCE, until - time.monotonic()))
                self._prove(claims, result, frames, context, patience)
                result.seconds = time.monotonic() - began

    def _traffic(
        self,
        checkpoint: Checkpoint,
        claims: Sequence[Claim],
        result: CheckpointResult,
        context: StepContext,
    ) -> list[Frame]:
        if not any(claim.probe in CAPTURED for claim in claims):
            return []
        try:
            with self._listening(checkpoint) as frames:
                self._run_commands(checkpoint, self.prover.values(), result, context, checking=True)
        except LabError as error:
            self._console.say(error.message)
            return []
        return frames

    def _prove(
        self,
        claims: Sequence[Claim],
        result: CheckpointResult,
        frames: list[Frame],
        context: StepContext,
        patience: float | None = None,
    ) -> None:
        for claim in claims:
            context.progress(claim.id)
            one = self.prover.prove(claim, frames, context.cancelled, patience)
            result.claims.append(one)
            if one.holds:
                self._console.claim(True, one.text, evidence=one.seen_text)
            else:
                # What is expected, in full, would be the answer to the learner's task.
                expected = one.expected if patience is None else ""
                self._console.claim(False, one.text, expected=expected, seen=one.seen_text)


@contextmanager
def _capturing(taps: Sequence[Tap], guest: Callable[[str], Guest]) -> Iterator[list[Frame]]:
    with capturing(taps, guest) as frames:
        # scapy takes half a second to import: that is over when the commands are. Not sooner, for
        # Python does one thing at a time, and the captures start quicker without it.
        threading.Thread(target=_import_scapy, daemon=True).start()
        yield frames


def _import_scapy() -> None:
    import scapy.contrib.geneve
    import scapy.utils  # noqa: F401
