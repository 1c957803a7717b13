"""lab.yaml -> :class:`LabSpec`: load, fill defaults, validate, and say everything that is wrong.

``python -m labctl.spec.load > labctl/schema/lab.schema.json`` writes the JSON Schema for editors.
"""

import copy
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.assets import PACKAGE, assets
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr
from labctl.spec.defaults import fill_defaults
from labctl.spec.fields import PROBLEM
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
    Path,
    Problem,
    SpecError,
    choices_of,
    did_you_mean,
    either,
    quoted,
    shown,
)
from labctl.spec.rules import broken_rules
from labctl.spec.source import LARGEST_FILE, YamlSource, read_yaml, too_large

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
    "load_spec",
    "parse_spec",
]

# The dialect yaml-language-server knows best.
SCHEMA_DIALECT = "http://json-schema.org/draft-07/schema#"


def load_spec(path: FilePath) -> LabSpec:
    """The spec in this file. Raises SpecError with everything that is wrong with it."""
    file = str(path)
    try:
        if path.is_dir():
            give = tr("give the file: {path}", path=path / "lab.yaml")
            raise SpecError([_about(file, tr("is a directory"), give)])
        with path.open("rb") as stream:
            # One byte more than allowed tells "too large" without reading all of /dev/zero.
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        mend = tr("labctl init writes one, -f names another")
        raise SpecError([_about(file, tr("there is no such file"), mend)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([_about(file, tr("cannot be read: {reason}", reason=reason))]) from None
    if len(content) > LARGEST_FILE:
        raise SpecError([too_large(file)])
    return parse_spec(content, file)


def write_default(path: FilePath, name: str) -> None:
    """Write the commented lab.yaml of this distribution, under another name of the lab.

    Raises SpecError when the name is none, LabError when the file exists or cannot be written.
    """
    text = (assets() / "lab.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^name: \S+", lambda _: f"name: {name}", text, count=1)
    schema = PACKAGE / "schema" / "lab.schema.json"
    text = text.replace("$schema=labctl/schema/lab.schema.json", f"$schema={schema}", 1)
    parse_spec(text.encode(), str(path))
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
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
    """The spec in these bytes. Raises SpecError with everything that is wrong with it.

    Types and rules are reported together: what has the wrong type is taken out, the rules judge the
    rest, and a rule that would need what was taken out keeps silent.
    """
    source = read_yaml(text, filename)
    if source.data is None:
        mend = tr("one line is enough: {example}", example="name: ovn-tutorial")
        raise SpecError([_about(filename, tr("is empty"), mend, 1)])
    if not isinstance(source.data, dict):
        message = tr("must hold keys and values, not {found}", found=_kind(source.data))
        mend = tr("begin with {example}", example="name: my-lab")
        raise SpecError([_about(filename, message, mend, 1)])
    problems = [problem for _, problem in source.repeated]
    # Which of the two was meant is not known, so no rule may rely on either.
    doubtful = {path for path, _ in source.repeated}
    spec = _typed(source, problems, doubtful)
    if spec is not None:
        problems += broken_rules(spec, source, doubtful)
    if problems or spec is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return spec


def json_schema() -> dict[str, Any]:
    """The JSON Schema of lab.yaml, for editors and for whoever generates one."""
    schema = LabSpec.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        definition["description"] = " ".join(definition["description"].split())
        # Models are filled before they are validated: in the file only the name is needed.
        if definition is schema:
            definition["required"] = ["name"]
        else:
            definition.pop("required", None)
        # `nat:` with everything under it commented out is a valid way to say "defaults", and so is
        # `compute-02:` alone.
        definition["type"] = "object" if definition is schema else ["object", "null"]
        for field in definition["properties"].values():
            _simplify(field)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "lab.yaml of labctl"}


def _simplify(field: dict[str, Any]) -> None:
    """Make one property say what lab.yaml allows, in words that every editor knows."""
    field.pop("title", None)
    if field.get("format") == "ipv4network":
        del field["format"]  # pydantic's own word; the pattern says it
    if isinstance(field.get("default"), dict) or field.get("default", "") is None:
        del field["default"]
    if "$ref" in field:
        field["allOf"] = [{"$ref": field.pop("$ref")}]  # in draft 7 nothing may stand beside $ref
    if field.get("type") == "object":
        field["type"] = ["object", "null"]


def _about(file: str, message: str, mend: str = "", line: int = 0) -> Problem:
    return Problem(file, line, "", message, mend)


def _typed(source: YamlSource, problems: list[Problem], doubtful: set[Path]) -> LabSpec | None:
    """The spec of all parts that have the right types; what has not is added to the sets."""
    data = source.data
    # Every round takes out what is wrong, and what was filled by it comes right in the next one.
    for _ in range(4):
        try:
            return LabSpec.model_validate(data)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
        wrong = [e for e in errors if e["type"] != "missing" or e["loc"] == ("name",)]
        for error in wrong:
            path = tuple(error["loc"])
            message, mend, meant = _explain(error, path)
            problems.append(source.problem(path, message, mend))
            doubtful.add(path)
            if meant:
                doubtful.add((*path[:-1], meant))
        if wrong:
            data = _without(data, [tuple(error["loc"]) for error in wrong])
        else:
            problems += _no_room(source, errors, fill_defaults(data))
            # The address is not in the data: the node or instance that lacks one is.
            homeless = [tuple(error["loc"][:2]) for error in errors]
            doubtful.update(homeless)
            data = _without(data, homeless)
    return None


def _no_room(
    source: YamlSource, errors: Sequence[ErrorDetails], filled: Mapping[str, Any]
) -> Iterator[Problem]:
    """Nodes and instances left without an address because their subnet is full."""
    for section, subnet in (("nodes", ("private", "subnet")), ("instances", ("tenant", "cidr"))):
        network = filled[subnet[0]][subnet[1]]
        homeless = [shown(error["loc"][1]) for error in errors if error["loc"][0] == section]
        if homeless:
            names = ", ".join(homeless[:3]) + (", …" if len(homeless) > 3 else "")
            message = tr(
                "{network} has no free address left for {names}", network=network, names=names
            )
            yield source.problem(subnet, message, tr("choose a larger network"))


def _without(data: Mapping[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    """The data without what stands at these paths."""
    left = copy.deepcopy(dict(data))
    for path in paths:
        if path == ("name",):
            left["name"] = "x"  # the one key that has no default
            continue
        *around, key = _removable(path)
        at: Any = left
        for step in around:
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.pop(key, None)
    return left


def _removable(path: Path) -> Path:
    # A list is taken out whole, or the positions of its other items would shift.
    for position, step in enumerate(path):
        if isinstance(step, int):
            return path[:position]
    return path


def _explain(error: ErrorDetails, path: Path) -> tuple[str, str, str | None]:
    """What to say about one of pydantic's errors: message, mend, and the key that was meant."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == PROBLEM:
        return context["message"], context["mend"], None
    if kind == "extra_forbidden":
        return _explain_unknown(str(path[-1]), _keys_at(path[:-1]))
    found = _kind(value)
    match kind:
        case "missing":
            mend = tr("give the lab a name, such as {example}", example="name: ovn-tutorial")
            return tr("is missing"), mend, None
        case "literal_error":
            known = choices_of(context["expected"])
            meant = did_you_mean(value, known) if isinstance(value, str) else None
            return (
                tr("must be {choices}, not {found}", choices=either(known), found=found),
                tr("did you mean {meant}?", meant=meant) if meant else "",
                None,
            )
        case "model_type" | "model_attributes_type" | "dict_type":
            if by_name := _BY_NAME.get(path):
                mend = tr("write a name and a colon for each, as in {example}", example=by_name)
            else:
                mend = tr("its keys are {names}", names=", ".join(_keys_at(path)))
            return tr("must hold keys and values, not {found}", found=found), mend, None
        case "tuple_type" | "list_type":
            mend = tr("write {value}", value=f"[{shown(value)}]") if isinstance(value, str) else ""
            return tr("must be a list, not {found}", found=found), mend, None
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
    wanted = next((want for start, want in _WANTED.items() if kind.startswith(start)), None)
    return (tr(wanted, found=found) if wanted else error["msg"]), "", None


_BY_NAME: Mapping[Path, str] = {("nodes",): "compute-01:", ("instances",): "vm_1:"}
# By how the kinds of pydantic's errors begin; for `tr`.
_WANTED = {
    "string": mark("must be text, not {found}"),
    "bool": mark("must be true or false, not {found}"),
    "int": mark("must be a whole number, not {found}"),
    "ip_v4_address": mark("must be an IPv4 address, not {found}"),
    "ip_v4_network": mark("must be an IPv4 network, not {found}"),
}


def _explain_unknown(key: str, known: Sequence[str]) -> tuple[str, str, str | None]:
    meant = did_you_mean(key, known)
    mend = (
        tr("did you mean {meant}?", meant=meant)
        if meant
        else tr("known here: {names}", names=", ".join(known))
    )
    return tr("unknown key"), mend, meant


def _keys_at(path: Path) -> list[str]:
    """The keys lab.yaml may have in the mapping at this path."""
    at: Any = LabSpec
    for step in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[str(step)].annotation
        else:
            at = get_args(at)[1]  # dict[str, NodeSpec]: the step is a name
    return list(at.model_fields)


def _kind(value: Any) -> str:
    if value is None:
        return tr("nothing")
    if isinstance(value, dict):
        return tr("a mapping")
    return tr("a list") if isinstance(value, list) else quoted(value)


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
