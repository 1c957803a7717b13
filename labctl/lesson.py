"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en` and `zh-TW`. Commands, facts and claims are Jinja2 templates over the lab's
topology (`lab`, `instance`), so a lesson holds for the values a lab really has.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Getattr, Name
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import Language, current_language, tr
from labctl.phrases import OPERATORS, environment
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.ovn import PROBES as OVN
from labctl.probes.wire import PROBES as WIRE
from labctl.spec.problems import Path, Problem, SpecError, choices_of, did_you_mean, either, quoted
from labctl.spec.source import YamlSource, read_yaml
from labctl.topology import Instance, Topology

PROBES = {**OPENSTACK, **OVN, **WIRE}
"""Every probe that claims and facts may ask, by its name."""
CAPTURED = ("wire.packets", "wire.pairs")
"""Probes that look at what the checkpoint's captures saw."""
NODES = ("controller", "gateway", "hypervisor")
"""What `node.NAME` in a template may be."""

FIRST = {"openstack": "floating-ip", "ovn": "ovn-snat-dnat"}
"""The built-in lesson that a new lab is there for, by its stack."""

Row = Mapping[str, Any]
"""One line of what a probe saw: column -> value."""


_CJK = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
_BETWEEN_CJK = re.compile(f"(?<={_CJK}) (?={_CJK})")


Id = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


def _by_name(sets: Any) -> Any:
    """A list of names as a mapping of names to no template."""
    # Anything but a list of texts is left to complain about itself.
    texts = isinstance(sets, list | tuple) and all(isinstance(one, str) for one in sets)
    return dict.fromkeys(sets, "") if texts else sets


_NAMES: dict[str, Any] = {"type": "string", "pattern": r"^[A-Za-z_]\w*$"}
Variables = Annotated[
    Mapping[_Name, str],
    BeforeValidator(_by_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _NAMES},
                {
                    "type": "object",
                    "propertyNames": {"pattern": _NAMES["pattern"]},
                    "additionalProperties": {"type": "string"},
                },
            ]
        }
    ),
]
"""Names of shell variables, each with the template of its value; a plain list has none."""


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class Text(_Model):
    """The same words in both languages."""

    en: str
    """English."""
    zh_tw: str = Field(alias="zh-TW")
    """Traditional Chinese, as in Taiwan."""

    def __str__(self) -> str:
        return self.said_in(current_language())

    def said_in(self, language: Language) -> str:
        """The words in that language."""
        if language != "zh-TW":
            return self.en.strip()
        # YAML joins folded lines with a space, which Chinese does not have.
        return _BETWEEN_CJK.sub("", self.zh_tw).strip()


class Look(_Model):
    """A question to a probe."""

    probe: str
    """Which probe is asked."""
    arguments: Mapping[str, str] = Field(default={}, alias="with")
    """Its arguments; templates."""
    where: Mapping[str, Any] = {}
    """Only rows whose columns match; see `matches`."""


class Fact(Look):
    """A value of the running lab that claims are stated with: a column of the row that is seen."""

    column: str
    """The column of the first such row that is the fact."""


class Claim(Look):
    """One sentence that a checkpoint proves."""

    id: Id
    """Error messages and JSON name it; once in a lesson."""
    text: Text
    """The sentence that is proved, for the learner; a template."""
    count: int | str | None = None
    """How many rows there must be (a number, or a template that gives one); None: at least one."""
    each: Mapping[str, Any] = {}
    """What every row's columns must match."""
    within: float = 5
    """Seconds the claim may take to come true: a first ping is often lost to ARP."""
    until: str = ""
    """Id of the later checkpoint that makes it untrue; `check` asks for it only before that."""


class Capture(_Model):
    """A tcpdump that runs while the checkpoint's commands run."""

    node: str
    """As in a checkpoint, but not `instance`."""
    interface: str
    """As `ip link` on that node calls it."""
    filter: str
    """A pcap filter; a template."""


class Checkpoint(_Model):
    """One step: explain, run, prove, and how to take it back."""

    id: Id
    """Its name in commands; once in a lesson."""
    title: Text
    """No template."""
    explain: Text
    """Shown before anything runs; a template."""
    task: Text | None = None
    """What to do, without the commands, for the learner who types them; a template."""
    hints: Sequence[Text] = ()
    """Each says a little more than the one before; templates."""
    node: str = "controller"
    """`controller`, `gateway`, `hypervisor` (of the first instance), `instance`, or a node."""
    run: Sequence[str]
    """Shell commands, each a script of its own; templates that insert quoted words."""
    sets: Variables = {}
    """Shell variables of `run` that later checkpoints, and the learner, still have.

    A mapping gives for each the template of its value, for when the learner typed the commands.
    """
    capture: Sequence[Capture] = ()
    """Where to listen while `run` runs. Then `run` must change nothing: `check` runs it again."""
    claims: Sequence[Claim] = Field(min_length=1)
    """What is proved afterwards."""
    undo: str = ""
    """Shell commands that take the step back; must not fail when there is nothing to take back.

    They run where `run` ran; on the controller if that was an instance.
    """

    @property
    def only_looks(self) -> bool:
        """Whether its commands change nothing, for there is nothing to take back."""
        return not self.undo


