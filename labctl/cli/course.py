"""`labctl course`: the lessons in the order to take them, and how far the user is."""

from typing import TYPE_CHECKING

import typer

from labctl.cli.elevate import become_root, command_name
from labctl.cli.options import DEFAULT, File, Json, open_console
from labctl.i18n import tr, tr_n

if TYPE_CHECKING:
    from pathlib import Path

    from labctl.actions.progress import ProgressReport
    from labctl.lab import Lab
    from labctl.lessons.course import CourseJson, CourseLesson
    from labctl.terminal.console import Console

course_app = typer.Typer()


@course_app.command()
def course(file: File = DEFAULT, json: Json = False) -> None:
    """The lessons in the order to take them: what is done, what is next, what this lab can run."""
    from labctl.actions.course import course as describe
    from labctl.state import as_json

    with open_console(json=json) as console:
        report = describe(_lab(file, console))
        if not json:
            _show(report, console)
    if json:
        typer.echo(as_json(report))


@course_app.command()
def progress(file: File = DEFAULT, json: Json = False) -> None:
    """How far the learner is, since when, and how this machine is; asks no node and waits not."""
    from labctl.actions.progress import collect
    from labctl.lab import Lab
    from labctl.state import as_json

    with open_console(json=json) as console:
        lab = Lab(file, console)
        if lab.state.owner == 0:
            become_root()
        report = collect(lab)
        if not json:
            _show_progress(report, console)
    if json:
        typer.echo(as_json(report))


def _show_progress(report: "ProgressReport", console: "Console") -> None:
    from labctl.terminal.text import duration

    if report["lesson"] is None:
        console.say(tr("no lesson was begun"))
        return
    total = report["checkpoints"]
    console.say(
        tr_n("lesson {id}: {passed} of {total} checkpoint passed",
             "lesson {id}: {passed} of {total} checkpoints passed",
             n=total, id=report["lesson"], passed=report["passed"], total=total or "?")
    )  # fmt: skip
    if report["checkpoint"] is not None and report["here"] is not None:
        time = duration(report["here"])
        console.say(tr("at {checkpoint} for {time}", checkpoint=report["checkpoint"], time=time))
    for claim in report["failing"]:
        console.say(tr("did not hold: {claim}", claim=claim["text"]))


def _lab(file: "Path", console: "Console") -> "Lab | None":
    """The lab, if there is a lab.yaml; it need not exist yet, and only an existing one needs root.

    A file that was named and is not there is an error; so is one that is wrong.
    """
    from labctl.lab import Lab

    lab = Lab(file, console)
    if lab.state.owner == 0:  # nothing in it can be read before we are root
        become_root()
    return lab if file != DEFAULT or file.exists() or lab.state.exists else None


def _show(report: "CourseJson", console: "Console") -> None:
    from labctl.lessons.course import state_of, state_text
    from labctl.terminal.fit import table
    from labctl.terminal.text import Span, Style, cell_width, pad

    marks: dict[str, tuple[str, Style]] = {
        "done": ("✓", "ok"),
        "begun": ("▸", "bold"),
        "open": ("·", "plain"),
        "elsewhere": ("-", "dim"),
    }
    lessons = [lesson for group in report["groups"] for lesson in group["lessons"]]
    timed = any(lesson["minutes"] is not None for lesson in lessons)

    def cells(lesson: "CourseLesson") -> list[str]:
        minutes = lesson["minutes"]
        time = [] if not timed else ["" if minutes is None else tr("{n} min", n=minutes)]
        return [lesson["id"], lesson["title"], *time, state_text(lesson)]

    # The same columns in all groups, as far as they have room.
    columns = list(zip(*map(cells, lessons), strict=True))
    widths = [max(map(cell_width, column)) for column in columns]
    fits = console.width is None or sum(widths) + 2 * len(widths) + 1 <= console.width
    console.heading(
        tr("{title}: {done} of {n} lessons done",
           title=report["title"], done=report["done"], n=report["lessons"])
    )  # fmt: skip
    for group in report["groups"]:
        rows = [[Span(""), Span(group["title"], "bold"), *(Span("") for _ in widths[1:])]]
        for lesson in group["lessons"]:
            mark, style = marks[state_of(lesson)]
            texts = cells(lesson)
            if fits:
                texts = [pad(text, n) for text, n in zip(texts[:-1], widths, strict=False)] + [
                    texts[-1]
                ]
            rows.append([Span(mark, style), *map(Span, texts)])
        if not fits:
            console.say(group["title"])
        console.write(list(table(rows, console.width)))
        console.say()
    command = command_name()
    if report["lab"] is None:
        console.say(tr("there is no lab.yaml here; write one with {command}",
                       command=f"{command} init"))  # fmt: skip
    elif report["next"] is None:
        console.say(tr("this lab has no lesson left that is not done"))
    else:
        console.say(tr("next: {command}", command=f"{command} start"))
        console.say(tr("that is {lesson}", lesson=report["next"]))
