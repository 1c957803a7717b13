"""Renders the report: data in, one HTML document out, which loads nothing from a network. Pure.

The template escapes every text, because names and outputs come from guests. As a second protection
the Content-Security-Policy allows only our own script and styles, by their hashes.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast, get_args

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import Language, tr
from labctl.report.lessons import CheckpointShown, LessonShown
from labctl.report.walks import WalkShown
from labctl.report.words import Both, page_words
from labctl.terminal.text import sanitize


@dataclass(frozen=True)
class ReportPage:
    """Everything that the report shows."""

    title: Both
    state: Both
    good: bool
    """Whether all of the lab is up."""
    facts: tuple[tuple[Both, Both], ...]
    """(name, value) of the lab's facts."""
    nodes: tuple[Mapping[str, Any], ...]
    """As in `labctl status --json`."""
    instances: tuple[Mapping[str, Any], ...]
    pictures: Mapping[Language, str]
    """By language: the network as SVG."""
    lessons: tuple[LessonShown, ...]
    walks: tuple[WalkShown, ...]
    """Those that belong to no checkpoint; the others stand at theirs."""

    @property
    def walks_at_steps(self) -> tuple[tuple[WalkShown, LessonShown, CheckpointShown], ...]:
        """The walks at checkpoints, the newest first."""
        found = [
            (walk, lesson, checkpoint)
            for lesson in self.lessons
            for checkpoint in lesson.checkpoints
            for walk in checkpoint.walks
        ]
        return tuple(sorted(found, key=lambda entry: entry[0].number))


def chosen(language: str) -> Language:
    """The language of that name. Raises LabError for a language that the report does not have."""
    for known in get_args(Language):
        if language == known:
            return cast(Language, known)
    raise LabError(
        tr("the page does not speak {language}", language=language),
        hint=tr("choose en or zh-TW"),
        code=EXIT_USAGE,
    )


def render(page: ReportPage, language: Language) -> str:
    """The HTML document; it opens in `language`."""
    own_style, script = _text("page.css"), _text("way.js") + _text("page.js")
    pictures = {language: Markup(svg) for language, svg in page.pictures.items()}
    styles = [own_style, *(style for svg in page.pictures.values() for style in _styles(svg))]
    return _template().render(
        page=page,
        pictures=pictures,
        words=page_words(),
        language=language,
        policy=_policy(styles, [script]),
        style=Markup(own_style),
        script=Markup(script),
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # As in a terminal: no control characters and no bidirectional overrides.
        finalize=lambda value: sanitize(value) if type(value) is str else value,
    )
    return environment.from_string(_text("page.html.j2"))


@cache
def _text(name: str) -> str:
    return files("labctl.report").joinpath(name).read_text("utf-8")


_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


def _styles(svg: str) -> list[str]:
    return _STYLE.findall(svg)


def _policy(styles: list[str], scripts: list[str]) -> str:
    """The Content-Security-Policy that allows exactly these styles and scripts."""
    return "; ".join(
        (
            "default-src 'none'",
            "style-src " + " ".join(dict.fromkeys(map(_hash, styles))),
            "script-src " + " ".join(dict.fromkeys(map(_hash, scripts))),
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
