"""What the verbs share: common options, opening the console and the lab."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.cli.elevate import become_root
from labctl.operating_system import rights

if TYPE_CHECKING:
    from labctl.lab import Lab
    from labctl.terminal.console import Console

File = Annotated[
    Path, typer.Option("-f", "--file", help="The lab to work on.", envvar="LABCTL_FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only what goes wrong.")]
DEFAULT = Path("lab.yaml")


class Verbs(TyperGroup):
    """A group of verbs whose `--help` lists each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Give each verb a short help: click wraps it, but would truncate a help text."""
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.short_help:
                command.short_help = " ".join((command.help or "").split("\n\n")[0].split())
        super().format_commands(ctx, formatter)


def open_console(*, quiet: bool = False, json: bool = False) -> "Console":
    """The console that shows the work to people; with `json` it prints to stderr."""
    from labctl.terminal.console import make_console

    return make_console(quiet=quiet, json=json)


def open_lab(file: Path, console: "Console", *, copies: bool = False) -> "Lab":
    """The lab of a lab.yaml. Restarts labctl with sudo if the lab needs root.

    That is so if its provider needs root, or if the lab was made by root and only root can read it.
    Raises LabError when sudo does not make us root; and, without `copies`, when the directory is
    the copy of another lab's.
    """
    from labctl.lab import CHOSEN, Lab
    from labctl.providers.timeout_factor import timeout_factor_from

    timeout_factor_from(os.environ)  # refused before anything is made, whatever the provider
    lab = Lab(file, console)
    if lab.state.owner == 0:  # nothing in it can be read before we are root
        become_root()
    if lab.needs_root and not rights.is_root():
        if not lab.state.exists:
            os.environ[CHOSEN] = lab.provider_name
        become_root()
    if not copies and lab.state.copied_from is not None:
        lab.state.identity()  # raises, with the whole story
    return lab
