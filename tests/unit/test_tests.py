"""The tests themselves: each looks at what came of what it did."""

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.unit.golden import expect_text

TESTS = Path(__file__).parents[1]
OTHERS = {"raises", "warns", "fail", "leave_to_ci"}  # pytest's, and a fixture that fails in CI


def functions() -> dict[str, list[ast.FunctionDef]]:
    """All of the tests' own functions and methods, by name; tests with their file before it."""
    found = defaultdict(list)
    for file in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                test = node.name.startswith("test_")
                found[f"{file.relative_to(TESTS)}::{node.name}" if test else node.name].append(node)
    return found


def looks(function: ast.FunctionDef, helpers: set[str]) -> bool:
    """It asserts, or calls what does. What is only defined within it may never be called."""
    left: list[ast.AST] = [*function.body]
    while left:
        match node := left.pop():
            case ast.Assert() | ast.Raise(exc=ast.Call(func=ast.Name("AssertionError"))):
                return True
            case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name)) if name in helpers:
                return True
            case ast.FunctionDef() | ast.Lambda() | ast.ClassDef():
                continue
        left += ast.iter_child_nodes(node)
    return False


def blind(found: dict[str, list[ast.FunctionDef]]) -> list[str]:
    """The tests that pass where nothing is done."""
    helpers, before = set(OTHERS), set[str]()
    while helpers != before:
        before = set(helpers)
        # Where several bear a name, any of them may be meant: all must look.
        helpers |= {
            name
            for name, them in found.items()
            if "::" not in name and all(looks(one, before) for one in them)
        }
    return [name for name, (test, *_) in found.items() if "::" in name and not looks(test, helpers)]


def test_every_test_looks_at_what_came_of_it() -> None:
    found = functions()
    assert len([name for name in found if "::" in name]) > 1000
    assert blind(found) == []


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("work()", False),
        ("work()\n assert done()", True),
        ("with pytest.raises(OSError):\n  work()", True),
        ("def callback():\n  assert False\n work(callback)", False),
        ("for one in work():\n  outer(one)", True),
        ("elsewhere.method()", False),
    ],
)
def test_such_tests_are_found(body: str, seen: bool) -> None:
    helpers = """
def outer(): inner()
def inner(): assert work()
class A:
    def method(self): assert work()
class B:
    def method(self): work()
"""
    found = defaultdict(list)
    for node in ast.walk(ast.parse(f"{helpers}\ndef test():\n {body}")):
        if isinstance(node, ast.FunctionDef):
            found["x.py::test" if node.name == "test" else node.name].append(node)
    assert blind(found) == ([] if seen else ["x.py::test"])


IMPORT = re.compile(r"^\s*from (labctl[\w.]*) import ([\w, ]+)$|^\s*import (labctl[\w.]*)$", re.M)


def imports(text: str) -> set[tuple[str, str]]:
    """(module, name) of each import from labctl that stands in a text; name "" for the module."""
    return {
        (module or alone, name.split(" as ")[0].strip())
        for module, names, alone in IMPORT.findall(text.replace(";", "\n"))
        for name in names.split(",")
    }


def exists(module: str, name: str) -> bool:
    """Whether a module can be imported, and has the name or a submodule of it."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return not name or hasattr(found, name) or exists(f"{module}.{name}", "")


def test_programs_that_tests_hand_on_import_what_there_is() -> None:
    """No type checker looks into a program that is a string, and few of them run without root."""
    wanted = {
        (str(file.relative_to(TESTS)), *found)
        for file in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for found in imports(node.value)
    }
    assert {module for _, module, _ in wanted} > {"labctl.providers.nspawn"}
    assert [place for place in wanted if not exists(*place[1:])] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import sys; from labctl.run import run", {("labctl.run", "run")}),
        ("    import labctl.state\n", {("labctl.state", "")}),
        ("from labctl import run as r, state", {("labctl", "run"), ("labctl", "state")}),
        ("what labctl imports", set()),
    ],
)
def test_imports_in_a_text_are_seen(text: str, found: set[tuple[str, str]]) -> None:
    assert imports(text) == found


@pytest.mark.parametrize(
    ("module", "name", "there"),
    [
        ("labctl.run", "run", True),
        ("labctl", "state", True),
        ("labctl.spec", "", True),
        ("labctl", "uplink", False),
        ("labctl.gone", "", False),
    ],
)
def test_what_is_gone_is_seen(module: str, name: str, there: bool) -> None:
    assert exists(module, name) is there


NAMED_TUPLES_OWN = {"_asdict", "_replace", "_fields", "_make"}


def pokes(source: str) -> set[str]:
    """`LINE: NAME` where a test reaches behind a public face: `it._state`, `import _show`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os" | "sys")):
                continue
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"))):
                continue
            case ast.Attribute(attr=name) if PRIVATE.fullmatch(name):
                found.add(f"{node.lineno}: {name}")
            case ast.ImportFrom(names=aliases):
                found |= {f"{node.lineno}: {a.name}" for a in aliases if PRIVATE.fullmatch(a.name)}
            case ast.Constant(value=str(text)) if re.fullmatch(r"labctl(\.\w+)*\._[a-z]\w*", text):
                found.add(f"{node.lineno}: {text}")
    return {poke for poke in found if poke.split(": ")[1] not in NAMED_TUPLES_OWN}


PRIVATE = re.compile(r"_[a-zA-Z]\w*")


def test_tests_use_the_public_face() -> None:
    found = {
        f"{file.relative_to(TESTS)}:{poke}"
        for file in TESTS.rglob("*.py")
        if "node_modules" not in file.parts
        for poke in pokes(file.read_text(encoding="utf-8"))
    }
    assert found == set(), "ask what users of the code ask, or make it public"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("print(guest._transport)", {"1: _transport"}),
        ("from labctl.cli.app import main, _show_error", {"1: _show_error"}),
        ("patch('labctl.lessons.runner._capturing', x)", {"1: labctl.lessons.runner._capturing"}),
        ("self._state = row._replace(a=1)", set()),
        ("super()._connect()", set()),
        ("print(module.__doc__)", set()),
    ],
)
def test_a_poke_is_seen(source: str, found: set[str]) -> None:
    assert pokes(source) == found


def test_a_golden_file_that_differs_is_named_with_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABCTL_UPDATE_GOLDEN", raising=False)
    file = tmp_path / "case.txt"
    with pytest.raises(AssertionError, match=r"case\.txt(.|\n)*\+new\n.*LABCTL_UPDATE_GOLDEN=1"):
        expect_text(file, "new\n")  # there is none yet
    file.write_text("same\nold\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r" same\n-old\n\+new\n"):
        expect_text(file, "same\nnew\n")
