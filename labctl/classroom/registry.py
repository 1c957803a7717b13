"""The engines, by the names that class.yaml uses for them.

`model.ClassSpec` has the names. The entry of NAME is `ENTRY` in `classroom/NAME/entry.py`;
everything that is special about the engine is in that folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from labctl.classroom.engine import Engine
from labctl.classroom.model import ClassSpec


@dataclass(frozen=True)
class EngineEntry:
    """Everything that labctl knows about an engine without a class."""

    name: str
    """In class.yaml; also the name of the folder."""
    make: Callable[[ClassSpec, Path], Engine]
    """The engine of one class; the path is the directory of class.yaml. Raises LabError."""
    makes_machines: bool = True
    """Whether it can give a learner a new machine."""


def find(name: str) -> EngineEntry:
    """The entry of an engine, by a name that class.yaml was found to have rightly."""
    entry: EngineEntry = import_module(f"labctl.classroom.{name}.entry").ENTRY
    return entry
