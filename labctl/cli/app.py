"""The command line: all verbs, and what becomes of errors. Only this module sets the exit code.

Modules that are slow to import are imported inside the verb that needs them, so that
`labctl --help` is fast.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl import __version__
from labctl.caller import give_to_caller
from labctl.cli.box import box_app
from labctl.cli.capture import capture_app
from labctl.cli.classroom import class_app
from labctl.cli.course import course_app
from labctl.cli.faults import fault_app
from labctl.cli.lab import lab_app
from labctl.cli.lessons import lesson_app, lessons_app
from labctl.cli.options import Verbs
from labctl.cli.process import prepare
from labctl.cli.prove import prove_app
from labctl.cli.snapshots import snapshots_app
from labctl.cli.views import views_app
from labctl.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Cancelled,
    DiskFullError,
    LabError,
)
from labctl.i18n import asked_language, current_language, detect_language, set_language, tr
from labctl.operating_system.language import user_language

# At its end Python looks through all objects for what can be freed: with the OpenStack SDK loaded
# that takes 0.4 s, for a process that is gone anyway.
atexit.register(gc.freeze)

# Typer contains its own click, and exports only some of its exceptions. This is the common base
# class of those about wrong usage.
_UsageError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="labctl",
    cls=Verbs,
    help="One YAML file becomes a real OpenStack on OVN, and a tutorial walks you through it.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    lang: Annotated[str, typer.Option(help="en or zh-TW; default: the locale's.")] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every verb."""
    set_language(_language(lang))
    if version:
        typer.echo(f"labctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_USAGE)


def _language(asked: str) -> str:
    if asked and asked not in ("en", "zh-TW"):
        # The language of this error message.
        set_language(detect_language(os.environ, user_language()))
        raise LabError(tr("--lang {lang}: choose en or zh-TW", lang=asked), code=EXIT_USAGE)
    return asked or detect_language(os.environ, user_language())


for group in (lab_app, lessons_app, course_app, prove_app, snapshots_app, views_app, capture_app):
    app.add_typer(group)
app.add_typer(box_app, name="box")
app.add_typer(class_app, name="class")
app.add_typer(fault_app, name="fault")
app.add_typer(lesson_app, name="lesson")


# -- running, and errors -------------------------------------------------------------------------
def _show_error(error: Any) -> int:
    """Print an error; returns its exit code."""
    from labctl.spec.problems import SpecError
    from labctl.terminal.console import make_console
    from labctl.terminal.text import sanitize

    console = make_console(stdout=sys.stderr)
    with console:
        if isinstance(error, SpecError):
            for problem in error.problems:
                sys.stderr.write(f"{sanitize(str(problem))}\n")
            return EXIT_USAGE
        log = getattr(error, "log", None)
        console.error(str(getattr(error, "message", error)), error.hint or "", str(log or ""))
    cause = getattr(error, "cause", None)
    return int(getattr(cause, "code", getattr(error, "code", EXIT_FAILED)))


def main() -> int:
    """Run the command line; returns the exit code (see labctl/errors.py)."""
    from labctl.spec.problems import SpecError

    run: Callable[..., Any] = typer.main.get_command(app)
    try:
        set_language(detect_language(os.environ, user_language()))
        prepare()
        code = _localized(run)(standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C
            return show_interruption()
        return code if isinstance(code, int) else EXIT_DONE
    except typer.Exit as error:
        return error.exit_code
    except _UsageError as error:
        return _show_usage_error(error)
    except (KeyboardInterrupt, typer.Abort, Cancelled):
        return show_interruption()
    except (LabError, SpecError) as error:
        return _show_error(error)
    except BrokenPipeError:
        return _end_broken_pipe()
    except OSError as error:
        # Any write of a log or a record can find the disk full. Code that needs much space reports
        # that itself.
        return (
            _show_error(DiskFullError(error.filename or error.strerror))
            if error.errno in (ENOSPC, EDQUOT)
            else _show_defect(error)
        )
    except Exception as error:
        return _show_defect(error)


def _localized(command: Any) -> Any:
    """The command, with its help in the user's language if that is not English."""
    set_language(_language(asked_language(sys.argv[1:])))
    if current_language() != "en":
        from labctl.cli.help import localize

        localize(command)
    return command


def _show_usage_error(error: Any) -> int:
    if current_language() == "en" or type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # the latter is the help, which is localized, and no error
        return EXIT_USAGE
    from labctl.cli.help import usage_message

    if error.ctx is not None:
        typer.echo(error.ctx.get_usage(), err=True)
        typer.echo(tr("more: {command}", command=f"{error.ctx.command_path} --help"), err=True)
    typer.echo("✗ " + usage_message(error), err=True)
    return EXIT_USAGE


def show_interruption() -> int:
    hint = tr("interrupted; the same command goes on where this one stopped")
    sys.stderr.write(f"\n{hint}\n")
    return EXIT_INTERRUPTED


def _end_broken_pipe() -> int:
    """As with `labctl status | head -1`: the reader of stdout has gone.

    stdout becomes /dev/null, so that flushing it at exit does not print an error.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def _show_defect(error: Exception) -> int:
    """A defect of labctl: one line for the user; a file for the bug report has the traceback."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="labctl-crash-", suffix=".log", delete=False
    ) as sink:
        sink.write(f"labctl {__version__} {sys.argv[1:]}\n")
        traceback.print_exception(error, file=sink)
        give_to_caller(sink.fileno())
    error_to_show = LabError(
        tr("labctl itself broke: {what}", what=f"{type(error).__name__}: {error}"),
        hint=tr("this is a defect of labctl; please report it with the log"),
    )
    error_to_show.log = Path(sink.name)
    return _show_error(error_to_show)


__all__ = ["app", "main"]
