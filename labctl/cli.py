"""The command line: parse, call the lab, exit code. The only place that exits.

Whatever is slow to import is imported by the verb that needs it: `labctl --help` is instant.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl import __version__
from labctl.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    LabError,
)
from labctl.i18n import detect_language, set_language, tr

if TYPE_CHECKING:
    from labctl.console import Console
    from labctl.lab import Lab

# Typer brings its own click and exports only the leaves of its exceptions; this is their root.
_UsageError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="labctl",
    help="One YAML file becomes a real OpenStack on OVN, and a tutorial walks you through it.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[
    Path, typer.Option("-f", "--file", help="The lab to work on.", envvar="LABCTL_FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only what goes wrong.")]
DEFAULT = Path("lab.yaml")


@app.callback(invoke_without_command=True)
def options(
    lang: Annotated[str, typer.Option(help="en or zh-TW; default: the locale's.")] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every verb."""
    if lang and lang not in ("en", "zh-TW"):
        raise LabError(f"--lang {lang}: choose en or zh-TW", code=EXIT_USAGE)
    set_language(lang or detect_language(os.environ))
    if version:
        typer.echo(f"labctl {__version__}")
        raise typer.Exit


# -- before a lab exists -------------------------------------------------------------------------
@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the lab.")] = "ovn-tutorial",
    file: File = DEFAULT,
) -> None:
    """Write a lab.yaml with every value of the tutorial's lab, explained, to start from."""
    from labctl.spec import write_default

    write_default(file, name)
    typer.echo(
        tr("{file} is written; make the lab with {command}", file=file, command="labctl create")
    )


@app.command()
def validate(file: File = DEFAULT, json: Json = False) -> None:
    """Say everything that is wrong with a lab.yaml; exit 2 if anything is."""
    from labctl.lab import as_json
    from labctl.problems import SpecError
    from labctl.spec import load_spec
    from labctl.topology import build_topology

    try:
        topology = build_topology(load_spec(file))
    except SpecError as error:
        if json:
            problems = [
                vars(one) if hasattr(one, "__dict__") else str(one) for one in error.problems
            ]
            typer.echo(as_json({"valid": False, "problems": problems}))
            raise typer.Exit(EXIT_USAGE) from None
        raise
    if json:
        typer.echo(as_json({"valid": True, "problems": []}))
    else:
        names = ", ".join(node.name for node in topology.nodes)
        typer.echo(tr("{file}: a valid lab with {nodes}", file=file, nodes=names))


