"""Our handle on a node: run a command, put and get a file, over SSH."""

import posixpath
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import paramiko

from labctl.errors import LabError
from labctl.waiting import Cancelled

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


class Guest(Protocol):
    """What stages, probes and lessons need of a node."""

    name: str

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
        """Run a command: a list is quoted word by word, a string is a script for bash."""
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

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        ...


class SSHGuest:
    """A node reached by SSH as root, over one connection that is made when first needed."""

    def __init__(self, name: str, dial: Dial, key: Path, host_key: Path) -> None:
        """`dial` opens connections inside the node's network; `host_key` is the node's own key."""
        self.name = name
        self._dial = dial
        self._key = key
        self._host_key = host_key
        self._transport: paramiko.Transport | None = None
        self._lock = threading.Lock()

    def dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection from the node to somewhere; OSError when it is refused."""
        return self._dial(host, port)

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            try:
                self._transport = self._connect()
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise GuestError(
                    f"{self.name} cannot be reached by SSH: {str(error) or type(error).__name__}",
                    hint="is the lab up? see `labctl status`, start it with `labctl up`",
                ) from error
            return self._transport

    def _connect(self) -> paramiko.Transport:
        transport = paramiko.Transport(self._dial("127.0.0.1", 22))
        try:
            transport.banner_timeout = 30
            transport.start_client(timeout=30)
            expected = paramiko.Ed25519Key.from_private_key_file(str(self._host_key))
            if transport.get_remote_server_key() != expected:
                raise GuestError(
                    f"{self.name}: an SSH server with an unknown host key answered",
                    hint="something else listens on the node's port 22;"
                    " `labctl destroy`, then create",
                )
            key = paramiko.Ed25519Key.from_private_key_file(str(self._key))
            transport.auth_publickey("root", key)
            transport.set_keepalive(15)
        except BaseException:
            transport.close()  # or its thread and its socket stay
            raise
        return transport

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    @contextmanager
    def _channel(self) -> Iterator[paramiko.Channel]:
        try:
            channel = self._connected().open_session(timeout=30)
        except (OSError, EOFError, paramiko.SSHException):
            # The server closed an idle or restarted connection: one new one, then the error counts.
            self.close()
            try:
                channel = self._connected().open_session(timeout=30)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise GuestError(f"{self.name}: SSH opens no session: {error}") from error
        try:
            yield channel
        finally:
            channel.close()

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
        """Run a command to its end and return what it said.

        `timeout` is in seconds. Raises GuestError when the node cannot be reached, when the command
        takes too long, or (with `check`) exits non-zero; Cancelled when `cancelled()` turns true.
        The command itself goes on in the node in that case: what changes a node takes a lock there.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        shown = script.strip().splitlines()[0][:120] if script.strip() else "(nothing)"
        began = time.monotonic()
        out, err = _Lines("stdout", on_line), _Lines("stderr", on_line)
        with self._channel() as channel:
            self._start(channel, f"exec bash -c {shlex.quote(script)}")
            stdin = _Stdin(channel, input or b"")
            while True:
                # Fed and read in turns: a command that is fed much may say much meanwhile.
                busy = stdin.feed()
                if channel.recv_ready():
                    out.feed(channel.recv(65536))
                    busy = True
                if channel.recv_stderr_ready():
                    err.feed(channel.recv_stderr(65536))
                    busy = True
                if channel.exit_status_ready() and channel.eof_received:
                    break
                if channel.closed:
                    break
                if cancelled is not None and cancelled():
                    raise Cancelled(f"`{shown}` on {self.name}")
                if time.monotonic() - began > timeout:
                    raise GuestError(
                        f"{self.name}: `{shown}` did not finish within {timeout:.0f} s",
                        hint=f"look at the node: `labctl ssh {self.name}`",
                    )
                if not busy and channel.status_event.wait(0.02):
                    time.sleep(0.005)  # it has ended; the end of its output is on its way
            while channel.recv_ready():
                out.feed(channel.recv(65536))
            while channel.recv_stderr_ready():
                err.feed(channel.recv_stderr(65536))
            code = channel.recv_exit_status() if channel.exit_status_ready() else -1
        result = GuestResult(code, out.end(), err.end(), time.monotonic() - began)
        if code == -1:
            raise GuestError(
                f"{self.name}: `{shown}` was killed, or the connection broke while it ran",
                hint="see `labctl status`; the node may have stopped",
            )
        if check and code != 0:
            said = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
            raise GuestError(
                f"{self.name}: `{shown}` failed (exit {code}): " + " / ".join(said[-3:])
            )
        return result

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file, whole or not at all. Raises GuestError."""
        name = shlex.quote(path)
        self.run(
            f"umask 077; mkdir -p {shlex.quote(posixpath.dirname(path))}"
            f" && cat > {name}.new && chmod {mode:o} {name}.new && mv {name}.new {name}",
            input=content,
            timeout=300,
        )

    def get(self, path: str) -> bytes:
        """Read a file. Raises GuestError when there is none."""
        content = bytearray()
        with self._channel() as channel:
            channel.settimeout(60)
            self._start(channel, f"exec cat -- {shlex.quote(path)}")
            try:
                while chunk := channel.recv(65536):
                    content += chunk
            except TimeoutError:
                raise GuestError(f"{self.name}: {path}: nothing comes any more") from None
            if channel.recv_exit_status() != 0:
                said = channel.recv_stderr(4096).decode(errors="replace").strip()
                raise GuestError(f"{self.name}: {path} cannot be read: {said}")
        return bytes(content)

    def _start(self, channel: paramiko.Channel, command: str) -> None:
        try:
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(f"{self.name}: SSH starts no command: {error}") from error


class _Stdin:
    """Feeds a command as fast as it reads, without waiting for it."""

    def __init__(self, channel: paramiko.Channel, content: bytes) -> None:
        self._channel = channel
        self._left = memoryview(content)
        self._open = True

    def feed(self) -> bool:
        """Send what fits; whether anything was sent."""
        if not self._open or (self._left and not self._channel.send_ready()):
            return False
        try:
            if self._left:
                self._left = self._left[self._channel.send(self._left[:65536].tobytes()) :]
            if not self._left:
                self._channel.shutdown_write()
                self._open = False
        except OSError:
            self._open = False  # it ended without reading all of it; its exit code tells why
        return True


class _Lines:
    """Collects a stream, and hands whole lines on as they come."""

    def __init__(self, stream: str, on_line: OnLine | None) -> None:
        self._stream = stream
        self._on_line = on_line
        self._all = bytearray()
        self._passed = 0

    def feed(self, data: bytes) -> None:
        self._all += data
        if self._on_line is None:
            return
        while (end := self._all.find(b"\n", self._passed)) >= 0:
            self._on_line(self._all[self._passed : end].decode(errors="replace"), self._stream)
            self._passed = end + 1

    def end(self) -> str:
        if self._on_line is not None and self._passed < len(self._all):
            self._on_line(self._all[self._passed :].decode(errors="replace"), self._stream)
            self._passed = len(self._all)
        return self._all.decode(errors="replace")
