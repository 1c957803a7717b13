"""`labctl prove`: whether the claims of a lesson tell what they say they tell."""

from typing import Annotated

import typer

from labctl.cli.lessons import LessonName
from labctl.cli.options import DEFAULT, File, Json, Quiet, open_console, open_lab
from labctl.i18n import tr, tr_list, tr_n

prove_app = typer.Typer()


@prove_app.command()
def prove(
    lesson: LessonName,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint", metavar="ID", help="Only this checkpoint; may be given several times."
        ),
    ] = None,
    deadline: Annotated[
        int, typer.Option(min=1, max=86_400, help="Seconds that it may take in containers.")
    ] = 3600,
    file: File = DEFAULT,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Try whether a lesson's claims fail when they must; exit 3 if one does not.

    Runs each checkpoint, takes it back and solves it in practice, and asks its claims in between.
    Then breaks the lab in the ways that the lesson lists, and mends it again.
    """
    from labctl.actions.prove import prove as prove_lesson
    from labctl.lessons.proof import legend, tables, verdict
    from labctl.state import as_json
    from labctl.terminal.fit import table
    from labctl.terminal.text import Span

    with open_console(quiet=quiet, json=json) as console:
        lab = open_lab(file, console)
        proof, result = prove_lesson(lab, lesson, checkpoint or (), deadline)
        for rows in tables(proof):
            console.say()
            marked = [[Span(""), *map(Span, row)] for row in rows]
            for line, row in zip(marked[1:], rows[1:], strict=True):
                wrong = any(cell.startswith("✗") for cell in row)
                line[0] = Span("✗", "bad") if wrong else Span("✓", "ok")
            console.write(list(table(marked, console.width)))
        console.say()
        console.explain(legend())
        if proof.wrong:
            console.heading(tr("What is not as it must be"))
            for asked in proof.wrong:
                console.say(f"✗ {asked.text}")
        if proof.never_failed and proof.whole and proof.ok:
            names = tr_list(proof.never_failed)
            text = tr_n("{n} claim was never seen to fail: {names}",
                        "{n} claims were never seen to fail: {names}",
                        n=len(proof.never_failed), names=names)  # fmt: skip
            console.say(text)
        console.summary(proof.ok, verdict(proof))
        if json:
            typer.echo(as_json(proof.to_json()))
        if result.failed:
            raise result.failed[0]
        if (error := proof.error()) is not None:
            raise error
