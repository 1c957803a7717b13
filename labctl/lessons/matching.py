"""Whether a value that a probe saw is what a lesson expects."""

import ipaddress
import math
from collections.abc import Mapping
from typing import Any

import regex

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

_SECONDS = 2.0
"""For one regular expression of a lesson, which may try more ways than there is time for."""
OPERATORS = ("in", "between", "not", "matches", "one_of", "contains", "at_least", "at_most")


def matches(seen: Any, expected: Any) -> bool:
    """Whether a value is as expected: an equal one, or a mapping of operators that all hold.

    Operators: `in` (a network), `between` [first, last] addresses, `not`, `matches` (a regular
    expression, whole value), `one_of`, `contains` (an element or substring), `at_least` and
    `at_most` (a number).
    """
    if isinstance(expected, Mapping):
        return all(_operator(name, seen, operand) for name, operand in expected.items())
    return plain(seen) == plain(expected)


def is_operand(name: str, operand: Any) -> bool:
    """Whether an operator other than `not` and `one_of` can take this, as a lesson writes it.

    A template may become anything.
    """
    if isinstance(operand, str) and "{" in operand:
        return True
    try:
        match name:
            case "in":
                ipaddress.ip_network(operand)
            case "between":
                first, last = operand
                for end in (first, last):
                    if "{" not in end:
                        ipaddress.ip_address(end)
            case "matches":
                regex.compile(operand)
            case "contains":
                return operand is None or isinstance(operand, str)
            case "at_least" | "at_most":
                return math.isfinite(float(operand))
    except (TypeError, ValueError, regex.error, RecursionError, OverflowError):
        return False
    return True


def plain(value: Any) -> str:
    """A value as YAML writes it: templates give text, so everything is compared as text.

    A list is its elements with commas between them, or null when it is empty.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) if value else str(None)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a lesson that says 1 means 1.0, too
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
                return regex.fullmatch(operand, plain(seen), timeout=_SECONDS) is not None
            case "one_of":
                return any(matches(seen, choice) for choice in operand)
            case "contains":
                if isinstance(seen, list | tuple | set):
                    return plain(operand) in map(plain, seen)
                return seen is not None and plain(operand) in plain(seen)
            case "at_least":
                return float(seen) >= float(operand)
            case "at_most":
                return float(seen) <= float(operand)
    except TimeoutError as error:
        raise LabError(
            tr("a lesson holds a regular expression that comes to no end: {operand!r}",
               operand=operand),
            hint=tr("write it without repetitions within repetitions"),
            code=EXIT_USAGE,
        ) from error  # fmt: skip
    except (TypeError, ValueError):
        return False  # such as text where the operator needs an address or a number
    except regex.error as error:
        raise LabError(
            tr("a lesson holds the wrong regular expression {operand!r}: {error}",
               operand=operand, error=error),
            code=EXIT_USAGE,
        ) from error  # fmt: skip
    raise LabError(tr("a lesson uses the unknown operator {name!r}", name=name), code=EXIT_USAGE)
