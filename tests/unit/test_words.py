"""Variables say what they hold: in the rooms listed here none has a name that could be anything."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "labctl"
EMPTY_WORDS = {"one", "said", "told", "its"}
DONE = [
    "access",
    "actions",
    "assets.py",
    "classroom",
    "cli",
    "doctor",
    "engine",
    "errors.py",
    "faults",
    "graph",
    "host",
    "i18n.py",
    "images",
    "lab.py",
    "lessons",
    "probes",
    "providers",
    "provisioning",
    "report",
    "run.py",
    "snapshots",
    "spec",
    "state.py",
    "terminal",
    "topology.py",
    "walks",
]
"""Files and folders of labctl/ that have no such names. Add yours once it has none."""


def bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of everything in a module that gets a value: parameters and variables."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.MatchMapping(rest=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name, node.lineno


def empty_words(source: str) -> list[str]:
    """`LINE: NAME` of each variable or parameter in a module that is called by an empty word."""
    names = sorted(set(bound(ast.parse(source))), key=lambda name_and_line: name_and_line[1])
    return [f"{line}: {name}" for name, line in names if name in EMPTY_WORDS]


@pytest.mark.parametrize("room", DONE)
def test_variables_say_what_they_hold(room: str) -> None:
    path = PACKAGE / room
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"there is no {room} any more"
    found = [
        f"labctl/{file.relative_to(PACKAGE)}:{place}"
        for file in files
        for place in empty_words(file.read_text(encoding="utf-8"))
    ]
    assert found == [], "name these for what they hold, such as node, rule or output"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("for one in nodes: pass", ["1: one"]),
        ("names = [one.name for one in nodes]", ["1: one"]),
        ("for name, its in nodes.items():\n    pass", ["1: its"]),
        ("def show(\n    *, told: str\n) -> None: ...", ["2: told"]),
        ("sorted(nodes, key=lambda one: one.name)", ["1: one"]),
        ("if said := run(): pass", ["1: said"]),
        ("with run() as said: pass", ["1: said"]),
        ("try: run()\nexcept OSError as said: pass", ["2: said"]),
        ("match node:\n    case Node(name=one): pass", ["2: one"]),
        ("match node:\n    case [*one] | {'a': 1, **its}: pass", ["2: its", "2: one"]),
        ("for node in nodes: print(node.its, one, node, said=output)", []),
    ],
)
def test_an_empty_word_is_seen(source: str, found: list[str]) -> None:
    assert sorted(empty_words(source)) == found
