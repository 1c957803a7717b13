"""The verbs of the snapshots."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import command_name
from labctl.cli.options import (
    DEFAULT,
    File,
    Json,
    Quiet,
    Verbs,
    open_console,
    open_lab,
)
from labctl.errors import EXIT_FAILED, LabError
from labctl.i18n import tr, tr_list

if TYPE_CHECKING:
    from labctl.snapshots.store import Row
    from labctl.terminal.console import Console

snapshots_app = typer.Typer()
snapshot_app = typer.Typer(cls=Verbs, help="Named states of the whole lab.", no_args_is_help=True)
snapshots_app.add_typer(snapshot_app, name="snapshot")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the snapshot.")]
Cold = Annotated[
    bool,
    typer.Option(
        "--cold",
        help="Restore the files of all nodes, with a restart, even where that is not needed.",
    ),
]


@snapshot_app.command()
def save(
    name: Name,
    warm: Annotated[
        bool, typer.Option("--warm", help="Only what can be put back while the lab runs.")
    ] = False,
    file: File = DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Keep the state of the whole lab, all nodes together."""
    from labctl.actions import snapshots

    with open_console(quiet=quiet) as console:
        manifest = snapshots.save(open_lab(file, console), name, files=not warm)
        console.say(tr("snapshot {name}: {size}", name=name, size=_size(manifest.size)))


@snapshot_app.command(name="list")
def list_(file: File = DEFAULT, json: Json = False) -> None:
    """Size, age and lesson position of every snapshot, and which one the lab is in."""
    from labctl.actions import snapshots
    from labctl.state import as_json

    with open_console(json=json) as console:
        rows = snapshots.rows(open_lab(file, console))
        if json:
            typer.echo(as_json(rows))
        else:
            show_rows(rows, console)


@snapshot_app.command()
def restore(name: Name, cold: Cold = False, file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Put the whole lab back into a snapshot, the lesson position too."""
    from labctl.actions import snapshots

    with open_console(quiet=quiet) as console:
        snapshots.restore(open_lab(file, console), name, cold=cold)


@snapshot_app.command()
def delete(name: Name, file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Delete a snapshot; the lab stays as it is."""
    from labctl.actions import snapshots

    with open_console(quiet=quiet) as console:
        snapshots.delete(open_lab(file, console), name)
        console.say(tr("snapshot {name} is deleted", name=name))


@snapshots_app.command()
def reset(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NAME",
            help="A snapshot; default: `base`, and the start of the lesson you are in.",
        ),
    ] = "",
    cold: Cold = False,
    file: File = DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Put the lab back to where the lesson began, or to a snapshot."""
    from labctl.actions import snapshots

    with open_console(quiet=quiet) as console:
        snapshots.reset(open_lab(file, console), to, console, cold=cold, labctl=command_name())


@snapshots_app.command()
def fork(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new lab.")],
    snapshot: Annotated[
        str,
        typer.Option(
            metavar="SNAPSHOT",
            help="The snapshot to make it from; default: `base`, or else the newest.",
        ),
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Where the new lab is to be; default: NAME, beside this lab's directory.",
        ),
    ] = None,
    file: File = DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Make a second lab from a snapshot of this one, with passwords and keys of its own."""
    from labctl.actions.fork import fork as fork_lab

    with open_console(quiet=quiet) as console:
        new = fork_lab(
            open_lab(file, console), name, directory=to, snapshot=snapshot, subscriber=console
        )
        command = f"cd {shlex.quote(str(new.file.parent))}; {command_name()} status"
        console.say(tr("next: {command}", command=command))


@snapshots_app.command()
def renew(
    snapshot: Annotated[
        str,
        typer.Option(
            metavar="SNAPSHOT",
            help="The snapshot to go back to; default: `base`, or else the newest.",
        ),
    ] = "",
    halted: Annotated[
        bool, typer.Option("--halted", help="Do not start it; the next `renew` does.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, even if named snapshots go with it.")
    ] = False,
    file: File = DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Put the lab back to a snapshot with new passwords and keys; snapshots of before go."""
    from labctl.actions.destroy import snapshots_of_the_user
    from labctl.actions.renew import renew as renew_lab

    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console)
        # A script is not asked: it says what it means.
        names = snapshots_of_the_user(lab) if sys.stdin.isatty() and not yes else []
        if names and not typer.confirm(
            tr("delete the snapshots {names}, which hold the passwords of now?",
               names=tr_list(names))
        ):  # fmt: skip
            raise LabError(tr("the lab stays as it is"), code=EXIT_FAILED)
        renew_lab(lab, snapshot=snapshot, start=not halted)
        console.say(
            tr("the lab is halted, with new passwords and keys; to start it: {command}",
               command=f"{command_name()} renew")
            if halted
            else tr("the lab runs, with new passwords and keys")
        )  # fmt: skip


def show_rows(rows: "list[Row]", console: "Console") -> None:
    from labctl.terminal.fit import table
    from labctl.terminal.text import Span

    if not rows:
        command = f"{command_name()} snapshot save NAME"
        console.say(tr("no snapshots; make one with {command}", command=command))
        return
    heads = ["", tr("snapshot"), tr("age"), tr("size"), tr("kept"), tr("lesson")]
    lines = [[Span(head, "bold") for head in heads]]
    for row in rows:
        words = ((tr("warm"), row.warm), (tr("cold"), row.cold))
        methods = tr("+").join(word for word, possible in words if possible)
        cells = [row.name, _age(time.time() - row.at), _size(row.size), methods or "-",
                 row.lesson or "-"]  # fmt: skip
        lines.append([Span("→" if row.current else "", "ok"), *(Span(cell) for cell in cells)])
    console.write([(), *table(lines, console.width)])
    for row in rows:
        if row.trouble:
            console.say(f"  {row.name}" + tr(": ") + row.trouble)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count else "-"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
