"""One lesson on a running lab: runs, checks and takes back its checkpoints, notes the position."""

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from labctl.access.capture import Tap, capturing
from labctl.access.guest import Guest
from labctl.access.packets import Frame
from labctl.engine.steps import StepContext
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lessons.claims import ClaimChecker, ClaimFails
from labctl.lessons.commands import VARIABLES, Commands
from labctl.lessons.model import CAPTURED, Checkpoint, Claim, Lesson
from labctl.lessons.progress import Position, read_position, write_position
from labctl.lessons.results import CheckpointResult
from labctl.lessons.templates import fill
from labctl.lessons.transcript import write_record
from labctl.probes import ReadCache
from labctl.state import LabState
from labctl.terminal.console import Console
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

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
        self.checker = ClaimChecker(lesson.facts, topology, guest, cloud)
        self._console = console
        self.commands = Commands(topology, guest, self.checker, console)
        self.results: list[CheckpointResult] = []
        self._previous: ReadCache | None = None
        """What was seen when the checkpoint before was proved, a moment ago."""

    def note(self, change: Callable[[Position], Position]) -> None:
        """Change the position, on disk."""
        write_position(self._state, change(read_position(self._state)))

    # -- telling ---------------------------------------------------------------------------------
    def explain(self, checkpoint: Checkpoint) -> str:
        """Show the heading and the explanation of a checkpoint; the latter as it was shown."""
        ids = [one.id for one in self.lesson.checkpoints]
        text = self.checker.words(str(checkpoint.explain))
        self._console.heading(f"{ids.index(checkpoint.id) + 1}/{len(ids)} {checkpoint.title}")
        self._console.explain(text)
        return text

    def task(self, checkpoint: Checkpoint) -> str:
        """What the learner is to do; where the lesson gives no task, what is to be true then."""
        if checkpoint.task is not None:
            return self.checker.words(str(checkpoint.task))
        values = self.checker.values()
        wanted = [f"- {self.checker.words(str(one.text), values)}" for one in checkpoint.claims]
        return "\n".join([tr("See to it that this holds:"), "", *wanted])

    # -- running ---------------------------------------------------------------------------------
    def run(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Explain, run, prove. Raises LabError when a command fails, ClaimFails for a claim."""
        began = time.monotonic()
        result = CheckpointResult(checkpoint.id, str(checkpoint.title))
        self.results.append(result)
        self.note(lambda position: position.attempting(self.lesson, checkpoint))
        previous, self._previous = self._previous, None
        with self.checker.cached_reads(previous) as before:
            explain = checkpoint.explain.model_dump()  # the record has both languages
            self.checker.prefetch([], [explain, *checkpoint.run, *checkpoint.capture])
            values = self.checker.values()
            result.explain = self.explain(checkpoint)
            listening = self._listening(checkpoint)
        try:
            with listening as frames, self._looking(checkpoint, before) as meanwhile:
                self.commands.run(checkpoint, values, result, context)
            with (
                self.checker.cached_reads(meanwhile) as seen,
                ThreadPoolExecutor(max_workers=1) as beside,
            ):
                sharing = beside.submit(self.commands.share, checkpoint)
                self.checker.prefetch(checkpoint.claims, [explain, *checkpoint.run])
                self._prove(checkpoint.claims, result, frames, context)
                sharing.result()
                write_record(self._state, self.lesson, checkpoint, result, self.checker)
                self._previous = seen
        finally:
            result.seconds = time.monotonic() - began
        if failed := [claim for claim in result.claims if not claim.holds]:
            raise ClaimFails(failed)
        self.note(lambda position: position.passing(self.lesson, checkpoint))

    def _listening(self, checkpoint: Checkpoint) -> AbstractContextManager[list[Frame]]:
        if not checkpoint.capture:
            return nullcontext([])
        values = self.checker.values()
        taps = [
            Tap(self.checker.node_name(one.node), one.interface, fill(one.filter, values))
            for one in checkpoint.capture
        ]
        return _capturing(taps, self._guest_of)

    @contextmanager
    def _looking(self, checkpoint: Checkpoint, before: ReadCache) -> Iterator[ReadCache | None]:
        """Look at the lab while the commands run, if they change nothing; what was seen then."""
        if not checkpoint.capture:
            yield None
            return
        with (
            self.checker.cached_reads(before) as seen,
            ThreadPoolExecutor(max_workers=1) as beside,
        ):
            beside.submit(self.checker.prefetch, checkpoint.claims)
            yield seen

    # -- taking back -----------------------------------------------------------------------------
    def undo(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Take a checkpoint back. Raises LabError when that does not work."""
        context.progress(str(checkpoint.title))
        self._previous = None
        node = self.commands.node_of(checkpoint)
        forget = [f"unset -v {' '.join(checkpoint.sets)}"] if checkpoint.sets else []
        if checkpoint.undo:
            script = fill(checkpoint.undo, self.checker.values(), quoting=True)
            done = self.commands.shell(node, script, (), context)
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
            self.commands.share(checkpoint)
        self.note(lambda position: position.without(self.lesson, checkpoint))

    # -- proving ---------------------------------------------------------------------------------
    def check(
        self, standing: Sequence[tuple[Checkpoint, list[Claim]]], context: StepContext
    ) -> None:
        """Prove these claims of these checkpoints again; all of them, also after one has failed.

        Where packets have to be looked at, the checkpoint's commands are run once more.
        """
        until = time.monotonic() + CHECK_BUDGET
        with self.checker.cached_reads():
            self.checker.prefetch([one for _, claims in standing for one in claims])
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
                self.commands.run(checkpoint, self.checker.values(), result, context, checking=True)
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
            one = self.checker.prove(claim, frames, context.cancelled, patience)
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
    import_module("scapy.contrib.geneve")
    import_module("scapy.utils")
