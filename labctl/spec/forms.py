"""What every YAML file of a user's shares that pydantic validates: messages, and its JSON Schema.

lab.yaml and class.yaml are such files. A :class:`Form` says what differs between them.
"""

import copy
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr, tr_list
from labctl.spec.fields import OWN_MESSAGE
from labctl.spec.problems import (
    KeyPath,
    Problem,
    SpecError,
    choices_of,
    did_you_mean,
    either,
    printable,
    quoted,
)
from labctl.spec.source import YamlSource, in_wrong_quotes, mistyped, read_yaml, wrong_character
from labctl.user_files import new_for_user

# The dialect that yaml-language-server supports best.
SCHEMA_DIALECT = "http://json-schema.org/draft-07/schema#"


@dataclass(frozen=True)
class Form:
    """One kind of YAML file."""

    model: type[BaseModel]
    example: str
    """Its shortest valid content, for a file that is empty."""
    needed: Mapping[str, tuple[Any, str]]
    """{key at the top without a default: (a value to go on with when the user's is wrong, message
    how to write it, translated)}."""
    named: Mapping[KeyPath, str]
    """{mapping whose keys are names that the user chooses: an example of one}."""


def read_form(
    text: bytes, filename: str, form: Form
) -> tuple[YamlSource, list[Problem], set[KeyPath]]:
    """The file's values, what is wrong before any type is looked at, and the paths of that.

    Raises SpecError for a file that is no YAML, is empty, or holds no mapping.
    """
    source = read_yaml(text, filename)
    if source.data is None:
        fix = tr("one line is enough: {example}", example=form.example)
        raise SpecError([Problem(filename, 1, "", tr("is empty"), fix)])
    if not isinstance(source.data, dict):
        message = tr("must hold keys and values, not {found}", found=_kind(source.data))
        fix = tr("begin with {example}", example="name: my-lab")
        raise SpecError([Problem(filename, 1, "", message, fix)])
    problems = source.given_twice()
    # Which value of a repeated key was meant is not known: rules must not use it.
    invalid_paths = {path for path, _ in source.repeated}
    quoted_wrongly = {path: quote for path, text in source.texts()
                      if (quote := in_wrong_quotes(text))}  # fmt: skip
    problems += [source.problem(path, *wrong_character(quote))
                 for path, quote in quoted_wrongly.items()]  # fmt: skip
    invalid_paths |= quoted_wrongly.keys()
    return (
        replace(source, data=_without(source.data, list(quoted_wrongly), form)),
        problems,
        invalid_paths,
    )


def validated(
    source: YamlSource,
    form: Form,
    problems: list[Problem],
    invalid_paths: set[KeyPath],
    without_default: Callable[[Sequence[ErrorDetails], Mapping[str, Any]], Sequence[KeyPath]],
) -> BaseModel | None:
    """The model without the values that have the wrong type; None if nothing is left of it.

    Adds a problem for each removed value to `problems`, and its path to `invalid_paths`. What is
    missing below the top is for `without_default`: it returns the paths to go on without.
    """
    data = source.data
    # Drop invalid values and validate again; defaults derived from them are recomputed. Each round
    # may uncover more: wrong keys, then their defaults, then full subnets.
    for _ in range(4):
        try:
            return form.model.model_validate(data)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
        invalid_values = [
            error
            for error in errors
            if error["type"] != "missing"
            or (len(error["loc"]) == 1 and error["loc"][0] in form.needed)
        ]
        for error in invalid_values:
            path = tuple(error["loc"])
            message, fix, meant_key = _explain(error, path, form)
            problems.append(source.problem(path, message, fix))
            invalid_paths.add(path)
            if meant_key:
                invalid_paths.add((*path[:-1], meant_key))
        if invalid_values:
            data = _without(data, [tuple(error["loc"]) for error in invalid_values], form)
        else:
            paths = without_default(errors, data)
            invalid_paths.update(paths)
            data = _without(data, paths, form)
    return None


def write_new(path: Path, text: str) -> None:
    """Write a file of the user's that must not exist yet. Raises LabError."""
    try:
        new_for_user(path, text)
    except FileExistsError:
        raise LabError(
            tr("{path} exists already", path=path),
            hint=tr("-f names another file"),
            code=EXIT_USAGE,
        ) from None
    except OSError as error:
        raise LabError(
            tr("{path} cannot be written: {error}", path=path, error=error.strerror),
            code=EXIT_USAGE,
        ) from error


def described(schema: dict[str, Any], title: str, required: Sequence[str]) -> dict[str, Any]:
    """The JSON Schema that pydantic made of a form's model, as the file may be written."""
    for definition in (schema, *schema.get("$defs", {}).values()):
        definition["description"] = " ".join(definition["description"].split())
        # Defaults are filled in before validation: in the file only these are required.
        if definition is schema:
            definition["required"] = list(required)
        else:
            definition.pop("required", None)
        # `nat:` with everything under it commented out means "defaults", and so does `compute-02:`
        # with no value.
        definition["type"] = "object" if definition is schema else ["object", "null"]
        for field in definition["properties"].values():
            _simplify(field)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": title}


