"""Texts of the report, each in all languages, so that the reader can switch. Pure.

Every text of the page is escaped here or by the template.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

from markupsafe import Markup

from labctl.i18n import Language, current_language, set_language, tr
from labctl.terminal.text import Line, paragraphs, sanitize


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """While the body runs, `tr` translates into that language."""
    before = current_language()
    set_language(language)
    try:
        yield
    finally:
        set_language(before)


@dataclass(frozen=True)
class Both:
    """A sanitized text in all languages; the page shows the one that the reader has chosen."""

    texts: Mapping[str, str]

    def __html__(self) -> Markup:
        """For the template: an element for each language, or the bare text if all are equal."""
        if len(set(self.texts.values())) == 1:
            return Markup.escape(next(iter(self.texts.values())))
        return Markup().join(
            Markup('<span class="tongue" lang="{}">{}</span>').format(language, text)
            for language, text in self.texts.items()
        )

    def said_in(self, language: str) -> str:
        """The text in that language."""
        return self.texts[language]

    def __bool__(self) -> bool:
        return any(self.texts.values())


def both(text: Callable[[], str]) -> Both:
    """The result of `text()` in each language; it calls `tr`."""
    texts = {}
    for language in get_args(Language):
        with speaking(language):
            texts[language] = sanitize(text())
    return Both(texts)


def same(text: str) -> Both:
    """A name or a number: the same in every language."""
    return Both(dict.fromkeys(get_args(Language), sanitize(text)))


def utc(seconds: float) -> str:
    """A time for people, in UTC, because the reader may be in another time zone."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


# -- texts of lessons ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Prose:
    """An explanation with paragraphs, lists, code and bold, in every language."""

    texts: Mapping[str, str]

    def __html__(self) -> Markup:
        """One block per language."""
        return Markup().join(
            Markup('<div class="tongue prose" lang="{}">{}</div>').format(language, _blocks(text))
            for language, text in self.texts.items()
        )


_UNWRAPPED = 10**6
"""Width in cells that no line reaches: the browser wraps lines."""


def _blocks(text: str) -> Markup:
    """Markup of one explanation, parsed by the same function as for the terminal."""
    blocks: list[Markup] = []
    items: list[Markup] = []
    verbatim: list[str] = []

    def flush() -> None:
        if items:
            blocks.append(Markup("<ul>{}</ul>").format(Markup().join(items)))
            items.clear()
        if verbatim:
            blocks.append(Markup("<pre>{}</pre>").format("\n".join(verbatim)))
            verbatim.clear()

    for line in paragraphs(text, _UNWRAPPED):
        whole = "".join(span.text for span in line)
        if line and line[0].style == "code" and whole.startswith("    "):
            if items:
                flush()
            verbatim.append(whole[4:])
        elif whole.startswith("• "):
            if verbatim:
                flush()
            items.append(Markup("<li>{}</li>").format(_inline(line, skip=2)))
        else:
            flush()
            if line:
                blocks.append(Markup("<p>{}</p>").format(_inline(line)))
    flush()
    return Markup().join(blocks)


_TAGS = {"code": "code", "bold": "strong"}


def _inline(line: Line, skip: int = 0) -> Markup:
    """The spans of a line, without its first `skip` characters."""
    parts = []
    for number, span in enumerate(line):
        text = span.text[skip:] if number == 0 else span.text
        tag = _TAGS.get(span.style)
        parts.append(Markup(f"<{tag}>{{}}</{tag}>").format(text) if tag else Markup.escape(text))
    return Markup().join(parts)


# -- the page's own texts --------------------------------------------------------------------------
def page_words() -> dict[str, Both]:
    """The fixed texts of the page, by their names in the template."""
    return {name: both(text) for name, text in WORDS.items()}


WORDS: dict[str, Callable[[], str]] = {
    "skip": lambda: tr("Skip to the content"),
    "sections": lambda: tr("Sections"),
    "language": lambda: tr("Language"),
    "theme": lambda: tr("Colours"),
    "system": lambda: tr("System"),
    "light": lambda: tr("Light"),
    "dark": lambda: tr("Dark"),
    "lab": lambda: tr("The lab"),
    "picture": lambda: tr("The network"),
    "lessons": lambda: tr("Lessons"),
    "walks": lambda: tr("Packet walks"),
    "nodes": lambda: tr("Nodes"),
    "instances": lambda: tr("Instances"),
    "name": lambda: tr("Name"),
    "roles": lambda: tr("Roles"),
    "state": lambda: tr("State"),
    "chassis": lambda: tr("Chassis"),
    "node": lambda: tr("Node"),
    "fixed": lambda: tr("Fixed IP"),
    "floating": lambda: tr("Floating IP"),
    "processors": lambda: tr("Processors"),
    "memory": lambda: tr("Memory"),
    "status": lambda: tr("Status"),
    "none": lambda: tr("none"),
    "outer": lambda: tr("Outer header"),
    "at_steps": lambda: tr("Shown at the steps that they belong to:"),
    "typed": lambda: tr("The learner typed the commands; these are the lesson's."),
    "summary": lambda: tr("Summary"),
    "proof": lambda: tr("Proof"),
    "holds": lambda: tr("holds"),
    "fails": lambda: tr("does not hold"),
    "evidence": lambda: tr("evidence"),
    "expected": lambda: tr("expected"),
    "colon": lambda: tr(": "),
    "no_walks": lambda: tr("No packet was walked in this lab yet."),
    "controls": lambda: tr("Walk controls"),
    "stage": lambda: tr("The packet on the network; scrolls sideways"),
    "play": lambda: tr("Play"),
    "pause": lambda: tr("Pause"),
    "first": lambda: tr("To the beginning"),
    "previous": lambda: tr("One hop back"),
    "next": lambda: tr("One hop on"),
    "speed": lambda: tr("Speed"),
    "shortcuts": lambda: tr("Keys: ← and → step, Home and End jump, P plays and pauses."),
    "hop": lambda: tr("Hop"),
    "field": lambda: tr("Header field"),
    "before": lambda: tr("before"),
    "after": lambda: tr("here"),
    "why": lambda: tr("by"),
    "ends": lambda: tr("End"),
    "trace": lambda: tr("What ovn-trace says"),
    "asked": lambda: tr("The question"),
    "tries": lambda: tr("Sent by"),
}
