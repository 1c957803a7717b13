"""Questions about checkpoints: what the running lab answers, and whether a learner said the same.

The right answer is asked of the lab whenever something is answered: it is kept nowhere before.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from labctl.access.packets import Frame
from labctl.engine.steps import StepContext
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import mark, tr, tr_list
from labctl.lessons.matching import plain
from labctl.lessons.model import Answer, Checkpoint, Lesson, Question
from labctl.lessons.progress import Answered, Position, Progress, first_open
from labctl.lessons.results import CheckpointResult, QuestionResult, TaskOrHint
from labctl.lessons.templates import fill
from labctl.lessons.transcript import note_answer
from labctl.state import LabState
from labctl.terminal.console import Console
from labctl.terminal.text import one_line

if TYPE_CHECKING:
    from labctl.lessons.runner import Runner

TRIES_BEFORE_HINT = 2
"""Wrong answers to a question after which the lesson's hint is shown (our choice)."""
LONGEST_ANSWER = 200
"""Characters of an answer."""

Kind = Literal["number", "address", "mac", "word"]
_KINDS = {
    "number": mark("is no number: {text}"),
    "address": mark("is no IP address: {text}"),
    "mac": mark("is no MAC address: {text}"),
    "word": mark("is empty: {text}"),
}
"""What is said of an answer that cannot be read."""


# -- comparing, pure -------------------------------------------------------------------------------
class NotReadableError(LabError):
    """A text is no answer of its kind, so it is neither right nor wrong."""


def _not_readable(kind: Kind, text: str) -> NotReadableError:
    message = tr(_KINDS[kind], text=repr(one_line(text)))
    return NotReadableError(message, code=EXIT_USAGE)


def is_right(answer: Answer, right: str, given: str) -> bool:
    """Whether what the learner gave is the right answer. Raises NotReadableError.

    A number may be hexadecimal, an address may be without its prefix length, a MAC address may be
    written with any separators; of words, capitals, spaces and quotation marks are nothing.
    """
    match answer.kind:
        case "number":
            difference = abs(_number(right) - _number(given))
            # What is written with decimals is not exactly that number for a computer.
            return difference <= answer.tolerance + 1e-9
        case "address":
            first, second = _address(right), _address(given)
            whole = "/" in right and "/" in given
            return first == second if whole else first.ip == second.ip
        case "mac":
            return _mac(right) == _mac(given)
        case "word":
            return _word(right) == _word(given)


def _number(text: str) -> float:
    text = text.strip()
    try:
        number = float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except (ValueError, OverflowError):
        raise _not_readable("number", text) from None
    if not math.isfinite(number):
        raise _not_readable("number", text)
    return number


