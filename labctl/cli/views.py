"""The verbs that show a lab: packet walk, graph, report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.elevate import command_name
from labctl.cli.options import DEFAULT, File, Json, open_console, open_lab
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import current_language, tr

if TYPE_CHECKING:
    from labctl.graph.model import Graph
    from labctl.lab import Lab

views_app = typer.Typer()

_SUFFIXES = {".svg": "svg", ".mmd": "mermaid", ".md": "mermaid", ".txt": "text"}
"""Suffix of --output -> format; in .md the Mermaid text is put into a code fence."""
_FORMATS = ("svg", "mermaid", "text")


@views_app.command()
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
    ipv6: Annotated[
        bool, typer.Option("-6", "--ipv6", help="By IPv6, where both ends have IPv4 as well.")
    ] = False,
    json: Json = False,
) -> None:
    """Send one packet and show every hop of it and of its answer; exit 3 if none comes."""
    from labctl.actions.walk import walk as send
    from labctl.state import as_json

    with open_console(json=json) as console:
        keep = pcap.absolute() if pcap is not None else None
        lab = open_lab(file, console)
        result = send(lab, protocol, source, target, port, keep, ipv6=ipv6)
        console.close()  # ends the live display of the walk
        if json:
            typer.echo(as_json(result))
        else:
            from labctl.walks.show import show

            show(result, console)
    if not result.answered:
        raise typer.Exit(EXIT_CLAIM)


@views_app.command()
def graph(
    format_: Annotated[
        str, typer.Option("--format", help="svg, mermaid or text; default: as --output ends.")
    ] = "",
    output: Annotated[
        Path | None,
        # Not readable: whoever writes need not read, such as another user's pipe at /dev/stdout.
        typer.Option("-o", "--output", readable=False, help="File to write; default: stdout."),
    ] = None,
    planned: Annotated[
        bool, typer.Option("--planned", help="As lab.yaml describes it; ask no running lab.")
    ] = False,
    file: File = DEFAULT,
    json: Json = False,
) -> None:
    """Draw the lab: nodes, networks, bridges, tunnels, and OVN's logical network over them."""
    from labctl.lab import Lab
    from labctl.state import as_json

    chosen = _format(format_, output)
    with open_console(json=json) as console:
        lab = Lab(file)
        owner = lab.state.owner
        if owner is not None and (not planned or owner == 0):  # only an existing lab may need root
            lab = open_lab(file, console)
        graph_model = graph_of(lab, planned=planned)
        if json:
            _write_output(as_json(graph_model) + "\n", output)
        elif chosen == "text":
            from labctl.graph.terminal import drawing

            width = min(console.width or 100, 100) if output is None else 100
            lines = drawing(graph_model, width)
            if output is None:
                console.write(lines)
            else:
                _write_output(
                    "".join("".join(span.text for span in line) + "\n" for line in lines), output
                )
        else:
            from labctl.graph.mermaid import mermaid
            from labctl.graph.svg import svg

            text = svg(graph_model) if chosen == "svg" else mermaid(graph_model)
            if chosen == "mermaid" and output is not None and output.suffix == ".md":
                text = f"```mermaid\n{text}```\n"
            _write_output(text, output)
        if output is not None:
            console.say(tr("{file} is written", file=str(output)))
            if not planned and not lab.state.exists:
                command = f"{command_name()} create"
                console.say(tr("it shows what {command} will build", command=command))


@views_app.command()
def report(
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", readable=False, help="The page; default: report.html beside lab.yaml."
        ),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="The page opens in it: en or zh-TW.")
    ] = "",
    file: File = DEFAULT,
) -> None:
    """Write one HTML page: the lab, what lessons did and proved, packet walks to be played."""
    from labctl.report.collect import collect
    from labctl.report.page import chosen, render
    from labctl.user_files import write_for_user

    opens_in = chosen(language) if language else current_language()
    with open_console() as console:
        lab = open_lab(file, console)
        path = output or lab.file.with_name("report.html")
        if path.is_dir():
            raise LabError(
                tr("{path} is a directory", path=str(path)),
                hint=tr("name a file: {example}", example=str(path / "report.html")),
                code=EXIT_USAGE,
            )
        write_for_user(path, render(collect(lab), opens_in))
        console.say(tr("{path} is written; open it in a browser", path=str(path)))


@views_app.command(name="open")
def open_(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 0,
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="An address of this machine, with TLS; default: 127.0.0.1 only."
        ),
    ] = "",
    cert: Annotated[
        Path | None,
        typer.Option(help="Certificate for --listen, as PEM; default: a self-signed one."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of --cert, as PEM.")] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
    file: File = DEFAULT,
) -> None:
    """The lab on one page of your browser: lesson, terminals and the network as it is now."""
    from labctl.page.serve import has_desktop, serve

    if (cert or key) and not listen:
        raise LabError(
            tr("--cert and --key belong to --listen"),
            hint=tr("on 127.0.0.1 the page needs no TLS"),
            code=EXIT_USAGE,
        )
    with open_console() as console:
        lab = open_lab(file, console)
        lab.require_created()
        tls = None
        if listen:
            from labctl.page.tls import tls_for

            tls = tls_for(listen, lab.state, cert, key)

        def ready(address: str) -> None:
            console.say(tr("the lab's page: {address}", address=address))
            if tls is not None:
                text = tr("SHA-256 of its certificate: {fingerprint}", fingerprint=tls.fingerprint)
                console.say(text)
            console.say(tr("whoever has this address is root in the lab; Ctrl-C ends it"))

        # A browser must not run as root, which does not know the user's desktop either.
        serve(lab.file, command_name(), port=port, tls=tls, ready=ready,
              browser=browser and has_desktop())  # fmt: skip


def graph_of(lab: "Lab", *, planned: bool = False) -> "Graph":
    """The graph of the lab as it is now; if none exists, or `planned`, as lab.yaml describes it."""
    from labctl.graph.observed import live
    from labctl.graph.planned import planned as plan

    if planned or not lab.state.exists:
        return plan(lab.topology)
    return live(lab)


def _format(format_: str, output: Path | None) -> str:
    if format_ and format_ not in _FORMATS:
        raise LabError(
            tr("--format {format}: there is no such format", format=format_),
            hint=tr("choose svg, mermaid or text"),
            code=EXIT_USAGE,
        )
    if format_:
        return format_
    if output is None:
        return "text"
    if output.suffix not in _SUFFIXES:
        raise LabError(
            tr("--output {file}: its name does not tell the format", file=str(output)),
            hint=tr("end it in .svg, .mmd or .txt, or say --format"),
            code=EXIT_USAGE,
        )
    return _SUFFIXES[output.suffix]


def _write_output(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    from labctl.user_files import write_for_user

    write_for_user(output, text)
