"""What the command line says of itself, in the reader's language.

Typer's click speaks English, and counts letters where a terminal counts cells: Chinese would run
over the edge. An English reader gets click's own help, untouched.
"""

import re
from collections.abc import Iterable
from typing import Any

import typer

from labctl.i18n import mark, tr
from labctl.terminal.text import Span, cell_width, wrap

_HelpFormatter: Any = typer.Context.formatter_class
_HELP_OPTION = "Show this message and exit."
"""Click's own words for `--help`."""
_FACTS = re.compile(r"\[(?P<facts>(?:env var: |default: |required)[^\[\]]*)\]$")
"""What click appends to the help of an option or argument."""
_COMMON = (
    (r"No such command (?P<name>\S+)\.", mark("there is no command {name}")),
    (r"No such option: (?P<name>\S+)", mark("there is no option {name}")),
    (r"No such option: (?P<name>\S+) \(Possible options: (?P<maybe>.*)\)",
     mark("there is no option {name}; perhaps {maybe}?")),
    (r"No such option: (?P<name>\S+) Did you mean (?P<maybe>.*)\?",
     mark("there is no option {name}; perhaps {maybe}?")),
    (r"Missing (?:argument|parameter|option) (?P<name>\S+)\.", mark("{name} is missing")),
    (r"Option (?P<name>\S+) requires an argument\.", mark("{name} needs a value")),
    (r"Got unexpected extra arguments?(?:\(s\))? \((?P<name>.*)\)", mark("{name} is too much")),
    (r"Invalid value for (?P<name>.*?): (?P<what>.*)", mark("{name} does not fit: {what}")),
)  # fmt: skip
"""What click says of wrong use -> what we say."""


def localize(command: Any) -> None:
    """Turn the help of a click command, and of all below it, into the current language."""
    command.context_class = _Context
    command.help = tr(command.help) if command.help else command.help
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = tr(parameter.help)
    for one in getattr(command, "commands", {}).values():
        localize(one)


def usage_message(error: Any) -> str:
    """What click finds wrong with the command line, in the current language if it is common."""
    said = str(error.format_message())
    for pattern, ours in _COMMON:
        if found := re.fullmatch(pattern, said):
            values = {name: value.replace("'", "") for name, value in found.groupdict().items()}
            return tr(ours, **values)
    return said


class _Formatter(_HelpFormatter):  # type: ignore[misc]
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        # Options and arguments are spelled the same in every language.
        super().write_usage(prog, args, tr("Usage: "))

    def write_heading(self, heading: str) -> None:
        names = {
            "Options": tr("Options"),
            "Arguments": tr("Arguments"),
            "Commands": tr("Commands"),
        }
        self.write(
            " " * self.current_indent + names.get(heading, heading) + tr(": ").rstrip() + "\n"
        )

    def write_text(self, text: str) -> None:
        lead = " " * self.current_indent
        for paragraph in text.split("\n\n"):
            for line in _wrapped(paragraph, self.width - self.current_indent):
                self.write(f"{lead}{line}\n")

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        listed = list(rows)
        first_column = min(max(cell_width(first) for first, _ in listed), col_max) + col_spacing
        lead = " " * self.current_indent
        for first, second in listed:
            gap = first_column - cell_width(first)
            beside = gap >= col_spacing
            self.write(lead + first + (" " * gap if beside else "\n"))
            lines = _wrapped(_known(second), max(self.width - first_column - 2, 10))
            for number, line in enumerate(lines or [""]):
                before = "" if beside and number == 0 else lead + " " * first_column
                self.write(f"{before}{line}\n")


class _Context(typer.Context):
    formatter_class = _Formatter


def _wrapped(text: str, width: int) -> list[str]:
    lines = wrap([Span(" ".join(text.split()))], width)
    return ["".join(span.text for span in line) for line in lines]


def _known(text: str) -> str:
    """A help text, its last bracket translated as well."""
    if text == _HELP_OPTION:
        return tr("Show this message and exit.")
    found = _FACTS.search(text)
    if found is None:
        return text
    facts = []
    for fact in found["facts"].split("; "):
        name, colon, value = fact.partition(": ")
        words = {
            "env var": tr("environment variable"),
            "default": tr("default"),
            "required": tr("required"),
        }
        facts.append(words.get(name, name) + (tr(": ") if colon else "") + value)
    return text[: found.start()] + "[" + tr("; ").join(facts) + "]"
