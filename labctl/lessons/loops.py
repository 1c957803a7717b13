"""What a lesson says once for each node or instance, written out for the lab at hand. Pure.

In such a part `item` stands for the node or the instance: each copy has its templates begin with
`{% set item = … %}`, so that nothing else needs to know of it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from labctl.lessons.model import Checkpoint, Claim, Lesson, Looped, Text
from labctl.lessons.templates import bind
from labctl.topology import Topology

_Part = TypeVar("_Part", bound=Looped)


def expand(lesson: Lesson, topology: Topology) -> Lesson:
    """The lesson with its loops written out for this lab; the same object if it has none."""
    if not any(map(_has_loops, lesson.checkpoints)):
        return lesson
    ids: dict[str, list[str]] = {}
    checkpoints = [_checkpoint(checkpoint, topology, ids) for checkpoint in lesson.checkpoints]
    faults = [
        fault.model_copy(
            update={
                part: [id for given in getattr(fault, part) for id in ids.get(given, [given])]
                for part in ("fails", "either")
            }
        )
        for fault in lesson.faults
    ]
    return lesson.model_copy(update={"checkpoints": checkpoints, "faults": faults})


def _has_loops(checkpoint: Checkpoint) -> bool:
    parts: list[Looped] = [
        *checkpoint.run,
        *checkpoint.background,
        *checkpoint.capture,
        *checkpoint.claims,
    ]
    return any(part.for_each is not None for part in parts)


def _checkpoint(
    checkpoint: Checkpoint, topology: Topology, ids: dict[str, list[str]]
) -> Checkpoint:
    """`ids` is filled in: by the id of a claim those that it becomes."""
    claims: list[Claim] = []
    for claim in checkpoint.claims:
        copies = _copies(claim, topology)
        ids[claim.id] = [copy.id for copy in copies]
        claims += copies
    return checkpoint.model_copy(
        update={
            "run": [copy for command in checkpoint.run for copy in _copies(command, topology)],
            "background": [c for each in checkpoint.background for c in _copies(each, topology)],
            "capture": [copy for each in checkpoint.capture for copy in _copies(each, topology)],
            "claims": claims,
        }
    )


def _copies(part: _Part, topology: Topology) -> list[_Part]:
    if not part.for_each:
        return [part]
    names = [item.name for item in getattr(topology, part.for_each)]
    copies: list[_Part] = []
    for number, name in enumerate(names):
        expression = f"lab.{part.for_each}[{number}]"
        changes = {
            field: _bound(getattr(part, field), expression)
            for field in type(part).model_fields
            if field not in ("id", "for_each", "probe")
        }
        if isinstance(part, Claim):
            changes["id"] = f"{part.id}-{_as_id(name)}"
        copies.append(part.model_copy(update={**changes, "for_each": None}))
    return copies


def _as_id(name: str) -> str:
    return re.sub("[^a-z0-9-]", "-", name.lower())


def _bound(value: Any, expression: str) -> Any:
    """A value whose templates know what `item` is."""
    if isinstance(value, str):
        return bind(value, "item", expression)
    if isinstance(value, Text):
        texts = {name: _bound(getattr(value, name), expression) for name in ("en", "zh_tw")}
        return value.model_copy(update=texts)
    if isinstance(value, Mapping):
        return {key: _bound(item, expression) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_bound(item, expression) for item in value]
    return value
