"""The verb that captures packets."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from labctl.cli.options import DEFAULT, File, Quiet, open_console, open_lab
from labctl.errors import EXIT_FAILED, EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list, tr_n

if TYPE_CHECKING:
    from labctl.access.packet_lines import Described
    from labctl.access.pcapng import Packet
    from labctl.terminal.console import Console

capture_app = typer.Typer()

_STDOUT = "-"


def _complete(incomplete: str) -> list[str]:
    """For the shell: the interfaces that every node has; a node is not asked."""
    from labctl.lab import Lab

    try:
        machines = Lab(DEFAULT).topology.machines
    except (LabError, OSError):
        return []
    names = [
        f"{machine.name}:{nic.name}"
        for machine in machines
        for nic in (machine.eth0, *machine.shared_nics)
    ]
    return [name for name in names if name.startswith(incomplete)]


@capture_app.command()
def capture(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="NODE:IFACE...", help="Interfaces of nodes.", autocompletion=_complete
        ),
    ],
    filter_: Annotated[
        str, typer.Option("--filter", metavar="BPF", help="A pcap filter, such as 'icmp'.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "-w", "--write", readable=False, help="A pcapng file for all; -: stdout, for a pipe."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, max=86400, help="End after so many seconds.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many packets.")] = None,
    file: File = DEFAULT,
    quiet: Quiet = False,
) -> None:
    """Show packets of several nodes as they pass, in order of time, and write one pcapng."""
    from labctl.actions.capture import capture as run
    from labctl.actions.capture import check_filter, places

    to_stdout = output is not None and str(output) == _STDOUT
    with open_console(json=to_stdout) as console:
        lab = open_lab(file, console)
        if to_stdout and sys.stdout.isatty():
            raise LabError(
                tr("-w -: a terminal cannot show a capture file"),
                hint=tr("lead it into a program: `labctl capture … -w - | wireshark -k -i -`"),
                code=EXIT_USAGE,
            )
        found = places(lab, where)
        check_filter(lab, found[0].node, filter_)
        lines = None if to_stdout or quiet else _Lines(console)
        if lines is not None:
            import scapy.layers.inet  # noqa: F401 - takes a second; packets must not wait for it

        def began() -> None:
            names = tr_list(found)
            if not quiet:
                console.say(tr("listening at {interfaces}; Ctrl-C ends it", interfaces=names))

        with _sink(output, to_stdout=to_stdout) as sink:
            try:
                summary = run(
                    lab, found, filter_, sink=sink, show=lines.show if lines is not None else None,
                    hidden=lines.hidden if lines is not None else lambda _: None,
                    began=began, seconds=seconds, count=count,
                )  # fmt: skip
            except BrokenPipeError:
                if not to_stdout:
                    raise
                _forget_stdout()  # whoever read it, such as Wireshark, has ended: that is no error
                return
        text = tr_n("{n} packet", "{n} packets", n=summary.packets)
        if summary.dropped:
            text += tr("; ") + tr_n(
                "the nodes had no time for {n} more", "the nodes had no time for {n} more",
                n=summary.dropped,
            )  # fmt: skip
        if output is not None and not to_stdout:
            text += tr("; ") + tr("{file} is written", file=str(output))
        if not quiet:
            console.summary(not summary.failures, text)
    if summary.failures:
        raise LabError(tr("; ").join(summary.failures), code=EXIT_FAILED)


class _Lines:
    """Prints packets."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def show(self, packet: "Packet", described: "Described") -> None:
        from labctl.access.packet_lines import time_of_day
        from labctl.terminal.text import Span, one_line

        time, text = time_of_day(packet), one_line(described.text)
        self._console.write([(Span(f"{time} ", "dim"), Span(text))])

    def hidden(self, number: int) -> None:
        """Tell how many were not decoded."""
        from labctl.terminal.text import Span

        text = tr_n("… {n} packet more, not shown", "… {n} packets more, not shown", n=number)
        self._console.write([(Span(text, "dim"),)])


@contextmanager
def _sink(output: Path | None, *, to_stdout: bool) -> Iterator[BinaryIO | None]:
    """Where the file goes; None: nowhere."""
    if output is None:
        yield None
    elif to_stdout:
        sys.stdout.flush()
        yield sys.stdout.buffer
    else:
        from labctl.user_files import replacing_for_user

        with replacing_for_user(output) as stream:
            yield stream


def _forget_stdout() -> None:
    """Let stdout lead nowhere, so that flushing it at the end raises nothing."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