# -- the lab -------------------------------------------------------------------------------------
@app.command()
def create(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Make the lab, or finish and mend one that was begun."""
    with _console(quiet=quiet) as console:
        lab = _lab(file, console)
        lab.create()
        console.say(tr("next: {command}", command=f"{_command()} replay floating-ip"))


@app.command()
def status(file: File = DEFAULT, json: Json = False) -> None:
    """Nodes, services, chassis, lesson position, and where to log in."""
    from labctl.lab import as_json

    with _console() as console:
        report = _lab(file, console).status()
        if json:
            typer.echo(as_json(report))
        else:
            from labctl.status import show

            show(report, console, _command())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(context: typer.Context, node: str, file: File = DEFAULT) -> None:
    """Log in to a node, or run a command there: labctl ssh NODE -- COMMAND."""
    with _console() as console:
        argv = _lab(file, console).ssh_argv(node, context.args)
    os.execvp(argv[0], argv)


@app.command()
def logs(
    node: Annotated[str, typer.Argument(help="A node; none: the log of the image.")] = "",
    unit: Annotated[str, typer.Argument(help="A stage or a service on the node.")] = "",
    file: File = DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=100_000)] = 50,
) -> None:
    """The end of a log: of a stage of `create`, or of a service on a node."""
    from labctl.prose import sanitize

    with _console() as console:
        typer.echo(sanitize(_lab(file, console).log(node, unit, lines)))


@app.command()
def halt(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Shut all nodes down; `up` brings them back as they were."""
    with _console(quiet=quiet) as console:
        _lab(file, console).halt()


@app.command()
def up(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Start the nodes of a lab that was halted, or that a reboot took down."""
    with _console(quiet=quiet) as console:
        _lab(file, console).up()


@app.command()
def destroy(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Remove the lab: no process, mount, namespace, interface or file stays behind."""
    with _console(quiet=quiet) as console:
        existed = _lab(file, console).destroy()
        console.say(tr("the lab is gone") if existed else tr("there is no lab here"))


# -- lessons -------------------------------------------------------------------------------------
@app.command()
def lessons(json: Json = False) -> None:
    """The built-in lessons."""
    from labctl.lab import as_json
    from labctl.lesson import available, load_lesson

    found = [load_lesson(name) for name in available()]
    if json:
        rows = [{"id": one.id, "checkpoints": [c.id for c in one.checkpoints]} for one in found]
        typer.echo(as_json(rows))
        return
    for lesson in found:
        typer.echo(f"{lesson.id:20} {lesson.title}: {lesson.goal}")


@app.command()
def replay(
    lesson: Annotated[str, typer.Argument(help="A lesson's id, or the path of a lesson's file.")],
    file: File = DEFAULT,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a lesson from its beginning and prove every claim; exit 3 if one does not hold."""
    from labctl.lab import as_json

    with _console(quiet=quiet, json=json) as console:
        report = _lab(file, console).replay(lesson, console)
        if json:
            typer.echo(as_json(report.to_json()))
        if report.failure is not None:
            raise report.failure


# -- the machinery -------------------------------------------------------------------------------
def _console(*, quiet: bool = False, json: bool = False) -> "Console":
    from labctl.console import make_console

    return make_console(quiet=quiet, json=json)


def _lab(file: Path, console: "Console") -> "Lab":
    from labctl.lab import Lab

    _become_root()
    return Lab(file, console)


def _become_root() -> None:
    """Containers need root: ask sudo for it, once, with the same command and environment."""
    if os.geteuid() == 0 or os.environ.get("LABCTL_NO_SUDO"):
        return
    from shutil import which

    if which("sudo") is None:
        return  # the provider says that it needs root
    os.environ["LABCTL_COMMAND"] = _command()
    wanted = {"NO_COLOR", "TERM", "LANG", "LC_ALL", "LC_MESSAGES", "http_proxy", "https_proxy"}
    kept = ",".join(name for name in os.environ if name.startswith("LABCTL_") or name in wanted)
    sys.stderr.write(tr("labctl: containers need root; asking sudo") + "\n")
    argv = ["sudo", f"--preserve-env={kept}", sys.executable, "-m", "labctl", *sys.argv[1:]]
    os.execvp("sudo", argv)


def _command() -> str:
    """How the user called us, for the hints: `labctl`, or the path that was typed."""
    if told := os.environ.get("LABCTL_COMMAND"):  # by ourselves, across sudo
        return told
    name = sys.argv[0]
    return name if "/" in name and not name.endswith("__main__.py") else "labctl"


def _report(error: Any) -> int:
    """Print an error a person can act on; its exit code."""
    from labctl.console import make_console
    from labctl.problems import SpecError

    stream = make_console(stdout=sys.stderr)
    with stream:
        if isinstance(error, SpecError):
            for problem in error.problems:
                sys.stderr.write(f"{problem}\n")
            return EXIT_USAGE
        log = getattr(error, "log", None)
        stream.error(str(getattr(error, "message", error)), error.hint or "", str(log or ""))
    cause = getattr(error, "cause", None)
    return int(getattr(cause, "code", getattr(error, "code", EXIT_FAILED)))


def main() -> int:
    """Run the command line; its exit code: 0 done, 1 failed, 2 wrong use, 3 a claim fails."""
    from labctl.problems import SpecError
    from labctl.waiting import Cancelled

    run: Callable[..., Any] = typer.main.get_command(app)
    try:
        code = run(standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C
            return _interrupted()
        return code if isinstance(code, int) else EXIT_DONE
    except typer.Exit as error:
        return error.exit_code
    except _UsageError as error:
        error.show()
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort, Cancelled):
        return _interrupted()
    except (LabError, SpecError) as error:
        return _report(error)
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        return _broken(error)


def _interrupted() -> int:
    hint = tr("interrupted; the same command goes on where this one stopped")
    sys.stderr.write(f"\n{hint}\n")
    return EXIT_INTERRUPTED


def _reader_gone() -> int:
    """`labctl status | head -1`: what is still to be flushed at exit goes nowhere, silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def _broken(error: Exception) -> int:
    """A defect of ours: one line for the user, everything else into a file to report it with."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="labctl-crash-", suffix=".log", delete=False
    ) as sink:
        sink.write(f"labctl {__version__} {sys.argv[1:]}\n")
        traceback.print_exception(error, file=sink)
    problem = LabError(
        tr("labctl itself broke: {what}", what=f"{type(error).__name__}: {error}"),
        hint=tr("this is a defect of labctl; please report it with the log"),
    )
    problem.log = Path(sink.name)
    return _report(problem)


__all__ = ["app", "main"]
