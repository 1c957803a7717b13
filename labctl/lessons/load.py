"""Reads lessons from files; reports everything that is wrong with one, each problem at its line."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import TemplateError
from jinja2.nodes import Getattr, Name
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr, tr_list
from labctl.lessons.faults import fault_problems
from labctl.lessons.matching import OPERATORS, is_operand
from labctl.lessons.model import (
    CAPTURED,
    MEASURED,
    NODES,
    PROBES,
    Answer,
    Background,
    Capture,
    Checkpoint,
    Claim,
    Command,
    Fact,
    Fault,
    Lesson,
    ProbeQuery,
    Question,
    Text,
    without_gaps,
)
from labctl.lessons.parts import PartFile, put_in, read_parts
from labctl.lessons.requirements import Count, Requirements
from labctl.lessons.templates import names_of, parse, remember
from labctl.probes.signatures import SIGNATURES, Signature
from labctl.spec.problems import (
    KeyPath,
    Problem,
    SpecError,
    choices_of,
    did_you_mean,
    dotted,
    either,
    quoted,
)
from labctl.spec.source import YamlSource, mistyped, read_file, read_yaml
from labctl.topology import Instance, Node, Topology


def available() -> list[str]:
    """Ids of the built-in lessons."""
    return sorted(path.stem for path in built_in().glob("*.yaml"))


def load_lesson(name: str) -> Lesson:
    """A built-in lesson by its id, or one from a file by its path.

    Raises LabError when there is none, SpecError with everything that is wrong with the file.
    """
    path = built_in() / f"{name}.yaml" if name in available() else Path(name)
    try:
        if path.is_dir():
            path = path / "lesson.yaml"
        there = path.exists()
    except OSError:  # a name that is too long, a directory that one may not look into
        there = False
    if not there:
        raise LabError(
            tr("there is no lesson {name}", name=repr(name)),
            hint=tr(
                "the lessons are: {names}; a path to a lesson's file works too,"
                " or to a directory with a lesson.yaml",
                names=tr_list(available()),
            ),
            code=EXIT_USAGE,
        )
    content = read_file(path)
    lesson = parse_lesson(content, str(path), _parts(content, str(path)))
    if lesson.id in available() and path.resolve() != (built_in() / f"{lesson.id}.yaml").resolve():
        # The position knows lessons by their ids: of two with one id neither could be taken back.
        message = tr("the built-in lesson {id} has this id", id=lesson.id)
        line = read_yaml(content, str(path)).line(("id",))
        raise SpecError([Problem(str(path), line, "id", message, tr("choose another id"))])
    return lesson


def source_of(name: str) -> str:
    """What finds the same lesson later from any directory: its id, or an absolute path."""
    return name if name in available() else str(Path(name).absolute())


_read = lru_cache(maxsize=16)(read_yaml)
"""`read_yaml`, once for the names of the parts and for the lesson itself."""


def _parts(content: bytes, filename: str) -> tuple[PartFile, ...]:
    return read_parts(_read(content, filename)) if b"parts" in content else ()


@lru_cache(maxsize=16)
def parse_lesson(content: bytes, filename: str, parts: tuple[PartFile, ...] = ()) -> Lesson:
    """The lesson in these bytes. Raises SpecError with everything that is wrong with it.

    Cached, since one command needs the same lesson several times and reading it takes 0.1 s.
    """
    source, mixing = put_in(_read(content, filename), parts)
    try:
        lesson = Lesson.model_validate(source.data)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        # `count` may be a number or text, and pydantic gives an error for each of the two. The one
        # for text says both.
        problems = [_problem(source, error) for error in errors if error["loc"][-1:] != ("int",)]
        problems += _text_problems(source)
        # One mistake hides no other: what can be read is looked at as well.
        wrong = tuple(problem.path for problem in problems)
        below = tuple(f"{path}{end}" for path in wrong for end in ".[")
        problems += [
            problem
            for problem in _lesson_problems(_readable(Lesson, source.data), source)
            if problem.path not in wrong and not problem.path.startswith(below)
        ]
    else:
        problems = [*_lesson_problems(lesson, source), *_text_problems(source)]
    # What a part would have given is not missing as well.
    unused = tuple(each.path.removesuffix("use") for each in mixing if each.path.endswith(".use"))
    problems = [problem for problem in problems if not problem.path.startswith(unused)]
    problems += [*mixing, *source.given_twice()]
    if problems:
        order = sorted(
            dict.fromkeys(problems), key=lambda each: (each.file != filename, each.file, each.line)
        )
        raise SpecError(order)
    _remember(source)
    lesson.read_from(source)
    return lesson


_Model = TypeVar("_Model", bound=BaseModel)
_PARTS: Mapping[str, type[BaseModel]] = {
    "checkpoints": Checkpoint,
    "claims": Claim,
    "capture": Capture,
    "background": Background,
    "breaks": Background,
    "run": Command,
    "faults": Fault,
    "facts": Fact,
}
"""{name of a field: the model of its elements}."""


def _readable(model: type[_Model], data: Any) -> _Model:
    """What can be read of data that pydantic refuses; everything else is empty."""
    values: dict[str, Any] = {}
    given = data if isinstance(data, dict) else {}
    for name, field in model.model_fields.items():
        value, part = given.get(field.alias or name), _PARTS.get(name)
        if part is Fact:
            facts = value.items() if isinstance(value, dict) else ()
            values[name] = {key: _readable(part, item) for key, item in facts}
        elif part is not None:
            values[name] = [
                _readable(part, item) for item in (value if isinstance(value, list) else ())
            ]
        else:
            try:
                values[name] = TypeAdapter[Any](field.annotation or Any).validate_python(value)
            except ValidationError:
                values[name] = "" if field.is_required() else field.default
    return model.model_construct(**values)


def _remember(source: YamlSource) -> None:
    """Note where the templates stand, for the message when one cannot be filled in."""
    for path, text in source.texts():
        if "{" in text:
            at = source.problem(path, "")
            place = f"{at.file}:{at.line}: {dotted(path)}"
            for template in (text, text.strip(), without_gaps(text).strip()):
                remember(template, place)


def _problem(source: YamlSource, error: ErrorDetails) -> Problem:
    """The problem that one of pydantic's errors is about, at its line."""
    path = error["loc"]
    if path[-1:] == ("[key]",):
        path = _written_key(source.data, path[:-1])
    if path[-1:] == ("at_least",) and path not in source.lines:
        path = path[:-1]  # it was given as a plain number
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
        case "model_type" | "dict_type" | "mapping_type" if wrong := _mistyped(error["input"]):
            return source.problem(path, *wrong)
        case kind:
            message = MESSAGES.get(kind)
            least = f"{error.get('ctx', {}).get('ge', 0):g}"
            return source.problem(path, tr(message, least=least) if message else error["msg"])


