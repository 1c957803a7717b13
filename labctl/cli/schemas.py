"""The JSON Schemas of what `--json` prints, made from the types that are printed.

`python -m labctl.cli.schemas` writes them all to labctl/schema/; docs/json.md is about them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from labctl.actions.faults import Faults
from labctl.actions.progress import ProgressReport
from labctl.actions.status import Report as LabStatus
from labctl.assets import PACKAGE
from labctl.classroom.grades import Grades
from labctl.classroom.status import ClassStatus
from labctl.doctor.judge import DoctorJson
from labctl.graph.model import Graph
from labctl.lessons.course import CourseJson
from labctl.lessons.model import LessonSummary
from labctl.lessons.proof import ProofJson
from labctl.lessons.results import OutcomeJson
from labctl.snapshots.store import Row
from labctl.spec.attribute_docs import attribute_docs
from labctl.spec.forms import SCHEMA_DIALECT
from labctl.spec.problems import Validation
from labctl.state import write_atomic
from labctl.walks.walk import Walk


@dataclass(frozen=True)
class Document:
    """What one or several verbs print with `--json`."""

    type: Any
    """A TypedDict or a dataclass, or a list of those."""
    verbs: tuple[str, ...]
    """Of `labctl`."""

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        made = TypeAdapter(self.type).json_schema(mode="serialization", schema_generator=_Generator)
        verbs = ", ".join(f"labctl {verb}" for verb in self.verbs)
        return {"$schema": SCHEMA_DIALECT, **made, "title": f"what --json prints: {verbs}"}


DOCUMENTS: Mapping[str, Document] = {
    "class-check": Document(Grades, ("class check",)),
    "class-status": Document(ClassStatus, ("class status",)),
    "course": Document(CourseJson, ("course",)),
    "doctor": Document(DoctorJson, ("doctor",)),
    "faults": Document(Faults, ("fault list", "fault inject", "fault clear")),
    "graph": Document(Graph, ("graph",)),
    "lessons": Document(list[LessonSummary], ("lessons",)),
    "outcome": Document(
        OutcomeJson, ("start", "next", "check", "answer", "hint", "solve", "goto", "replay")
    ),
    "progress": Document(ProgressReport, ("progress",)),
    "proof": Document(ProofJson, ("prove",)),
    "snapshots": Document(list[Row], ("snapshot list",)),
    "status": Document(LabStatus, ("status",)),
    "validate": Document(Validation, ("validate",)),
    "walk": Document(Walk, ("walk",)),
}
"""By the name of its schema."""


def schema_file(name: str) -> Path:
    """Where a document's schema is."""
    return PACKAGE / "schema" / f"{name}.schema.json"


def schema_text(name: str) -> str:
    """What is to be in that file."""
    return json.dumps(DOCUMENTS[name].schema(), indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """A schema of what is written, and not of what would be accepted: of draft 7."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Every field of a dataclass is written, whether or not it has its default."""
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """A default is for who leaves a value out; nothing is left out here."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A field's title would be its name once more."""
        return False

    def tuple_schema(self, schema: Any) -> dict[str, Any]:
        """Draft 7 calls `items` what later ones call `prefixItems`."""
        made = super().tuple_schema(schema)
        if "prefixItems" in made:
            made["items"] = made.pop("prefixItems")
        return made

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        """With the comments of its fields."""
        return _described(super().dataclass_schema(schema), schema["cls"])

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        """With the comments of its fields."""
        return _described(super().typed_dict_schema(schema), schema["cls"])


def _described(schema: dict[str, Any], of: type) -> dict[str, Any]:
    """The schema of a class with what the class says of each of its fields."""
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    for name, text in attribute_docs(of).items():
        if name in schema["properties"]:
            schema["properties"][name]["description"] = text
    return schema


if __name__ == "__main__":
    for name in DOCUMENTS:
        write_atomic(schema_file(name), schema_text(name))
