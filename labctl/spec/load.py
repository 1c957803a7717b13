"""lab.yaml -> :class:`LabSpec`: load, fill in defaults, validate, and report every problem.

``python -m labctl.spec.load > labctl/schema/lab.schema.json`` writes the JSON Schema for editors.
"""

import copy
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.assets import PACKAGE, assets
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr
from labctl.spec.defaults import fill_defaults
from labctl.spec.fields import OWN_MESSAGE
from labctl.spec.model import (
    BoxSpec,
    ExternalSpec,
    FlavorSpec,
    ImageSpec,
    InstanceSpec,
    LabSpec,
    MacSpec,
    NatSpec,
    NodeSpec,
    PoolSpec,
    PrivateSpec,
    TenantSpec,
)
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
from labctl.spec.rules import broken_rules
from labctl.spec.source import (
    YamlSource,
    in_wrong_quotes,
    mistyped,
    read_file,
    read_yaml,
    wrong_character,
)
from labctl.state import not_ours
from labctl.user_files import new_for_user

__all__ = [
    "BoxSpec",
    "ExternalSpec",
    "FlavorSpec",
    "ImageSpec",
    "InstanceSpec",
    "LabSpec",
    "MacSpec",
    "NatSpec",
    "NodeSpec",
    "PoolSpec",
    "PrivateSpec",
    "Problem",
    "SpecError",
    "TenantSpec",
    "json_schema",
    "load_built",
    "load_spec",
    "parse_spec",
]

# The dialect that yaml-language-server supports best.
SCHEMA_DIALECT = "http://json-schema.org/draft-07/schema#"


def load_spec(path: Path) -> LabSpec:
    """The spec in this file. Raises SpecError with every problem of the file."""
    return parse_spec(read_file(path), str(path))


def load_built(path: Path) -> LabSpec | None:
    """The spec that a lab was made from, as labctl wrote it; None if there is no such file.

    It passes the rules like every lab.yaml: the file may have come with somebody else's directory.
    Raises LabError.
    """
    try:
        return parse_spec(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except SpecError as error:
        raise not_ours(path, str(error.problems[0])) from error
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=path, error=error.strerror)
        ) from error


def write_default(path: Path, name: str) -> None:
    """Write the commented lab.yaml that comes with labctl, with `name` as the name of the lab.

    Raises SpecError when the name is invalid, LabError when the file exists or cannot be written.
    """
    text = (assets() / "lab.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^name: \S+", lambda _: f"name: {name}", text, count=1)
    schema = PACKAGE / "schema" / "lab.schema.json"
    text = text.replace("$schema=labctl/schema/lab.schema.json", f"$schema={schema}", 1)
    parse_spec(text.encode(), str(path))
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


def parse_spec(text: bytes, filename: str) -> LabSpec:
    """The spec in these bytes. Raises SpecError with every problem of them.

    Types and rules are reported together: values of the wrong type are removed, the rules check the
    rest, and a rule that needs a removed value reports nothing.
    """
    source = read_yaml(text, filename)
    if source.data is None:
        fix = tr("one line is enough: {example}", example="name: ovn-tutorial")
        raise SpecError([_file_problem(filename, tr("is empty"), fix, 1)])
    if not isinstance(source.data, dict):
        message = tr("must hold keys and values, not {found}", found=_kind(source.data))
        fix = tr("begin with {example}", example="name: my-lab")
        raise SpecError([_file_problem(filename, message, fix, 1)])
    problems = [problem for _, problem in source.repeated]
    # Which value of a repeated key was meant is not known: rules must not use it.
    invalid_paths = {path for path, _ in source.repeated}
    quoted_wrongly = {path: quote for path, text in source.texts()
                      if (quote := in_wrong_quotes(text))}  # fmt: skip
    problems += [source.problem(path, *wrong_character(quote))
                 for path, quote in quoted_wrongly.items()]  # fmt: skip
    invalid_paths |= quoted_wrongly.keys()
    source = replace(source, data=_without(source.data, list(quoted_wrongly)))
    spec = _validate_types(source, problems, invalid_paths)
    if spec is not None:
        problems += broken_rules(spec, source, invalid_paths)
    if problems or spec is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return spec


def json_schema() -> dict[str, Any]:
    """The JSON Schema of lab.yaml, for editors and for programs that write one."""
    schema = LabSpec.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        definition["description"] = " ".join(definition["description"].split())
        # Defaults are filled in before validation: in the file only the name is required.
        if definition is schema:
            definition["required"] = ["name"]
        else:
            definition.pop("required", None)
        # `nat:` with everything under it commented out means "defaults", and so does `compute-02:`
        # with no value.
        definition["type"] = "object" if definition is schema else ["object", "null"]
        for field in definition["properties"].values():
            _simplify(field)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "lab.yaml of labctl"}


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


def _file_problem(file: str, message: str, fix: str = "", line: int = 0) -> Problem:
    return Problem(file, line, "", message, fix)


def _validate_types(
    source: YamlSource, problems: list[Problem], invalid_paths: set[KeyPath]
) -> LabSpec | None:
    """The spec without the values that have the wrong type; None if nothing is left of it.

    Adds a problem for each removed value to `problems`, and its path to `invalid_paths`.
    """
    data = source.data
    # Drop invalid values and validate again; defaults derived from them are recomputed. Each round
    # may uncover more: wrong keys, then their defaults, then full subnets.
    for _ in range(4):
        try:
            return LabSpec.model_validate(data)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
        invalid_values = [
            error for error in errors if error["type"] != "missing" or error["loc"] == ("name",)
        ]
        for error in invalid_values:
            path = tuple(error["loc"])
            message, fix, meant_key = _explain(error, path)
            problems.append(source.problem(path, message, fix))
            invalid_paths.add(path)
            if meant_key:
                invalid_paths.add((*path[:-1], meant_key))
        if invalid_values:
            data = _without(data, [tuple(error["loc"]) for error in invalid_values])
        else:
            problems += _full_subnets(source, errors, fill_defaults(data))
            # A missing value has no line; report the node or instance that lacks it.
            without_address = [tuple(error["loc"][:2]) for error in errors]
            invalid_paths.update(without_address)
            data = _without(data, without_address)
    return None


def _full_subnets(
    source: YamlSource, errors: Sequence[ErrorDetails], filled: Mapping[str, Any]
) -> Iterator[Problem]:
    """The subnets with too few addresses for all nodes or instances."""
    for section, subnet in (("nodes", ("private", "subnet")), ("instances", ("tenant", "cidr"))):
        network = filled[subnet[0]][subnet[1]]
        without_address = [
            printable(error["loc"][1]) for error in errors if error["loc"][0] == section
        ]
        if without_address:
            names = ", ".join(without_address[:3]) + (", …" if len(without_address) > 3 else "")
            message = tr(
                "{network} has no free address left for {names}", network=network, names=names
            )
            yield source.problem(subnet, message, tr("choose a larger network"))


def _without(data: Mapping[str, Any], paths: Sequence[KeyPath]) -> dict[str, Any]:
    """The data without the values at these paths."""
    remaining = copy.deepcopy(dict(data))
    for path in paths:
        if path == ("name",):
            remaining["name"] = "x"  # the only key without a default
            continue
        *parents, key = _removable(path)
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


def _explain(error: ErrorDetails, path: KeyPath) -> tuple[str, str, str | None]:
    """What to say about one of pydantic's errors: message, fix, and the key that was meant."""
    error_type, value, context = error["type"], error["input"], error.get("ctx", {})
    if error_type == OWN_MESSAGE:
        plain = unicodedata.normalize("NFKC", value) if isinstance(value, str) else value
        if plain != value:  # full-width digits, points, slashes
            return context["message"], tr("did you mean {meant}?", meant=printable(plain)), None
        return context["message"], context["fix"], None
    if error_type == "extra_forbidden":
        return _explain_unknown(str(path[-1]), _keys_at(path[:-1]))
    value_kind = _kind(value)
    match error_type:
        case "missing":
            fix = tr("give the lab a name, such as {example}", example="name: ovn-tutorial")
            return tr("is missing"), fix, None
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
            if by_name := _BY_NAME.get(path):
                fix = tr("write a name and a colon for each, as in {example}", example=by_name)
            else:
                fix = tr("its keys are {names}", names=", ".join(_keys_at(path)))
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


# Mappings whose keys are names that the user chooses, with an example.
_BY_NAME: Mapping[KeyPath, str] = {("nodes",): "compute-01:", ("instances",): "vm_1:"}
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
        else tr("known here: {names}", names=", ".join(known))
    )
    return tr("unknown key"), fix, suggestion


def _keys_at(path: KeyPath) -> list[str]:
    """The keys lab.yaml may have in the mapping at this path."""
    annotation: Any = LabSpec
    for key in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(key)].annotation
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


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
