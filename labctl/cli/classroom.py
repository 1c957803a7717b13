"""The verbs of a class: a machine for each learner, on an engine such as an OpenStack cloud."""

import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import command_name
from labctl.cli.options import Json, Quiet, Verbs, open_console
from labctl.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, LabError
from labctl.i18n import tr, tr_n
from labctl.operating_system.processes import become

if TYPE_CHECKING:
    from labctl.classroom.grades import Grades
    from labctl.classroom.load import ClassSpec
    from labctl.classroom.status import ClassStatus
    from labctl.classroom.work import ClassWork, Outcome
    from labctl.terminal.console import Console

class_app = typer.Typer(
    cls=Verbs, help="A machine for each learner of a class.", no_args_is_help=True
)
_DEFAULT = Path("class.yaml")
ClassFile = Annotated[Path, typer.Option("-f", "--file", help="The class to work on.")]
LearnerName = Annotated[str, typer.Argument(metavar="LEARNER", help="A learner of class.yaml.")]
Stuck = Annotated[
    int, typer.Option(min=1, max=1440, help="Minutes at one checkpoint that are too many.")
]


@class_app.command("init")
def class_init(
    name: Annotated[str, typer.Argument(help="Name of the class.")] = "ovn-day",
    file: ClassFile = _DEFAULT,
) -> None:
    """Write a class.yaml with every value explained, to start from."""
    from labctl.classroom.load import write_default

    write_default(file, name)
    command = f"{command_name()} class create"
    typer.echo(tr("{file} is written; make the class with {command}", file=file, command=command))


@class_app.command("validate")
def class_validate(file: ClassFile = _DEFAULT) -> None:
    """Say everything that is wrong with a class.yaml; exit 2 if anything is."""
    from labctl.classroom.load import load_class

    spec = load_class(file)
    text = tr_n("{file}: a valid class with {n} learner", "{file}: a valid class with {n} learners",
                n=len(spec.learners), file=file)  # fmt: skip
    typer.echo(text)