def _mistyped(value: Any) -> tuple[str, str] | None:
    return mistyped(value) if isinstance(value, str) else None


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
    "no_text": mark("must be text"),
    "no_bounds": mark("at_most must not be less than at_least"),
    "int_type": mark("must be a whole number"),
    "int_parsing": mark("must be a whole number"),
    "float_type": mark("must be a number"),
    "float_parsing": mark("must be a number"),
    "too_short": mark("must not be empty"),
    "finite_number": mark("must be a number"),
    "greater_than_equal": mark("must not be less than {least}"),
    "less_than_equal": mark("must not be more than 3600"),
}
"""{type of a pydantic error: our message}; pydantic's own is shown for other types."""


def _keys() -> Iterator[str]:
    """Every key that may occur anywhere in a lesson."""
    models: tuple[type[BaseModel], ...] = (
        Lesson, Requirements, Count, Checkpoint, Command, Background, Capture, Claim, Fact, Fault,
        Text, Question, Answer,
    )  # fmt: skip
    for model in models:
        for name, field in model.model_fields.items():
            yield field.alias or name
    yield "use"


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
        if checkpoint.breaks and not checkpoint.undo:
            message = tr("is missing; it mends what `break` breaks")
            yield source.problem((*path, "undo"), message)
        for index, claim in enumerate(checkpoint.claims):
            claim_path = (*path, "claims", index)
            if claim.id in claims:
                yield source.problem((*claim_path, "id"), tr("another claim has this id"))
            claims.add(claim.id)
            yield from _query_problems(claim, claim_path, source)
            yield from _delta_problems(claim, claim_path, source)
            if claim.probe in CAPTURED:
                yield from _capture_problems(claim, checkpoint, claim_path, source)
            if isinstance(claim.count, str) and not _is_count(claim.count):
                message = tr("must be a number, or a template that gives one")
                yield source.problem((*claim_path, "count"), message)
            later = [other.id for other in lesson.checkpoints[number + 1 :]]
            if claim.until and claim.until not in later:
                message = tr("{name} is not the id of a later checkpoint", name=quoted(claim.until))
                fix = _suggestion(claim.until, later) if later else ""
                yield source.problem((*claim_path, "until"), message, fix)
        yield from _question_problems(checkpoint, (*path, "question", "answer"), source)
        if checkpoint.claims and all(map(checkpoint.measured_once, checkpoint.claims)):
            message = tr("every claim is measured while the commands run, and they change the lab")
            fix = tr("add one that `labctl check` can ask again")
            yield source.problem((*path, "claims"), message, fix)
    yield from fault_problems(lesson, source)


