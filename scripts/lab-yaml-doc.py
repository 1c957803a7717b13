#!/usr/bin/env python3
"""Writes the table of fields in docs/lab-yaml.md from the models that read lab.yaml.

    .venv/bin/python scripts/lab-yaml-doc.py            write it
    .venv/bin/python scripts/lab-yaml-doc.py --check    exit 1 if it is not current

Meanings, limits and defaults all come from labctl/spec/model.py: change them there.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labctl.spec.load import json_schema, parse_spec

DOCUMENT = Path(__file__).parents[1] / "docs" / "lab-yaml.md"
BEGIN = "<!-- fields: written by scripts/lab-yaml-doc.py, do not edit -->"
END = "<!-- end of fields -->"

Schema = Mapping[str, Any]


def document(old: str) -> str:
    """The document with its generated part renewed."""
    before, _, rest = old.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{DOCUMENT.name} has lost its marker lines:\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{fields()}\n{END}{after}"


def fields() -> str:
    """One table for the top level, and one for each section below it."""
    schema = json_schema()
    defaults = parse_spec(b"name: x", "lab.yaml").model_dump(mode="json")
    sections = list(_sections("", schema, defaults, schema["$defs"]))
    return "\n".join(_table(*section, schema["$defs"]) for section in sections)


def _sections(
    path: str, model: Schema, values: Any, definitions: Schema
) -> Iterator[tuple[str, Schema, list[Any]]]:
    """Path, schema and default values of a mapping, then of those inside it.

    The values are a list because nodes differ: each has its own.
    """
    here = values if isinstance(values, list) else [values]
    yield path, model, here
    for name, field in model["properties"].items():
        inner = _model(field, definitions)
        if inner is None:
            continue
        below = [value[name] for value in here]
        if "additionalProperties" in field:  # by name: nodes, instances
            entries = [entry for value in below for entry in value.values()]
            yield from _sections(f"{path}{name}.NAME.", inner, entries, definitions)
        else:
            yield from _sections(f"{path}{name}.", inner, below, definitions)


def _model(field: Schema, definitions: Schema) -> Schema | None:
    """The schema of the mapping a field holds, or None if it holds a plain value."""
    for place in (field, field.get("additionalProperties"), *field.get("allOf", ())):
        if isinstance(place, Mapping) and "$ref" in place:
            found: Schema = definitions[place["$ref"].rpartition("/")[2]]
            return found
    return None


def _table(path: str, model: Schema, values: list[Any], definitions: Schema) -> str:
    title = f"`{path[:-1]}`" if path else "Top level"
    lines = [f"### {title}", "", model["description"], ""]
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model["properties"].items():
        inner = _model(field, definitions)
        value = "see below" if inner else _value(field)
        default = "" if inner else _default(name, values, required=path == "" and name == "name")
        meaning = _meaning(field["description"], default)
        cells = (f"`{path}{name}`", value, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _value(field: Schema) -> str:
    """What may stand there, in a few words."""
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "anyOf" in field:  # a value or nothing
        return _value(next(one for one in field["anyOf"] if one.get("type") != "null"))
    if field.get("type") == "array":
        return f"list of {_value(field['items'])}"
    if field.get("type") == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        return f"whole number, {low} to {high}" if high else f"whole number, {low} or more"
    if field.get("type") == "boolean":
        return "`true`, `false`"
    if field.get("format") == "ipv4":
        return "IPv4 address"
    pattern = field.get("pattern", "")
    if pattern.startswith("^[0-9]{1,3}"):
        return "IPv4 network, /8 to /29"
    return "MAC address" if pattern.startswith("^([0-9A-Fa-f]{2}") else "text"


def _default(name: str, values: list[Any], *, required: bool) -> str:
    if required:
        return "none: must be given"
    texts = dict.fromkeys(_text(value[name]) for value in values)
    return ", ".join(f"`{text}`" for text in texts if text) or "made by labctl"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return '""'
    return "" if value is None else str(value)


def _meaning(description: str, default: str) -> str:
    # "Default: n1." says nothing that the column beside it does not say.
    said = re.search(r" ?Default: ([^ ]+)\.$", description)
    if said and default == f"`{said[1]}`":
        return description[: said.start()]
    return description


def main() -> int:
    """Write the document, or with --check say whether it is current."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = document(old)
    if "--check" in sys.argv[1:]:
        if new != old:
            sys.stderr.write(f"{DOCUMENT.name} is not current: run scripts/lab-yaml-doc.py\n")
        return int(new != old)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
