"""lab.yaml -> :class:`LabSpec`: load, fill in defaults, validate, and report every problem.

``python -m labctl.spec.load > labctl/schema/lab.schema.json`` writes the JSON Schema for editors.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from labctl.assets import PACKAGE, assets
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.spec.defaults import fill_defaults
from labctl.spec.forms import Form, described, read_form, validated, write_new
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
from labctl.spec.problems import KeyPath, Problem, SpecError, printable
from labctl.spec.rules import broken_rules
from labctl.spec.source import YamlSource, read_file
from labctl.state import not_ours

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
    write_new(path, text)


def parse_spec(text: bytes, filename: str) -> LabSpec:
    """The spec in these bytes. Raises SpecError with every problem of them.

    Types and rules are reported together: values of the wrong type are removed, the rules check the
    rest, and a rule that needs a removed value reports nothing.
    """
    source, problems, invalid_paths = read_form(text, filename, _form())
    spec = _validate_types(source, problems, invalid_paths)
    if spec is not None:
        problems += broken_rules(spec, source, invalid_paths)
    if problems or spec is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return spec


def json_schema() -> dict[str, Any]:
    """The JSON Schema of lab.yaml, for editors and for programs that write one."""
    return described(LabSpec.model_json_schema(), "lab.yaml of labctl", ["name"])


def _form() -> Form:
    """What messages about a lab.yaml need to know, in the user's language."""
    fix = tr("give the lab a name, such as {example}", example="name: ovn-tutorial")
    return Form(LabSpec, "name: ovn-tutorial", {"name": ("x", fix)}, _BY_NAME)


def _validate_types(
    source: YamlSource, problems: list[Problem], invalid_paths: set[KeyPath]
) -> LabSpec | None:
    """The spec without the values that have the wrong type; None if nothing is left of it."""

    def without_address(
        errors: Sequence[ErrorDetails], data: Mapping[str, Any]
    ) -> Sequence[KeyPath]:
        problems.extend(_full_subnets(source, errors, fill_defaults(data)))
        # A missing value has no line; report the node or instance that lacks it.
        return [tuple(error["loc"][:2]) for error in errors]

    spec = validated(source, _form(), problems, invalid_paths, without_address)
    assert spec is None or isinstance(spec, LabSpec)
    return spec


def _full_subnets(
    source: YamlSource, errors: Sequence[ErrorDetails], filled: Mapping[str, Any]
) -> Iterator[Problem]:
    """The subnets with too few addresses for all nodes, instances or clients."""
    full: dict[KeyPath, list[str]] = {}
    for error in errors:
        if len(error["loc"]) == _DEPTHS_OF_ADDRESS.get(str(error["loc"][0])):
            path = _subnet_of(tuple(error["loc"]), filled)
            full.setdefault(path, []).append(printable(error["loc"][-2]))
    for subnet, without_address in full.items():
        network: Any = filled
        for key in subnet:
            network = network[key]
        if without_address:
            names = tr_list(without_address[:3] + (["…"] if len(without_address) > 3 else []))
            message = tr(
                "{network} has no free address left for {names}", network=network, names=names
            )
            yield source.problem(subnet, message, tr("choose a larger network"))


def _subnet_of(path: KeyPath, filled: Mapping[str, Any]) -> KeyPath:
    """Where the subnet of a node, instance or client that has no address stands."""
    if path[0] == "nodes":
        return ("private", "subnet")
    if path[0] == "internet":
        return ("internet", "subnet")
    network = filled["instances"][path[1]].get("network")
    further = filled["tenant"].get("networks", {})
    known = isinstance(network, str) and network in further
    return ("tenant", "networks", str(network), "cidr") if known else ("tenant", "cidr")


_DEPTHS_OF_ADDRESS = {"nodes": 3, "instances": 3, "internet": 4}
"""Of the paths `nodes.NAME.eth1`, `instances.NAME.address`, `internet.clients.NAME.address`."""
# Mappings whose keys are names that the user chooses, with an example.
_BY_NAME: Mapping[KeyPath, str] = {
    ("nodes",): "compute-01:",
    ("instances",): "vm_1:",
    ("tenant", "networks"): "n2:",
    ("internet", "clients"): "client-01:",
    ("images",): "debian:",
    ("flavors",): "m1.small:",
}

if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
