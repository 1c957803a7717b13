"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en` and `zh-TW`. Commands, facts and claims are Jinja2 templates over the lab's
topology (`lab`, `instance`), so a lesson holds for the values a lab really has.
"""

import ipaddress
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path as FilePath
from typing import Annotated, Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Getattr, Name
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import current_language
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.ovn import PROBES as OVN
from labctl.probes.wire import PROBES as WIRE
from labctl.problems import Path, Problem, SpecError, did_you_mean, quoted
from labctl.topology import Instance, Topology
from labctl.yamlsource import YamlSource, read_yaml

PROBES = {**OPENSTACK, **OVN, **WIRE}
"""Every probe that claims and facts may ask, by its name."""
NODES = ("controller", "gateway", "hypervisor")
"""What `node.NAME` in a template may be."""

Row = Mapping[str, Any]
"""One line of what a probe saw: column -> value."""


_CJK = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
_BETWEEN_CJK = re.compile(f"(?<={_CJK}) (?={_CJK})")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Text(_Model):
    """The same words in both languages."""

    en: str
    zh_tw: str = Field(alias="zh-TW")

    def __str__(self) -> str:
        if current_language() != "zh-TW":
            return self.en.strip()
        # YAML joins folded lines with a space, which Chinese does not have.
        return _BETWEEN_CJK.sub("", self.zh_tw).strip()


class Look(_Model):
    """A question to a probe."""

    probe: str
    arguments: Mapping[str, str] = Field(default={}, alias="with")
    where: Mapping[str, Any] = {}
    """Only rows whose columns match; see `matches`."""


class Fact(Look):
    """A value of the running lab that claims are stated with: a column of the row that is seen."""

    column: str


class Claim(Look):
    """One sentence that a checkpoint proves."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    text: Text
    count: int | str | None = None
    """How many rows there must be (a number, or a template that gives one); None: at least one."""
    each: Mapping[str, Any] = {}
    """What every row's columns must match."""
    within: float = 5
    """Seconds the claim may take to come true: a first ping is often lost to ARP."""


class Capture(_Model):
    """A tcpdump that runs while the checkpoint's commands run."""

    node: str
    interface: str
    filter: str


class Checkpoint(_Model):
    """One step: explain, run, prove, and how to take it back."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: Text
    explain: Text
    node: str = "controller"
    """`controller`, `gateway`, `hypervisor` (of the first instance), `instance`, or a node."""
    run: Sequence[str]
    sets: Sequence[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]] = ()
    """Shell variables of `run` that later checkpoints, and the learner, still have."""
    capture: Sequence[Capture] = ()
    claims: Sequence[Claim] = Field(min_length=1)
    undo: str = ""
    """Shell commands that take the step back; must not fail when there is nothing to take back."""


class Lesson(_Model):
    """One tutorial day."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: Text
    goal: Text
    facts: Mapping[str, Fact] = {}
    checkpoints: Sequence[Checkpoint] = Field(min_length=1)

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)


def available() -> list[str]:
    """Ids of the built-in lessons."""
    return sorted(path.stem for path in built_in().glob("*.yaml"))


def load_lesson(name: str) -> Lesson:
    """A built-in lesson by its id, or one from a file by its path.

    Raises LabError when there is none, SpecError with all that is wrong with the file.
    """
    path = built_in() / f"{name}.yaml" if name in available() else FilePath(name)
    if not path.is_file():
        raise LabError(
            f"there is no lesson {name!r}",
            hint=f"the lessons are: {', '.join(available())}; a path to a lesson's file works too",
            code=EXIT_USAGE,
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}", code=EXIT_USAGE) from error
    return parse_lesson(content, str(path))


def parse_lesson(content: bytes, filename: str) -> Lesson:
    """The lesson in these bytes. Raises SpecError with everything that is wrong with it."""
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
    if path[-1:] == ("str",):
        return source.problem(path[:-1], "must be a number, or a template that gives one")
    match error["type"]:
        case "extra_forbidden":
            meant = did_you_mean(str(path[-1]), _keys())
            return source.problem(path, "unknown key", f"did you mean {meant}?" if meant else "")
        case "string_pattern_mismatch":
            return source.problem(path, f"must match {error['ctx']['pattern']}")
        case kind:
            return source.problem(path, _SAYS.get(kind) or error["msg"])


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
    for name in lesson.facts:
        yield from _look_slips(lesson.facts[name], ("facts", name), source)
    checkpoints: set[str] = set()
    claims: set[str] = set()
    for number, checkpoint in enumerate(lesson.checkpoints):
        path: Path = ("checkpoints", number)
        if checkpoint.id in checkpoints:
            yield source.problem((*path, "id"), "another checkpoint has this id")
        checkpoints.add(checkpoint.id)
        for place, claim in enumerate(checkpoint.claims):
            where = (*path, "claims", place)
            if claim.id in claims:
                yield source.problem((*where, "id"), "another claim has this id")
            claims.add(claim.id)
            yield from _look_slips(claim, where, source)
    for place_of_text, text in _texts(source.data):
        for message, mend in _template_slips(text, lesson):
            yield source.problem(place_of_text, message, mend)


