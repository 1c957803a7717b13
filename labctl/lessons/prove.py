"""`labctl prove`: tries whether the claims of a lesson tell what they say they tell.

Every checkpoint is run, taken back, and solved in practice, and its claims are asked in between;
then faults are put into the lab, one after the other.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, get_args

from labctl.access.guest import Guest
from labctl.engine.steps import RunResult, Step, StepContext, StepFailed
from labctl.errors import EXIT_CLAIM, Cancelled, LabError
from labctl.i18n import Language, tr
from labctl.lessons.claims import ClaimFails
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.faults import FaultKeeper, sync
from labctl.lessons.load import load_lesson
from labctl.lessons.loops import expand
from labctl.lessons.model import Checkpoint, Claim, Fault, Lesson, Text
from labctl.lessons.progress import checkpoint_number, expected_claims
from labctl.lessons.proof import Asked, Phase, Proof, Subject, digest_of, write_proof
from labctl.lessons.results import CheckpointResult
from labctl.lessons.runner import Runner
from labctl.lessons.session import Session
from labctl.state import LabState
from labctl.terminal.console import make_console
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

FAIL_SECONDS = 20.0
"""Seconds in a container that a claim has to fail, after a checkpoint was taken back or with a
fault in the lab: OVN needs about one, Neutron some more."""
DEADLINE = 3600.0
"""Seconds in a container for one lesson: the longest built-in one took 20 minutes on two cores."""


@dataclass(frozen=True)
class Bench:
    """The lab that a lesson is proved in; the caller holds its lock."""

    topology: Topology
    state: LabState
    guest: Callable[[str], Guest]
    """Finds a node's handle by the node's name."""
    cloud: "Callable[[], Connection]"
    load: Callable[[str], Lesson] = load_lesson


class Prover:
    """Proves one lesson in one lab. `steps` are for the engine, one after the other."""

    def __init__(
        self,
        name: str,
        bench: Bench,
        chosen: Sequence[str] = (),
        seconds: float = DEADLINE,
    ) -> None:
        """`chosen`: ids of the checkpoints to prove; none stands for all of them, and the faults.

        `seconds` is the deadline in a container. Raises LabError for an unknown lesson or
        checkpoint, SpecError for a lesson that is wrong.
        """
        lesson = bench.load(name)
        lesson.require(bench.topology)
        self.lesson = expand(lesson, bench.topology)
        self._name = name
        self._bench = bench
        ids = [checkpoint.id for checkpoint in self.lesson.checkpoints]
        for id in chosen:
            checkpoint_number(self.lesson, id)
        self._chosen = list(chosen) or ids
        last = ids[-1]
        self._faults = {
            id: [f for f in self.lesson.faults if (f.after or last) == id] for id in self._chosen
        }
        # What is explained and printed meanwhile is the learner's; the console shows the steps.
        self._silent = make_console(no_color=True, stdout=io.StringIO())
        self.runner = Runner(
            self.lesson, bench.topology, bench.state, bench.guest, bench.cloud, self._silent
        )
        self._keeper = FaultKeeper(bench.state, bench.guest)
        factor = bench.guest(bench.topology.controller.name).timeout_factor
        self._seconds = seconds * factor
        self._until = 0.0
        self._began = time.monotonic()
        self.proof = Proof(
            self.lesson.id,
            digest_of(self.lesson),
            bench.topology.lab,
            time.time(),
            whole=set(self._chosen) == set(ids),
        )

    # -- what is done ----------------------------------------------------------------------------
    def steps(self) -> list[Step]:
        """One step for going to the lesson's beginning, one for each checkpoint and each fault."""
        self._began = time.monotonic()
        self._until = self._began + self._seconds
        steps: list[Step] = []

        def add(id: str, title: str, work: Callable[[StepContext], None]) -> None:
            needs = (steps[-1].id,) if steps else ()
            steps.append(Step(f"prove:{id}", title, partial(self._in_time, work), needs))

        add("start", tr("go to the beginning of the lesson"), self._start)
        for checkpoint in self.lesson.checkpoints:
            if checkpoint.id in self._chosen:
                add(checkpoint.id, str(checkpoint.title), partial(self._prove, checkpoint))
            else:
                add(checkpoint.id, str(checkpoint.title), partial(self._run, checkpoint))
            for fault in self._faults.get(checkpoint.id, ()):
                # What facts say is not known before their checkpoint has run.
                early = fault.id if "fact." in str(fault.text) else self._text(fault.text)
                title = tr("fault: {text}", text=early)
                add(f"fault:{fault.id}", title, partial(self._break, checkpoint, fault))
        return steps

    def end(self, result: RunResult | None) -> Proof:
        """Take back a fault that is still in the lab, leave practice, and keep what was found.

        `result` is the engine's; None when it was interrupted. Raises LabError when the fault
        cannot be taken back.
        """
        try:
            self._keeper.close()
        finally:
            self.runner.update_position(
                lambda position: position.entered(
                    self.lesson, position.progress(self.lesson).source, practice=False
                )
            )
            self.proof.seconds = time.monotonic() - self._began
            if result is None or result.cancelled:
                self.proof.failure = tr("interrupted")
            elif result.failed:
                self.proof.failure = result.failed[0].message
            if self.proof.asked:
                write_proof(self._bench.state, self.proof)
        return self.proof

    def _in_time(self, work: Callable[[StepContext], None], context: StepContext) -> None:
        timed = _Timed(context, self._until)
        try:
            work(timed)
        except Cancelled:
            if context.cancelled():
                raise
            raise LabError(
                tr("not finished within {seconds} s", seconds=f"{self._seconds:.0f}"),
                hint=tr("`--deadline SECONDS` gives it more time"),
            ) from None
        finally:  # should labctl be killed, what was found so far is not lost
            if self.proof.asked:
                unfinished = replace(self.proof, failure=tr("interrupted"))
                write_proof(self._bench.state, unfinished)

    def _session(self, context: StepContext) -> Session:
        """The verbs as a learner has them, silent, with their steps run within this step."""

        def run_here(_title: str, steps: list[Step]) -> RunResult:
            done: list[str] = []
            for step in steps:
                if context.cancelled():
                    raise Cancelled
                try:
                    step.run(context)
                except LabError as error:
                    failed = StepFailed(step, error)
                    rest = tuple(other.id for other in steps[len(done) + 1 :])
                    return RunResult(tuple(done), (), (failed,), rest, 0.0)
                done.append(step.id)
            return RunResult(tuple(done), (), (), (), 0.0)

        bench = self._bench
        return Session(
            bench.topology, bench.state, bench.guest, bench.cloud, self._silent, run_here,
            load=bench.load,
        )  # fmt: skip

    # -- checkpoints -----------------------------------------------------------------------------
    def _start(self, context: StepContext) -> None:
        outcome = self._session(context).start(self._name, practice=True)
        if outcome.failure is not None:
            raise outcome.failure
        # The claims of a checkpoint that only looks hold thanks to earlier ones: they are asked
        # before any of these.
        for checkpoint in self.lesson.checkpoints:
            if checkpoint.id in self._chosen and checkpoint.only_looks:
                context.progress(checkpoint.id)
                self._ask(checkpoint.id, "before", [(checkpoint, checkpoint.claims)], context)

    def _run(self, checkpoint: Checkpoint, context: StepContext) -> None:
        """Run a checkpoint that others need, and that is not to be proved itself."""
        self.runner.run(checkpoint, context)

    def _prove(self, checkpoint: Checkpoint, context: StepContext) -> None:
        self.proof.checkpoints.append(Subject(checkpoint.id, self._both(checkpoint.title)))
        self.runner.break_lab(checkpoint, context)
        if not checkpoint.only_looks:
            self._progress(context, checkpoint, tr("before"))
            self._ask(checkpoint.id, "before", [(checkpoint, checkpoint.claims)], context)
        if checkpoint.breaks:  # its undo alone mends the lab
            self._progress(context, checkpoint, tr("undone"))
            self.runner.undo(checkpoint, context)
            self._ask(checkpoint.id, "undone", [(checkpoint, checkpoint.claims)], context)
        self._progress(context, checkpoint, tr("after"))
        self._note_results(checkpoint, "after", self._run_for_results(checkpoint, context))
        self._progress(context, checkpoint, tr("undone"))
        self.runner.undo(checkpoint, context)
        if not checkpoint.only_looks and not checkpoint.breaks:
            self._ask(checkpoint.id, "undone", [(checkpoint, checkpoint.claims)], context)
        self._progress(context, checkpoint, tr("solved"))
        session = self._session(context)
        session.next()  # sets the task
        outcome = session.solve()
        if outcome.failure is not None and not _refuted(outcome.failure):
            raise outcome.failure
        self._note_results(checkpoint, "solved", outcome.checkpoints[-1].claims)
        if outcome.failure is not None:
            raise outcome.failure  # nothing can stand on it

    def _run_for_results(
        self, checkpoint: Checkpoint, context: StepContext
    ) -> Sequence[ClaimResult]:
        with suppress(ClaimFails):  # the results say so
            self.runner.run(checkpoint, context)
        return self.runner.results[-1].claims

    def _note_results(
        self, checkpoint: Checkpoint, phase: Phase, results: Sequence[ClaimResult]
    ) -> None:
        for result in results:
            self._note(checkpoint.id, phase, result, True)

    def _progress(self, context: StepContext, checkpoint: Checkpoint, phase: str) -> None:
        if context.cancelled():
            raise Cancelled
        context.progress(tr("{checkpoint}: {phase}", checkpoint=checkpoint.id, phase=phase))

    # -- faults ----------------------------------------------------------------------------------
    def _break(self, checkpoint: Checkpoint, fault: Fault, context: StepContext) -> None:
        self.proof.faults.append(Subject(fault.id, self._both(fault.text)))
        number = checkpoint_number(self.lesson, checkpoint.id)
        claims = list(expected_claims(self.lesson, number))
        controller = self._bench.guest(self._bench.topology.controller.name)
        context.progress(tr("putting it into the lab"))
        with self.runner.checker.cached_reads():
            node = self.runner.checker.place(fault.node or "controller")
            values = self.runner.checker.values()
            self._keeper.inject(self.lesson, fault, node, values)
        try:
            sync(controller)
            self._ask(fault.id, "fault", claims, context, fault)
        finally:
            context.progress(tr("taking it back"))
            self._keeper.take_back()
            sync(controller)
        failed = [
            (other, [claim for claim in asked if claim.id in (*fault.fails, *fault.either)])
            for other, asked in claims
        ]
        self._ask(fault.id, "mended", failed, context)

    # -- asking ----------------------------------------------------------------------------------
    def _ask(
        self,
        subject: str,
        phase: Phase,
        claims: Sequence[tuple[Checkpoint, Sequence[Claim]]],
        context: StepContext,
        fault: Fault | None = None,
    ) -> None:
        """Ask claims, and note which hold. Each has some time to be as it must be."""
        # What was measured in a run that changes the lab cannot be asked without one more.
        claims = [
            (owner, [claim for claim in group if not owner.measured_once(claim)])
            for owner, group in claims
        ]
        expected = {
            claim.id: _expected(owner, claim, phase, fault)
            for owner, group in claims
            for claim in group
        }
        # Before a checkpoint that breaks nothing, nothing changed: all is asked once.
        changed = phase != "before" or any(owner.breaks for owner, _ in claims)
        patience = FAIL_SECONDS if changed else 0.0
        until = time.monotonic() + patience * self._factor
        open_claims = [(checkpoint, list(group)) for checkpoint, group in claims]
        results: dict[str, ClaimResult] = {}
        while True:
            for checkpoint, result in self._look(open_claims, expected, context):
                results[result.id] = result
                context.progress(tr("{checkpoint}: {phase}", checkpoint=checkpoint.id,
                                    phase=result.id))  # fmt: skip
            open_claims = [
                (
                    checkpoint,
                    [c for c in group if expected[c.id] not in (None, results[c.id].holds)],
                )
                for checkpoint, group in open_claims
            ]
            if not any(group for _, group in open_claims) or time.monotonic() >= until:
                break
        for id, result in results.items():
            self._note(subject, phase, result, expected[id])

    def _look(
        self,
        claims: Sequence[tuple[Checkpoint, Sequence[Claim]]],
        expected: Mapping[str, bool | None],
        context: StepContext,
    ) -> Iterator[tuple[Checkpoint, ClaimResult]]:
        """Ask each claim once more; one that must hold as long as it may take to come true."""
        checker = self.runner.checker
        with checker.cached_reads():
            checker.prefetch([claim for _, group in claims for claim in group])
            for checkpoint, group in claims:
                if not group:
                    continue
                if context.cancelled():
                    raise Cancelled
                again = CheckpointResult(checkpoint.id, str(checkpoint.title))
                frames = self.runner.capture_again(checkpoint, group, again, context)
                for claim in group:
                    limit = None if expected[claim.id] else 0.0
                    yield checkpoint, checker.prove(claim, frames, context.cancelled, limit)

    def _note(self, subject: str, phase: Phase, result: ClaimResult, expected: bool | None) -> None:
        seen = result.seen_text if expected not in (None, result.holds) else ""
        self.proof.asked.append(Asked(subject, phase, result.id, expected, result.holds, seen))

    @property
    def _factor(self) -> int:
        return self._bench.guest(self._bench.topology.controller.name).timeout_factor

    def _text(self, text: Text) -> str:
        return self.runner.checker.fill_text(str(text))

    def _both(self, text: Text) -> dict[str, str]:
        fill = self.runner.checker.fill_text
        return {language: fill(text.said_in(language)) for language in get_args(Language)}


class _Timed(StepContext):
    """A step's context that is cancelled also when a deadline has passed."""

    def __init__(self, context: StepContext, until: float) -> None:
        super().__init__(context.id, context.node)
        self._context = context
        self._until = until

    def progress(self, message: str) -> None:
        self._context.progress(message)

    def cancelled(self) -> bool:
        return self._context.cancelled() or time.monotonic() >= self._until


def _expected(
    checkpoint: Checkpoint, claim: Claim, phase: Phase, fault: Fault | None
) -> bool | None:
    """Whether a claim must hold; None: it may or may not."""
    if fault is not None:
        return None if claim.id in fault.either else claim.id not in fault.fails
    if phase == "undone" and checkpoint.breaks:
        return True
    if phase in ("before", "undone"):
        return None if claim.holds_before is not None else False
    return True


def _refuted(error: LabError) -> bool:
    cause = getattr(error, "cause", error)
    return getattr(cause, "code", None) == EXIT_CLAIM