def _question_problems(
    checkpoint: Checkpoint, path: KeyPath, source: YamlSource
) -> Iterator[Problem]:
    """Answers that the running lab cannot give."""
    if checkpoint.question is None:
        return
    answer = checkpoint.question.answer
    if answer.tolerance and answer.kind != "number":
        message = tr("only a number has a tolerance")
        yield source.problem((*path, "tolerance"), message, tr("write `kind: number`"))
    if bool(answer.value) == bool(answer.probe):
        fix = tr("write `value` with a template, or `probe` with its `column`")
        yield source.problem(path, tr("must be asked of the lab in one way"), fix)
    elif answer.value and "{" not in answer.value:
        message = tr("is the same in every lab, so nothing is asked")
        fix = tr("write a template, such as {example}", example="{{ fact.NAME }}")
        yield source.problem((*path, "value"), message, fix)
    elif answer.value and (answer.column or answer.where or answer.arguments):
        message = tr("belongs to a probe, and there is none")
        for name, given in (("column", answer.column), ("where", answer.where),
                            ("with", answer.arguments)):  # fmt: skip
            if given:
                yield source.problem((*path, name), message, tr("remove it"))
    if not answer.probe:
        return
    if not answer.column:
        yield source.problem((*path, "column"), tr("is missing"))
    yield from _query_problems(answer, path, source)
    if answer.probe in CAPTURED:
        yield from _capture_problems(answer, checkpoint, path, source)
    if answer.probe in MEASURED and not checkpoint.only_looks:
        message = tr("is measured while the commands run, and they change the lab")
        yield source.problem((*path, "probe"), message, tr("ask what can be asked again"))


def _delta_problems(claim: Claim, path: KeyPath, source: YamlSource) -> Iterator[Problem]:
    """Differences of columns that do not grow."""
    signature = SIGNATURES.get(claim.probe)
    for column in claim.delta:
        if signature is not None and column in {*signature.columns} - {*signature.counters}:
            message = tr("is no counter of {probe}", probe=claim.probe)
            fix = _suggestion(column, signature.counters)
            yield source.problem((*path, "delta", column), message, fix)


def _is_count(text: str) -> bool:
    return "{" in text or re.fullmatch("[0-9]{1,6}", text.strip()) is not None


