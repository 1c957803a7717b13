"""The verbs of a lab as a whole: from `init` to `destroy`."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import become_root, command_name
from labctl.cli.options import (
    DEFAULT,
    File,
    Json,
    Quiet,
    open_console,
    open_lab,
)
from labctl.errors import EXIT_FAILED, EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.operating_system.processes import become

if TYPE_CHECKING:
    from labctl.lab import Lab

lab_app = typer.Typer()


# -- before a lab exists -------------------------------------------------------------------------
@lab_app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the lab.")] = "ovn-tutorial",
    file: File = DEFAULT,
) -> None:
    """Write a lab.yaml with every value of the tutorial's lab, explained, to start from."""
    from labctl.spec.load import write_default

    write_default(file, name)
    typer.echo(
        tr("{file} is written; make the lab with {command}", file=file, command="labctl create")
    )


@lab_app.command()
def validate(file: File = DEFAULT, json: Json = False) -> None:
    """Say everything that is wrong with a lab.yaml; exit 2 if anything is."""
    from labctl.spec.load import load_spec
    from labctl.spec.problems import SpecError, Validation
    from labctl.state import as_json
    from labctl.topology import build_topology

    try:
        topology = build_topology(load_spec(file))
    except SpecError as error:
        if json:
            problems = tuple(problem.to_json() for problem in error.problems)
            typer.echo(as_json(Validation(False, problems)))
            raise typer.Exit(EXIT_USAGE) from None
        raise
    if json:
        typer.echo(as_json(Validation(True)))
    else:
        names = tr_list(machine.name for machine in topology.machines)
        typer.echo(tr("{file}: a valid lab with {nodes}", file=file, nodes=names))


@lab_app.command()
def doctor(
    file: File = DEFAULT,
    provider: Annotated[
        str,
        typer.Option(
            "-p", "--provider", help="The provider to look for; default: the one in lab.yaml."
        ),
    ] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether this machine can make the lab, and what to mend; exit 1 if it cannot."""
    from labctl.doctor.show import show
    from labctl.lab import Lab
    from labctl.providers.registry import names
    from labctl.state import as_json
    from labctl.terminal.console import make_console

    known = ("auto", *names())
    if provider and provider not in known:
        raise LabError(
            tr("--provider {provider}: choose {names}", provider=provider,
               names=tr_list(known)),
            code=EXIT_USAGE,
        )  # fmt: skip
    with make_console(quiet=quiet, json=json) as console:
        report = Lab(file).examine(provider, thorough=True)
        if json:
            typer.echo(as_json(report.to_json()))
        else:
            show(report, console)
        if not report.ok:
            raise typer.Exit(EXIT_FAILED)


@lab_app.command()
def render(
    file: File = DEFAULT,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it, write nothing.")] = False,
) -> None:
    """Write the Vagrantfile that follows from lab.yaml, for VirtualBox and libvirt."""
    from labctl.actions.render import render as render_lab
    from labctl.actions.render import vagrantfile
    from labctl.lab import Lab
    from labctl.terminal.console import make_console

    lab = Lab(file, make_console(quiet=True))
    if stdout:
        sys.stdout.write(vagrantfile(lab))
    else:
        if lab.state.owner == 0:
            become_root()
        typer.echo(render_lab(lab))


# -- the lab -------------------------------------------------------------------------------------
@lab_app.command()
def create(
    file: File = DEFAULT,
    no_template: Annotated[
        bool,
        typer.Option(
            "--no-template",
            help="Make everything anew: take no template of an earlier lab, and leave none.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make the lab, or finish and mend one that was begun."""
    from labctl.actions.create import create as create_lab
    from labctl.actions.destroy import finish_destroying
    from labctl.doctor.show import show_briefly
    from labctl.lessons.model import FIRST

    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console)
        if finish_destroying(lab):
            lab = open_lab(file, console)  # another one: nothing of the old lab is taken over
        if lab.examination.ok:
            show_briefly(lab.examination, console)
        create_lab(lab, template=not (no_template or os.environ.get("LABCTL_NO_TEMPLATE")))
        lesson = FIRST[lab.topology.stack]
        console.say(tr("next: {command}", command=f"{command_name()} start {lesson}"))


