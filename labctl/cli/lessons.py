"""The verbs of the lessons: each runs in a lesson session and shows what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import command_name
from labctl.cli.options import DEFAULT, File, Json, Quiet, Verbs, open_console, open_lab
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import current_language, set_language, tr, tr_n

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.lessons.model import Lesson
    from labctl.lessons.results import LessonOutcome
    from labctl.lessons.session import Session
    from labctl.terminal.console import Console

lessons_app = typer.Typer()
lesson_app = typer.Typer(cls=Verbs, help="Lessons of your own.", no_args_is_help=True)

LessonName = Annotated[
    str,
    typer.Argument(
        metavar="LESSON", help="A lesson's id, or the path of a lesson's file or directory."
    ),
]


@lessons_app.command()
def lessons(json: Json = False) -> None:
    """The built-in lessons."""
    from labctl.lessons.load import available, load_lesson
    from labctl.state import as_json

    all_lessons = [load_lesson(name) for name in available()]
    if json:
        typer.echo(as_json([lesson.to_json() for lesson in all_lessons]))
        return
    with open_console() as console:
        for lesson in all_lessons:
            count = tr_n("{n} checkpoint", "{n} checkpoints", n=len(lesson.checkpoints))
            console.heading(tr("{id}  ({count})", id=lesson.id, count=count))
            console.say(f"  {lesson.title}")
            console.say(f"  {lesson.goal}")
        console.say()
        command = (
            f"{command_name()} start {all_lessons[0].id if len(all_lessons) == 1 else 'LESSON'}"
        )
        console.say(tr("next: {command}", command=command))


@lesson_app.command("new")
def lesson_new(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Its id: small letters, digits and hyphens.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", readable=False, help="A file; default: ID.yaml."),
    ] = None,
) -> None:
    """Write a lesson that runs, to make your own of."""
    from labctl.lessons.new import new_lesson
    from labctl.user_files import write_for_user

    text = new_lesson(id)
    path = output or Path(f"{id}.yaml")
    if path.exists() or path.is_symlink():
        raise LabError(
            tr("{file} is there already", file=path),
            hint=tr("delete it, or choose another file with -o"),
            code=EXIT_USAGE,
        )
    write_for_user(path, text)
    command = f"{command_name()} replay {path}"
    typer.echo(tr("{file} is written; run it with {command}", file=path, command=command))


@lesson_app.command("get")
def lesson_get(
    address: Annotated[
        str, typer.Argument(metavar="URL@COMMIT[:DIRECTORY]", help="A Git repository and a commit.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", readable=False, help="A new directory; default: its id."),
    ] = None,
) -> None:
    """Fetch a lesson from a Git repository, and show what it would run."""
    from labctl.lessons.travel import get_lesson

    directory, lesson = get_lesson(address, output)
    with open_console() as console:
        _show_actions(console, lesson)
        # "./": without it a directory named like a built-in lesson would be that.
        place = directory if directory.is_absolute() else f"./{directory.as_posix()}"
        console.say(tr("next: {command}", command=f"{command_name()} start {place}"))


@lesson_app.command("show")
def lesson_show(lesson: LessonName) -> None:
    """Everything that a lesson would run, and where."""
    from labctl.lessons.load import load_lesson

    with open_console() as console:
        _show_actions(console, load_lesson(lesson))


def _show_actions(console: "Console", lesson: "Lesson") -> None:
    from labctl.lessons.travel import actions

    kinds = {
        "break": tr("breaks, unseen"),
        "background": tr("in the background"),
        "run": tr("runs"),
        "capture": tr("captures"),
        "undo": tr("to take it back"),
        "fault": tr("changes"),
    }
    console.heading(f"{lesson.id}: {lesson.title}")
    console.say(f"  {lesson.goal}")
    for checkpoint, done in actions(lesson):
        console.say()
        console.heading(
            f"{checkpoint.id}: {checkpoint.title}"
            if checkpoint is not None
            else tr("only in `labctl prove`")
        )
        for action in done:
            where = action.node or tr("OVN's northbound database")
            console.say(f"  {kinds[action.kind]} ({where}):")
            for line in action.text.strip().splitlines():
                console.say(f"    {line}")
    console.say()


@lessons_app.command()
def start(
    lesson: Annotated[
        str,
        typer.Argument(
            metavar="[LESSON]",
            help="A lesson's id, or the path of a lesson's file or directory; without it, the"
            " lesson that was begun, or the next of the course.",
        ),
    ] = "",
    practice: Annotated[
        bool, typer.Option("--practice", help="You type the commands; labctl checks.")
    ] = False,
    file: File = DEFAULT,
    json: Json = False,
) -> None:
    """Begin a lesson; what was begun before is taken back. Without a name: go on in the course."""
    if not lesson:
        from labctl.lessons.done import read_done

        _in_session(
            "start", lambda lessons: lessons.go_on(read_done(), practice=practice), file, json
        )
        return
    _in_session(
        f"start {lesson}",
        lambda lessons: lessons.start(lesson, practice=practice),
        file,
        json,
        lesson,
    )


@lessons_app.command(name="next")
def next_(file: File = DEFAULT, json: Json = False) -> None:
    """The next checkpoint: explained, run and proved. In practice: your task."""
    _in_session("next", lambda lessons: lessons.next(), file, json)


@lessons_app.command()
def check(
    every: Annotated[
        bool, typer.Option("--all", help="The checkpoints before this one, too.")
    ] = False,
    file: File = DEFAULT,
    json: Json = False,
) -> None:
    """Say which claims of this checkpoint hold and what is missing; exit 3 if one does not."""
    _in_session("check", lambda lessons: lessons.check(every=every), file, json)


@lessons_app.command()
def hint(file: File = DEFAULT, json: Json = False) -> None:
    """A hint for this checkpoint; the next time one that says more."""
    _in_session("hint", lambda lessons: lessons.hint(), file, json)


@lessons_app.command()
def answer(
    text: Annotated[
        str,
        typer.Argument(metavar="[TEXT]", help="Your answer; without it the question is shown."),
    ] = "",
    tell: Annotated[
        bool, typer.Option("--tell", help="Give up this question, and be told the answer.")
    ] = False,
    file: File = DEFAULT,
    json: Json = False,
) -> None:
    """Answer the question of this checkpoint; exit 3 if the lab shows something else."""
    _in_session("answer", lambda lessons: lessons.answer(text, tell=tell), file, json)


@lessons_app.command()
def solve(file: File = DEFAULT, json: Json = False) -> None:
    """Have the commands of this checkpoint run."""
    _in_session("solve", lambda lessons: lessons.solve(), file, json)


@lessons_app.command()
def goto(
    target: Annotated[
        str,
        typer.Argument(metavar="LESSON[/CHECKPOINT]", help="The lesson or checkpoint to go to."),
    ],
    file: File = DEFAULT,
    json: Json = False,
) -> None:
    """Go to a checkpoint by the shortest way: run what is missing, take back what is too much."""
    _in_session(f"goto {target}", lambda lessons: lessons.goto(target), file, json)


@lessons_app.command()
def replay(
    lesson: LessonName, file: File = DEFAULT, json: Json = False, quiet: Quiet = False
) -> None:
    """Run a lesson from its beginning and prove every claim; exit 3 if one does not hold."""
    _in_session(
        f"replay {lesson}", lambda lessons: lessons.replay(lesson), file, json, lesson, quiet
    )


@lessons_app.command()
def transcript(
    lesson: LessonName,
    lang: Annotated[str, typer.Option(help="en or zh-TW; default: labctl's language.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", readable=False, help="A file; default: stdout."),
    ] = None,
    file: File = DEFAULT,
) -> None:
    """A lesson's last run as Markdown: explanations, commands, their output, claims."""
    from labctl.actions.lessons import transcript as make_transcript
    from labctl.user_files import write_for_user

    if lang and lang not in ("en", "zh-TW"):
        raise LabError(tr("--lang {lang}: choose en or zh-TW", lang=lang), code=EXIT_USAGE)
    own_language = current_language()
    with open_console() as console:
        lab = open_lab(file, console)
        set_language(lang or own_language)
        text = make_transcript(lab, lesson)
        set_language(own_language)
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_for_user(output, text)
            console.say(tr("{file} is written", file=output))


def _in_session(
    verb: str,
    work: "Callable[[Session], LessonOutcome]",
    file: Path,
    json: bool,
    lesson: str = "",
    quiet: bool = False,
) -> None:
    """Call `work` with a session on the lab; with `json` print its outcome to stdout.

    `verb` is the command as the lab's lock names it. Raises the failure of the outcome.
    """
    from labctl.actions.lessons import session
    from labctl.state import as_json

    with open_console(quiet=quiet, json=json) as console:
        lab = open_lab(file, console)
        with session(lab, verb, console, lesson, command_name()) as lessons:
            outcome = work(lessons)
        if json:
            typer.echo(as_json(outcome.to_json()))
        if outcome.failure is not None:
            raise outcome.failure
