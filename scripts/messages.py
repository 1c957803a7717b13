#!/usr/bin/env python3
"""Collects what labctl says and compiles its translations.

    .venv/bin/python scripts/messages.py            `make messages`: write the .po and the .mo
    .venv/bin/python scripts/messages.py --check    exit 1 if a text has no translation

A text is what stands in `tr("…")`, `tr_n("…", "…", …)` or `mark("…")`, and every help of the
command line. The .po is for people: a new text is there with an empty `msgstr`, one whose English
changed a little keeps its translation, marked `fuzzy`, until somebody has looked. labctl reads the
.mo. Both are committed, so that a checkout needs no build step.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import typer
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from labctl.cli.app import app
from labctl.i18n import catalogue_path

ROOT = Path(__file__).parents[1]
COMPILED = catalogue_path("zh-TW")
SOURCE = COMPILED.with_suffix(".po")
KEYWORDS = {"tr": 1, "tr_n": 2, "mark": 1}
"""The functions that take a text, and how many forms of it."""


def collected() -> Catalog:
    """Every text of the package, without translations."""
    template = Catalog(project="labctl")
    for file in sorted((ROOT / "labctl").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        for line, text in in_code(file.read_text(encoding="utf-8")):
            template.add(text, locations=[(name, line)])
    for text, place in helps(typer.main.get_command(app)):
        template.add(text, locations=[place])
    return template


def in_code(source: str) -> Iterator[tuple[int, str | tuple[str, ...]]]:
    """(line, text or its forms) of every call in this module that takes a text.

    Babel's own extractor misses calls inside f-strings before Python 3.12.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            forms = tuple(
                argument.value
                for argument in node.args[: KEYWORDS.get(node.func.id, 0)]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )
            if forms:
                yield node.lineno, forms if len(forms) > 1 else forms[0]


def helps(command: Any, above: tuple[str, int] = ("", 0)) -> Iterator[tuple[str, tuple[str, int]]]:
    """(text, its place) of everything that some `--help` shows and that we wrote."""
    place = above
    if command.callback:
        code = inspect.unwrap(command.callback).__code__
        place = (Path(code.co_filename).relative_to(ROOT).as_posix(), code.co_firstlineno)
    if command.help:
        yield command.help, place
    for parameter in command.params:
        if getattr(parameter, "help", None):
            yield parameter.help, place
    for subcommand in getattr(command, "commands", {}).values():
        yield from helps(subcommand, place)


def translated() -> Catalog:
    """The translations as people wrote them."""
    with SOURCE.open("rb") as stream:
        return read_po(stream, locale="zh_TW", domain="labctl")


def missing(template: Catalog, catalogue: Catalog) -> list[str]:
    """What has to be done before everything is said in Chinese; a line for each text."""
    lines = []
    for message in template:
        if not message.id:
            continue  # the header
        known = catalogue.get(message.id)
        if known is None or known.id != message.id:
            lines.append(f"{_place(message)}: not collected: {message.id!r}")
        elif not all(texts(known.string)):
            lines.append(f"{_place(message)}: not translated: {message.id!r}")
        elif known.fuzzy:
            lines.append(f"{_place(message)}: the English has changed: {message.id!r}")
    lines += [
        f"{_place(message)}: no longer said: {message.id!r}"
        for message in catalogue
        if message.id and template.get(message.id) is None
    ]
    return lines


def texts(text: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """The forms of a text: one, or one for each plural form."""
    return tuple(text) if isinstance(text, (tuple, list)) else (text or "",)


def _place(message: Message) -> str:
    return message.locations[0][0] if message.locations else SOURCE.name


def as_po(catalogue: Catalog) -> bytes:
    """The .po. Without line numbers, which change with every commit."""
    stream = BytesIO()
    write_po(
        stream,
        catalogue,
        width=0,  # never broken: a sentence of the source is found by searching for it
        sort_by_file=True,
        ignore_obsolete=True,  # git remembers them
        include_previous=True,
        include_lineno=False,
    )
    return stream.getvalue()


def as_mo(catalogue: Catalog) -> bytes:
    """The .mo: what is translated, without what is fuzzy."""
    stream = BytesIO()
    write_mo(stream, catalogue)
    return stream.getvalue()


def main() -> None:
    """Renew both files, or say what they lack."""
    template, catalogue = collected(), translated()
    if "--check" not in sys.argv[1:]:
        catalogue.update(template, update_creation_date=False)
        SOURCE.write_bytes(as_po(catalogue))
        COMPILED.write_bytes(as_mo(catalogue))
    lacks = missing(template, catalogue)
    for line in lacks:
        print(line)
    if lacks:
        print(f"{len(lacks)} to do in {SOURCE.relative_to(ROOT)}; then run `make messages` again")
    if "--check" in sys.argv[1:]:
        sys.exit(bool(lacks))


if __name__ == "__main__":
    main()
