"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en` and `zh-TW`. Commands, facts and claims are Jinja2 templates over the lab's
topology (`lab`, `instance`), so a lesson holds for the values a lab really has.
"""

import ipaddress
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import current_language

Row = Mapping[str, Any]
"""One line of what a probe saw: column -> value."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Text(_Model):
    """The same words in both languages."""

    en: str
    zh_tw: str = Field(alias="zh-TW")

    def __str__(self) -> str:
        return (self.zh_tw if current_language() == "zh-TW" else self.en).strip()


class Look(_Model):
    """A question to a probe."""

    probe: str
    arguments: Mapping[str, str] = Field(default={}, alias="with")
    where: Mapping[str, Any] = {}
    """Only rows whose columns match; see `matches`."""


class Fact(Look):
    """A value of the running lab that claims are stated with: a column of the one row that is seen."""

    column: str


class Claim(Look):
    """One sentence that a checkpoint proves."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    text: Text
    count: int | str | None = None
    """How many rows there must be (a number, or a template that gives one); None: at least one."""
    each: Mapping[str, Any] = {}
    """What every row's columns must match."""
    within: float = 5
    """Seconds the claim may take to come true: a first ping is often lost to ARP."""


class Capture(_Model):
    """A tcpdump that runs while the checkpoint's commands run."""

    node: str
    interface: str
    filter: str


class Checkpoint(_Model):
    """One step: explain, run, prove, and how to take it back."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: Text
    explain: Text
    node: str = "controller"
    """`controller`, `gateway`, `hypervisor` (of the first instance), `instance`, or a node's name."""
    run: Sequence[str]
    sets: Sequence[str] = ()
    """Shell variables of `run` that later checkpoints, and the learner, still have."""
    capture: Sequence[Capture] = ()
    claims: Sequence[Claim] = Field(min_length=1)
    undo: str = ""
    """Shell commands that take the step back; must not fail when there is nothing to take back."""


class Lesson(_Model):
    """One tutorial day."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: Text
    goal: Text
    facts: Mapping[str, Fact] = {}
    checkpoints: Sequence[Checkpoint] = Field(min_length=1)

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)


def available() -> list[str]:
    """Ids of the built-in lessons."""
    return sorted(path.stem for path in built_in().glob("*.yaml"))


def load_lesson(name: str) -> Lesson:
    """A built-in lesson by its id, or one from a file by its path. Raises LabError."""
    path = built_in() / f"{name}.yaml" if name in available() else Path(name)
    if not path.is_file():
        raise LabError(
            f"there is no lesson {name!r}",
            hint=f"the lessons are: {', '.join(available())}; a path to a lesson's file works too",
            code=EXIT_USAGE,
        )
    try:
        return Lesson.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise LabError(f"{path.name} is not a lesson: {error}", code=EXIT_USAGE) from error


# -- templates -------------------------------------------------------------------------------------
@cache
def _environment(quoting: bool) -> SandboxedEnvironment:
    # Commands: whatever a template inserts is one quoted word, so no value of lab.yaml or of the
    # running lab can become shell code. Text and expectations take values as they are.
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=(lambda value: shlex.quote(str(value))) if quoting else None,
        keep_trailing_newline=True,
        autoescape=False,
    )


def fill(template: str, context: Mapping[str, Any], *, quoting: bool = False) -> str:
    """A template with the lab's values in it; with `quoting` each is one word of the shell.

    Raises LabError naming the template when it asks for what is not there.
    """
    try:
        return _environment(quoting).from_string(template).render(context)
    except TemplateError as error:
        raise LabError(f"cannot fill in {template!r}: {error}") from error


def fill_all(value: Any, context: Mapping[str, Any]) -> Any:
    """Templates inside mappings and lists, filled in."""
    if isinstance(value, str):
        return fill(value, context)
    if isinstance(value, Mapping):
        return {key: fill_all(item, context) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_all(item, context) for item in value]
    return value


# -- expectations ----------------------------------------------------------------------------------
Operator = Literal["in", "between", "not", "matches", "one_of", "contains", "at_least"]


def matches(seen: Any, expected: Any) -> bool:
    """Whether a value is as expected: an equal one, or a mapping of operators that all hold.

    Operators: `in` (a network), `between` [first, last] addresses, `not`, `matches` (a regular
    expression, whole value), `one_of`, `contains` (an element or substring), `at_least` (a number).
    """
    if isinstance(expected, Mapping):
        return all(_operator(name, seen, operand) for name, operand in expected.items())
    return _plain(seen) == _plain(expected)


def _plain(value: Any) -> str:
    """As the lesson writes it: templates are text, so numbers and truth values compare as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _operator(name: str, seen: Any, operand: Any) -> bool:
    try:
        match name:
            case "in":
                return ipaddress.ip_address(str(seen)) in ipaddress.ip_network(operand)
            case "between":
                first, last = (ipaddress.ip_address(end) for end in operand)
                return bool(first <= ipaddress.ip_address(str(seen)) <= last)  # type: ignore[operator]
            case "not":
                return not matches(seen, operand)
            case "matches":
                return re.fullmatch(operand, _plain(seen)) is not None
            case "one_of":
                return any(matches(seen, one) for one in operand)
            case "contains":
                return str(operand) in (seen if isinstance(seen, list | tuple | set) else str(seen))
            case "at_least":
                return float(seen) >= float(operand)
    except (TypeError, ValueError):
        return False  # what was seen is not an address or a number at all
    raise LabError(f"a lesson uses the unknown operator {name!r}", code=EXIT_USAGE)
