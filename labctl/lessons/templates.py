"""Fills in the templates of lessons with the values of a lab, within bounds.

A lesson may come from anybody. Jinja's sandbox keeps a template from reaching Python, but not from
computing without end or filling the memory. So here a template has a part of the language (no
macro, no inclusion, the filters and methods below), nothing is computed while it is read, and
while it is filled in every operation is checked first: how large its operands are, how many there
were. What a template asks of the running lab (facts) is not counted: probes have deadlines.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache, wraps
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.meta import TrackingCodeGenerator
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment

from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.spec.problems import printable

# Far more than any lesson has. A template of the largest size and depth is compiled in a second.
_LONGEST = 32_768
"""Characters of a template."""
_MOST_NODES = 2_000
"""Parts of its syntax tree."""
_DEEPEST = 40
"""Levels of its syntax tree; Jinja's compiler uses Python's stack for each."""
_LARGEST_VALUE = 65_536
"""Characters of a text, or elements of lists within lists, that an operation takes or gives."""
_LARGEST_TEXT = 1 << 20
"""Characters of a template that was filled in."""
_LARGEST_INTEGER = 256
"""Bits."""
_MOST_STEPS = 10_000
"""Operations and rounds of loops while one template is filled in."""

_STATEMENTS: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign,
)  # fmt: skip
_ITERATING = (
    "first", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse",
    "select", "selectattr", "sort", "unique",
)  # fmt: skip
# Not here: what pads or repeats to a size that it is given, and what is meant for HTML.
_FILTERS = (
    *_ITERATING, "abs", "capitalize", "count", "d", "default", "dictsort", "float", "int", "items",
    "last", "length", "lower", "replace", "round", "string", "title", "trim", "truncate", "upper",
    "wordcount",
)  # fmt: skip
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset((
        "capitalize", "count", "endswith", "find", "isalnum", "isalpha", "isdecimal", "isdigit",
        "islower", "isupper", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
        "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
        "title", "upper",
    ))),
    (dict, frozenset(("get", "items", "keys", "values"))),
    (LoopContext, frozenset(("cycle", "changed"))),
)  # fmt: skip
"""What may be called: by the type of the object, the names of its methods."""
_EACH = "labctl each"
"""A filter that no template can name: counts the rounds of a loop."""


# -- bounds ----------------------------------------------------------------------------------------
class _Budget:
    """What is left to one template that is being filled in."""

    def __init__(self) -> None:
        self._steps = 0

    def spend(self, steps: int) -> None:
        """Count operations. Raises SecurityError when there were too many."""
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise SecurityError(tr("it takes more than {n} steps", n=_MOST_STEPS))


_budget: ContextVar[_Budget] = ContextVar("budget")


def _spend(steps: int = 1) -> None:
    if (budget := _budget.get(None)) is not None:
        budget.spend(steps)


def _rounds(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _spend()
        yield value


def _check_values(*values: Any) -> None:
    """Raises SecurityError if the operands or the result of an operation are too large.

    Counts it as an operation, and a large value as several.
    """
    elements, characters, rest = 0, 0, list(values)
    while rest:
        value = rest.pop()
        if isinstance(value, str | bytes):
            characters += len(value)
        elif isinstance(value, list | tuple | set | frozenset | dict):
            elements += len(value)
            _check_size(elements)
            rest += (*value.keys(), *value.values()) if isinstance(value, dict) else value
        elif isinstance(value, int):
            _check_bits(value.bit_length())
        _check_size(characters)
    _spend(1 + elements // 16 + characters // 256)


def _check_size(size: int) -> None:
    if size > _LARGEST_VALUE:
        raise SecurityError(tr("a value in it becomes too large"))


def _check_bits(bits: int) -> None:
    if bits > _LARGEST_INTEGER:
        raise SecurityError(tr("a number in it has too many digits"))


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(many, str | bytes | list | tuple):
            _check_size(len(many) * times)


def _bounded_filter(name: str) -> Callable[..., Any]:
    """One of Jinja's filters, with its input and its output checked."""
    work = FILTERS[name]
    place = 1 if hasattr(work, "jinja_pass_arg") else 0  # before the value: the environment

    @wraps(work)
    def checked(*args: Any, **kwargs: Any) -> Any:
        before, (value, *others) = args[:place], args[place:]
        given = [*others, *kwargs.values()]
        if any(isinstance(number, int) and abs(number) > 1000 for number in given):
            raise SecurityError(tr("a number in it has too many digits"))  # of round()
        if name in _ITERATING:
            # A network is a sequence of addresses, up to sixteen million.
            if not isinstance(value, str | list | tuple | dict | set | frozenset):
                value = _rounds(value)
            if name != "first":
                value = list(value) if not isinstance(value, str | dict) else value
        _check_values(value, *given)
        if name == "replace" and len(others) > 1:
            _check_size(str(value).count(str(others[0])) * len(str(others[1])))
        if name == "join" and others:
            _check_size(len(value) * len(str(others[0])))
        result = work(*before, value, *others, **kwargs)
        if isinstance(result, Iterator):
            result = list(_rounds(result))
        _check_values(result)
        return result

    return checked