@lab_app.command()
def apply(
    file: File = DEFAULT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Change the lab to what the edited lab.yaml says; exit 2 if that takes another lab."""
    from labctl.actions import apply as applying

    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console)
        plan = applying.plan(lab)
        if not plan:
            console.say(tr("the lab is as {file} says", file=file))
            return
        applying.show(plan, console)
        applying.refuse(plan)
        if not dry_run:
            applying.apply(lab, plan)


@lab_app.command()
def status(file: File = DEFAULT, json: Json = False) -> None:
    """Nodes, services, chassis, lesson position, and where to log in."""
    from labctl.actions.status import collect, show
    from labctl.state import as_json

    with open_console(json=json) as console:
        report = collect(open_lab(file, console))
        if json:
            typer.echo(as_json(report))
        else:
            show(report, console, command_name())


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    """Nodes and instances of lab.yaml, for the shell's completion."""
    from labctl.spec.load import load_spec
    from labctl.spec.problems import SpecError
    from labctl.topology import build_topology

    try:
        topology = build_topology(load_spec(context.params.get("file") or DEFAULT))
    except (SpecError, LabError, OSError):
        return []
    names = [machine.name for machine in topology.machines]
    names += [instance.name for instance in topology.instances]
    return [name for name in names if name.startswith(incomplete)]


@lab_app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A node or an instance.", autocompletion=_complete),
    ],
    file: File = DEFAULT,
    console: Annotated[
        bool, typer.Option("--console", help="The console of an instance, not SSH.")
    ] = False,
) -> None:
    """Log in to a node or an instance, or run a command there: labctl ssh NAME -- COMMAND."""
    from labctl.actions.logs import ssh_argv

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with open_console() as screen:
        lab = open_lab(file, screen)
        lab.require_created()
        if name in (machine.name for machine in lab.topology.machines):
            if console:
                raise LabError(tr("{name} is a node: only an instance has a console", name=name),
                               hint=tr("log in: {command}", command=f"labctl ssh {name}"),
                               code=EXIT_USAGE)  # fmt: skip
            argv = ssh_argv(lab, name, context.args, terminal=terminal)
        else:
            argv = _instance_argv(lab, name, context.args, console=console, terminal=terminal)
    become(argv)


def _instance_argv(
    lab: "Lab", name: str, command: list[str], *, console: bool, terminal: bool
) -> list[str]:
    """argv that logs in to an instance. Does not return after a command that SSH cannot carry."""
    from labctl.actions.instance_login import find_login, login_argv, run_command

    login = find_login(lab, name, console=console)
    if login.way == "console" and command:
        note = tr("the command runs by labctl's own way in: it reads no input, and what it prints"
                  " comes at its end")  # fmt: skip
        if login.reason:
            note = tr("{why}; {what}", why=login.reason, what=note)
        typer.echo(note, err=True)
        done = run_command(lab, login, command)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        raise typer.Exit(done.returncode)
    argv = login_argv(lab, login, command, terminal=terminal)
    if login.way == "console":
        note = tr("this is its console; Ctrl-] leaves it")
        if login.reason:
            note = tr("{why}; {what}", why=login.reason, what=note)
        typer.echo(note, err=True)
    return argv


@lab_app.command()
def logs(
    node: Annotated[str, typer.Argument(help="A node; none: the log of the image.")] = "",
    unit: Annotated[str, typer.Argument(help="A stage or a service on the node.")] = "",
    file: File = DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=100_000)] = 50,
) -> None:
    """The end of a log: of a stage of `create`, or of a service on a node."""
    from labctl.actions.logs import read_log
    from labctl.terminal.text import sanitize

    with open_console() as console:
        typer.echo(sanitize(read_log(open_lab(file, console), node, unit, lines)))


@lab_app.command()
def halt(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Shut all nodes down; `up` brings them back as they were."""
    from labctl.actions.power import halt as halt_lab

    with open_console(quiet=quiet) as console:
        halt_lab(open_lab(file, console))


@lab_app.command()
def up(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Start the nodes of a lab that was halted, or that a reboot took down."""
    from labctl.actions.power import up as start_lab

    with open_console(quiet=quiet) as console:
        start_lab(open_lab(file, console))


@lab_app.command()
def destroy(
    file: File = DEFAULT,
    quiet: Quiet = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Also remove what is kept for the next lab."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, even if named snapshots go with it.")
    ] = False,
) -> None:
    """Remove the lab: no process, mount, namespace, interface or file stays behind."""
    from labctl.actions.destroy import destroy as destroy_lab
    from labctl.actions.destroy import snapshots_of_the_user

    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console, copies=True)
        # A script is not asked: it says what it means.
        names = snapshots_of_the_user(lab) if sys.stdin.isatty() and not yes else []
        if names and not typer.confirm(
            tr("destroy the lab together with its snapshots {names}?", names=tr_list(names))
        ):
            raise LabError(tr("the lab stays as it is"), code=EXIT_FAILED)
        done = destroy_lab(lab, purge=purge)
        console.say(tr("the lab is gone") if done.existed else tr("there is no lab here"))
        for what in done.cached:
            command = "labctl destroy --purge"
            console.say(tr("{what} stays for the next lab", what=what))
            console.say(tr("to remove it: {command}", command=command))
