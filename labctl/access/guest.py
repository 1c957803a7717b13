"""The handle on a node that everybody is given; ssh.py has the one that works over SSH."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from labctl.errors import LabError

Dial = Callable[[str, int], socket.socket]
"""Opens a TCP connection as the node itself would: (host, port) -> connected socket."""

OnLine = Callable[[str, str], None]
"""Receives each line as it arrives: (line, "stdout" | "stderr")."""


@dataclass(frozen=True)
class GuestResult:
    """What a command in a node left."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.returncode == 0


class GuestError(LabError):
    """A command in a node failed, or the node cannot be reached."""


class UnreachableError(GuestError):
    """No SSH server answers: whatever was to be asked has not been."""


class Guest(Protocol):
    """What stages, probes and lessons need of a node."""

    name: str
    patience: int
    """How many times longer than in a container everything may take: emulated VMs are slow."""

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60,
        check: bool = True,
        input: bytes | None = None,
        on_line: OnLine | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> GuestResult:
        """Run a command: a list is quoted word by word, a string is a script for bash.

        `timeout` is in seconds of a node that is a container; others have `patience` times that.
        """
        ...

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file, whole or not at all."""
        ...

    def get(self, path: str) -> bytes:
        """Read a file."""
        ...

    def dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection from the node to somewhere."""
        ...

    def another(self) -> "Guest":
        """A handle on the same node with a connection of its own."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        ...
