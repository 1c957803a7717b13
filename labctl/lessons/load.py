"""Lessons from files, with everything that is wrong with one, at its line."""

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
from labctl.lessons.model import NODES, PROBES, Capture, Checkpoint, Claim, Fact, Lesson, Look, Text
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

    Raises LabError when there is none, SpecError with all that is wrong with the file.
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
    """What finds the same lesson later, from wherever: its id, or an absolute path."""
    return name if name in available() else str(Path(name).absolute())


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
            says = SAYS.get(kind)
            return source.problem(path, tr(says) if says else error["msg"])


def _written_key(data: Any, path: KeyPath) -> KeyPath:
    """Where a key stands in the file, which may hold it in a list: see `_by_name`."""
    *above, name = path
    for step in above:
        data = data[step]
    return (*above, data.index(name) if isinstance(data, list) else name)


# By the kinds of pydantic's errors; for `tr`.
SAYS = {
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
        path: KeyPath = ("checkpoints", number)
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


def _look_slips(look: Look, path: KeyPath, source: YamlSource) -> Iterator[Problem]:
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


def _texts(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in the file with its place."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict | list):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(item, (*path, key))


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