class Lesson(_Model):
    """One tutorial day."""

    id: Id
    """Its name in commands; the position in the lesson is remembered under it."""
    title: Text
    """No template."""
    goal: Text
    """One sentence for the list of lessons; no template."""
    stack: Literal["openstack", "ovn"] | None = None
    """What a lab must be made of for this lesson; None: either will do."""
    needs: Sequence[str] = ()
    """Ids of built-in lessons that have to be passed before."""
    facts: Mapping[str, Fact] = {}
    """Values of the running lab that claims are stated with, by name."""
    checkpoints: Sequence[Checkpoint] = Field(min_length=1)
    """The steps, in order."""

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)

    def require(self, topology: Topology) -> None:
        """Raises LabError (wrong use) if a lab is not made of what the lesson needs."""
        if self.stack not in (None, topology.stack):
            raise LabError(
                tr(
                    "lesson {id} needs a lab with `stack: {needed}`; {lab} has `stack: {stack}`",
                    id=self.id,
                    needed=self.stack,
                    lab=topology.lab,
                    stack=topology.stack,
                ),
                hint=tr("the lesson for this lab is {lesson}", lesson=FIRST[topology.stack]),
                code=EXIT_USAGE,
            )


def available() -> list[str]:
    """Ids of the built-in lessons."""
    return sorted(path.stem for path in built_in().glob("*.yaml"))


def load_lesson(name: str) -> Lesson:
    """A built-in lesson by its id, or one from a file by its path.

    Raises LabError when there is none, SpecError with all that is wrong with the file.
    """
    path = built_in() / f"{name}.yaml" if name in available() else FilePath(name)
    if path.is_dir():
        path = path / "lesson.yaml"
    if not path.is_file():
        raise LabError(
            tr("there is no lesson {name}", name=repr(name)),
            hint=tr(
                "the lessons are: {names}; a path to a lesson's file works too,"
                " or to a directory with a lesson.yaml",
                names=", ".join(available()),
            ),
            code=EXIT_USAGE,
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=path, error=error.strerror),
            code=EXIT_USAGE,
        ) from error
    return parse_lesson(content, str(path))


def source_of(name: str) -> str:
    """What finds the same lesson later, from wherever: its id, or an absolute path."""
    return name if name in available() else str(FilePath(name).absolute())


@lru_cache(maxsize=16)
def parse_lesson(content: bytes, filename: str) -> Lesson:
    """The lesson in these bytes. Raises SpecError with everything that is wrong with it.

    A verb asks for the same lesson several times, and reading one takes a tenth of a second.
    """
    source = read_yaml(content, filename)
    try:
        lesson = Lesson.model_validate(source.data)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        # Of a value that may be a number or text both complain: the last one tells.
        found = [_problem(source, error) for error in errors if error["loc"][-1:] != ("int",)]
    else:
        found = list(_slips(lesson, source))
    found += [problem for _, problem in source.repeated]
    if found:
        raise SpecError(sorted(dict.fromkeys(found), key=lambda problem: problem.line))
    return lesson


def _problem(source: YamlSource, error: ErrorDetails) -> Problem:
    """One of pydantic's complaints, at its line."""
    path = error["loc"]
    if path[-1:] == ("[key]",):
        path = _written_key(source.data, path[:-1])
    if path[-1:] == ("str",):
        return source.problem(path[:-1], tr("must be a number, or a template that gives one"))
    match error["type"]:
        case "extra_forbidden":
            meant = did_you_mean(str(path[-1]), _keys())
            mend = tr("did you mean {meant}?", meant=meant) if meant else ""
            return source.problem(path, tr("unknown key"), mend)
        case "literal_error":
            choices = either(choices_of(error["ctx"]["expected"]))
            return source.problem(path, tr("must be {choices}", choices=choices))
        case "string_pattern_mismatch":
            pattern = error["ctx"]["pattern"]
            return source.problem(path, tr("must match {pattern}", pattern=pattern))
        case kind:
            says = _SAYS.get(kind)
            return source.problem(path, tr(says) if says else error["msg"])


def _written_key(data: Any, path: Path) -> Path:
    """Where a key stands in the file, which may hold it in a list: see `_by_name`."""
    *above, name = path
    for step in above:
        data = data[step]
    return (*above, data.index(name) if isinstance(data, list) else name)


