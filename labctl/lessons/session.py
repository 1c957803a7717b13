"""What the verbs start, next, check, hint, solve, goto and replay do on a lab.

route.py decides which checkpoints are undone and run; the engine does it, a step for each.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.access.capture import filter_trouble
from labctl.access.guest import Guest
from labctl.engine.steps import RunResult, Step, StepContext
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import current_language, tr, tr_n
from labctl.lessons.course import built_in_course, next_lesson
from labctl.lessons.load import available, load_lesson, source_of
from labctl.lessons.loops import expand
from labctl.lessons.model import CAPTURED, FIRST, Checkpoint, Claim, Lesson
from labctl.lessons.progress import (
    Answered,
    Failing,
    Position,
    checkpoint_number,
    current_checkpoint,
    expected_claims,
    first_open,
    read_position,
    write_failing,
    write_position,
)
from labctl.lessons.questions import (
    Examiner,
    Questioner,
    is_open,
    none_open,
    not_answered,
    open_question,
)
from labctl.lessons.results import LessonOutcome, Preview, TaskOrHint
from labctl.lessons.route import RouteStep, plan_route, with_needs
from labctl.lessons.runner import Runner
from labctl.lessons.transcript import read_records, summary_of, write_record
from labctl.spec.problems import did_you_mean
from labctl.state import LabState
from labctl.terminal.console import Console
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection


class Session:
    """The lessons on one lab, which is up; the caller holds the lab's lock."""

    def __init__(
        self,
        topology: Topology,
        state: LabState,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
        console: Console,
        engine: Callable[[str, list[Step]], RunResult],
        labctl: str = "labctl",
        load: Callable[[str], Lesson] = load_lesson,
    ) -> None:
        """`engine` runs steps one after the other under a title; `labctl` is the command that
        messages tell the learner to type; `load` finds a lesson by an id or a path.
        """
        self._topology = topology
        self._state = state
        self._guest = guest
        self._cloud = cloud
        self._console = console
        self._engine = engine
        self._labctl = labctl
        self._read = load
        self._expanded: dict[int, tuple[Lesson, Lesson]] = {}
        """{id() of a lesson as it was read: that, and with its loops written out for this lab}."""

    # -- verbs -----------------------------------------------------------------------------------
    def replay(self, name: str) -> LessonOutcome:
        """Go to the beginning of a lesson as `start` does, and run all its checkpoints."""
        lesson = self._load(name)
        self._update_position(lambda position: position.with_source(lesson, source_of(name)))
        to_start = self._route(lesson, 0)  # before the position forgets that it was practice
        self._enter(lesson, name, practice=False)
        whole = [RouteStep(lesson, checkpoint, "run") for checkpoint in lesson.checkpoints]
        outcome = self._run_route(lesson, str(lesson.title), [*to_start, *whole])
        if outcome.failure is not None:
            return outcome
        return replace(outcome, words=self._say_summary(lesson))

    def start(self, name: str, *, practice: bool) -> LessonOutcome:
        """Go to the beginning of a lesson: undo what was begun, run the lessons that it needs."""
        lesson = self._load(name)
        self._update_position(lambda position: position.with_source(lesson, source_of(name)))
        outcome = self._run_route(lesson, str(lesson.title), self._route(lesson, 0))
        if outcome.failure is not None:
            return outcome
        self._enter(lesson, name, practice=practice)
        if not outcome.result:
            self._console.heading(str(lesson.title))
        self._console.explain(str(lesson.goal))
        return self._report_next(lesson, outcome)

    def go_on(self, done: Collection[str], *, practice: bool) -> LessonOutcome:
        """Go on in the lesson that was begun; if there is none, start the next of the course.

        `done` are ids of lessons that were done earlier, here or in another lab. Raises LabError
        when this lab can run no lesson that is not done.
        """
        position = self._position()
        if position.current is not None:
            _, lesson = self._current()
            progress = position.progress(lesson)
            if progress.attempted and first_open(lesson, progress) < len(lesson.checkpoints):
                self._enter(lesson, progress.source, practice=True if practice else None)
                self._console.heading(str(lesson.title))
                return self._report_next(lesson, LessonOutcome(lesson, self._position()))
        name = next_lesson(built_in_course(), self._topology, position, done)
        if name is None:
            raise LabError(
                tr("every lesson of the course that this lab can run is done"),
                hint=tr("`{labctl} course` shows what other labs the rest needs;"
                        " `{labctl} start LESSON` begins a lesson anew", labctl=self._labctl),
                code=EXIT_USAGE,
            )  # fmt: skip
        return self.start(name, practice=practice)

    def next(self) -> LessonOutcome:
        """Explain, run and prove the next checkpoint; in practice explain it and set it as a task.

        Raises LabError when no lesson was begun.
        """
        position, lesson = self._current()
        progress = position.progress(lesson)
        if first_open(lesson, progress) == len(lesson.checkpoints):
            return self._report_next(lesson, LessonOutcome(lesson, position))
        if position.practice:
            return self._report_next(lesson, LessonOutcome(lesson, position))
        return self._solve(leaves_questions=True)

    def solve(self) -> LessonOutcome:
        """Run the first checkpoint that is not passed; undo it before if it was begun.

        Its question is answered as well.
        """
        return self._solve(leaves_questions=False)

    def _solve(self, *, leaves_questions: bool) -> LessonOutcome:
        position, lesson = self._current()
        number = first_open(lesson, position.progress(lesson))
        if number == len(lesson.checkpoints):
            return self._report_next(lesson, LessonOutcome(lesson, position))
        route = self._route(lesson, number + 1)
        outcome = self._run_route(
            lesson, str(lesson.title), route, leaves_questions=leaves_questions
        )
        if outcome.failure is not None:
            return outcome
        words: TaskOrHint = {}
        if is_open(checkpoint := lesson.checkpoints[number], self._position().progress(lesson)):
            words = self._examiner(self._runner(lesson)).ask(checkpoint)
        outcome = self._report_next(lesson, outcome, tell=False)
        return replace(outcome, words={**words, **outcome.words})

    def answer(self, given: str = "", *, tell: bool = False) -> LessonOutcome:
        """Compare an answer with the running lab; "" shows the question, `tell` the right answer.

        Raises LabError when no question is open, or the lab cannot tell.
        """
        position, lesson = self._current()
        checkpoint = open_question(lesson, position)
        if checkpoint is None:
            raise none_open(lesson, self._labctl)
        examiner = self._examiner(self._runner(lesson))
        known = position.progress(lesson).answers.get(checkpoint.id, Answered())
        refuted: LabError | None = None
        if tell:
            words = examiner.tell(checkpoint, known)
        elif given.strip():
            words, refuted = examiner.answer(checkpoint, known, given)
        else:
            words = examiner.ask(checkpoint)
        outcome = LessonOutcome(lesson, self._position(), refuted=refuted, words=words)
        if "answer" in words and position.practice:
            self._console.say(tr("next: {command}", command=f"{self._labctl} check"))
        elif "answer" in words:
            outcome = self._report_next(lesson, outcome, tell=False)
            outcome = replace(outcome, words={**words, **outcome.words})
        return outcome

    def _examiner(self, runner: Runner) -> Examiner:
        return Examiner(runner, self._state, self._console, self._update_position, self._labctl)

    def check(self, *, every: bool = False) -> LessonOutcome:
        """Prove the claims of the current checkpoint, or of `every` one up to it.

        When they all hold, the checkpoint is noted as passed.
        """
        position, lesson = self._current()
        progress = position.progress(lesson)
        upto = current_checkpoint(lesson, progress, practice=position.practice)
        checkpoint = lesson.checkpoints[upto]
        runner = self._runner(lesson)
        claims = [
            (owner, self._repeatable(runner, owner, expected))
            for owner, expected in expected_claims(lesson, upto, 0 if every else upto)
        ]
        runner.open_questions = frozenset(
            each.id for each in lesson.checkpoints if is_open(each, progress)
        )
        runner.check(claims, StepContext("check"))
        failing = [c for result in runner.results for c in result.claims if not c.holds]
        texts = {claim.id: claim.text for claim in failing}
        write_failing(self._state, Failing(lesson.id, checkpoint.id, time.time(), texts))
        count = sum(len(result.claims) for result in runner.results)
        refuted = None
        if failing:
            self._console.say()
            message = tr_n(
                "{n} of {count} claims does not hold",
                "{n} of {count} claims do not hold",
                n=len(failing),
                count=count,
            )
            refuted = LabError(
                message if count > 1 else tr("the claim does not hold"),
                hint=tr(
                    "`{labctl} hint` helps, `{labctl} solve` does it; if that cannot,"
                    " `{labctl} reset` begins anew with a clean lab",
                    labctl=self._labctl,
                ),
                code=EXIT_CLAIM,
            )
            return LessonOutcome(lesson, position, checkpoints=runner.results, refuted=refuted)
        text = tr("all {count} claims hold", count=count) if count > 1 else tr("the claim holds")
        if count == 0:
            text = tr("nothing of this step is left to prove")
        self._console.summary(True, text)
        words: TaskOrHint = {}
        asks = checkpoint.question is not None
        if upto == first_open(lesson, progress):
            if position.practice and is_open(checkpoint, progress):
                words = self._examiner(runner).ask(checkpoint)
                refuted = not_answered(self._labctl)
                return LessonOutcome(lesson, position, checkpoints=runner.results,
                                     refuted=refuted, words=words)  # fmt: skip
            with runner.checker.cached_reads():
                runner.commands.set_variables(checkpoint)
                if asks:
                    known = progress.answers.get(checkpoint.id, Answered())
                    runner.results[-1].question = Questioner(runner).result(checkpoint, known.text)
                write_record(self._state, lesson, checkpoint, runner.results[-1], runner.checker)
                if asks:
                    pass  # the answer tells that the learner has looked
                elif position.practice and checkpoint.only_looks:
                    words = self._say_commands(runner, checkpoint)
                elif position.practice and checkpoint.id in progress.held:
                    words = self._say_held(runner, checkpoint)
            self._update_position(lambda position: position.passing(lesson, checkpoint))
        outcome = LessonOutcome(lesson, self._position(), checkpoints=runner.results)
        outcome = self._report_next(lesson, outcome, tell=False)
        return replace(outcome, words={**words, **outcome.words})

    def _repeatable(
        self, runner: Runner, checkpoint: Checkpoint, claims: Sequence[Claim]
    ) -> list[Claim]:
        """The claims that can be asked again; says which are left out, and why."""
        for claim in claims:
            if checkpoint.measured_once(claim):
                text = runner.checker.fill_text(str(claim.text))
                self._console.say(
                    tr("not asked again, for it was measured while the commands ran: {claim}",
                       claim=text)
                )  # fmt: skip
        return [claim for claim in claims if not checkpoint.measured_once(claim)]

    def hint(self) -> LessonOutcome:
        """Show one more hint for the checkpoint that the learner has to do."""
        position, lesson = self._current()
        number = first_open(lesson, position.progress(lesson))
        if number == len(lesson.checkpoints):
            return self._report_next(lesson, LessonOutcome(lesson, position))
        checkpoint = lesson.checkpoints[number]
        if not checkpoint.hints:
            self._console.say(tr("this checkpoint has no hints"))
            self._say_solve()
            return LessonOutcome(lesson, position, words={"hint": None})
        self._update_position(lambda position: position.hinted(lesson, checkpoint))
        position = self._position()
        given = position.progress(lesson).hints[checkpoint.id]
        text = self._runner(lesson).checker.fill_text(str(checkpoint.hints[given - 1]))
        of = len(checkpoint.hints)
        self._console.heading(tr("hint {n} of {of}: {title}", n=given, of=of,
                                 title=checkpoint.title))  # fmt: skip
        self._console.explain(text)
        if given == of:
            self._say_solve()
        return LessonOutcome(lesson, position, words={"hint": text, "number": given, "of": of})

    def preview(self) -> Preview | None:
        """The first checkpoint that is not passed, as `next` will run it; changes nothing.

        None when no lesson was begun, or its end is reached. Raises LabError when the lab does not
        answer what the texts ask it.
        """
        position = self._position()
        if position.current is None:
            return None
        lesson = self._load(position.lessons[position.current].source)
        number = first_open(lesson, position.progress(lesson))
        if number == len(lesson.checkpoints):
            return None
        checkpoint, runner = lesson.checkpoints[number], self._runner(lesson)
        with runner.checker.cached_reads():
            explain = runner.checker.fill_text(str(checkpoint.explain))
            if position.practice:
                task, question = runner.task(checkpoint), Questioner(runner).text(checkpoint)
                return Preview(lesson.id, checkpoint.id, explain, task, question=question)
            values = runner.checker.values()
            commands = list(runner.commands.of(checkpoint, values))
        return Preview(lesson.id, checkpoint.id, explain, commands=commands)

    def goto(self, target: str) -> LessonOutcome:
        """Go to where a checkpoint is the next one: run what is missing, undo what is too much.

        `target` is LESSON, LESSON/CHECKPOINT, or CHECKPOINT of the current lesson.
        """
        name, lesson, number = self._target(target)
        self._update_position(lambda position: position.with_source(lesson, source_of(name)))
        outcome = self._run_route(lesson, str(lesson.title), self._route(lesson, number))
        if outcome.failure is not None:
            return outcome
        self._enter(lesson, name, practice=None)
        return self._report_next(lesson, outcome)

    # -- position and route ----------------------------------------------------------------------
    def _target(self, target: str) -> tuple[str, Lesson, int]:
        """What a target of `goto` names: the lesson's name, the lesson, index of the checkpoint."""
        lesson_name, _, checkpoint_id = target.rpartition("/")
        if target not in available() and (begun := self._position().lessons.get(target)):
            return begun.source, self._load(begun.source), 0
        if target in available() or Path(target).exists():
            return target, self._load(target), 0
        if not lesson_name:
            position = self._position()
            if position.current is not None:
                name = position.lessons[position.current].source
                lesson = self._load(name)
                if target in [checkpoint.id for checkpoint in lesson.checkpoints]:
                    return name, lesson, checkpoint_number(lesson, target)
                try:
                    return target, self._load(target), 0
                except LabError:
                    if not Path(target).suffix and not did_you_mean(target, available()):
                        checkpoint_number(lesson, target)  # raises what names the checkpoints
                    raise
            return target, self._load(target), 0  # raises the error that lists the lessons
        begun = self._position().lessons.get(lesson_name)
        if begun is not None:  # a lesson of one's own has no id that finds its file
            lesson_name = begun.source
        lesson = self._load(lesson_name)
        return lesson_name, lesson, checkpoint_number(lesson, checkpoint_id)

    def _find(self, name: str) -> Lesson:
        return self._expand(self._read(name))

    def _expand(self, lesson: Lesson) -> Lesson:
        # Always the same object for the same lesson: routes compare them.
        known = self._expanded.setdefault(id(lesson), (lesson, expand(lesson, self._topology)))
        return known[1]

    def _load(self, name: str) -> Lesson:
        read = self._read(name)
        read.require(self._topology)
        lesson = self._expand(read)
        self._refuse_namesake(lesson, source_of(name))
        return lesson

    def _refuse_namesake(self, lesson: Lesson, source: str) -> None:
        """Raises LabError when something of another lesson with this id was begun.

        Its checkpoints could not be taken back any more. A file that was moved is no other.
        """
        begun = self._position().lessons.get(lesson.id)
        if begun is None or not begun.attempted or begun.source == source:
            return
        if begun.source in available() or _is_another_file(begun.source, source):
            raise LabError(
                tr("the lesson {source} was begun, and its id is {id}, too",
                   source=begun.source, id=lesson.id),
                hint=tr("give {file} another id", file=source),
                code=EXIT_USAGE,
            )  # fmt: skip

    def _position(self) -> Position:
        return read_position(self._state)

    def _update_position(self, change: Callable[[Position], Position]) -> None:
        write_position(self._state, change(self._position()))

    def _enter(self, lesson: Lesson, name: str, practice: bool | None) -> None:
        self._update_position(lambda position: position.entered(lesson, source_of(name), practice))

    def _current(self) -> tuple[Position, Lesson]:
        position = self._position()
        if position.current is None:
            first = FIRST[self._topology.stack]
            raise LabError(
                tr("no lesson was begun"),
                hint=tr("begin with `{labctl} start {lesson}`", labctl=self._labctl, lesson=first),
                code=EXIT_USAGE,
            )
        return position, self._load(position.lessons[position.current].source)

    def _route(self, lesson: Lesson, number: int) -> list[RouteStep]:
        needs = with_needs(lesson, self._load)[:-1]
        begun = []
        for id, progress in self._position().lessons.items():
            if id == lesson.id or not progress.attempted:
                continue
            try:
                begun.append(self._find(progress.source))
            except LabError as error:
                text = tr("lesson {id} cannot be taken back: {why}", id=id, why=error.message)
                self._console.say(text)
                self._update_position(lambda position, id=id: position.forgetting(id))  # type: ignore[misc]
        return plan_route(self._position(), lesson, number, begun, needs)

    # -- running ---------------------------------------------------------------------------------
    def _runner(self, lesson: Lesson) -> Runner:
        return Runner(lesson, self._topology, self._state, self._guest, self._cloud, self._console)

    def _run_route(
        self,
        lesson: Lesson,
        title: str,
        route: Sequence[RouteStep],
        *,
        leaves_questions: bool = False,
    ) -> LessonOutcome:
        """Run and undo the checkpoints of a route in order, up to the first that fails."""
        if not route:
            return LessonOutcome(lesson, self._position())
        self._refuse_filters(route)
        runners = {route_step.lesson.id: self._runner(route_step.lesson) for route_step in route}
        if leaves_questions and lesson.id in runners:
            runners[lesson.id].leaves_questions = True
        undone: list[str] = []
        steps: list[Step] = []
        for route_step in route:
            runner, checkpoint = runners[route_step.lesson.id], route_step.checkpoint
            full_id = f"{route_step.lesson.id}/{checkpoint.id}"
            if route_step.direction == "undo":
                id, text = f"undo:{full_id}", tr("take back: {title}", title=checkpoint.title)
                work = partial(_undo, runner, checkpoint, undone, full_id)
            elif route_step.direction == "clear":
                id = f"clear:{full_id}"
                text = tr("make sure that nothing is there: {title}", title=checkpoint.title)
                work = partial(runner.undo, checkpoint)
            else:
                id = checkpoint.id if route_step.lesson is lesson else full_id
                text, work = str(checkpoint.title), partial(runner.run, checkpoint)
            steps.append(Step(id, text, work, needs=(steps[-1].id,) if steps else ()))
        result = self._engine(_run_title(title, route), steps)
        for failure in result.failed:
            failure.hint = self._with_reset(failure.hint)
        self._forget_undone(lesson)
        results = [result for runner in runners.values() for result in runner.results]
        return LessonOutcome(lesson, self._position(), result, results, undone)

    def _refuse_filters(self, route: Sequence[RouteStep]) -> None:
        """Raise SpecError, before anything changes, for filters that tcpdump does not take."""
        controller = self._guest(self._topology.controller.name)
        trouble = cache(partial(filter_trouble, controller))
        for lesson in {step.lesson.id: step.lesson for step in route}.values():
            run = {s.checkpoint.id for s in route if s.lesson is lesson and s.direction == "run"}
            lesson.require_filters(run, self._topology, trouble)

    def _forget_undone(self, lesson: Lesson) -> None:
        """Remove the lessons that are wholly undone from the position, except this one."""
        for id, progress in self._position().lessons.items():
            if id != lesson.id and not progress.attempted:
                self._update_position(lambda position, id=id: position.forgetting(id))  # type: ignore[misc]

    def _report_next(
        self, lesson: Lesson, outcome: LessonOutcome, *, tell: bool = True
    ) -> LessonOutcome:
        """Show which checkpoint is next; in practice set it as a task, unless `tell` is false."""
        position = self._position()
        number = first_open(lesson, position.progress(lesson))
        words: TaskOrHint = {}
        if number == len(lesson.checkpoints):
            words = self._say_summary(lesson)
            self._say_next("course", tr("the lesson is done"))
        elif position.practice and tell:
            words = self._set_task(lesson, lesson.checkpoints[number])
        else:
            self._say_next("next", f"{number + 1}/{len(lesson.checkpoints)} "
                           f"{lesson.checkpoints[number].title}")  # fmt: skip
        return LessonOutcome(
            lesson,
            self._position(),
            outcome.result,
            outcome.checkpoints,
            outcome.undone,
            None,
            words,
        )

    def _set_task(self, lesson: Lesson, checkpoint: Checkpoint) -> TaskOrHint:
        runner = self._runner(lesson)
        runner.break_lab(checkpoint, StepContext("task"))
        # Note it as begun now: what the learner does from here on may have to be undone.
        with runner.checker.cached_reads():
            node, instance = runner.commands.place_of(checkpoint)
            self._update_position(lambda position: position.attempting(lesson, checkpoint, node))
            # Commands and claims of a run before would be taken for those of this one.
            self._state.record(lesson.id, checkpoint.id).unlink(missing_ok=True)
            explanation = runner.explain(checkpoint)
            task = runner.task(checkpoint)
        self._console.heading(tr("your task"))
        self._console.explain(task)
        asks = checkpoint.question is not None
        if checkpoint.only_looks and not asks:
            # Its claims hold already, so `check` passes even if the learner has done nothing.
            self._console.explain(
                tr(
                    "There is nothing to change here, only something to look at. `{check}` checks"
                    " the lab; it cannot know whether you have looked.",
                    check=f"{self._labctl} check",
                )
            )
        held = not checkpoint.only_looks and self._holds(runner, checkpoint)
        self._update_position(lambda position: position.holding(lesson, checkpoint, held))
        if held and not asks:
            self._console.explain(
                tr(
                    "All of this holds already: somebody did it before, or the lesson cannot tell."
                    " `{check}` will pass, whatever you do.",
                    check=f"{self._labctl} check",
                )
            )
        question = self._examiner(runner).ask(checkpoint) if asks else {}
        labctl = self._labctl
        login = node if instance is None else instance.name
        self._console.say(tr("log in: {command}", command=f"{labctl} ssh {login}"))
        self._console.say(
            tr("done? {check}   stuck? {hint}", check=f"{labctl} check", hint=f"{labctl} hint")
        )
        return {
            "checkpoint": checkpoint.id,
            "explain": explanation,
            "task": task,
            "node": node,
            "only_looks": checkpoint.only_looks,
            "held_before": held,
            **question,
        }

    def _say_summary(self, lesson: Lesson) -> TaskOrHint:
        """Show what the lesson says at its end, as it was filled in when its end was reached."""
        summary = summary_of(lesson, read_records(self._state, lesson))
        if not summary:
            return {}
        text = summary[current_language()]
        self._console.heading(tr("Summary"))
        self._console.explain(text)
        return {"summary": text}

    def _say_commands(self, runner: Runner, checkpoint: Checkpoint) -> TaskOrHint:
        """Show the commands of a checkpoint that only looks, which the learner may not have run."""
        values = runner.checker.values()
        listening = runner.commands.listening(checkpoint, values)
        behind = [(prompt, f"{c} &") for _, prompt, c in runner.commands.behind(checkpoint, values)]
        commands = [*listening, *behind, *runner.commands.of(checkpoint, values)]
        self._console.say(
            tr("There was nothing to change. These commands show what there is to see:")
        )
        for prompt, command in commands:
            self._console.command(command, prompt)
        return {"only_looks": True, "commands": [command for _, command in commands]}

    def _holds(self, runner: Runner, checkpoint: Checkpoint) -> bool:
        """Whether all claims of a checkpoint hold now; the first that fails is the last asked."""
        # What the APIs and databases say is asked first: it takes no waiting for an answer.
        claims = sorted(checkpoint.claims, key=lambda claim: claim.probe.startswith("wire."))
        if any(claim.needs_run and claim.probe not in CAPTURED for claim in claims):
            return False  # only a run can tell
        with runner.checker.cached_reads():
            return all(runner.checker.prove(claim, [], time_limit=0.0).holds for claim in claims)

    def _say_held(self, runner: Runner, checkpoint: Checkpoint) -> TaskOrHint:
        """Show the commands of a checkpoint whose claims held before the learner began."""
        commands = list(runner.commands.of(checkpoint, runner.checker.values()))
        self._console.say(
            tr("All of this held before, so it does not tell what you did. The lesson would run:")
        )
        for prompt, command in commands:
            self._console.command(command, prompt)
        return {"held_before": True, "commands": [command for _, command in commands]}

    def _say_next(self, verb: str, text: str) -> None:
        self._console.say()
        self._console.say(text)
        self._console.say(tr("next: {command}", command=f"{self._labctl} {verb}"))

    def _with_reset(self, hint: str) -> str:
        """A hint that also names the last resort."""
        if "labctl reset" in hint:
            return hint
        last = tr(
            "if nothing else helps: `{command}` begins anew with a clean lab",
            command=f"{self._labctl} reset",
        )
        return tr("{hint}; {last}", hint=hint, last=last) if hint else last

    def _say_solve(self) -> None:
        self._console.say(tr("to let labctl do it: {command}", command=f"{self._labctl} solve"))
        self._console.say(
            tr("to begin anew with a clean lab: {command}", command=f"{self._labctl} reset")
        )


def _run_title(title: str, route: Sequence[RouteStep]) -> str:
    """What the engine's summary ("… · 11 done") is about: not the lesson if all is taken back."""
    count = sum(step.direction == "undo" for step in route)
    if not any(step.direction == "run" for step in route):
        return tr("take back what was begun")
    if count == 0:
        return title
    return tr_n(
        "{title} ({n} checkpoint taken back first)",
        "{title} ({n} checkpoints taken back first)",
        n=count,
        title=title,
    )


def _undo(
    runner: Runner, checkpoint: Checkpoint, undone: list[str], full_id: str, context: StepContext
) -> None:
    runner.undo(checkpoint, context)
    undone.append(full_id)


def _is_another_file(begun: str, now: str) -> bool:
    """Whether both exist and are not the same file; a directory stands for its lesson.yaml."""
    before, after = (
        path / "lesson.yaml" if path.is_dir() else path for path in (Path(begun), Path(now))
    )
    return before.is_file() and after.is_file() and not before.samefile(after)