def _look_slips(look: Look, path: Path, source: YamlSource) -> Iterator[Problem]:
    if look.probe not in PROBES:
        message = f"there is no probe {quoted(look.probe)}"
        yield source.problem((*path, "probe"), message, _mend(look.probe, PROBES))
    for part in ("where", "each"):
        for column, expected in getattr(look, part, {}).items():
            for name in expected if isinstance(expected, Mapping) else ():
                if name not in OPERATORS:
                    at = (*path, part, column, str(name))
                    yield source.problem(at, "unknown operator", _mend(str(name), OPERATORS))


def _template_slips(text: str, lesson: Lesson) -> Iterator[tuple[str, str]]:
    known = {
        "lab": _attributes(Topology),
        "instance": _attributes(Instance),
        "node": NODES,
        "fact": tuple(lesson.facts),
    }
    try:
        template = _environment(False).parse(text)
    except TemplateError as error:
        yield f"is no template: {error}", ""
        return
    for name in sorted(find_undeclared_variables(template) - set(known)):
        yield f"asks for {quoted(name)}", f"templates know {', '.join(known)}"
    for get in template.find_all(Getattr):
        if isinstance(get.node, Name) and get.attr not in known.get(get.node.name, (get.attr,)):
            message = f"asks for {get.node.name}.{get.attr}, which does not exist"
            yield message, _mend(get.attr, known[get.node.name])


def _mend(word: str, known: Iterable[str]) -> str:
    meant = did_you_mean(word, known)
    return f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"


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


# -- templates -----------------------------------------------------------------------------------
@cache
def _environment(quoting: bool) -> SandboxedEnvironment:
    # Commands: whatever a template inserts is one quoted word, so no value of lab.yaml or of the
    # running lab can become shell code. Text and expectations take values as they are.
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=(lambda value: shlex.quote(str(value))) if quoting else None,
        keep_trailing_newline=True,
        autoescape=False,
    )


def fill(template: str, context: Mapping[str, Any], *, quoting: bool = False) -> str:
    """A template with the lab's values in it; with `quoting` each is one word of the shell.

    Raises LabError naming the template when it asks for what is not there.
    """
    try:
        return _environment(quoting).from_string(template).render(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise LabError(f"cannot fill in {template!r}: {error}") from error


def fill_all(value: Any, context: Mapping[str, Any]) -> Any:
    """Templates inside mappings and lists, filled in."""
    if isinstance(value, str):
        return fill(value, context)
    if isinstance(value, Mapping):
        return {key: fill_all(item, context) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_all(item, context) for item in value]
    return value


# -- expectations --------------------------------------------------------------------------------
OPERATORS = ("in", "between", "not", "matches", "one_of", "contains", "at_least")


def matches(seen: Any, expected: Any) -> bool:
    """Whether a value is as expected: an equal one, or a mapping of operators that all hold.

    Operators: `in` (a network), `between` [first, last] addresses, `not`, `matches` (a regular
    expression, whole value), `one_of`, `contains` (an element or substring), `at_least` (a number).
    """
    if isinstance(expected, Mapping):
        return all(_operator(name, seen, operand) for name, operand in expected.items())
    return _plain(seen) == _plain(expected)


def _plain(value: Any) -> str:
    """As the lesson writes it: templates are text, so numbers and truth values compare as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _operator(name: str, seen: Any, operand: Any) -> bool:
    try:
        match name:
            case "in":
                return ipaddress.ip_address(str(seen)) in ipaddress.ip_network(operand)
            case "between":
                first, last = (ipaddress.ip_address(end) for end in operand)
                return bool(first <= ipaddress.ip_address(str(seen)) <= last)  # type: ignore[operator]
            case "not":
                return not matches(seen, operand)
            case "matches":
                return re.fullmatch(operand, _plain(seen)) is not None
            case "one_of":
                return any(matches(seen, one) for one in operand)
            case "contains":
                if isinstance(seen, list | tuple | set):
                    return _plain(operand) in map(_plain, seen)
                return seen is not None and _plain(operand) in _plain(seen)
            case "at_least":
                return float(seen) >= float(operand)
    except (TypeError, ValueError):
        return False  # what was seen is not an address or a number at all
    except re.error as error:
        raise LabError(
            f"a lesson holds the wrong regular expression {operand!r}: {error}", code=EXIT_USAGE
        ) from error
    raise LabError(f"a lesson uses the unknown operator {name!r}", code=EXIT_USAGE)