def _simplify(field: dict[str, Any]) -> None:
    """Change one property to what lab.yaml allows, with keywords that every editor supports."""
    field.pop("title", None)
    if field.get("format") == "ipv4network":
        del field["format"]  # no standard format; the pattern is enough
    if isinstance(field.get("default"), dict) or field.get("default", "") is None:
        del field["default"]
    if "$ref" in field:
        # In draft 7 other keywords beside $ref are ignored.
        field["allOf"] = [{"$ref": field.pop("$ref")}]
    if field.get("type") == "object":
        field["type"] = ["object", "null"]


def _without(data: Mapping[str, Any], paths: Sequence[KeyPath], form: Form) -> dict[str, Any]:
    """The data without the values at these paths."""
    remaining = copy.deepcopy(dict(data))
    for path in paths:
        *parents, key = _removable(path)
        if not parents and key in form.needed:
            remaining[str(key)] = form.needed[str(key)][0]
            continue
        mapping: Any = remaining
        for parent in parents:
            mapping = mapping.get(parent) if isinstance(mapping, dict) else None
        if isinstance(mapping, dict):
            mapping.pop(key, None)
    return remaining


def _removable(path: KeyPath) -> KeyPath:
    # A list is removed as a whole, because the positions of its other items would change.
    for index, key in enumerate(path):
        if isinstance(key, int):
            return path[:index]
    return path


def _explain(error: ErrorDetails, path: KeyPath, form: Form) -> tuple[str, str, str | None]:
    """What to say about one of pydantic's errors: message, fix, and the key that was meant."""
    error_type, value, context = error["type"], error["input"], error.get("ctx", {})
    if error_type == OWN_MESSAGE:
        plain = unicodedata.normalize("NFKC", value) if isinstance(value, str) else value
        if plain != value:  # full-width digits, points, slashes
            return context["message"], tr("did you mean {meant}?", meant=printable(plain)), None
        return context["message"], context["fix"], None
    if error_type == "extra_forbidden":
        return _explain_unknown(str(path[-1]), _keys_at(path[:-1], form))
    value_kind = _kind(value)
    match error_type:
        case "missing":
            return tr("is missing"), form.needed[str(path[0])][1], None
        case "literal_error":
            known = choices_of(context["expected"])
            meant = did_you_mean(value, known) if isinstance(value, str) else None
            return (
                tr("must be {choices}, not {found}", choices=either(known), found=value_kind),
                tr("did you mean {meant}?", meant=meant) if meant else "",
                None,
            )
        case "model_type" | "model_attributes_type" | "dict_type":
            if isinstance(value, str) and (wrong := mistyped(value)):
                return *wrong, None
            if by_name := form.named.get(path):
                fix = tr("write a name and a colon for each, as in {example}", example=by_name)
            else:
                fix = tr("its keys are {names}", names=tr_list(_keys_at(path, form)))
            return tr("must hold keys and values, not {found}", found=value_kind), fix, None
        case "tuple_type" | "list_type":
            fix = (
                tr("write {value}", value=f"[{printable(value)}]") if isinstance(value, str) else ""
            )
            return tr("must be a list, not {found}", found=value_kind), fix, None
        case "greater_than_equal":
            least = context["ge"]
            return (
                tr("{value} is too small: the least is {least}", value=value, least=least),
                "",
                None,
            )
        case "less_than_equal":
            most = context["le"]
            return tr("{value} is too large: the most is {most}", value=value, most=most), "", None
    message = next((text for start, text in WANTED.items() if error_type.startswith(start)), None)
    return (tr(message, found=value_kind) if message else error["msg"]), "", None


# How the type of a pydantic error begins -> message, for `tr`.
WANTED = {
    "string": mark("must be text, not {found}"),
    "bool": mark("must be true or false, not {found}"),
    "int": mark("must be a whole number, not {found}"),
    "ip_v4_address": mark("must be an IPv4 address, not {found}"),
    "ip_v4_network": mark("must be an IPv4 network, not {found}"),
}


def _explain_unknown(key: str, known: Sequence[str]) -> tuple[str, str, str | None]:
    suggestion = did_you_mean(key, known)
    fix = (
        tr("did you mean {meant}?", meant=suggestion)
        if suggestion
        else tr("known here: {names}", names=tr_list(known))
    )
    return tr("unknown key"), fix, suggestion


def _keys_at(path: KeyPath, form: Form) -> list[str]:
    """The keys the file may have in the mapping at this path."""
    annotation: Any = form.model
    for key in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(key)].annotation
        elif isinstance(key, int):
            annotation = get_args(annotation)[0]  # tuple[MachineSpec, ...]
        else:
            annotation = get_args(annotation)[1]  # dict[str, NodeSpec]: the key is a name
    return list(annotation.model_fields)


def _kind(value: Any) -> str:
    """What the value is, for a message: "nothing", "a mapping", "a list", or the text itself."""
    if value is None:
        return tr("nothing")
    if isinstance(value, dict):
        return tr("a mapping")
    return tr("a list") if isinstance(value, list) else quoted(value)
