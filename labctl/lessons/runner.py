"""Runs, checks and undoes the checkpoints of a lesson on a running lab, and notes the position."""

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from labctl.access.capture import Captured, Tap, capturing
from labctl.access.guest import Guest, GuestResult, LateError
from labctl.access.packets import Frame
from labctl.engine.steps import StepContext
from labctl.errors import EXIT_CLAIM, LabError
from labctl.i18n import mark, tr, tr_n
from labctl.lessons.claims import ClaimChecker, ClaimFails
from labctl.lessons.commands import VARIABLES, Commands
from labctl.lessons.faults import sync
from labctl.lessons.model import CAPTURED, OF_COMMANDS, Checkpoint, Claim, Lesson
from labctl.lessons.progress import Answered, Position, read_position, write_position
from labctl.lessons.questions import Questioner
from labctl.lessons.results import CheckpointResult, command_rows
from labctl.lessons.templates import fill
from labctl.lessons.transcript import write_record
from labctl.probes import ReadCache
from labctl.state import LabState
from labctl.terminal.console import Console
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

CHECK_SECONDS = 3.0
"""Seconds that `check` waits for one claim. Short (our choice), for the learner's commands ended a
while ago."""
CHECK_BUDGET = 10.0
"""Seconds that `check` waits for all claims together; after that each claim is asked only once."""


_NOT_PREPARED = mark("cannot prepare {checkpoint} on {node} (exit {code}): {said}")
_NOT_TAKEN_BACK = mark("cannot take back {checkpoint} on {node} (exit {code}): {said}")


def _failed(message: str, checkpoint: Checkpoint, node: str, completed: GuestResult) -> LabError:
    """The error of a command that puts the lab into another state, with its last words."""
    lines = [line for line in (completed.stdout + completed.stderr).splitlines() if line.strip()]
    return LabError(
        tr(
            message,
            checkpoint=checkpoint.id,
            node=node,
            code=completed.returncode,
            said=" / ".join(lines[-3:]),
        ),
        hint=tr(
            "`labctl status` tells what does not run; mend that and run the same"
            " command again, or `labctl reset` puts the whole lab back"
        ),
    )


