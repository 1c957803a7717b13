"""The verbs of faults: list, inject, clear."""

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import command_name
from labctl.cli.options import DEFAULT, File, Json, Quiet, Verbs, open_console, open_lab
from labctl.i18n import tr, tr_n

if TYPE_CHECKING:
    from labctl.actions.faults import Faults, InjectedFault
    from labctl.terminal.console import Console

fault_app = typer.Typer(
    cls=Verbs, help="Break the lab on purpose, and mend it again.", no_args_is_help=True
)


@fault_app.command(name="list")
def list_(file: File = DEFAULT, json: Json = False) -> None:
    """Every fault: what it does, what a learner sees, how it is mended; and which are injected."""
    from labctl.actions import faults
    from labctl.state import as_json

    with open_console(json=json) as console:
        found = faults.faults(open_lab(file, console))
        if json:
            typer.echo(as_json(found))
            return
        for known in found.known:
            console.heading(known.id)
            if known.refusal:
                console.say("✗  " + tr("not in this lab: {why}", why=known.refusal))
            items = [
                tr("does: {effect}", effect=known.effect),
                tr("seen: {symptoms}", symptoms=known.symptoms),
                tr("mended by: {remedy}", remedy=known.remedy),
            ]
            console.explain("\n".join(f"- {item}" for item in items))
        _show_injected(found, console)


@fault_app.command()
def inject(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A fault of `labctl fault list`, or `random`."),
    ],
    node: Annotated[
        str, typer.Argument(metavar="[NODE]", help="Where; default: one that suits.")
    ] = "",
    secret: Annotated[
        bool,
        typer.Option("--secret", help="Nothing says which it is: an exercise in finding it."),
    ] = False,
    file: File = DEFAULT,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put a fault into the running lab; `clear` and `reset` take it back."""
    from labctl.actions import faults
    from labctl.state import as_json

    with open_console(quiet=quiet, json=json) as console:
        found = faults.inject(open_lab(file, console), name, node, secret=secret)
        if json:
            typer.echo(as_json(found))
            return
        if secret:
            console.say(tr("something is broken: find it, mend it, and ask the judge: {command}",
                           command=f"{command_name()} check --all"))  # fmt: skip
        else:
            _show_injected(found, console)


@fault_app.command()
def clear(file: File = DEFAULT, json: Json = False, quiet: Quiet = False) -> None:
    """Take back all faults, and wait until the lab is whole again."""
    from labctl.actions import faults
    from labctl.state import as_json

    with open_console(quiet=quiet, json=json) as console:
        found = faults.clear(open_lab(file, console))
        if json:
            typer.echo(as_json(found))
            return
        for fault in found.cleared:
            console.say(tr("taken back: {fault}", fault=_where(fault)))
        if not found.cleared:
            console.say(tr("no fault is injected"))


def _show_injected(found: "Faults", console: "Console") -> None:
    console.say()
    for fault in found.injected:
        text = tr("injected: {fault}", fault=_where(fault))
        if not fault.complete:
            text = tr("injected in part: {fault}", fault=_where(fault))
        elif fault.present is False:
            text = tr("injected, and not there any more: {fault}", fault=_where(fault))
        console.say(text)
    if found.secret:
        console.say(tr_n("{n} secret fault is injected", "{n} secret faults are injected",
                         n=found.secret))  # fmt: skip
    if found.injected or found.secret:
        command = f"{command_name()} fault clear"
        console.say(tr("to take back all: {command}", command=command))
    else:
        console.say(tr("no fault is injected"))


def _where(fault: "InjectedFault") -> str:
    return f"{fault.fault} ({fault.node})"