def _shown(value: Any) -> Any:
    """What is put into the text."""
    _check_values(value)
    return value


# -- the language ----------------------------------------------------------------------------------
class _Generator(CodeGenerator):
    """Jinja's compiler, which computes nothing itself and joins texts with a check."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Names(TrackingCodeGenerator, _Generator):
    """Finds the names that a template takes from outside."""


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox, with bounds."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(SandboxedEnvironment.default_binop_table)

    def __init__(self, quoting: bool) -> None:
        # Commands: whatever a template inserts is one quoted word, so no value of lab.yaml or of
        # the running lab can become shell code. Text and conditions take values as they are.
        super().__init__(
            undefined=StrictUndefined,
            finalize=(lambda value: shlex.quote(str(_shown(value)))) if quoting else _shown,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,  # the optimizer computes
        )
        self.filters = {name: _bounded_filter(name) for name in _FILTERS} | {_EACH: _rounds}
        self.globals = {"range": _range}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > _LONGEST:
            raise TemplateSyntaxError(tr("it is longer than {n} characters", n=_LONGEST), 1)
        try:
            tree = super()._parse(source, name, filename)
        except RecursionError:
            raise TemplateSyntaxError(tr("it is nested too deeply"), 1) from None
        except ValueError as error:  # int() of more than 4300 digits
            raise TemplateSyntaxError(tr("a number in it has too many digits"), 1) from error
        loops = _check(tree)
        for loop in loops:
            loop.iter = nodes.Filter(loop.iter, _EACH, [], [], None, None, lineno=loop.lineno)
        return tree

    def is_safe_callable(self, obj: Any) -> bool:
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if obj is _range or isinstance(obj, Undefined):  # to call the latter says what is missing
            return True
        return any(isinstance(owner, kind) and name in methods for kind, methods in _METHODS)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if not __self.is_safe_callable(__obj):
            name = getattr(__obj, "__name__", type(__obj).__name__)
            raise SecurityError(
                tr("it calls {name}, which a template cannot", name=printable(name))
            )
        _check_values(getattr(__obj, "__self__", None), *args, *kwargs.values())
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_values(left, right)
        if operator == "*":
            _check_product(left, right)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * right)
        if operator == "%" and isinstance(left, str):
            raise SecurityError(tr("it calls {name}, which a template cannot", name="%"))
        result = super().call_binop(context, operator, left, right)
        _check_values(result)
        return result

    def joined(self, values: Sequence[Any]) -> str:
        """What `~` gives."""
        _check_values(*values)
        return "".join(map(str, values))


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > _MOST_STEPS:
        raise SecurityError(tr("it takes more than {n} steps", n=_MOST_STEPS))
    return numbers


def _check(tree: nodes.Template) -> list[nodes.For]:
    """The loops of a template. Raises TemplateSyntaxError for what is not read here.

    Without recursion, which is what too deep a tree would break.
    """
    loops: list[nodes.For] = []
    count = 0
    level: list[nodes.Node] = [tree]
    for _ in range(_DEEPEST):
        count += len(level)
        below: list[nodes.Node] = []
        for node in level:
            statement = isinstance(node, nodes.Stmt | nodes.Template)
            recursive = isinstance(node, nodes.For) and node.recursive
            if recursive or (statement and not isinstance(node, _STATEMENTS)):
                message = tr("it has a statement other than {names}", names="if, for, set")
                raise TemplateSyntaxError(message, node.lineno)
            if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
                message = tr(
                    "it asks for the filter {name}; known are {names}",
                    name=printable(node.name),
                    names=tr_list(sorted(_FILTERS)),
                )
                raise TemplateSyntaxError(message, node.lineno)
            if isinstance(node, nodes.For):
                loops.append(node)
            below += node.iter_child_nodes()
        if count > _MOST_NODES:
            raise TemplateSyntaxError(tr("it is too long"), 1)
        if not below:
            return loops
        level = below
    raise TemplateSyntaxError(tr("it is nested too deeply"), 1)


@cache
def _environment(quoting: bool) -> _Environment:
    return _Environment(quoting)


def parse(template: str) -> nodes.Template:
    """The syntax tree of a template. Raises TemplateError for what cannot be read."""
    return _environment(False).parse(template)


def names_of(tree: nodes.Template) -> set[str]:
    """The names that a template takes from outside."""
    tracker = _Names(_environment(False))
    tracker.visit(tree)
    return tracker.undeclared_identifiers


# -- filling in ------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def _compiled(template: str, quoting: bool) -> Template:
    return _environment(quoting).from_string(template)


_places: dict[str, str] = {}
"""Where the templates of lessons stand, as FILE:LINE: PATH."""


_written: dict[str, str] = {}
"""Templates with a variable set for them: as they stand in the lesson."""


def remember(template: str, place: str) -> None:
    """Note where a template was read, for the message when it cannot be filled in."""
    _places[template] = place


def bind(template: str, name: str, expression: str) -> str:
    """The template with a variable set for it; the same text if it is no template."""
    if "{" not in template:
        return template
    bound = f"{{% set {name} = {expression} %}}{template}"
    _written[bound] = template
    if place := _places.get(template):
        _places[bound] = place
    return bound


def fill(template: str, context: Mapping[str, Any], *, quoting: bool = False) -> str:
    """A template with its values inserted; `quoting`: each value as one word of the shell.

    Raises LabError naming the template, and where it stands, when a value is missing, when the
    template is wrong, or when it asks for more than a template may have.
    """
    if "{" not in template:
        return template  # most values are plain text, and compiling a template takes 1 ms
    token = _budget.set(_Budget())
    try:
        parts: list[str] = []
        left = _LARGEST_TEXT
        for part in _compiled(template, quoting).generate(context):
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise SecurityError(tr("it gives a text that is too long"))
        return "".join(parts)
    except (
        TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError,
        RecursionError, SyntaxError,
    ) as error:  # fmt: skip
        text = printable(" ".join(_written.get(template, template).split()))
        message = tr("cannot fill in {template!r}: {error}", template=text, error=_reason(error))
        place = _places.get(template)
        raise LabError(f"{place}: {message}" if place else message) from error
    finally:
        _budget.reset(token)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return tr("it is nested too deeply")
    return tr("there is no {name}", name=error) if isinstance(error, KeyError) else str(error)


def fill_all(value: Any, context: Mapping[str, Any]) -> Any:
    """A value with all templates in it filled in, also those inside mappings and lists."""
    if isinstance(value, str):
        return fill(value, context)
    if isinstance(value, Mapping):
        return {key: fill_all(item, context) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [fill_all(item, context) for item in value]
    return value