def _query_problems(query: ProbeQuery, path: KeyPath, source: YamlSource) -> Iterator[Problem]:
    """Probes, columns, arguments, operators and values that do not exist."""
    if query.probe not in PROBES:
        message = tr("there is no probe {name}", name=quoted(query.probe))
        yield source.problem((*path, "probe"), message, _suggestion(query.probe, PROBES))
    signature = SIGNATURES.get(query.probe)
    for part in ("where", "each", "delta", "prefer"):
        for column, expected in getattr(query, part, {}).items():
            column_path = (*path, part, column)
            if signature is not None and column not in signature.columns:
                message = tr("{probe} has no such column", probe=query.probe)
                fix = _suggestion(column, signature.columns)
                yield source.problem(column_path, message, fix)
            for place, message, fix in _condition_problems(expected, column, signature):
                yield source.problem((*column_path, *place), message, fix)
    if signature is None:
        return
    column = query.column if isinstance(query, Fact | Answer) else None
    if column and column not in signature.columns:
        message = tr("{probe} has no such column", probe=query.probe)
        fix = _suggestion(column, signature.columns)
        yield source.problem((*path, "column"), message, fix)
    known = (*signature.needed, *signature.others)
    for name, value in query.arguments.items():
        argument_path = (*path, "with", name)
        if name not in known:
            message = tr("{probe} has no such argument", probe=query.probe)
            yield source.problem(argument_path, message, _suggestion(name, known) if known else "")
        elif "{" not in value and not signature.may_be(name, value):
            most = 65535 if name == "port" else 99
            yield source.problem(argument_path, tr("must be a number from 1 to {most}", most=most))
    for name in signature.needed:
        if name not in query.arguments:
            yield source.problem((*path, "with", name), tr("is missing"))


def _condition_problems(
    expected: Any, column: str, signature: Signature | None
) -> Iterator[tuple[KeyPath, str, str]]:
    """(place below the column, message, fix) of everything that is wrong with a condition."""
    if isinstance(expected, str):
        if signature is not None and "{" not in expected and not signature.may_be(column, expected):
            pattern = (signature.values or {})[column]
            yield (), tr("can never be {value}", value=quoted(expected)), _values_of(pattern)
        return
    if not isinstance(expected, dict):
        if isinstance(expected, list):
            yield (), tr("must be a value, or operators with their values"), ""
        return
    for name, operand in expected.items():
        if name not in OPERATORS:
            yield (name,), tr("unknown operator"), _suggestion(name, OPERATORS)
        elif name in ("not", "one_of"):
            values = operand if name == "one_of" and isinstance(operand, list) else [operand]
            if name == "one_of" and not isinstance(operand, list):
                yield (name,), tr("must be a list"), ""
            for value in values:
                for _, message, fix in _condition_problems(value, column, signature):
                    yield (name,), message, fix
        elif not is_operand(name, operand):
            yield (name,), tr(_OPERANDS[name]), ""


def _values_of(pattern: str) -> str:
    words = [word for word in pattern.split("|") if re.fullmatch("[a-z_-]+", word)]
    return tr("known are {names}", names=tr_list(words)) if words else ""


# What an operator takes; for `tr`.
_OPERANDS = {
    "in": mark("must be a network, such as 192.168.33.0/24"),
    "between": mark("must be a list of two addresses"),
    "matches": mark("must be a regular expression"),
    "contains": mark("must be text"),
    "at_most": mark("must be a number"),
    "at_least": mark("must be a number"),
}