def _address(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        return ipaddress.ip_interface(text.strip())
    except ValueError:
        raise _not_readable("address", text) from None


def _mac(text: str) -> str:
    digits = re.sub("[:.-]", "", text.strip().lower())
    if not re.fullmatch("[0-9a-f]{12}", digits):
        raise _not_readable("mac", text)
    return digits


def _word(text: str) -> str:
    word = " ".join(text.split()).strip("`'\"“”‘’「」").casefold()
    if not word:
        raise _not_readable("word", text)
    return word


# -- which question --------------------------------------------------------------------------------
def asking(lesson: Lesson) -> list[Checkpoint]:
    """The checkpoints that have a question."""
    return [checkpoint for checkpoint in lesson.checkpoints if checkpoint.question is not None]


def is_open(checkpoint: Checkpoint, progress: Progress) -> bool:
    """Whether the checkpoint has a question that nobody has answered."""
    known = progress.answers.get(checkpoint.id, Answered())
    return checkpoint.question is not None and not known.text


def open_question(lesson: Lesson, position: Position) -> Checkpoint | None:
    """The checkpoint whose question is to be answered now.

    In practice that of the task; else the last of the passed ones that is open.
    """
    progress = position.progress(lesson)
    if position.practice:
        number = first_open(lesson, progress)
        asked = [
            checkpoint
            for checkpoint in lesson.checkpoints[number : number + 1]
            if checkpoint.id in progress.attempted
        ]
    else:
        asked = [each for each in lesson.checkpoints if each.id in progress.passed]
    return next((each for each in reversed(asked) if is_open(each, progress)), None)


def answered_count(lesson: Lesson, progress: Progress) -> int:
    """How many questions of the lesson the learner has answered without being told."""
    known = (progress.answers.get(checkpoint.id) for checkpoint in asking(lesson))
    return sum(answer is not None and bool(answer.text) and not answer.given_up for answer in known)


# -- asking the lab --------------------------------------------------------------------------------
class Questioner:
    """Asks and answers questions of one lesson on one lab."""

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner

    def text(self, checkpoint: Checkpoint) -> str:
        """The question, filled in; empty: there is none."""
        question = checkpoint.question
        return "" if question is None else self._runner.checker.fill_text(str(question.text))

    def why(self, checkpoint: Checkpoint) -> str:
        """Why the right answer is so; empty: the lesson does not say."""
        question = checkpoint.question
        if question is None or question.why is None:
            return ""
        return self._runner.checker.fill_text(str(question.why))

    def result(self, checkpoint: Checkpoint, answer: str) -> QuestionResult:
        """The question with this right answer; with "" without one."""
        return QuestionResult(self.text(checkpoint), answer, self.why(checkpoint) if answer else "")

    def right(
        self, checkpoint: Checkpoint, context: StepContext, frames: list[Frame] | None = None
    ) -> str:
        """The right answer, asked of the lab now.

        `frames` are those of the checkpoint's captures; None: for an answer that needs them the
        checkpoint's commands run once more. Raises LabError when the lab gives none, or several,
        or what is no answer of its kind.
        """
        assert checkpoint.question is not None
        answer = checkpoint.question.answer
        values = self._runner.checker.values()
        if answer.value:
            right = fill(answer.value, values).strip()
            if (absent := values["fact"].absent) or not right:
                missing = tr_list(f"fact.{name}" for name in absent) if absent else "-"
                raise _no_answer(checkpoint, tr("there is no {name} yet", name=missing))
        else:
            right = self._seen(checkpoint, answer, context, frames)
        try:
            is_right(answer, right, right)
        except NotReadableError as error:
            raise _no_answer(checkpoint, error.message) from error
        return right

    def _seen(
        self,
        checkpoint: Checkpoint,
        answer: Answer,
        context: StepContext,
        frames: list[Frame] | None,
    ) -> str:
        claim = answer.as_claim()
        if frames is None:
            again = CheckpointResult(checkpoint.id, str(checkpoint.title))
            frames = self._runner.capture_again(checkpoint, [claim], again, context)
        proof = self._runner.checker.prove(claim, frames, context.cancelled)
        if not proof.holds:
            raise _no_answer(checkpoint, one_line(proof.seen_text))
        seen = list(dict.fromkeys(plain(row.get(answer.column)) for row in proof.seen))
        if len(seen) > 1:
            several = tr("it shows several: {values}", values=tr_list(seen[:5]))
            raise _no_answer(checkpoint, several)
        if seen[0] in ("", plain(None)):
            raise _no_answer(checkpoint, tr("{column} is empty", column=answer.column))
        return seen[0]


def _no_answer(checkpoint: Checkpoint, why: str) -> LabError:
    return LabError(
        tr("the lab has no answer to the question of {id}: {why}", id=checkpoint.id, why=why),
        hint=tr("has its step been done? `labctl check` tells"),
    )


# -- the verb --------------------------------------------------------------------------------------
Update = Callable[[Callable[[Position], Position]], None]


class Examiner:
    """What `labctl answer` does on one lab: says what it found, and notes it."""

    def __init__(
        self, runner: "Runner", state: LabState, console: Console, update: Update, labctl: str
    ) -> None:
        """`update` changes the noted position; `labctl` is what messages tell the user to type."""
        self._runner = runner
        self._questioner = Questioner(runner)
        self._state = state
        self._console = console
        self._update = update
        self._labctl = labctl

    def ask(self, checkpoint: Checkpoint) -> TaskOrHint:
        """Show the question, and how it is answered."""
        text = self._questioner.text(checkpoint)
        self._console.heading(tr("Question"))
        self._console.explain(text)
        self._console.say(tr("answer: {command}", command=f"{self._labctl} answer TEXT"))
        return {"question": text}

    def answer(
        self, checkpoint: Checkpoint, known: Answered, given: str
    ) -> tuple[TaskOrHint, LabError | None]:
        """Compare an answer with the lab's, and note it. The error says that it is wrong.

        Raises LabError when it cannot be compared; then it does not count.
        """
        question = _question(checkpoint)
        given = one_line(given).strip()
        if len(given) > LONGEST_ANSWER:
            raise LabError(tr("an answer has at most {n} characters", n=LONGEST_ANSWER),
                           code=EXIT_USAGE)  # fmt: skip
        is_right(question.answer, given, given)  # before the lab is asked, which may take a while
        with self._runner.checker.cached_reads():
            right = self._questioner.right(checkpoint, StepContext("answer"))
            if is_right(question.answer, right, given):
                return self._tell(checkpoint, Answered(known.wrong, right)), None
            return self._refute(checkpoint, known)

    def tell(self, checkpoint: Checkpoint, known: Answered) -> TaskOrHint:
        """Give the right answer, and note that it was given."""
        with self._runner.checker.cached_reads():
            right = self._questioner.right(checkpoint, StepContext("answer"))
            return self._tell(checkpoint, Answered(known.wrong, right, given_up=True))

    def _tell(self, checkpoint: Checkpoint, answered: Answered) -> TaskOrHint:
        lesson = self._runner.lesson
        result = self._questioner.result(checkpoint, answered.text)
        self._update(lambda position: position.answering(lesson, checkpoint, answered))
        note_answer(self._state, lesson, checkpoint, answered.text)
        message = tr("right: {answer}", answer=answered.text)
        if answered.given_up:
            message = tr("the answer is {answer}", answer=answered.text)
        self._console.summary(True, message)
        if result.why:
            self._console.explain(result.why)
        words: TaskOrHint = {
            "question": result.text, "answer": result.answer, "wrong": answered.wrong,
        }  # fmt: skip
        if not answered.given_up:
            words["right"] = True
        return {**words, "why": result.why} if result.why else words

    def _refute(self, checkpoint: Checkpoint, known: Answered) -> tuple[TaskOrHint, LabError]:
        lesson, question = self._runner.lesson, _question(checkpoint)
        tries = Answered(known.wrong + 1)
        self._update(lambda position: position.answering(lesson, checkpoint, tries))
        words: TaskOrHint = {
            "question": self._questioner.text(checkpoint), "right": False, "wrong": tries.wrong,
        }  # fmt: skip
        advice = tr("look again, and answer once more")
        if tries.wrong >= TRIES_BEFORE_HINT:
            if question.hint is not None:
                advice = self._runner.checker.fill_text(str(question.hint))
                words["hint"] = advice
            command = f"{self._labctl} answer --tell"
            last = tr("`{command}` gives the answer", command=command)
            advice = tr("{hint}; {last}", hint=advice.rstrip("。."), last=last)
        return words, LabError(tr("that is not what the lab shows"), hint=advice, code=EXIT_CLAIM)


def _question(checkpoint: Checkpoint) -> Question:
    assert checkpoint.question is not None
    return checkpoint.question


def none_open(lesson: Lesson, labctl: str) -> LabError:
    """The error of `answer` when no question is open."""
    message = tr("no question is open")
    if not asking(lesson):
        message = tr("lesson {id} asks no questions", id=lesson.id)
    hint = tr("go on with `{command}`", command=f"{labctl} next")
    return LabError(message, hint=hint, code=EXIT_USAGE)


def not_answered(labctl: str) -> LabError:
    """The error of `check` in practice when the claims hold and the question is open."""
    return LabError(
        tr("the question is not answered yet"),
        hint=tr("answer it: {command}", command=f"{labctl} answer TEXT"),
        code=EXIT_CLAIM,
    )


def counted(answered: int, questions: int) -> str:
    """How many questions were answered, in the current language; empty if there are none."""
    return tr("{k} of {n} questions answered", k=answered, n=questions) if questions else ""
