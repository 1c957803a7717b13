"""Each room of labctl/ has a face: `__all__` of its `__init__.py` is all that others may import.

It lists submodules, and names where they cost nothing to import: a face that imported whatever it
shows would make `labctl --help` load the OpenStack SDK and take eight times as long.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "labctl"
ROOMS = sorted(face.parent.name for face in PACKAGE.glob("*/__init__.py"))
ENTRANCES = {"cli"}
"""Rooms that nothing in labctl imports: the command `labctl` and the tests come in there."""


def imported(source: str) -> Iterator[tuple[str, str]]:
    """(`labctl.MODULE`, name) of each import from labctl; of `import labctl.x` the name is ""."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labctl"):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.startswith("labctl."))


def wanted(source: str, own_room: str) -> set[tuple[str, str]]:
    """(room, what is taken of it) of each import from another room.

    What is taken is a submodule (`vagrant.vagrantfile` for one of a folder), or a name of the face.
    """
    taken = set()
    for module, name in imported(source):
        _, room, *below = *module.split("."), *([name] if module.count(".") < 2 else [])
        if room in ROOMS and room != own_room:
            taken.add((room, ".".join(below)))
    return taken


@cache
def imports_of_all_rooms() -> dict[str, set[tuple[str, str]]]:
    """What each file of labctl takes of rooms that it is not in."""
    files = {file: file.relative_to(PACKAGE) for file in sorted(PACKAGE.rglob("*.py"))}
    return {
        str(path): wanted(file.read_text(encoding="utf-8"), path.parts[0])
        for file, path in files.items()
    }


def face(room: str) -> list[str]:
    names: list[str] = import_module(f"labctl.{room}").__all__
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_is_short_says_what_the_room_is_and_can_be_imported(room: str) -> None:
    text = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 20
    module = import_module(f"labctl.{room}")
    assert module.__doc__
    for name in face(room):
        if not hasattr(module, name):
            import_module(f"labctl.{room}.{name}")


def test_nothing_is_taken_of_a_room_but_by_its_face() -> None:
    behind = {
        f"{file}: labctl.{room} does not show {name}"
        for file, taken in imports_of_all_rooms().items()
        for room, name in taken
        if name not in face(room)
    }
    assert behind == set(), "import what __all__ lists, or add it there if it is for others"


@pytest.mark.parametrize("room", sorted({*ROOMS} - ENTRANCES))
def test_a_face_shows_only_what_others_take(room: str) -> None:
    taken = {
        name for imports in imports_of_all_rooms().values() for of, name in imports if of == room
    }
    assert set(face(room)) - taken == set(), "nobody imports it: take it out of __all__"


def test_no_private_name_is_imported() -> None:
    found = {
        f"{file.relative_to(PACKAGE)}: {module}.{name}"
        for file in PACKAGE.rglob("*.py")
        for module, name in imported(file.read_text(encoding="utf-8"))
        if (name.startswith("_") and not name.endswith("__")) or "._" in module
    }
    assert found == set()


def test_no_room_comes_in_by_its_own_face() -> None:
    """It would depend on the order in which the face imports what it shows."""
    found = {
        f"{file.relative_to(PACKAGE)}: {name}"
        for room in ROOMS
        for file in (PACKAGE / room).rglob("*.py")
        for module, name in imported(file.read_text(encoding="utf-8"))
        if module == f"labctl.{room}" and not list((PACKAGE / room).glob(f"{name}*"))
    }
    assert found == set(), "import it from the module that has it"


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("from labctl.spec.load import load_spec", {("spec", "load")}),
        ("from labctl.spec import load, fields", {("spec", "load"), ("spec", "fields")}),
        ("from labctl.providers import Provider", {("providers", "Provider")}),
        (
            "from labctl.providers.vagrant.vagrantfile import vagrantfile",
            {("providers", "vagrant.vagrantfile")},
        ),
        ("def late():\n    import labctl.walks.plan", {("walks", "plan")}),
        ("from labctl.lessons.load import available", set()),
        ("from labctl.errors import LabError\nfrom labctl import state\nimport os", set()),
    ],
)
def test_what_a_file_takes_is_seen(source: str, taken: set[tuple[str, str]]) -> None:
    assert wanted(source, "lessons") == taken
