"""The command line: parse, call the lab, exit code. The only place that exits.

Whatever is slow to import is imported by the verb that needs it: `labctl --help` is instant.
"""

import os
import sys
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl import __version__
from labctl.errors import (
    EXIT_CLAIM,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    LabError,
)
from labctl.i18n import asked_language, current_language, detect_language, set_language, tr
from labctl.invocation import (
    DEFAULT,
    File,
    Json,
    Quiet,
    Verbs,
    become_root,
    called,
    open_console,
    open_lab,
)
from labctl.keep import snapshots_app
from labctl.learn import lessons_app
from labctl.see import see_app

if TYPE_CHECKING:
    pass

# Typer brings its own click and exports only the leaves of its exceptions; this is their root.
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
    lang: Annotated[str, typer.Option(help="en or zh-TW; default: the locale's.")] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every verb."""
    set_language(_language(lang))
    if version:
        typer.echo(f"labctl {__version__}")
        raise typer.Exit


def _language(asked: str) -> str:
    if asked and asked not in ("en", "zh-TW"):
        set_language(detect_language(os.environ))  # to say so in it
        raise LabError(tr("--lang {lang}: choose en or zh-TW", lang=asked), code=EXIT_USAGE)
    return asked or detect_language(os.environ)


# -- before a lab exists -------------------------------------------------------------------------
@app.command()
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


@app.command()
def validate(file: File = DEFAULT, json: Json = False) -> None:
    """Say everything that is wrong with a lab.yaml; exit 2 if anything is."""
    from labctl.lab import as_json
    from labctl.spec.load import load_spec
    from labctl.spec.problems import SpecError
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


@app.command()
def doctor(
    file: File = DEFAULT,
    provider: Annotated[
        str, typer.Option("-p", "--provider", help="Look for this one; default: lab.yaml's.")
    ] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether this machine can make the lab, and what to mend; exit 1 if it cannot."""
    from labctl.doctor.judge import PROVIDERS
    from labctl.doctor.show import show
    from labctl.lab import Lab, as_json
    from labctl.terminal.console import make_console

    if provider and provider not in PROVIDERS:
        raise LabError(
            tr("--provider {provider}: choose {names}", provider=provider,
               names=", ".join(PROVIDERS)),
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


@app.command()
def render(
    file: File = DEFAULT,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it, write nothing.")] = False,
) -> None:
    """Write the Vagrantfile that follows from lab.yaml, for VirtualBox and libvirt."""
    from labctl.lab import Lab
    from labctl.terminal.console import make_console

    lab = Lab(file, make_console(quiet=True))
    if stdout:
        sys.stdout.write(lab.vagrantfile())
    else:
        typer.echo(lab.render())


# -- the lab -------------------------------------------------------------------------------------
@app.command()
def create(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Make the lab, or finish and mend one that was begun."""
    from labctl.doctor.show import show_briefly
    from labctl.lessons.model import FIRST

    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console)
        if lab.examination.ok:
            show_briefly(lab.examination, console)
        lab.create()
        lesson = FIRST[lab.topology.stack]
        console.say(tr("next: {command}", command=f"{called()} start {lesson}"))


@app.command()
def status(file: File = DEFAULT, json: Json = False) -> None:
    """Nodes, services, chassis, lesson position, and where to log in."""
    from labctl.lab import as_json

    with open_console() as console:
        report = open_lab(file, console).status()
        if json:
            typer.echo(as_json(report))
        else:
            from labctl.status import show

            show(report, console, called())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(context: typer.Context, node: str, file: File = DEFAULT) -> None:
    """Log in to a node, or run a command there: labctl ssh NODE -- COMMAND."""
    with open_console() as console:
        argv = open_lab(file, console).ssh_argv(node, context.args)
    os.execvp(argv[0], argv)


@app.command()
def logs(
    node: Annotated[str, typer.Argument(help="A node; none: the log of the image.")] = "",
    unit: Annotated[str, typer.Argument(help="A stage or a service on the node.")] = "",
    file: File = DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=100_000)] = 50,
) -> None:
    """The end of a log: of a stage of `create`, or of a service on a node."""
    from labctl.terminal.text import sanitize

    with open_console() as console:
        typer.echo(sanitize(open_lab(file, console).log(node, unit, lines)))


@app.command()
def halt(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Shut all nodes down; `up` brings them back as they were."""
    with open_console(quiet=quiet) as console:
        open_lab(file, console).halt()


@app.command()
def up(file: File = DEFAULT, quiet: Quiet = False) -> None:
    """Start the nodes of a lab that was halted, or that a reboot took down."""
    with open_console(quiet=quiet) as console:
        open_lab(file, console).up()


@app.command()
def destroy(
    file: File = DEFAULT,
    quiet: Quiet = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Also remove what is kept for the next lab."),
    ] = False,
) -> None:
    """Remove the lab: no process, mount, namespace, interface or file stays behind."""
    with open_console(quiet=quiet) as console:
        lab = open_lab(file, console)
        existed = lab.destroy(purge=purge)
        console.say(tr("the lab is gone") if existed else tr("there is no lab here"))
        for what in lab.kept:
            command = "labctl destroy --purge"
            console.say(tr("{what} stays for the next lab", what=what))
            console.say(tr("to remove it: {command}", command=command))


# -- lessons -------------------------------------------------------------------------------------
app.add_typer(lessons_app)

# -- snapshots -----------------------------------------------------------------------------------
app.add_typer(snapshots_app)


@app.command()
def walk(
    protocol: Annotated[str, typer.Argument(metavar="PROTO", help="ping, tcp or udp.")],
    source: Annotated[str, typer.Argument(metavar="FROM", help="An instance or a node.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="An address, an instance, a node, or internet.")
    ],
    port: Annotated[int | None, typer.Argument(metavar="PORT", help="Of tcp and udp.")] = None,
    file: File = DEFAULT,
    pcap: Annotated[
        Path | None, typer.Option(help="Directory in which the captures are kept.")
    ] = None,
    json: Json = False,
) -> None:
    """Send one packet and show every hop of it and of its answer; exit 3 if none comes."""
    from labctl.lab import as_json

    with open_console(json=json) as console:
        keep = pcap.absolute() if pcap is not None else None
        followed = open_lab(file, console).walk(protocol, source, target, port, keep)
        console.close()  # what moved while it was under way
        if json:
            typer.echo(as_json(followed.to_json()))
        else:
            from labctl.walks.show import show

            show(followed, console)
    if not followed.answered:
        raise typer.Exit(EXIT_CLAIM)


app.add_typer(see_app)


# -- boxes ---------------------------------------------------------------------------------------
box_app = typer.Typer(cls=Verbs, help="Boxes for virtual machines.", no_args_is_help=True)
app.add_typer(box_app, name="box")


@box_app.command("build")
def box_build(
    provider: Annotated[str, typer.Option(help="libvirt, virtualbox or all.")] = "all",
    output: Annotated[Path, typer.Option(help="Directory for the finished boxes.")] = Path(),
    quiet: Quiet = False,
) -> None:
    """Make the Vagrant box labctl/lab of today's recipe, with every package in it."""
    from labctl.assets import assets
    from labctl.images.baked import ImageCache
    from labctl.images.box import CATALOGUE, PROVIDERS, BoxBuilder
    from labctl.lab import cache_directory

    if provider not in (*PROVIDERS, "all"):
        raise LabError(
            tr("--provider {provider}: choose libvirt, virtualbox or all", provider=provider),
            code=EXIT_USAGE,
        )
    become_root()
    chosen = PROVIDERS if provider == "all" else (provider,)
    provision = assets() / "provision"
    with open_console(quiet=quiet) as console:
        images = ImageCache(cache_directory(), provision)
        builder = BoxBuilder(images, provision, output.absolute(), chosen, console)
        for box in builder.build():
            console.say(f"{box.file}  {box.size / 1e6:.0f} MB")
            console.say(f"  sha256 {box.sha256}")
        for name in chosen:
            command = f"vagrant box add {CATALOGUE} --provider {name}"
            console.say(tr("in {directory}: {command}", directory=output, command=command))


# -- the machinery -------------------------------------------------------------------------------
def _report(error: Any) -> int:
    """Print an error a person can act on; its exit code."""
    from labctl.spec.problems import SpecError
    from labctl.terminal.console import make_console

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
    from labctl.errors import Cancelled
    from labctl.spec.problems import SpecError

    run: Callable[..., Any] = typer.main.get_command(app)
    try:
        code = _localized(run)(standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C
            return _interrupted()
        return code if isinstance(code, int) else EXIT_DONE
    except typer.Exit as error:
        return error.exit_code
    except _UsageError as error:
        return _misused(error)
    except (KeyboardInterrupt, typer.Abort, Cancelled):
        return _interrupted()
    except (LabError, SpecError) as error:
        return _report(error)
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        # Logs and records are written all the time; what needs more room says so itself.
        return _report(_full(error)) if error.errno in (ENOSPC, EDQUOT) else _broken(error)
    except Exception as error:
        return _broken(error)


def _localized(command: Any) -> Any:
    """The command, with its help in the reader's language if that is not English."""
    set_language(_language(asked_language(sys.argv[1:])))
    if current_language() != "en":
        from labctl.helping import localize

        localize(command)
    return command


def _misused(error: Any) -> int:
    if current_language() == "en":
        error.show()
        return EXIT_USAGE
    from labctl.helping import usage_message

    if error.ctx is not None:
        typer.echo(error.ctx.get_usage(), err=True)
        typer.echo(tr("more: {command}", command=f"{error.ctx.command_path} --help"), err=True)
    typer.echo("✗ " + usage_message(error), err=True)
    return EXIT_USAGE


def _interrupted() -> int:
    hint = tr("interrupted; the same command goes on where this one stopped")
    sys.stderr.write(f"\n{hint}\n")
    return EXIT_INTERRUPTED


def _reader_gone() -> int:
    """`labctl status | head -1`: what is still to be flushed at exit goes nowhere, silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def _full(error: OSError) -> LabError:
    return LabError(
        tr("the disk is full: {path}", path=error.filename or error.strerror),
        hint=tr("free some space, then run the same command again; it goes on where it stopped"),
    )


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
