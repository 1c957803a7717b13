"""Reads lessons from files; reports everything that is wrong with one, each problem at its line."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Getattr, Name
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr
from labctl.lessons.matching import OPERATORS
from labctl.lessons.model import (
    NODES,
    PROBES,
    Capture,
    Checkpoint,
    Claim,
    Fact,
    Lesson,
    ProbeQuery,
    Text,
)
from labctl.lessons.templates import environment
from labctl.spec.problems import (
    KeyPath,
    Problem,
    SpecError,
    choices_of,
    did_you_mean,
    either,
    quoted,
)
from labctl.spec.source import YamlSource, read_yaml
from labctl.topology import Instance, Topology


def available() -> list[str]:
    """Ids of the built-in lessons."""
    return sorted(path.stem for path in built_in().glob("*.yaml"))


def load_lesson(name: str) -> Lesson:
    """A built-in lesson by its id, or one from a file by its path.

    Raises LabError when there is none, SpecError with everything that is wrong with the file.
    """
    path = built_in() / f"{name}.yaml" if name in available() else Path(name)
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
    """What finds the same lesson later from any directory: its id, or an absolute path."""
    return name if name in available() else str(Path(name).absolute())


@lru_cache(maxsize=16)
def parse_lesson(content: bytes, filename: str) -> Lesson:
    """The lesson in these bytes. Raises SpecError with everything that is wrong with it.

    Cached, since one command needs the same lesson several times and reading it takes 0.1 s.
    """
    source = read_yaml(content, filename)
    try:
        lesson = Lesson.model_validate(source.data)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        # `count` may be a number or text, and pydantic gives an error for each of the two. The one
        # for text says both.
        problems = [_problem(source, error) for error in errors if error["loc"][-1:] != ("int",)]
    else:
        problems = list(_lesson_problems(lesson, source))
    problems += [problem for _, problem in source.repeated]
    if problems:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return lesson


def _problem(source: YamlSource, error: ErrorDetails) -> Problem:
    """The problem that one of pydantic's errors is about, at its line."""
    path = error["loc"]
    if path[-1:] == ("[key]",):
        path = _written_key(source.data, path[:-1])
    if path[-1:] == ("str",):
        return source.problem(path[:-1], tr("must be a number, or a template that gives one"))
    match error["type"]:
        case "extra_forbidden":
            meant = did_you_mean(str(path[-1]), _keys())
            fix = tr("did you mean {meant}?", meant=meant) if meant else ""
            return source.problem(path, tr("unknown key"), fix)
        case "literal_error":
            choices = either(choices_of(error["ctx"]["expected"]))
            return source.problem(path, tr("must be {choices}", choices=choices))
        case "string_pattern_mismatch":
            pattern = error["ctx"]["pattern"]
            return source.problem(path, tr("must match {pattern}", pattern=pattern))
        case kind:
            message = MESSAGES.get(kind)
            return source.problem(path, tr(message) if message else error["msg"])


def _written_key(data: Any, path: KeyPath) -> KeyPath:
    """The place of a key in the file, where it may be an item of a list: see `_by_name`."""
    *above, name = path
    for key in above:
        data = data[key]
    return (*above, data.index(name) if isinstance(data, list) else name)


MESSAGES = {
    "missing": mark("is missing"),
    "model_type": mark("must hold keys and values"),
    "mapping_type": mark("must hold keys and values"),
    "dict_type": mark("must hold keys and values"),
    "sequence_str": mark("must be a list"),
    "is_instance_of": mark("must be a list"),
    "string_type": mark("must be text"),
    "float_type": mark("must be a number"),
    "float_parsing": mark("must be a number"),
    "too_short": mark("must not be empty"),
}
"""{type of a pydantic error: our message}; pydantic's own is shown for other types."""


def _keys() -> Iterator[str]:
    """Every key that may occur anywhere in a lesson."""
    for model in (Lesson, Checkpoint, Capture, Claim, Fact, Text):
        for name, field in model.model_fields.items():
            yield field.alias or name


def _lesson_problems(lesson: Lesson, source: YamlSource) -> Iterator[Problem]:
    """What is wrong with a lesson whose values all have the right type."""
    for index, need in enumerate(lesson.needs):
        if need not in available():
            message = tr("there is no lesson {name}", name=quoted(need))
            yield source.problem(("needs", index), message, _suggestion(need, available()))
    for name in lesson.facts:
        yield from _query_problems(lesson.facts[name], ("facts", name), source)
    checkpoints: set[str] = set()
    claims: set[str] = set()
    for number, checkpoint in enumerate(lesson.checkpoints):
        path: KeyPath = ("checkpoints", number)
        if checkpoint.id in checkpoints:
            yield source.problem((*path, "id"), tr("another checkpoint has this id"))
        checkpoints.add(checkpoint.id)
        for index, claim in enumerate(checkpoint.claims):
            claim_path = (*path, "claims", index)
            if claim.id in claims:
                yield source.problem((*claim_path, "id"), tr("another claim has this id"))
            claims.add(claim.id)
            yield from _query_problems(claim, claim_path, source)
            later = [other.id for other in lesson.checkpoints[number + 1 :]]
            if claim.until and claim.until not in later:
                message = tr("{name} is no later checkpoint", name=quoted(claim.until))
                fix = _suggestion(claim.until, later) if later else ""
                yield source.problem((*claim_path, "until"), message, fix)
    for text_path, text in _texts(source.data):
        for message, fix in _template_problems(text, lesson):
            yield source.problem(text_path, message, fix)


def _query_problems(query: ProbeQuery, path: KeyPath, source: YamlSource) -> Iterator[Problem]:
    if query.probe not in PROBES:
        message = tr("there is no probe {name}", name=quoted(query.probe))
        yield source.problem((*path, "probe"), message, _suggestion(query.probe, PROBES))
    for part in ("where", "each"):
        for column, expected in getattr(query, part, {}).items():
            for name in expected if isinstance(expected, Mapping) else ():
                if name not in OPERATORS:
                    operator_path = (*path, part, column, str(name))
                    fix = _suggestion(str(name), OPERATORS)
                    yield source.problem(operator_path, tr("unknown operator"), fix)


def _template_problems(text: str, lesson: Lesson) -> Iterator[tuple[str, str]]:
    """(message, fix) for everything that is wrong with a template."""
    if "{" not in text:
        return  # plain text, as most are
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
        fix = tr("templates know {names}", names=", ".join(known))
        yield tr("asks for {name}", name=quoted(name)), fix
    for get in template.find_all(Getattr):
        if isinstance(get.node, Name) and get.attr not in known.get(get.node.name, (get.attr,)):
            name = f"{get.node.name}.{get.attr}"
            message = tr("asks for {name}, which does not exist", name=name)
            yield message, _suggestion(get.attr, known[get.node.name])


def _suggestion(word: str, known: Iterable[str]) -> str:
    meant = did_you_mean(word, known)
    if meant:
        return tr("did you mean {meant}?", meant=meant)
    return tr("known are {names}", names=", ".join(known))


def _attributes(dataclass: type) -> tuple[str, ...]:
    properties = (name for name, value in vars(dataclass).items() if isinstance(value, property))
    return (*(field.name for field in fields(dataclass)), *properties)


def _texts(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """(path, text) of every text in the file."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict | list):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(item, (*path, key))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a lesson, which editors use; labctl/schema/lesson.schema.json holds it."""
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
