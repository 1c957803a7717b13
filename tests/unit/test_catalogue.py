"""Everything that is said to people can be said in Traditional Chinese."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from labctl.cli.help import _COMMON
from labctl.i18n import catalogue_path
from labctl.lessons.load import _SAYS
from labctl.provisioning.stages import SCRIPTS
from labctl.spec.fields import RESERVED
from labctl.spec.load import _WANTED
from labctl.spec.source import _SYNTAX

PACKAGE = Path(__file__).parents[2] / "labctl"
STATES = {"absent", "unfinished", "halted", "degraded", "up"}


def said() -> Iterator[tuple[str, str]]:
    """(place, template) of every `tr("…")` in the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "tr"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield f"{file.name}:{node.lineno}", str(node.args[0].value)


def in_tables() -> Iterator[tuple[str, str]]:
    """(place, template) of what is written down where the language is not known yet."""
    yield from ((one.file, one.title) for one in SCRIPTS)
    yield from (("status", state) for state in STATES)
    yield from (("fields.RESERVED", reason) for reason in RESERVED.values())
    yield from (("spec._WANTED", wanted) for wanted in _WANTED.values())
    yield from (("helping._COMMON", ours) for _, ours in _COMMON)
    yield from (("lesson._SAYS", says) for says in _SAYS.values())
    yield from (("yamlsource._SYNTAX", text) for _, *texts in _SYNTAX for text in texts)
    for node in ast.walk(ast.parse((PACKAGE / "spec/fields.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_matching":
            for text in node.args[1:]:
                yield f"fields.py:{node.lineno}", ast.literal_eval(text)


def test_every_template_is_in_the_catalogue() -> None:
    known = yaml.safe_load(catalogue_path("zh-TW").read_text(encoding="utf-8"))
    wanted = [*said(), *in_tables()]
    missing = [f"{place}: {text!r}" for place, text in wanted if text not in known]
    assert not missing, "\n".join(missing)


def test_something_is_said() -> None:
    assert len(list(said())) > 60
    # Six names have a pattern, each with a message and a mend.
    assert sum(place.startswith("fields.py:") for place, _ in in_tables()) == 12


# -- errors: what they say and their hints -------------------------------------------------------
READS_ENGLISH = {
    "labctl walk {} FROM TO": "walk.py: a command to be typed",
    " PORT": "walk.py: the rest of that command",
}
"""Text of an error that is not translated, and why."""


def errors() -> set[str]:
    """Names of the package's classes of errors that people read."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    found = {"LabError", "NotYet"}  # what NotYet saw becomes part of WaitTimeout's message
    while more := {name for name, its in bases.items() if its & found} - found:
        found |= more
    return found


def english(node: ast.expr) -> Iterator[str]:
    """The words in an expression that do not come out of `tr`; {} stands for a value in them."""
    match node:
        case ast.Call(func=ast.Attribute(value=text)):  # "…".join(values)
            yield from english(text)
        case ast.BinOp(left=left, right=right):
            yield from (*english(left), *english(right))
        case ast.BoolOp(values=values):
            for one in values:
                yield from english(one)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*english(body), *english(orelse))
        case ast.Constant(value=str(text)):
            yield from (text,) if _has_words(text) else ()
        case ast.JoinedStr(values=pieces):
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "{}" for one in pieces
            )
            yield from (text,) if _has_words(text) else ()


def _has_words(text: str) -> bool:
    # What stands in backquotes is a command, and the same in every language.
    return re.search(r"[A-Za-z]{2}", re.sub(r"`[^`]*`", "", text)) is not None


def told(source: str, errors: set[str]) -> Iterator[tuple[int, str]]:
    """(line, text) of each English text in an error, a hint, or what is waited for."""
    for node in ast.walk(ast.parse(source)):
        texts: list[ast.expr] = []
        match node:
            case ast.Call(func=ast.Name(id="tr")):
                pass
            case ast.Call(func=called, args=arguments, keywords=keywords):
                name = ast.unparse(called).rpartition(".")[2]
                texts = arguments[:1] if name in errors | {"wait_until"} else []
                texts += [one.value for one in keywords if one.arg == "hint"]
            case ast.Assign(targets=[ast.Name(id="hint") | ast.Attribute(attr="hint")], value=hint):
                texts = [hint]
        for one in texts:
            for text in english(one):
                yield one.lineno, text


def test_every_error_and_every_hint_is_said_in_the_readers_language() -> None:
    names = errors()
    assert {"GuestError", "UnreachableError", "SpecError", "WaitTimeout"} <= names
    found = [
        (f"{file.relative_to(PACKAGE)}:{line}", text)
        for file in sorted(PACKAGE.rglob("*.py"))
        for line, text in told(file.read_text(encoding="utf-8"), names)
    ]
    english_only = [f"{place}: {text!r}" for place, text in found if text not in READS_ENGLISH]
    assert not english_only, "\n".join(english_only)
    assert set(READS_ENGLISH) <= {text for _, text in found}, "an exception that is none any more"


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ('raise LabError("no such lab")', ["no such lab"]),
        ('raise GuestError(f"{name}: broken", hint=tr("mend it"))', ["{}: broken"]),
        ('raise LabError(tr("broken"), hint="mend it" if bad else None)', ["mend it"]),
        ('run(argv, hint="mend " + what)', ["mend "]),
        ('wait_until(f"{name} starts", look, hint="")', ["{} starts"]),
        ('error.hint = ("mend it")', ["mend it"]),
        ('raise LabError(tr("{a} is broken", a="the lab") + f": {error}")', []),
        ('raise LabError(" / ".join(said), hint="`labctl up`")', []),
        ('raise ValueError("a defect of ours")', []),
    ],
)
def test_english_is_seen_where_it_is(source: str, texts: list[str]) -> None:
    assert [text for _, text in told(source, {"LabError", "GuestError"})] == texts
