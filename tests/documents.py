"""What `--json` prints, held against the published schemas."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import fastjsonschema

from labctl.cli.schemas import DOCUMENTS, schema_file
from labctl.state import as_json


def expect_document(name: str, document: Any) -> Any:
    """A document as a program reads it. Fails unless it is what the schema of that name says.

    Programs have to put up with fields they do not know, so the schemas allow them. Here each field
    must be one that is described.
    """
    read = json.loads(as_json(document))
    try:
        _validate(name)(read)
    except fastjsonschema.JsonSchemaException as error:
        raise AssertionError(f"not as {schema_file(name).name} has it: {error}") from error
    return read


def expect_said_by(words: tuple[str, ...], document: Any) -> Any:
    """The same for what `labctl WORDS --json` printed."""
    for name, kind in DOCUMENTS.items():
        if any(list(words[: len(verb.split())]) == verb.split() for verb in kind.verbs):
            return expect_document(name, document)
    raise AssertionError(f"no schema is for labctl {' '.join(words)}")


@cache
def _validate(name: str) -> Callable[[Any], Any]:
    schema = json.loads(schema_file(name).read_text("utf-8"))
    validate: Callable[[Any], Any] = fastjsonschema.compile(_closed(schema))
    return validate


def _closed(schema: Any) -> Any:
    """The schema without room for further fields."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed
