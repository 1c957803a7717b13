"""What a handle on a node can do (a Protocol). ssh.py and instance.py implement it."""

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
    """How a command in a node ended."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    left_out: int = 0
    """Bytes in the middle of what it printed that were not kept, because there were too many."""

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.returncode == 0


class GuestError(LabError):
    """A command in a node failed, or the node cannot be reached."""


class LateError(GuestError):
    """A command took too long. It may still run in the node."""

    def __init__(self, message: str, result: GuestResult, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result
        """What it had printed by then."""


class UnreachableError(GuestError):
    """No SSH server answers, so the command was not started."""


class Guest(Protocol):
    """What stages, probes and lessons need of a node."""

    name: str
    timeout_factor: int
    """Timeouts are multiplied by this. 1 for containers; more for emulated VMs, which are slow."""

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

        Messages name a script by its first line, which may be a comment that says what it is for.
        `timeout` is the seconds a container gets; every node gets that times `timeout_factor`.
        """
        ...

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file atomically: readers see the old or the new content, nothing between."""
        ...

    def get(self, path: str) -> bytes:
        """Read a file."""
        ...

    def dial(self, host: str, port: int) -> socket.socket:
        """Open a TCP connection from the node to `host`. Raises OSError."""
        ...

    def another(self) -> "Guest":
        """A handle on the same node with a connection of its own."""
        ...

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        ...
