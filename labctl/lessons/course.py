"""The built-in course: which lessons there are in which order, and how far the learner is.

The course itself is data: labctl/course.yaml. Everything here but reading that file is pure.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from labctl.assets import course_file
from labctl.i18n import tr, tr_list
from labctl.lessons.done import Done
from labctl.lessons.load import available, load_lesson
from labctl.lessons.model import Id, Lesson, Text
from labctl.lessons.progress import Position
from labctl.lessons.questions import answered_count, asking, counted
from labctl.lessons.requirements import missing
from labctl.spec.model import Stack
from labctl.spec.source import read_yaml
from labctl.topology import Topology


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """A lesson of the course; in the file a plain id is enough."""

    id: Id
    """Of a built-in lesson."""
    minutes: int | None = Field(None, ge=1)
    """Minutes that a learner needs for it; None: nobody has measured that."""


def _from_id(given: Any) -> Any:
    return {"id": given} if isinstance(given, str) else given


class Group(_Model):
    """Lessons that belong together."""

    title: Text
    lessons: Sequence[Annotated[Entry, BeforeValidator(_from_id)]] = Field(min_length=1)
    """In the order to take them."""


class Course(_Model):
    """Lessons in the order to take them, in groups."""

    title: Text
    groups: Sequence[Group] = Field(min_length=1)

    @property
    def ids(self) -> list[str]:
        """Ids of all its lessons, in order."""
        return [entry.id for group in self.groups for entry in group.lessons]


def parse_course(content: bytes, filename: str) -> Course:
    """The course in these bytes.

    Raises SpecError for what is no YAML; ValueError for what is no course, for a lesson that does
    not exist, and for one that is there twice.
    """
    course = Course.model_validate(read_yaml(content, filename).data)
    ids = course.ids
    if unknown := [id for id in ids if id not in available()]:
        raise ValueError(f"{filename}: there is no lesson {tr_list(unknown)}")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise ValueError(f"{filename}: more than once: {tr_list(twice)}")
    return course


@lru_cache(maxsize=1)
def built_in_course() -> Course:
    """The course that labctl brings along."""
    path = course_file()
    return parse_course(path.read_bytes(), str(path))


# -- how far the learner is ------------------------------------------------------------------------
class DoneJson(TypedDict):
    """When and where a lesson was last proved to its end."""

    at: float
    """Seconds since the epoch."""
    lab: str
    """Name of the lab."""


class CourseLesson(TypedDict):
    """A lesson of the course."""

    id: str
    title: str
    stack: Stack | None
    """What must run in the lab; null: either."""
    needs: Sequence[str]
    """Ids of the lessons that have to be passed before; `start` runs them."""
    minutes: int | None
    """Minutes that a learner needs for it; null: not measured."""
    checkpoints: int
    """How many it has."""
    passed: int
    """How many of them are passed in this lab now."""
    questions: int
    """How many questions it asks."""
    answered: int
    """How many of them the learner has answered in this lab without being told."""
    begun: bool
    """Whether one of them was begun in this lab and not taken back."""
    done: DoneJson | None
    """When its claims last all held, in whichever lab of this user; null: not yet."""
    runs_here: bool | None
    """Whether this lab has what the lesson needs; null: there is no lab.yaml."""
    lacking: Sequence[str]
    """What of it this lab has not; for people."""


class CourseGroup(TypedDict):
    """Lessons that belong together."""

    title: str
    lessons: Sequence[CourseLesson]


class CourseJson(TypedDict):
    """What `course --json` prints."""

    title: str
    lab: str | None
    """Name of the lab; null: there is no lab.yaml."""
    done: int
    """How many lessons are done."""
    lessons: int
    """How many there are."""
    next: str | None
    """Id of the lesson that `labctl start` goes on with; null: none is left that runs here."""
    groups: Sequence[CourseGroup]


def describe(
    course: Course, topology: Topology | None, position: Position, done: Mapping[str, Done]
) -> CourseJson:
    """The course with how far the learner is, in the current language.

    `topology` is that of the lab, as far as there is a lab.yaml; `position` is that in this lab,
    `done` what was proved to its end earlier, here or in other labs.
    """
    groups: list[CourseGroup] = [
        {
            "title": str(group.title),
            "lessons": [_lesson(entry, topology, position, done) for entry in group.lessons],
        }
        for group in course.groups
    ]
    lessons = [lesson for group in groups for lesson in group["lessons"]]
    return {
        "title": str(course.title),
        "lab": None if topology is None else topology.lab,
        "done": sum(lesson["done"] is not None for lesson in lessons),
        "lessons": len(lessons),
        "next": _next(lessons, position),
        "groups": groups,
    }


def next_lesson(
    course: Course, topology: Topology, position: Position, done: Collection[str]
) -> str | None:
    """Id of the first lesson that is not done and that this lab can run; None: there is none."""
    finished = {*done, *finished_lessons(position)}
    for id in course.ids:
        if id not in finished and not list(lacking(load_lesson(id), topology)):
            return id
    return None


def finished_lessons(position: Position) -> dict[str, float]:
    """{id of a lesson of the course whose checkpoints are all passed now: since when}."""
    return {
        id: progress.at
        for id, progress in position.lessons.items()
        if progress.source == id
        and id in built_in_course().ids
        and 0 < progress.total == len(progress.passed)
    }


def lacking(lesson: Lesson, topology: Topology) -> Iterator[str]:
    """What the lesson needs and the lab has not."""
    if lesson.stack not in (None, topology.stack):
        yield f"stack: {lesson.stack}"
        return  # nothing else can be said of another kind of lab
    yield from (each.what for each in missing(lesson.requires, topology))


def _lesson(
    entry: Entry, topology: Topology | None, position: Position, done: Mapping[str, Done]
) -> CourseLesson:
    lesson = load_lesson(entry.id)
    progress = position.progress(lesson)
    finished = finished_lessons(position)
    noted: DoneJson | None = None
    if entry.id in done:
        noted = {"at": done[entry.id].at, "lab": done[entry.id].lab}
    elif entry.id in finished and topology is not None:
        noted = {"at": finished[entry.id], "lab": topology.lab}
    absent = [] if topology is None else list(lacking(lesson, topology))
    return {
        "id": entry.id,
        "title": str(lesson.title),
        "stack": lesson.stack,
        "needs": lesson.needs,
        "minutes": entry.minutes,
        "checkpoints": len(lesson.checkpoints),
        "passed": len(progress.passed),
        "questions": len(asking(lesson)),
        "answered": answered_count(lesson, progress),
        "begun": bool(progress.attempted),
        "done": noted,
        "runs_here": None if topology is None else not absent,
        "lacking": absent,
    }


def _next(lessons: Sequence[CourseLesson], position: Position) -> str | None:
    unfinished = [lesson["id"] for lesson in lessons if lesson["passed"] < lesson["checkpoints"]]
    if position.current in unfinished:
        return position.current
    return next(
        (lesson["id"] for lesson in lessons if lesson["runs_here"] and lesson["done"] is None), None
    )


State = Literal["done", "begun", "open", "elsewhere"]


def state_of(lesson: CourseLesson) -> State:
    """How a lesson stands, in one word; `elsewhere`: this lab cannot run it."""
    if lesson["begun"] and lesson["passed"] < lesson["checkpoints"]:
        return "begun"
    if lesson["done"] is not None:
        return "done"
    return "elsewhere" if lesson["runs_here"] is False else "open"


def state_text(lesson: CourseLesson) -> str:
    """The same as a sentence of the current language."""
    match state_of(lesson):
        case "begun":
            text = tr("at checkpoint {k} of {n}", k=lesson["passed"] + 1, n=lesson["checkpoints"])
            answers = counted(lesson["answered"], lesson["questions"])
            return tr("; ").join((text, answers)) if answers else text
        case "done":
            assert lesson["done"] is not None
            day = time.strftime("%Y-%m-%d", time.localtime(lesson["done"]["at"]))
            return tr("done on {day} in the lab {lab}", day=day, lab=lesson["done"]["lab"])
        case "elsewhere":
            return tr("not in this lab: it needs {names}", names=tr_list(lesson["lacking"]))
        case "open":
            return tr("not begun")