@class_app.command("image")
def class_image(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path(
        "golden.qcow2"
    ),
    lab: Annotated[
        Path | None,
        typer.Option(help="lab.yaml of the lab in it, `stack: ovn`; default: two nodes with OVN."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a machine image with labctl and a lab inside; each clone makes its own keys."""
    from labctl.actions.class_image import make_image
    from labctl.cli.elevate import become_root

    become_root()
    with open_console(quiet=quiet) as console:
        made = make_image(output.absolute(), lab, console)
        console.say(tr("{file}: {size} MB", file=made, size=made.stat().st_size // 10**6))
        console.say(tr("in class.yaml: {settings}", settings="image: ./FILE, lab: /srv/lab"))


@class_app.command("create")
def class_create(file: ClassFile = _DEFAULT, quiet: Quiet = False) -> None:
    """Make a machine for each learner, or finish what was begun; failed machines are replaced."""
    with open_console(quiet=quiet) as console:
        work, spec = _work(file, console)
        code = _show(work.create(), len(spec.learners), console)
        if code == EXIT_DONE:
            command = f"{command_name()} class cards"
            console.say(tr("next: {command}", command=command))
    raise typer.Exit(code)


@class_app.command("status")
def class_status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until Ctrl-C; JSON: one a line.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=5, max=3600, help="Seconds between two looks of --watch.")
    ] = 15,
    stuck: Stuck = 15,
    file: ClassFile = _DEFAULT,
    json: Json = False,
) -> None:
    """For each learner: the machine, the checkpoint, since when, what fails, and who is stuck."""
    import time
    from json import dumps

    from labctl.state import as_json

    with open_console(json=json) as console:
        _, collect = _collector(file, 60 * stuck, console)
        while True:
            report = collect()
            if json:
                typer.echo(dumps(report, ensure_ascii=False) if watch else as_json(report))
            else:
                if watch and sys.stdout.isatty():
                    typer.echo("\x1b[H\x1b[2J", nl=False)
                _show_status(report, console)
            if not watch:
                return
            sys.stdout.flush()
            time.sleep(every)


@class_app.command("open")
def class_open(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
    every: Annotated[
        int, typer.Option(min=5, max=3600, help="Seconds between two looks at the class.")
    ] = 15,
    stuck: Stuck = 15,
    file: ClassFile = _DEFAULT,
) -> None:
    """The class on a page of your browser, on this machine only: what `status --watch` tells."""
    from labctl.classroom.page import ClassPage, serve
    from labctl.page.serve import has_desktop

    with open_console() as console:
        spec, collect = _collector(file, 60 * stuck, console)

        def ready(address: str) -> None:
            console.say(tr("the class's page: {address}", address=address))
            console.say(tr("whoever has this address sees the class; Ctrl-C ends it"))

        page = ClassPage(spec.name, collect, every)
        serve(page, port=port, ready=ready, browser=browser and has_desktop())


@class_app.command("cards")
def class_cards(
    file: ClassFile = _DEFAULT,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory for cards and keys.")
    ] = Path("cards"),
) -> None:
    """Write a card for each learner: a page to print, a CSV table, and each learner's key."""
    from labctl.classroom.cards import write_cards
    from labctl.classroom.load import load_class
    from labctl.classroom.registry import find

    with open_console() as console:
        spec = load_class(file)
        directory = file.absolute().parent
        machines = [
            machine
            for machine in find(spec.engine).make(spec, directory).machines()
            if machine.learner in spec.learners and machine.address
        ]
        if not machines:
            raise LabError(
                tr("no learner's machine has an address yet"),
                hint=tr("make them with {command}", command=f"{command_name()} class create"),
            )
        machines.sort(key=lambda machine: machine.learner)
        write_cards(spec, directory, machines, output)
        console.say(
            tr_n("{n} card is in {path}: give each learner theirs, with the key",
                 "{n} cards are in {path}: give each learner theirs, with the key",
                 n=len(machines), path=output)
        )  # fmt: skip


@class_app.command(
    "ssh", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def class_ssh(context: typer.Context, learner: LearnerName, file: ClassFile = _DEFAULT) -> None:
    """Log in to a learner's machine, or run a command there: class ssh LEARNER -- COMMAND."""
    with open_console() as console:
        work, _ = _work(file, console)
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        argv = work.login(learner, context.args, terminal=terminal)
    become(argv)


@class_app.command("join")
def class_join(
    learner: LearnerName,
    file: ClassFile = _DEFAULT,
    watch: Annotated[bool, typer.Option("--watch", help="Only look: no key you press counts.")] = (
        False
    ),
) -> None:
    """Share a learner's terminal: look and help. The learner is told, and sees that you are there.

    It is the learner's tmux session; without one the learner is told how to come into a new one.
    """
    from labctl.classroom.join import join_command

    with open_console() as console:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise LabError(
                tr("a terminal is shared with a terminal, and this is none"),
                hint=tr("a command by itself: {command}",
                        command=f"{command_name()} class ssh {learner} -- COMMAND"),
                code=EXIT_USAGE,
            )  # fmt: skip
        work, _ = _work(file, console)
        argv = work.login(learner, [join_command(watch=watch)], terminal=True)
    become(argv)


@class_app.command("log")
def class_log(learner: LearnerName, file: ClassFile = _DEFAULT) -> None:
    """Print what the console of a learner's machine printed last."""
    with open_console() as console:
        work, _ = _work(file, console)
        typer.echo(work.console_log(learner))


@class_app.command("check")
def class_check(
    learners: Annotated[
        list[str] | None, typer.Argument(metavar="[LEARNER]...", help="Default: all.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(readable=False, help="Write the table as CSV, too.")
    ] = None,
    xlsx: Annotated[
        Path | None, typer.Option(readable=False, help="Write the table as a workbook, too.")
    ] = None,
    deadline: Annotated[
        int, typer.Option(min=1, max=3600, help="Seconds that each machine may take.")
    ] = 300,
    file: ClassFile = _DEFAULT,
    json: Json = False,
) -> None:
    """Check all learners' labs against their lesson; exit 3 unless everybody is done."""
    from labctl.classroom.grades import collect, exit_code
    from labctl.classroom.keys import ClassKeys
    from labctl.classroom.load import load_class
    from labctl.classroom.registry import find
    from labctl.classroom.remote import labctl_there
    from labctl.classroom.sheets import csv_text, workbook
    from labctl.state import as_json
    from labctl.user_files import write_for_user

    with open_console(json=json) as console:
        spec = load_class(file)
        directory = file.absolute().parent
        spec.require(learners or ())
        chosen = list(dict.fromkeys(learners or spec.learners))
        ask = labctl_there(spec, ClassKeys(spec, directory))
        console.say(
            tr_n("asking {n} lab, for at most {seconds} s …",
                 "asking {n} labs at the same time, each for at most {seconds} s …",
                 n=len(chosen), seconds=deadline)
        )  # fmt: skip
        grades = collect(spec, find(spec.engine).make(spec, directory), ask, chosen, deadline)
        for path, content in ((csv, csv_text), (xlsx, workbook)):
            if path is not None:
                write_for_user(path, content(grades))
        if json:
            typer.echo(as_json(grades))
        else:
            _show_grades(grades, console)
        for path in (csv, xlsx):
            if path is not None:
                console.say(tr("{file} is written", file=path))
    raise typer.Exit(exit_code(grades))


@class_app.command("reset")
def class_reset(
    learners: Annotated[
        list[str] | None, typer.Argument(metavar="LEARNER...", help="Learners of class.yaml.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All learners of the class.")] = False,
    file: ClassFile = _DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Give learners a new machine, with the same key and floating IP; theirs is deleted."""
    from labctl.classroom.registry import find

    if bool(learners) == every:
        raise LabError(tr("name the learners, or say --all"), code=EXIT_USAGE)
    with open_console(quiet=quiet) as console:
        work, spec = _work(file, console)
        if not find(spec.engine).makes_machines:
            raise LabError(
                tr("the engine {engine} makes no machines, so there is no new one to give",
                   engine=spec.engine),
                hint=tr("reset the lab in a machine: {command}",
                        command=f"{command_name()} class ssh LEARNER -- labctl reset"),
                code=EXIT_USAGE,
            )  # fmt: skip
        chosen = list(spec.learners) if every else list(dict.fromkeys(learners or ()))
        spec.require(chosen)
        code = _show(work.reset(chosen), len(chosen), console)
    raise typer.Exit(code)


@class_app.command("extend")
def class_extend(
    to: Annotated[
        str,
        typer.Argument(
            metavar="[TIME]",
            help="A time with its zone, or a duration such as 90m, 2h, 1d; default: class.yaml's.",
        ),
    ] = "",
    file: ClassFile = _DEFAULT,
) -> None:
    """Move the end of the class, on every machine; a duration counts from the present end."""
    from datetime import datetime

    from labctl.classroom.ends import shown

    with open_console() as console:
        work, _ = _work(file, console)
        end, outcome = work.extend(to, datetime.now(UTC))
        for learner, reason in sorted(outcome.failed.items()):
            console.error(tr("{name}: {message}", name=learner, message=reason))
        console.summary(
            not outcome.failed,
            tr_n("the class ends at {time}: {n} machine says so",
                 "the class ends at {time}: {n} machines say so",
                 n=len(outcome.machines), time=shown(end)),
        )  # fmt: skip
    raise typer.Exit(EXIT_FAILED if outcome.failed else EXIT_DONE)


@class_app.command("destroy")
def class_destroy(
    file: ClassFile = _DEFAULT,
    quiet: Quiet = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ended: Annotated[
        bool, typer.Option("--ended", help="Only if the end of the class is over.")
    ] = False,
) -> None:
    """Remove all that carries the label of the class from the engine, and nothing else."""
    from datetime import datetime

    from labctl.classroom.ends import has_ended, shown

    with open_console(quiet=quiet) as console:
        work, spec = _work(file, console)
        if ended and not has_ended(end := work.end(), datetime.now(UTC)):
            console.say(
                tr("the class ends at {time}; nothing is removed", time=shown(end))
                if end
                else tr("the class has no end; nothing is removed")
            )
            raise typer.Exit(EXIT_DONE)
        # A script is not asked: it says what it means.
        if sys.stdin.isatty() and not yes:
            text = tr("delete every machine of class {name} for good?", name=spec.name)
            if not typer.confirm(text):
                raise LabError(tr("the class stays as it is"), code=EXIT_FAILED)
        outcome = work.destroy()
        for learner, reason in sorted(outcome.failed.items()):
            console.error(tr("{name}: {message}", name=learner, message=reason))
        if not outcome.failed:
            console.summary(True, tr("nothing of class {name} is left", name=spec.name))
    raise typer.Exit(EXIT_FAILED if outcome.failed else EXIT_DONE)


def _collector(
    file: Path, stuck_after: float, console: "Console"
) -> "tuple[ClassSpec, Callable[[], ClassStatus]]":
    """The class of a class.yaml, and what asks how it is. Raises LabError."""
    from labctl.classroom.keys import ClassKeys
    from labctl.classroom.load import load_class
    from labctl.classroom.registry import find
    from labctl.classroom.remote import labctl_there
    from labctl.classroom.status import collect

    spec = load_class(file)
    directory = file.absolute().parent
    keys = ClassKeys(spec, directory)
    ask = labctl_there(spec, keys) if keys.teachers.is_file() else None
    if ask is None:
        console.say(tr("the teacher's key is not here, so no lab is asked"))
    engine = find(spec.engine).make(spec, directory)
    return spec, lambda: collect(spec, engine, ask, stuck_after)


def _work(file: Path, console: "Console") -> "tuple[ClassWork, ClassSpec]":
    """The class of a class.yaml, its engine reached. Raises LabError."""
    from labctl.classroom.load import load_class
    from labctl.classroom.registry import find
    from labctl.classroom.work import ClassWork

    spec = load_class(file)
    directory = file.absolute().parent
    engine = find(spec.engine).make(spec, directory)
    return ClassWork(spec, engine, directory, console.say), spec


def _show(outcome: "Outcome", wanted: int, console: "Console") -> int:
    """Tell what came of making machines; the exit code."""
    for learner, reason in sorted(outcome.failed.items()):
        console.error(tr("{name}: {message}", name=learner, message=reason))
    console.summary(
        not outcome.failed,
        tr("{running} of {wanted} machines run; {calls} calls to the engine",
           running=len(outcome.machines), wanted=wanted, calls=outcome.calls),
    )  # fmt: skip
    if outcome.failed:
        console.say(tr("run the same command again: it makes what is missing"))
    return EXIT_FAILED if outcome.failed else EXIT_DONE


def _show_grades(grades: "Grades", console: "Console") -> None:
    from labctl.classroom.grades import RESULTS
    from labctl.terminal.fit import table
    from labctl.terminal.text import Span

    heads = ("", tr("learner"), tr("result"), tr("lesson"), tr("checkpoints"), tr("claims"), "")
    rows = [[Span(head, "bold") for head in heads]]
    for grade in grades["learners"]:
        total = grade["checkpoints"]
        missing = grade["reason"]
        if failing := grade["failing"]:
            missing = failing[0]["text"]
            if len(failing) > 1:
                more = tr("{n} more", n=grade["claims"] - grade["holding"] - 1)
                missing = tr("{text} ({detail})", text=missing, detail=more)
        rows.append([
            Span("✓", "ok") if grade["result"] == "done" else Span("✗", "bad"),
            Span(grade["learner"]), Span(tr(RESULTS[grade["result"]])), Span(grade["lesson"]),
            Span(f"{grade['passed']}/{'?' if total is None else total}" if grade["lesson"] else ""),
            Span(f"{grade['holding']}/{grade['claims']}" if grade["lesson"] else ""),
            Span(missing),
        ])  # fmt: skip
    console.write(list(table(rows, console.width)))
    done = sum(grade["result"] == "done" for grade in grades["learners"])
    console.say(tr("{done} of {n} learners are done", done=done, n=len(grades["learners"])))


def _show_status(report: "ClassStatus", console: "Console") -> None:
    from labctl.classroom.table import heads, notes, row
    from labctl.terminal.fit import table
    from labctl.terminal.text import Span

    lines = [[Span(""), *(Span(head, "bold") for head in heads().values())]]
    for learner in report["learners"]:
        shown = row(learner)
        mark = {"ok": Span("✓", "ok"), "stuck": Span("!", "bad")}.get(shown["mark"])
        lines.append([mark or Span("✗", "bad"), *(Span(shown["cells"][name]) for name in heads())])
    console.write(list(table(lines, console.width)))
    for note in notes(report):
        console.say(note)
