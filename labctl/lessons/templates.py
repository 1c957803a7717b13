"""What a lesson says with the values of a lab: templates filled in, conditions on what is seen."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from labctl.errors import LabError
from labctl.i18n import tr


# -- templates -----------------------------------------------------------------------------------
@cache
def environment(quoting: bool) -> SandboxedEnvironment:
    # Commands: whatever a template inserts is one quoted word, so no value of lab.yaml or of the
    # running lab can become shell code. Text and expectations take values as they are.
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
    """A template with the lab's values in it; with `quoting` each is one word of the shell.

    Raises LabError naming the template when it asks for what is not there.
    """
    if "{" not in template:
        return template  # as most values are: to compile one takes a millisecond
    try:
        return _compiled(template, quoting).render(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise LabError(
            tr("cannot fill in {template!r}: {error}", template=template, error=error)
        ) from error


def fill_all(value: Any, context: Mapping[str, Any]) -> Any:
    """Templates inside mappings and lists, filled in."""
    if isinstance(value, str):
        return fill(value, context)
    if isinstance(value, Mapping):
        return {key: fill_all(item, context) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_all(item, context) for item in value]
    return value


# -- expectations --------------------------------------------------------------------------------
