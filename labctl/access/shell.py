"""A login shell on a node with a terminal, and commands whose output is read as it comes."""

import shlex
from collections.abc import Sequence
from typing import Protocol

from labctl.access.guest import Guest, GuestError
from labctl.access.ssh import SSHGuest
from labctl.i18n import tr


class Shell(Protocol):
    """A program on a node, over a connection of its own."""

    def read(self) -> bytes:
        """Wait for output, at most 64 KiB of it. Empty: the program or the connection ended.

        What is not read stays at the node, whose program then waits: SSH's flow control.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send input. Raises OSError when the program or the connection ended."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of its terminal."""
        ...

    def close(self) -> None:
        """End the program and the connection."""
        ...


class Pipe(Protocol):
    """A program on a node whose input and output are bytes, unchanged by any terminal."""

    def read(self) -> bytes:
        """As `Shell.read`."""
        ...

    def errors(self) -> str:
        """What the program has written to stderr until now."""
        ...

    def end_input(self) -> None:
        """The program reads the end of its input. Nothing was written to it before."""
        ...

    def close(self) -> None:
        """Give the program up, whose input and output end."""
        ...


class Pipes(Protocol):
    """A connection to a node of its own, for several programs."""

    def pipe(self, command: str) -> Pipe:
        """Start a script for bash. Raises GuestError."""
        ...

    def close(self) -> None:
        """End the connection, and all its programs."""
        ...


def open_pipes(guest: Guest) -> Pipes:
    """A connection of its own to the node. Raises GuestError."""
    return _another(guest)


def open_shell(guest: Guest, columns: int, rows: int) -> Shell:
    """Log in to a node with a terminal of that size. Raises GuestError."""
    return _another(guest).shell(columns, rows)


def open_program(guest: Guest, argv: Sequence[str], columns: int, rows: int) -> Shell:
    """Run a program on a node with a terminal of that size. Raises GuestError."""
    return _another(guest).shell(columns, rows, shlex.join(argv))


def open_output(guest: Guest, command: str) -> Shell:
    """Run a script for bash, to read its output as it comes. Raises GuestError.

    Unlike `Guest.run` it waits without waking up.
    """
    return _another(guest).start(command)


def _another(guest: Guest) -> SSHGuest:
    if not isinstance(guest, SSHGuest):
        raise GuestError(tr("{name} has no terminal: it is not reached by SSH", name=guest.name))
    return guest.another()
