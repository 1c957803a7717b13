"""Every text that labctl reads or writes says how it is encoded.

Without it, it is as the system's locale has it: cp950 on a Windows in Taiwan. ruff (PLW1514) finds
such a call where it can tell the type of the object; here it is the name of the method that counts.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / "labctl").rglob("*.py"))
NO_TEXT = frozenset({"os", "tarfile", "libvirt"})
"""Modules whose `open` opens no text."""
OPENERS = {"open": 1, "Path.open": 0, "fdopen": 1, "NamedTemporaryFile": 0}
"""What opens a file -> number of the arguments before its mode."""


def without_encoding(source: str) -> Iterator[str]:
    """The calls for a text that name no encoding, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _lacks_encoding(node):
            yield f"{node.lineno}: {ast.unparse(node)}"


def _lacks_encoding(call: ast.Call) -> bool:
    named = {word.arg: word.value for word in call.keywords}
    if "encoding" in named or None in named:
        return False
    owner = getattr(call.func, "value", None)  # of the attribute that is called
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    if name in ("read_text", "write_text"):
        return len(call.args) <= ["read_text", "write_text"].index(name)
    if name in ("run", "Popen", "check_output"):
        return _constant(named.get("text")) is True
    if name == "open" and owner is not None:
        name = "" if getattr(owner, "id", "") in NO_TEXT else "Path.open"
    if name not in OPENERS:
        return False
    at = OPENERS[name]
    mode = named.get("mode", call.args[at] if len(call.args) > at else None)
    usual = "w+b" if name == "NamedTemporaryFile" else "r"
    return "b" not in str(_constant(mode) or usual)


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_text_is_read_or_written_as_the_locale_has_it(file: Path) -> None:
    assert list(without_encoding(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("x.read_text()", True),
        ("x.read_text('utf-8')", False),
        ("x.write_text(y)", True),
        ("x.write_text(y, encoding='utf-8')", False),
        ("x.open()", True),
        ("x.open('ab')", False),
        ("open(x, 'w')", True),
        ("open(x, 'wb')", False),
        ("os.open(x, 1)", False),
        ("os.fdopen(x, 'w')", True),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("subprocess.run(x, text=True)", True),
        ("subprocess.run(x, text=True, encoding='utf-8')", False),
        ("subprocess.run(x)", False),
    ],
)
def test_what_counts_as_wrong(source: str, wrong: bool) -> None:
    assert bool(list(without_encoding(source))) is wrong
