"""Fills in the templates of lessons with the values of a lab."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from labctl.errors import LabError
from labctl.i18n import tr


@cache
def environment(quoting: bool) -> SandboxedEnvironment:
    """The Jinja2 environment of all templates; `quoting`: for shell commands.

    In a command every inserted value is quoted as one word, so that no value of lab.yaml or of the
    running lab can become shell code. Text and conditions take values as they are.
    """
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=(lambda value: shlex.quote(str(value))) if quoting else None,
        keep_trailing_newline=True,
        autoescape=False,
    )


@lru_cache(maxsize=1024)
def _compiled(template: str, quoting: bool) -> Template:
    return environment(quoting).from_string(template)


def fill(template: str, context: Mapping[str, Any], *, quoting: bool = False) -> str:
    """A template with its values inserted; `quoting`: each value as one word of the shell.

    Raises LabError naming the template when a value is missing or the template is wrong.
    """
    if "{" not in template:
        return template  # most values are plain text, and compiling a template takes 1 ms
    try:
        return _compiled(template, quoting).render(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise LabError(
            tr("cannot fill in {template!r}: {error}", template=template, error=error)
        ) from error


def fill_all(value: Any, context: Mapping[str, Any]) -> Any:
    """A value with all templates in it filled in, also those inside mappings and lists."""
    if isinstance(value, str):
        return fill(value, context)
    if isinstance(value, Mapping):
        return {key: fill_all(item, context) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_all(item, context) for item in value]
    return value
