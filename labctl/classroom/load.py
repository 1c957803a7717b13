"""class.yaml -> :class:`ClassSpec`: load, validate, and report every problem with its line.

``python -m labctl.classroom.load > labctl/schema/class.schema.json`` writes the JSON Schema.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from labctl.assets import PACKAGE
from labctl.classroom.labels import resource_name
from labctl.classroom.model import ClassSpec
from labctl.i18n import tr
from labctl.spec.forms import Form, described, read_form, validated, write_new
from labctl.spec.problems import KeyPath, Problem, SpecError, quoted
from labctl.spec.source import YamlSource, read_file

__all__ = ["ClassSpec", "json_schema", "load_class", "parse_class", "write_default"]

_OWN_PORTS = 8
"""Addresses of a network that no machine gets: its own two, router, DHCP and metadata ports, and
a few that a machine being replaced still holds."""
_LONGEST_NAME = 63
"""Characters: of an instance in Incus, which is the host's name in it."""
_LAST_PORT = 65535
_TEMPLATE = Path(__file__).with_name("class.yaml")


def load_class(path: Path) -> ClassSpec:
    """The class in this file. Raises SpecError with every problem of the file."""
    return parse_class(read_file(path), str(path))


def parse_class(text: bytes, filename: str) -> ClassSpec:
    """The class in these bytes. Raises SpecError with every problem of them."""
    source, problems, invalid_paths = read_form(text, filename, _form())
    spec = validated(source, _form(), problems, invalid_paths, _nothing_missing)
    if isinstance(spec, ClassSpec):
        problems += _broken_rules(spec, source, invalid_paths)
    if problems or not isinstance(spec, ClassSpec):
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return spec


def write_default(path: Path, name: str) -> None:
    """Write a commented class.yaml. Raises SpecError for a wrong name, LabError for the file."""
    text = _TEMPLATE.read_text(encoding="utf-8").replace("name: ovn-day", f"name: {name}", 1)
    schema = PACKAGE / "schema" / "class.schema.json"
    text = text.replace("$schema=class.schema.json", f"$schema={schema}", 1)
    parse_class(text.encode(), str(path))
    write_new(path, text)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of class.yaml, for editors."""
    return described(ClassSpec.model_json_schema(), "class.yaml of labctl", ["name", "learners"])


def _form() -> Form:
    def write(example: str) -> str:
        return tr("write {value}", value=example)

    needed = {
        "name": ("x", write("name: ovn-day")),
        "learners": ("1", write("learners: 30")),
    }
    return Form(ClassSpec, "name: ovn-day", needed, {})


def _nothing_missing(errors: Sequence[ErrorDetails], data: Mapping[str, Any]) -> Sequence[KeyPath]:
    """Below the top every key has a default."""
    raise AssertionError(f"class.yaml: {errors}")


def _broken_rules(spec: ClassSpec, source: YamlSource, invalid: set[KeyPath]) -> Iterator[Problem]:
    """What several values together break; nothing about a value that is wrong by itself."""
    wrong = {path[:2] for path in invalid}
    if not any(path[0] == "learners" for path in wrong):
        seen: set[str] = set()
        for index, learner in enumerate(spec.learners):
            if learner in seen:
                message = tr("{name} is in the list twice", name=quoted(learner))
                yield source.problem(("learners", index), message, tr("give each a name"))
            seen.add(learner)
    if spec.engine == "ssh":
        yield from _broken_machines(spec, source, invalid)
        return
    section = spec.incus if spec.engine == "incus" else spec.openstack
    if section.access == "fixed" and not section.network and (spec.engine, "network") not in wrong:
        message = tr("with access fixed the network must be named")
        fix = tr("add {example}", example="network: NAME")
        yield source.problem((spec.engine, "access"), message, fix)
    room = section.cidr.num_addresses - _OWN_PORTS
    if section.access != "fixed" and len(spec.learners) > room and not wrong & {
        ("learners",), (spec.engine, "cidr"), (spec.engine, "access"),
    }:  # fmt: skip
        message = tr(
            "{network} has addresses for {room} machines, and there are {n} learners",
            network=section.cidr, room=room, n=len(spec.learners),
        )  # fmt: skip
        yield source.problem((spec.engine, "cidr"), message, tr("choose a larger network"))
    if spec.engine == "incus" and not wrong & {("learners",), ("name",)}:
        yield from _broken_incus(spec, source, wrong)


def _broken_incus(spec: ClassSpec, source: YamlSource, wrong: set[KeyPath]) -> Iterator[Problem]:
    """What several values break for the engine incus alone."""
    for learner in spec.learners:
        name = resource_name(spec.name, learner)
        if len(name) > _LONGEST_NAME:
            message = tr(
                "Incus allows {most} characters for the name of a machine, and {name} has {n}",
                most=_LONGEST_NAME, name=quoted(name), n=len(name),
            )  # fmt: skip
            fix = tr("shorten the name of the class or of the learner")
            yield source.problem(("name",), message, fix)
            break
    last = spec.incus.first_port + len(spec.learners) - 1
    if spec.incus.access == "port" and last > _LAST_PORT and ("incus", "first_port") not in wrong:
        message = tr("{n} learners need the ports up to {last}, and the last there is is {most}",
                     n=len(spec.learners), last=last, most=_LAST_PORT)  # fmt: skip
        yield source.problem(("incus", "first_port"), message, tr("choose a smaller number"))


def _broken_machines(
    spec: ClassSpec, source: YamlSource, invalid: set[KeyPath]
) -> Iterator[Problem]:
    """What is wrong with the list of machines of the engine ssh."""
    if any(path[:2] == ("ssh", "machines") for path in invalid):
        return
    learners_known = not any(path[:1] == ("learners",) for path in invalid)
    seen: set[tuple[str, int]] = set()
    having: set[str] = set()
    for index, machine in enumerate(spec.ssh.machines):
        place: KeyPath = ("ssh", "machines", index)
        if not machine.address:
            fix = tr("write {value}", value="address: 192.0.2.11")
            yield source.problem((*place, "address"), tr("is missing"), fix)
        elif (machine.address.lower(), machine.port) in seen:
            message = tr("{name} is in the list twice", name=quoted(machine.address))
            yield source.problem((*place, "address"), message, tr("a machine is one learner's"))
        seen.add((machine.address.lower(), machine.port))
        learner = machine.learner
        if learner in having:
            message = tr("{name} is in the list twice", name=quoted(str(learner)))
            fix = tr("give each learner one machine")
            yield source.problem((*place, "learner"), message, fix)
        elif learner and learners_known and learner not in spec.learners:
            message = tr("there is no learner {name} in this class", name=quoted(learner))
            yield source.problem((*place, "learner"), message)
        if learner:
            having.add(learner)
    count = len(spec.ssh.machines)
    if learners_known and count < len(spec.learners):
        message = tr("there are {n} learners and {count} machines",
                     n=len(spec.learners), count=count)  # fmt: skip
        fix = tr("list a machine for each learner")
        yield source.problem(("ssh", "machines"), message, fix)


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
