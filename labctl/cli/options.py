"""What the verbs share: common options, opening the console and the lab, root by sudo."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.run import python_module

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


def open_lab(file: Path, console: "Console") -> "Lab":
    """The lab of a lab.yaml. Restarts labctl with sudo if the lab needs root.

    That is so if its provider needs root, or if the lab was made by root and only root can read it.
    """
    from labctl.lab import CHOSEN, Lab

    lab = Lab(file, console)
    readable = True
    try:
        needs_root = lab.needs_root
    except LabError as error:
        if error.code == EXIT_USAGE or os.geteuid() == 0:
            raise
        needs_root, readable = True, False
    if needs_root:
        if readable and os.geteuid() != 0 and not lab.state.exists:
            os.environ[CHOSEN] = lab.provider_name
        become_root()
    return lab


def become_root() -> None:
    """Replace this process by `sudo labctl …` with the same arguments, unless we are root.

    With LABCTL_NO_SUDO set it does nothing.
    """
    if os.geteuid() == 0 or os.environ.get("LABCTL_NO_SUDO"):
        return
    from shutil import which

    if which("sudo") is None:
        return  # the provider reports later that it needs root
    os.environ["LABCTL_COMMAND"] = command_name()
    passed_on = {"NO_COLOR", "TERM", "LANG", "LC_ALL", "LC_MESSAGES", "http_proxy", "https_proxy"}
    names = ",".join(name for name in os.environ if name.startswith("LABCTL_") or name in passed_on)
    sys.stderr.write(tr("labctl: containers need root; asking sudo") + "\n")
    argv = ["sudo", f"--preserve-env={names}", *python_module("labctl", *sys.argv[1:])]
    os.execvp("sudo", argv)


def command_name() -> str:
    """How the user called labctl, for hints: `labctl`, or the path that was typed."""
    if name_before_sudo := os.environ.get("LABCTL_COMMAND"):  # set by `become_root`
        return name_before_sudo
    name = sys.argv[0]
    return name if "/" in name and not name.endswith("__main__.py") else "labctl"