# By the kinds of pydantic's errors; for `tr`.
_SAYS = {
    "missing": "is missing",
    "model_type": "must hold keys and values",
    "mapping_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
    "sequence_str": "must be a list",
    "is_instance_of": "must be a list",
    "string_type": "must be text",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "too_short": "must not be empty",
}


def _keys() -> Iterator[str]:
    """Every key that a lesson may hold, wherever."""
    for model in (Lesson, Checkpoint, Capture, Claim, Fact, Text):
        for name, about in model.model_fields.items():
            yield about.alias or name


def _slips(lesson: Lesson, source: YamlSource) -> Iterator[Problem]:
    """What is wrong although every value has its type."""
    for place, need in enumerate(lesson.needs):
        if need not in available():
            message = tr("there is no lesson {name}", name=quoted(need))
            yield source.problem(("needs", place), message, _mend(need, available()))
    for name in lesson.facts:
        yield from _look_slips(lesson.facts[name], ("facts", name), source)
    checkpoints: set[str] = set()
    claims: set[str] = set()
    for number, checkpoint in enumerate(lesson.checkpoints):
        path: Path = ("checkpoints", number)
        if checkpoint.id in checkpoints:
            yield source.problem((*path, "id"), tr("another checkpoint has this id"))
        checkpoints.add(checkpoint.id)
        for place, claim in enumerate(checkpoint.claims):
            where = (*path, "claims", place)
            if claim.id in claims:
                yield source.problem((*where, "id"), tr("another claim has this id"))
            claims.add(claim.id)
            yield from _look_slips(claim, where, source)
            later = [one.id for one in lesson.checkpoints[number + 1 :]]
            if claim.until and claim.until not in later:
                message = tr("{name} is no later checkpoint", name=quoted(claim.until))
                mend = _mend(claim.until, later) if later else ""
                yield source.problem((*where, "until"), message, mend)
    for place_of_text, text in _texts(source.data):
        for message, mend in _template_slips(text, lesson):
            yield source.problem(place_of_text, message, mend)


def _look_slips(look: Look, path: Path, source: YamlSource) -> Iterator[Problem]:
    if look.probe not in PROBES:
        message = tr("there is no probe {name}", name=quoted(look.probe))
        yield source.problem((*path, "probe"), message, _mend(look.probe, PROBES))
    for part in ("where", "each"):
        for column, expected in getattr(look, part, {}).items():
            for name in expected if isinstance(expected, Mapping) else ():
                if name not in OPERATORS:
                    at = (*path, part, column, str(name))
                    yield source.problem(at, tr("unknown operator"), _mend(str(name), OPERATORS))


def _template_slips(text: str, lesson: Lesson) -> Iterator[tuple[str, str]]:
    if "{" not in text:
        return  # a template of itself, as most texts are
    known = {
        "lab": _attributes(Topology),
        "instance": _attributes(Instance),
        "node": NODES,
        "fact": tuple(lesson.facts),
    }
    try:
        template = environment(False).parse(text)
    except TemplateError as error:
        yield tr("is no template: {error}", error=error), ""
        return
    for name in sorted(find_undeclared_variables(template) - set(known)):
        mend = tr("templates know {names}", names=", ".join(known))
        yield tr("asks for {name}", name=quoted(name)), mend
    for get in template.find_all(Getattr):
        if isinstance(get.node, Name) and get.attr not in known.get(get.node.name, (get.attr,)):
            name = f"{get.node.name}.{get.attr}"
            message = tr("asks for {name}, which does not exist", name=name)
            yield message, _mend(get.attr, known[get.node.name])


def _mend(word: str, known: Iterable[str]) -> str:
    meant = did_you_mean(word, known)
    if meant:
        return tr("did you mean {meant}?", meant=meant)
    return tr("known are {names}", names=", ".join(known))


def _attributes(of: type) -> tuple[str, ...]:
    properties = (name for name, value in vars(of).items() if isinstance(value, property))
    return (*(field.name for field in fields(of)), *properties)


def _texts(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in the file with its place."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict | list):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(item, (*path, key))


# -- for editors -----------------------------------------------------------------------------------
def json_schema() -> dict[str, Any]:
    """The JSON Schema of a lesson, for editors."""
    schema = Lesson.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        for field in (definition, *definition["properties"].values()):
            field.pop("title", None)
            if "description" in field:
                field["description"] = " ".join(field["description"].split())
        if "probe" in definition["properties"]:
            definition["properties"]["probe"]["enum"] = sorted(PROBES)
    schema["description"] = "One tutorial day; docs/lessons.md has the whole format."
    dialect = "http://json-schema.org/draft-07/schema#"
    return {"$schema": dialect, **schema, "title": "a lesson of labctl"}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
