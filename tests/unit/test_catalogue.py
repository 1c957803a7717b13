"""Everything that is said to people can be said in Traditional Chinese.

What is not translated yet fails CI; on a developer's machine its test is skipped, with the list.
"""

import ast
import gettext
import re
import string
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message

from labctl.classroom.engine import STATES
from labctl.classroom.openstack.quotas import TITLES as QUOTAS
from labctl.cli.help import COMMON
from labctl.doctor.show import TITLES
from labctl.i18n import catalogue_path
from labctl.lessons.load import MESSAGES
from labctl.providers.registry import entries
from labctl.provisioning.stages import SCRIPTS
from labctl.spec.fields import RESERVED
from labctl.spec.forms import WANTED
from labctl.spec.source import SYNTAX
from scripts import messages

PACKAGE = Path(__file__).parents[2] / "labctl"
LeaveToCi = Callable[[Sequence[str], str], None]
TRANSLATIONS = [message for message in messages.translated() if message.id]


@pytest.fixture(scope="module")
def collected() -> Catalog:
    return messages.collected()


def test_every_text_is_translated(collected: Catalog, leave_to_ci: LeaveToCi) -> None:
    advice = "`make messages` collects these; translate them in labctl.po and run it again"
    leave_to_ci(messages.missing(collected, messages.translated()), advice)


def test_the_compiled_catalogue_is_current() -> None:
    with catalogue_path("zh-TW").open("rb") as stream:
        compiled = _entries(gettext.GNUTranslations(stream))
    written = _entries(gettext.GNUTranslations(BytesIO(messages.as_mo(messages.translated()))))
    assert compiled == written, "labctl.mo is older than labctl.po: run `make messages`"


def _entries(translations: gettext.GNUTranslations) -> dict[object, str]:
    catalogue: dict[object, str] = dict(vars(translations)["_catalog"])
    del catalogue[""]  # the header: when and by which Babel
    return catalogue


@pytest.mark.parametrize("message", TRANSLATIONS, ids=lambda message: str(message.id))
def test_a_translation_has_the_placeholders_of_its_template(message: Message) -> None:
    templates = messages.texts(message.id)
    # The number itself may be left out where there is one: "once more".
    expected = placeholders(templates[-1])
    assert all(placeholders(template) | {"n"} == expected | {"n"} for template in templates)
    for translation in filter(None, messages.texts(message.string)):
        assert placeholders(translation) == expected


def placeholders(template: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


# -- what is collected -----------------------------------------------------------------------------
def in_tables() -> Iterator[tuple[str, str]]:
    """(place, template) of what is written down where the language is not known yet."""
    yield from ((script.file, script.title) for script in SCRIPTS)
    yield from (
        ("status", state)
        for state in ("absent", "unfinished", "halted", "degraded", "up", "destroying")
    )
    yield from (("fields.RESERVED", reason) for reason in RESERVED.values())
    yield from (("spec.WANTED", wanted) for wanted in WANTED.values())
    yield from (("engine.STATES", state) for state in STATES.values())
    yield from (("quotas.TITLES", title) for title in QUOTAS.values())
    yield from (("help.COMMON", ours) for _, ours in COMMON)
    yield from (("lessons.MESSAGES", says) for says in MESSAGES.values())
    yield from (("show.TITLES", title) for title in TITLES.values())
    yield from (("source.SYNTAX", text) for _, *texts in SYNTAX for text in texts)
    for entry in entries():
        features = entry.features
        yield from (("Features", features.image), ("Features", features.network))
    for node in ast.walk(ast.parse((PACKAGE / "spec/fields.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_matching":
            for text in (part for argument in node.args[1:] for part in ast.walk(argument)):
                if isinstance(text, ast.Constant):
                    yield f"fields.py:{text.lineno}", str(text.value)


def test_what_tables_hold_is_marked(collected: Catalog) -> None:
    tables = list(in_tables())
    # Nine names have a pattern, each with a message and a mend.
    assert sum(place.startswith("fields.py:") for place, _ in tables) == 18
    unmarked = [f"{place}: {text!r}" for place, text in tables if collected.get(text) is None]
    assert not unmarked, "put these into mark(…):\n" + "\n".join(unmarked)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('tr("plain")', "plain"),
        ('tr("in two " "parts", n=1)', "in two parts"),
        ("f\"({tr('in an f-string')})\"", "in an f-string"),
        ('tr_n("{n} row", "{n} rows", n=len(rows))', ("{n} row", "{n} rows")),
        ('TABLE = {"key": mark("for later")}', "for later"),
        ("tr(TABLE[key])", None),
        ('str("not for people")', None),
    ],
)
def test_a_text_is_collected(source: str, found: object) -> None:
    assert [text for _, text in messages.in_code(source)] == ([found] if found else [])


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
            case ast.Call(func=ast.Name(id="tr" | "tr_n")):
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


def test_every_error_and_every_hint_is_said_in_the_readers_language(
    leave_to_ci: LeaveToCi,
) -> None:
    names = errors()
    assert {"GuestError", "UnreachableError", "SpecError", "WaitTimeout"} <= names
    found = [
        (f"{file.relative_to(PACKAGE)}:{line}", text)
        for file in sorted(PACKAGE.rglob("*.py"))
        for line, text in told(file.read_text(encoding="utf-8"), names)
    ]
    english_only = [f"{place}: {text!r}" for place, text in found if text not in READS_ENGLISH]
    assert set(READS_ENGLISH) <= {text for _, text in found}, "an exception that is none any more"
    leave_to_ci(english_only, "put these into tr(…), then run `make messages`")


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