def _capture_problems(
    claim: ProbeQuery, checkpoint: Checkpoint, path: KeyPath, source: YamlSource
) -> Iterator[Problem]:
    """Claims about packets where nothing is captured: with `count: 0` they would always hold."""
    if not checkpoint.capture:
        message = tr("this checkpoint has no capture, so {probe} sees nothing", probe=claim.probe)
        yield source.problem((*path, "probe"), message, tr("add one"))
        return
    if any("{" in capture.interface for capture in checkpoint.capture):
        return  # known when the checkpoint is run
    interfaces = sorted({capture.interface for capture in checkpoint.capture})
    for part in ("where", "each"):
        asked = getattr(claim, part, {}).get("interface")
        if isinstance(asked, str) and "{" not in asked and asked not in interfaces:
            message = tr("no capture of this checkpoint listens on {name}", name=quoted(asked))
            fix = _suggestion(asked, interfaces)
            yield source.problem((*path, part, "interface"), message, fix)
    for name, value in claim.arguments.items():
        words = value.split()
        if "{" not in value and (len(words) != 2 or words[1] not in interfaces):
            message = tr("must be a node and an interface that this checkpoint captures")
            yield source.problem((*path, "with", name), message)


def _text_problems(source: YamlSource) -> Iterator[Problem]:
    """Everything that is wrong with the templates of a lesson."""
    facts = source.data.get("facts") if isinstance(source.data, dict) else None
    names = tuple(facts) if isinstance(facts, dict) else ()
    for text_path, text in source.texts():
        for message, fix in _template_problems(text, names, _item(source.data, text_path)):
            yield source.problem(text_path, message, fix)


def _item(data: Any, path: KeyPath) -> tuple[str, ...]:
    """What `item` has at this place of a lesson; nothing where it is in no loop."""
    for key in path:
        loop = data.get("for_each") if isinstance(data, dict) else None
        if loop:
            return _attributes(Instance if loop == "instances" else Node)
        data = data[key]
    return ()


def _template_problems(
    text: str, facts: tuple[str, ...], item: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """(message, fix) for everything that is wrong with a template."""
    if "{" not in text:
        return  # plain text, as most are
    known = {
        "lab": _attributes(Topology),
        "instance": _attributes(Instance),
        "node": NODES,
        "fact": facts,
        **({"item": item} if item else {}),
    }
    try:
        template = parse(text)
    except TemplateError as error:
        yield tr("is no template: {error}", error=error), ""
        return
    for name in sorted(names_of(template) - set(known)):
        fix = tr("templates know {names}", names=tr_list(known))
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
    names = tr_list(known)
    return tr("known are {names}", names=names) if names else tr("there are none")


def _attributes(dataclass: type) -> tuple[str, ...]:
    properties = (name for name, value in vars(dataclass).items() if isinstance(value, property))
    return (*(field.name for field in fields(dataclass)), *properties)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a lesson, which editors use; labctl/schema/lesson.schema.json holds it."""
    from labctl.spec.attribute_docs import DocumentedModels  # reads source: only for this

    schema = Lesson.model_json_schema(by_alias=True, schema_generator=DocumentedModels)
    for definition in (schema, *schema["$defs"].values()):
        for field in (definition, *definition["properties"].values()):
            field.pop("title", None)
            if "description" in field:
                field["description"] = " ".join(field["description"].split())
        if "probe" in definition["properties"]:
            definition["properties"]["probe"]["enum"] = sorted(PROBES)
    # A plain text, or a plain number, stands for the first of the keys.
    short = {"Background": "string", "Command": "string", "Text": "string", "Count": "integer",
             "CountFromNone": "integer"}  # fmt: skip
    for name, kind in short.items():
        whole = schema["$defs"][name]
        schema["$defs"][name] = {
            "description": whole.pop("description"),
            "anyOf": [{"type": kind}, {**whole, "minProperties": 1}],
        }
    for name in ("Checkpoint", "Claim", "Fact"):  # what a part has need not be said again
        definition = schema["$defs"][name]
        description = "Name of a part; other keys beside it are instead of the part's."
        definition["properties"]["use"] = {"type": "string", "description": description}
        required = definition.pop("required")
        definition["anyOf"] = [{"required": ["use"]}, {"required": required}]
    schema["description"] = "One tutorial day; docs/lessons.md has the whole format."
    dialect = "http://json-schema.org/draft-07/schema#"
    return {"$schema": dialect, **schema, "title": "a lesson of labctl"}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
