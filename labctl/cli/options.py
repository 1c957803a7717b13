"""How labctl was called: the options many verbs share, the console and the lab they work on."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

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
    """Verbs, each with the whole of its first sentence in the list of `--help`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Click cuts what does not fit beside the verb; a short help of its own it breaks."""
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.short_help:
                command.short_help = " ".join((command.help or "").split("\n\n")[0].split())
        super().format_commands(ctx, formatter)


def open_console(*, quiet: bool = False, json: bool = False) -> "Console":
    """What people see of the work; with `json` it is on stderr."""
    from labctl.terminal.console import make_console

    return make_console(quiet=quiet, json=json)


def open_lab(file: Path, console: "Console") -> "Lab":
    """The lab of a file; as root where its provider needs that, or read by whoever made it."""
    from labctl.lab import CHOSEN, Lab

    lab = Lab(file, console)
    known = True
    try:
        rights = lab.needs_root
    except LabError as error:
        if error.code == EXIT_USAGE or os.geteuid() == 0:
            raise
        rights, known = True, False  # root's lab, which only root can read
    if rights:
        if known and os.geteuid() != 0 and not lab.state.exists:
            os.environ[CHOSEN] = lab.provider_name
        become_root()
    return lab


def become_root() -> None:
    """Containers need root: ask sudo for it, once, with the same command and environment."""
    if os.geteuid() == 0 or os.environ.get("LABCTL_NO_SUDO"):
        return
    from shutil import which

    if which("sudo") is None:
        return  # the provider says that it needs root
    os.environ["LABCTL_COMMAND"] = called()
    wanted = {"NO_COLOR", "TERM", "LANG", "LC_ALL", "LC_MESSAGES", "http_proxy", "https_proxy"}
    kept = ",".join(name for name in os.environ if name.startswith("LABCTL_") or name in wanted)
    sys.stderr.write(tr("labctl: containers need root; asking sudo") + "\n")
    argv = ["sudo", f"--preserve-env={kept}", sys.executable, "-m", "labctl", *sys.argv[1:]]
    os.execvp("sudo", argv)


def called() -> str:
    """How the user called us, for the hints: `labctl`, or the path that was typed."""
    if told := os.environ.get("LABCTL_COMMAND"):  # by ourselves, across sudo
        return told
    name = sys.argv[0]
    return name if "/" in name and not name.endswith("__main__.py") else "labctl"