class Runner:
    """Runs, checks and undoes the checkpoints of one lesson on one lab."""

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
        self.leaves_questions = False
        """Whether `run` leaves the questions to the learner, and does not answer them itself."""
        self.open_questions: frozenset[str] = frozenset()
        """Ids of checkpoints whose question the learner has not answered yet."""
        self._previous: ReadCache | None = None
        """What the proof of the previous checkpoint saw; None if something ran since."""

    def update_position(self, change: Callable[[Position], Position]) -> None:
        """Read the position from disk, change it, and write it back."""
        write_position(self._state, change(read_position(self._state)))

    # -- telling ---------------------------------------------------------------------------------
    def explain(self, checkpoint: Checkpoint) -> str:
        """Show the heading and the explanation of a checkpoint; return the explanation."""
        ids = [other.id for other in self.lesson.checkpoints]
        text = self.checker.fill_text(str(checkpoint.explain))
        self._console.heading(f"{ids.index(checkpoint.id) + 1}/{len(ids)} {checkpoint.title}")
        self._console.explain(text)
        return text

    def task(self, checkpoint: Checkpoint) -> str:
        """What the learner has to do; if the lesson gives no task, the claims that must hold."""
        if checkpoint.task is not None:
            return self.checker.fill_text(str(checkpoint.task))
        values = self.checker.values()
        claims = [f"- {self.checker.fill_text(str(c.text), values)}" for c in checkpoint.claims]
        return "\n".join([tr("Do what it takes to make all of this true:"), "", *claims])

    # -- running ---------------------------------------------------------------------------------
    def break_lab(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Put into the lab what the checkpoint wants mended; not again before it is undone.

        Nothing of it is shown. Raises LabError when one of its commands fails.
        """
        progress = read_position(self._state).progress(self.lesson)
        if not checkpoint.breaks or checkpoint.id in progress.attempted:
            return
        context.progress(str(checkpoint.title))
        self._previous = None
        node = self.commands.node_of(checkpoint)
        self.update_position(lambda position: position.attempting(self.lesson, checkpoint, node))
        for command in checkpoint.breaks:
            place = self.checker.place(command.node) if command.node else node
            script = fill(command.run, self.checker.values(), quoting=True)
            completed = self.commands.shell(checkpoint, place, script, (), context)
            if not completed.ok:
                raise _failed(_NOT_PREPARED, checkpoint, place, completed)
        # So that what is asked next meets the broken lab.
        sync(self._guest_of(self._topology.controller.name))

    def run(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Explain, run and prove a checkpoint.

        Raises LabError when a command fails, ClaimFails when a claim does not hold.
        """
        self.break_lab(checkpoint, context)
        began = time.monotonic()
        result = CheckpointResult(checkpoint.id, str(checkpoint.title))
        self.results.append(result)
        previous, self._previous = self._previous, None
        with self.checker.cached_reads(previous) as before:
            explain = checkpoint.explain.model_dump()  # the record has both languages
            self.checker.prefetch(
                [], [explain, checkpoint.node, *checkpoint.scripts, *checkpoint.capture]
            )
            values = self.checker.values()
            node = self.commands.node_of(checkpoint)
            self.update_position(
                lambda position: position.attempting(self.lesson, checkpoint, node)
            )
            result.explain = self.explain(checkpoint)
            captured: dict[Tap, bytes] = {}
            capture = self._capture(checkpoint, captured)
        try:
            with capture as frames, self._prefetching(checkpoint, before) as meanwhile:
                frames.before = self.checker.counters(checkpoint.claims)
                self.commands.run(checkpoint, values, result, context)
            frames.commands = command_rows(result.commands)
            self.commands.show_frames(captured, result)
            with (
                self.checker.cached_reads(meanwhile) as seen,
                ThreadPoolExecutor(max_workers=1) as pool,
            ):
                sharing = pool.submit(self.commands.share, checkpoint)
                self.checker.prefetch(checkpoint.claims, [explain, *checkpoint.scripts])
                hides = self.leaves_questions and checkpoint.question is not None
                self._prove(checkpoint.claims, result, frames, context, hides=hides)
                sharing.result()
                self._answer(checkpoint, result, frames, context)
                write_record(self._state, self.lesson, checkpoint, result, self.checker)
                self._previous = seen
        finally:
            result.seconds = time.monotonic() - began
        if failed := [claim for claim in result.claims if not claim.holds]:
            raise ClaimFails(failed)
        self.update_position(lambda position: position.passing(self.lesson, checkpoint))

    def _answer(
        self,
        checkpoint: Checkpoint,
        result: CheckpointResult,
        frames: list[Frame],
        context: StepContext,
    ) -> None:
        """Answer the checkpoint's question with what the lab shows, unless it is the learner's.

        Raises LabError with the code of a claim that fails when the lab has no answer.
        """
        if checkpoint.question is None or not result.ok:
            return
        questioner = Questioner(self)
        result.question = questioner.result(checkpoint, "")
        if self.leaves_questions:
            return
        try:
            right = questioner.right(checkpoint, context, frames)
        except LabError as error:
            raise LabError(error.message, hint=error.hint, code=EXIT_CLAIM) from error
        result.question = questioner.result(checkpoint, right)
        self.update_position(
            lambda position: position.answering(
                self.lesson, checkpoint, Answered(text=right, given_up=True)
            )
        )
        self._console.say(tr("question: {text}", text=result.question.text))
        self._console.summary(True, tr("the answer is {answer}", answer=right))
        if result.question.why:
            self._console.explain(result.question.why)

    def _capture(
        self, checkpoint: Checkpoint, contents: dict[Tap, bytes] | None = None
    ) -> AbstractContextManager[Captured]:
        """Captures where the checkpoint says so; `contents` is filled with the pcap files."""
        if not checkpoint.capture:
            return nullcontext(Captured())
        values = self.checker.values()
        taps = [
            Tap(
                self.checker.place(capture.node),
                fill(capture.interface, values).strip(),
                fill(capture.filter, values),
            )
            for capture in checkpoint.capture
        ]
        return _capturing(taps, self._guest_of, contents)

    @contextmanager
    def _prefetching(self, checkpoint: Checkpoint, before: ReadCache) -> Iterator[ReadCache | None]:
        """Ask the claims' probes while the commands run, and give the cache with their rows.

        Only for a checkpoint with captures, whose commands change nothing; else None.
        """
        if not checkpoint.capture:
            yield None
            return
        with (
            self.checker.cached_reads(before) as seen,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            pool.submit(self.checker.prefetch, checkpoint.claims)
            yield seen

    # -- undoing ---------------------------------------------------------------------------------
    def undo(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Undo a checkpoint. Raises LabError when its undo commands fail."""
        context.progress(str(checkpoint.title))
        self._previous = None
        # No longer passed, still begun: if labctl is killed now, the next route undoes it again.
        node = self._begun_on(checkpoint) or self.commands.node_of(checkpoint)
        self.update_position(lambda position: position.attempting(self.lesson, checkpoint, node))
        self.commands.end_background(checkpoint)
        forget = [f"unset -v {' '.join(checkpoint.sets)}"] if checkpoint.sets else []
        if checkpoint.undo:
            script = fill(checkpoint.undo, self.checker.values(), quoting=True)
            try:
                completed = self.commands.shell(checkpoint, node, script, (), context)
            except LateError as error:
                raise LabError(
                    tr(
                        "cannot take back {checkpoint} on {node}: not finished within {seconds} s",
                        checkpoint=checkpoint.id,
                        node=node,
                        seconds=f"{error.result.seconds:.0f}",
                    ),
                    hint=error.hint,
                ) from error
            if not completed.ok:
                raise _failed(_NOT_TAKEN_BACK, checkpoint, node, completed)
        if forget:
            self._guest_of(node).run(
                f"test ! -e {VARIABLES} || echo {shlex.quote(forget[0])} >>{VARIABLES}"
            )
            self.commands.share(checkpoint)
        self.update_position(lambda position: position.without(self.lesson, checkpoint))

    def _begun_on(self, checkpoint: Checkpoint) -> str:
        """The node on which the checkpoint was begun; empty: not known, or not there any more.

        The facts that its name was made of may not be there any more.
        """
        node = read_position(self._state).progress(self.lesson).nodes.get(checkpoint.id, "")
        return node if node in [other.name for other in self._topology.machines] else ""

    # -- proving ---------------------------------------------------------------------------------
    def check(
        self, expected: Sequence[tuple[Checkpoint, list[Claim]]], context: StepContext
    ) -> None:
        """Prove these claims of these checkpoints again; all of them, even after one has failed.

        For claims about captured packets the checkpoint's commands are run once more.
        """
        until = time.monotonic() + CHECK_BUDGET
        count = sum(len(claims) for _, claims in expected)
        self._console.say(
            tr_n(
                "asking the lab about {n} claim; that may take some seconds …",
                "asking the lab about {n} claims; that may take some seconds …",
                n=count,
            )
        )
        with self.checker.cached_reads():
            self.checker.prefetch([claim for _, claims in expected for claim in claims])
            for checkpoint, claims in expected:
                began = time.monotonic()
                result = CheckpointResult(checkpoint.id, str(checkpoint.title))
                self.results.append(result)
                self._console.heading(str(checkpoint.title))
                frames = self.capture_again(checkpoint, claims, result, context)
                time_limit = max(0.0, min(CHECK_SECONDS, until - time.monotonic()))
                hides = checkpoint.id in self.open_questions
                self._prove(claims, result, frames, context, time_limit, hides=hides)
                result.seconds = time.monotonic() - began

    def capture_again(
        self,
        checkpoint: Checkpoint,
        claims: Sequence[Claim],
        result: CheckpointResult,
        context: StepContext,
    ) -> Captured:
        """Run the checkpoint's commands once more, for what they leave and are measured by.

        Not if no claim is about that, or only such as must not be measured again.
        """
        captured = Captured()
        left = [claim for claim in claims if checkpoint.capture and claim.probe in OF_COMMANDS]
        again = [
            claim
            for claim in claims
            if claim.needs_run
            and claim.probe not in CAPTURED
            and not checkpoint.measured_once(claim)
        ]
        if not left and not again:
            return captured
        self._console.say(
            tr("running its commands again, to have packets to look at …")
            if left
            else tr("running its commands again, to measure once more …")
        )
        try:
            with self._capture(checkpoint) as captured:
                captured.before = self.checker.counters(claims)
                self.commands.run(checkpoint, self.checker.values(), result, context, checking=True)
        except LabError as error:
            captured.failure = error.message
        captured.commands = command_rows(result.commands)
        for command in result.commands:
            if command.exit_code:
                captured.not_sent = f"`{command.command.splitlines()[0]}`"
        return captured

    def _overtaking(self, claim: Claim) -> Checkpoint | None:
        """The later checkpoint that made the claim untrue, if the learner has done it already."""
        if not claim.until:
            return None
        later = self.lesson.checkpoint(claim.until)
        # Nothing is captured and measured here to hold other claims against.
        claims = [other for other in later.claims if not other.needs_run]
        done = claims and all(
            self.checker.prove(other, [], time_limit=CHECK_SECONDS).holds or self._overtaking(other)
            for other in claims
        )
        return later if done else None

    def _prove(
        self,
        claims: Sequence[Claim],
        result: CheckpointResult,
        frames: list[Frame],
        context: StepContext,
        time_limit: float | None = None,
        *,
        hides: bool = False,
    ) -> None:
        """`hides`: the evidence of claims that hold may be the answer to an open question."""
        for claim in claims:
            context.progress(claim.id)
            proof = self.checker.prove(claim, frames, context.cancelled, time_limit)
            if time_limit is not None and not proof.holds and (later := self._overtaking(claim)):
                self._console.say(
                    tr("skipped, for “{title}” is done already: {claim}",
                       title=later.title, claim=proof.text)
                )  # fmt: skip
                continue
            result.claims.append(proof)
            if proof.holds:
                self._console.claim(True, proof.text, evidence="" if hides else proof.seen_text)
            else:
                # `check` does not show what is expected: that is the answer to the learner's task.
                expected = proof.expected if time_limit is None else ""
                self._console.claim(False, proof.text, expected=expected, seen=proof.seen_text)


@contextmanager
def _capturing(
    taps: Sequence[Tap], guest: Callable[[str], Guest], contents: dict[Tap, bytes] | None
) -> Iterator[Captured]:
    with capturing(taps, guest, contents) as frames:
        # scapy takes 0.5 s to import, so a thread does that while the commands run. It starts after
        # the captures, which it would slow down: Python runs one thread at a time.
        threading.Thread(target=_import_scapy, daemon=True).start()
        yield frames


def _import_scapy() -> None:
    with suppress(Exception):  # whoever needs it finds the same fault, and reports it
        import_module("scapy.contrib.geneve")
        import_module("scapy.utils")
