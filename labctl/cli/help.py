"""The help and the usage errors of the command line, in the user's language.

The click inside Typer has only English texts, and it counts characters instead of terminal cells:
Chinese lines, with two cells a character, would be too long. In English click's own help is used.
"""

import re
from collections.abc import Iterable
from typing import Any

import typer

from labctl.i18n import mark, tr
from labctl.terminal.text import Span, cell_width, wrap

_HelpFormatter: Any = typer.Context.formatter_class
_HELP_OPTION = "Show this message and exit."
"""Click's text for `--help`."""
_FACTS = re.compile(r"\[(?P<facts>(?:env var: |default: |required)[^\[\]]*)\]$")
"""What click adds to the help of an option or argument, such as `[default: en]`."""
COMMON = (
    (r"No such command (?P<name>\S+)\.", mark("there is no command {name}")),
    (r"No such command (?P<name>\S+)\. Did you mean (?P<maybe>.*)\?",
     mark("there is no command {name}; perhaps {maybe}?")),
    (r"No such option: (?P<name>\S+)", mark("there is no option {name}")),
    (r"No such option: (?P<name>\S+) \(Possible options: (?P<maybe>.*)\)",
     mark("there is no option {name}; perhaps {maybe}?")),
    (r"No such option: (?P<name>\S+) Did you mean (?P<maybe>.*)\?",
     mark("there is no option {name}; perhaps {maybe}?")),
    (r"Missing (?:argument|parameter|option) (?P<name>\S+)\.", mark("{name} is missing")),
    (r"Option (?P<name>\S+) requires an argument\.", mark("{name} needs a value")),
    (
        r"Got unexpected extra arguments?(?:\(s\))? \((?P<name>.*)\)",
        mark("unexpected argument {name}"),
    ),
    (r"Invalid value for (?P<name>.*?): (?P<what>.*)", mark("{name} has a wrong value: {what}")),
)  # fmt: skip
"""Click's message about wrong usage, as a regular expression -> our message, for `tr`."""


def localize(command: Any) -> None:
    """Translate the help of a click command, and of all its subcommands, in place."""
    command.context_class = _Context
    command.help = tr(command.help) if command.help else command.help
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = tr(parameter.help)
    for subcommand in getattr(command, "commands", {}).values():
        localize(subcommand)


def usage_message(error: Any) -> str:
    """Click's message about wrong usage, translated if it is one of the common ones."""
    message = str(error.format_message())
    for pattern, translation in COMMON:
        if match := re.fullmatch(pattern, message):
            values = {name: value.replace("'", "") for name, value in match.groupdict().items()}
            return tr(translation, **values)
    return message


class _Formatter(_HelpFormatter):  # type: ignore[misc]
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        # Only the prefix is translated: options and arguments are the same in every language.
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
        indent = " " * self.current_indent
        for paragraph in text.split("\n\n"):
            for line in _wrapped(paragraph, self.width - self.current_indent):
                self.write(f"{indent}{line}\n")

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        entries = list(rows)
        first_column = min(max(cell_width(first) for first, _ in entries), col_max) + col_spacing
        indent = " " * self.current_indent
        for first, second in entries:
            gap = first_column - cell_width(first)
            same_line = gap >= col_spacing
            self.write(indent + first + (" " * gap if same_line else "\n"))
            lines = _wrapped(_translate_facts(second), max(self.width - first_column - 2, 10))
            for number, line in enumerate(lines or [""]):
                prefix = "" if same_line and number == 0 else indent + " " * first_column
                self.write(f"{prefix}{line}\n")


class _Context(typer.Context):
    formatter_class = _Formatter


def _wrapped(text: str, width: int) -> list[str]:
    lines = wrap([Span(" ".join(text.split()))], width)
    return ["".join(span.text for span in line) for line in lines]


def _translate_facts(text: str) -> str:
    """A help text whose bracket at the end (`[default: …]`) is translated too."""
    if text == _HELP_OPTION:
        return tr("Show this message and exit.")
    match = _FACTS.search(text)
    if match is None:
        return text
    facts = []
    for fact in match["facts"].split("; "):
        name, colon, value = fact.partition(": ")
        words = {
            "env var": tr("environment variable"),
            "default": tr("default"),
            "required": tr("required"),
        }
        facts.append(words.get(name, name) + (tr(": ") if colon else "") + value)
    return text[: match.start()] + "[" + tr("; ").join(facts) + "]"
