"""The Guest that works over SSH: runs commands, reads and writes files, with paramiko."""

import base64
import logging
import posixpath
import select
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.access.guest import Dial, GuestError, GuestResult, LateError, OnLine, UnreachableError
from labctl.access.paramiko_alone import paramiko
from labctl.errors import Cancelled
from labctl.i18n import tr

# paramiko also logs what it raises. Without a handler, Python would print these tracebacks while we
# wait for a node that is still booting.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


_ACK_TIMEOUT = 120
"""Seconds until a node's kernel must acknowledge sent data, or the connection is closed.

By default Linux goes on for about 15 minutes (tcp(7), tcp_retries2).
"""
_WAKE_UP = 7.5
"""Seconds between two looks of an idle connection's thread: half of those between keepalives.

paramiko looks every 0.1 s (Transport._active_check_timeout), to notice soon that it was closed;
that is 1 % of a core for ten idle connections. What arrives wakes it up at once either way.
"""
_MOST_KEPT = 32 << 20
"""Bytes of a stream that are kept, half of its beginning and half or more of its end.

Captures come by this way as well: a lesson's have some kilobytes, the largest walk's a few MB.
"""
_LARGEST_FILE = 512 << 20
"""Bytes of a file that is read; the image of instances has some 20 MB."""
_DRAIN = 3.0
"""Seconds without output after which a command that has ended is no longer listened to.

A process that it left in the background may hold its output open; our choice, times the timeout
factor.
"""
_LONGEST_LINE = 65_536
"""Bytes; what is longer is passed on in pieces."""


class SSHGuest:
    """A node reached by SSH as root, over one connection that is made when first needed."""

    def __init__(
        self,
        name: str,
        dial: Dial | None,
        key: Path,
        host_key: Path,
        connect: Callable[[], socket.socket] | None = None,
        timeout_factor: int = 1,
    ) -> None:
        """Either `dial` or `connect` must be given.

        `dial` opens connections inside the node's network. Where the host cannot do that it is
        None: then `connect` opens the one connection to the node's SSH server, and all others are
        forwarded through it. `host_key` is a file with the node's host key: the private one, or the
        public one as in known_hosts. `timeout_factor`: see Guest.
        """
        if dial is None and connect is None:
            raise ValueError("either dial or connect must be given")
        self.name = name
        self.timeout_factor = timeout_factor
        self._dial = dial
        self._connector = connect
        self._open = connect or (lambda: self.dial("127.0.0.1", 22))
        self._key = key
        self._host_key = host_key
        self._transport: paramiko.Transport | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def dial(self, host: str, port: int) -> socket.socket:
        """Open a TCP connection from the node to `host`. Raises OSError when it is refused."""
        if self._dial is not None:
            return self._dial(host, port)
        try:
            try:
                channel = self._forward(host, port)
            except (EOFError, paramiko.SSHException) as error:
                if isinstance(error, paramiko.ChannelException):
                    raise  # SSH works; `host` refuses the connection
                self.close()  # the connection was dead: try once more with a new one
                channel = self._forward(host, port)
        except (EOFError, paramiko.SSHException) as error:
            raise ConnectionRefusedError(f"{self.name}: {host}:{port}: {error}") from error
        except GuestError as error:
            raise ConnectionError(error.message) from error
        return _as_socket(channel)

    def _forward(self, host: str, port: int) -> paramiko.Channel:
        return self._connected().open_channel(
            "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=30 * self.timeout_factor
        )

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            try:
                self._transport = self._connect()
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise UnreachableError(
                    tr(
                        "{name} cannot be reached by SSH: {error}",
                        name=self.name,
                        error=str(error) or type(error).__name__,
                    ),
                    hint=tr("is the lab up? see `labctl status`, start it with `labctl up`"),
                ) from error
            return self._transport

    def _connect(self) -> paramiko.Transport:
        expected = _host_key(self._host_key)
        sock = self._open()
        with suppress(OSError):  # not a TCP socket
            # A command begins with several small packets. Without TCP_NODELAY each waits for the
            # server's delayed acknowledgement of the one before: 40 of the 55 ms of each command.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACK_TIMEOUT * 1000)
        transport = paramiko.Transport(sock)
        try:
            transport.banner_timeout = 30 * self.timeout_factor
            # A server may have keys of several types: ask for the type of the key we know.
            transport.get_security_options().key_types = _signatures(expected)
            transport.start_client(timeout=30 * self.timeout_factor)
            if transport.get_remote_server_key() != expected:
                raise GuestError(
                    tr("{name}: an SSH server with an unknown host key answered", name=self.name),
                    hint=tr(
                        "something else listens on the node's port 22;"
                        " `labctl destroy`, then create"
                    ),
                )
            key = paramiko.Ed25519Key.from_private_key_file(str(self._key))
            transport.auth_publickey("root", key)
            transport.set_keepalive(int(2 * _WAKE_UP))
            sock.settimeout(_WAKE_UP)
        except BaseException:
            transport.close()  # else its thread and its socket stay
            raise
        self._socket = sock
        return transport

    def another(self) -> "SSHGuest":
        """A handle on the same node with a connection of its own."""
        return SSHGuest(
            self.name, self._dial, self._key, self._host_key, self._connector, self.timeout_factor
        )

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        with self._lock:
            if self._transport is not None:
                if self._socket is not None:
                    with suppress(OSError):  # wakes up the thread that close() waits for
                        self._socket.shutdown(socket.SHUT_RDWR)
                self._transport.close()
                self._transport = self._socket = None

    def _open_channel(self) -> paramiko.Channel:
        try:
            return self._connected().open_session(timeout=30 * self.timeout_factor)
        except (OSError, EOFError, paramiko.SSHException):
            # The server closed an idle connection or restarted: try once more with a new one.
            self.close()
            try:
                return self._connected().open_session(timeout=30 * self.timeout_factor)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._no_session(error) from error

    def _no_session(self, error: Exception) -> GuestError:
        return GuestError(tr("{name}: SSH opens no session: {error}", name=self.name, error=error))

    @contextmanager
    def _channel(self) -> Iterator[paramiko.Channel]:
        channel = self._open_channel()
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
        """Run a command to its end, not to that of processes it leaves in the background.

        `timeout` is in seconds, times the timeout factor. Raises GuestError when the node cannot be
        reached, when the command takes too long, or (with `check`) exits non-zero; Cancelled when
        `cancelled()` turns true.
        After a timeout or Cancelled the command still runs in the node, so commands that change a
        node take a lock there.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        # A script's first line names it in messages, also as a comment.
        lines = script.strip().splitlines() or ["(nothing)"]
        shown = lines[0].removeprefix("# ")[:120]
        timeout *= self.timeout_factor
        began = time.monotonic()
        ended: float | None = None
        out, err = _Lines("stdout", on_line), _Lines("stderr", on_line)
        with self._channel() as channel:
            self._start(channel, f"exec bash -c {shlex.quote(script)}")
            stdin = _Stdin(channel, input or b"")
            while True:
                # Write and read in turns: a command may print much while it reads much.
                busy = stdin.feed()
                if channel.recv_ready():
                    out.feed(channel.recv(65536))
                    busy = True
                if channel.recv_stderr_ready():
                    err.feed(channel.recv_stderr(65536))
                    busy = True
                if channel.exit_status_ready():
                    if ended is None or busy:
                        ended = time.monotonic()
                    silent = time.monotonic() - ended
                    if channel.eof_received or silent > _DRAIN * self.timeout_factor:
                        break
                if channel.closed:
                    break
                if cancelled is not None and cancelled():
                    raise Cancelled(f"`{shown}` on {self.name}")
                if time.monotonic() - began > timeout:
                    raise LateError(
                        tr(
                            "{name}: `{command}` did not finish within {seconds} s",
                            name=self.name,
                            command=shown,
                            seconds=f"{timeout:.0f}",
                        ),
                        _result(-1, out, err, began),
                        hint=tr("look at the node: `labctl ssh {name}`", name=self.name),
                    )
                if not busy and channel.status_event.wait(0.02):
                    time.sleep(0.005)  # it has ended; the rest of its output is still to come
            while channel.recv_ready():
                out.feed(channel.recv(65536))
            while channel.recv_stderr_ready():
                err.feed(channel.recv_stderr(65536))
            code = channel.recv_exit_status() if channel.exit_status_ready() else -1
        result = _result(code, out, err, began)
        if code == -1:
            raise GuestError(
                tr(
                    "{name}: `{command}` was killed, or the connection broke while it ran",
                    name=self.name,
                    command=shown,
                ),
                hint=tr("see `labctl status`; the node may have stopped"),
            )
        if check and code != 0:
            output = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
            raise GuestError(
                tr(
                    "{name}: `{command}` failed (exit {code}): {said}",
                    name=self.name,
                    command=shown,
                    code=code,
                    said=" / ".join(output[-3:]),
                )
            )
        return result

    def shell(self, columns: int, rows: int, command: str = "") -> "ChannelShell":
        """The login shell, or a command, on a terminal of that size; it owns this connection.

        Raises GuestError.
        """
        channel = self._open_channel()
        try:
            channel.get_pty("xterm-256color", columns, rows)
            if command:
                channel.exec_command(command)
            else:
                channel.invoke_shell()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._no_session(error) from error
        return ChannelShell(self, channel)

    def start(self, command: str) -> "ChannelShell":
        """Start a script for bash, to be read as it prints; it owns this handle's connection.

        Raises GuestError.
        """
        channel = self._open_channel()
        channel.get_pty()  # what has a terminal is ended by SIGHUP when the connection ends
        self._start(channel, f"exec bash -c {shlex.quote(command)}")
        return ChannelShell(self, channel)

    def pipe(self, command: str) -> "ChannelPipe":
        """Start a script for bash whose output is bytes; over this handle's own connection.

        It has no terminal, which would change the bytes. Raises GuestError.
        """
        channel = self._open_channel()
        self._start(channel, f"exec bash -c {shlex.quote(command)}")
        return ChannelPipe(channel)

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file atomically. Raises GuestError."""
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
            channel.settimeout(60 * self.timeout_factor)
            self._start(channel, f"exec cat -- {shlex.quote(path)}")
            try:
                while chunk := channel.recv(65536):
                    content += chunk
                    if len(content) > _LARGEST_FILE:
                        raise GuestError(
                            tr("{name}: {path} is too large to be read", name=self.name, path=path)
                        )
            except TimeoutError:
                raise GuestError(
                    tr(
                        "{name}: {path}: the node stopped sending in the middle of the file",
                        name=self.name,
                        path=path,
                    )
                ) from None
            if channel.recv_exit_status() != 0:
                reason = channel.recv_stderr(4096).decode(errors="replace").strip()
                raise GuestError(
                    tr("{name}: {path} cannot be read: {error}",
                       name=self.name, path=path, error=reason)
                )  # fmt: skip
        return bytes(content)

    def _start(self, channel: paramiko.Channel, command: str) -> None:
        try:
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(
                tr("{name}: SSH starts no command: {error}", name=self.name, error=error)
            ) from error


class ChannelShell:
    """A program on a node over a connection of its own; see access/shell.py."""

    def __init__(self, guest: SSHGuest, channel: paramiko.Channel) -> None:
        self._guest = guest
        self._channel = channel

    def read(self) -> bytes:
        """Wait for output, at most 64 KiB of it; empty at the end."""
        try:
            return self._channel.recv(65536)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Send input. Raises OSError when the program or the connection ended."""
        self._channel.sendall(data)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of its terminal; without an effect once the program ended."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.resize_pty(columns, rows)

    def close(self) -> None:
        """End the program and the connection; from any thread, also while another reads."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # the other one may have closed it
            self._channel.close()
        self._guest.close()


class ChannelPipe:
    """A program on a node without a terminal; see access/shell.py."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._errors = bytearray()

    def read(self) -> bytes:
        """Wait for output, at most 64 KiB of it; empty at the end."""
        try:
            return self._channel.recv(65536)
        except OSError:
            return b""

    def errors(self) -> str:
        """What the program has written to stderr, its last 64 KiB."""
        with suppress(OSError):
            while self._channel.recv_stderr_ready():
                self._errors += self._channel.recv_stderr(65536)
                del self._errors[:-65536]
        return self._errors.decode(errors="replace")

    def end_input(self) -> None:
        """The program reads the end of its input."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def close(self) -> None:
        """Give the program up, whose input and output end."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


def _host_key(path: Path) -> paramiko.PKey:
    """The key in a file: a private one, or the public half as `TYPE BASE64`."""
    text = path.read_text(encoding="utf-8").strip()
    if text.startswith("-----BEGIN"):
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    kind, encoded = text.split()[:2]
    return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))


def _signatures(key: paramiko.PKey) -> tuple[str, ...]:
    """The signature algorithms of a key's type: for RSA those with SHA-2 (RFC 8332)."""
    name = key.get_name()
    return ("rsa-sha2-512", "rsa-sha2-256") if name == "ssh-rsa" else (name,)


def _as_socket(channel: paramiko.Channel) -> socket.socket:
    """A real socket in front of an SSH channel: HTTP clients need select() and makefile()."""
    ours, far_end = socket.socketpair()

    def downstream() -> None:
        with suppress(OSError, EOFError):
            while data := channel.recv(65536):
                far_end.sendall(data)
        with suppress(OSError):
            far_end.shutdown(socket.SHUT_RDWR)  # ends upstream() too

    def upstream() -> None:
        with suppress(OSError, EOFError):
            while data := far_end.recv(65536):
                channel.sendall(data)
        with suppress(OSError, EOFError):
            channel.shutdown_write()
        # Our side may only have shut down writing and still read answers: wait until it has closed.
        if sys.platform == "win32":  # which has no poll(2): the server closes when it has answered
            downstream_thread.join()
        else:
            hung_up = select.poll()
            hung_up.register(far_end, 0)
            hung_up.poll()
        channel.close()  # ends downstream() too
        downstream_thread.join()
        far_end.close()

    downstream_thread = threading.Thread(target=downstream, daemon=True)
    downstream_thread.start()
    threading.Thread(target=upstream, daemon=True).start()
    return ours


class _Stdin:
    """Writes a command's input as fast as the command reads, without blocking."""

    def __init__(self, channel: paramiko.Channel, content: bytes) -> None:
        self._channel = channel
        self._left = memoryview(content)
        self._open = True

    def feed(self) -> bool:
        """Send what fits into the channel's window; whether anything was sent."""
        if not self._open or (self._left and not self._channel.send_ready()):
            return False
        try:
            if self._left:
                self._left = self._left[self._channel.send(self._left[:65536].tobytes()) :]
            if not self._left:
                self._channel.shutdown_write()
                self._open = False
        except OSError:
            self._open = (
                False  # the command ended before it had read everything; its exit code says why
            )
        return True


class _Lines:
    """Collects a stream, and passes each line to `on_line` as soon as it is complete.

    Of a stream without end the beginning and the end are kept.
    """

    def __init__(self, stream: str, on_line: OnLine | None) -> None:
        self._stream = stream
        self._on_line = on_line
        self._head = bytearray()
        self._tail = bytearray()
        self._incomplete = bytearray()
        self.left_out = 0

    def feed(self, data: bytes) -> None:
        room = _MOST_KEPT // 2 - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > _MOST_KEPT:  # seldom: to cut it copies it
            surplus = len(self._tail) - _MOST_KEPT // 2
            del self._tail[:surplus]
            self.left_out += surplus
        if self._on_line is None:
            return
        *lines, rest = (self._incomplete + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], bytearray()
        self._incomplete = rest
        for line in lines:
            self._on_line(line.decode(errors="replace"), self._stream)

    def end(self) -> str:
        if self._on_line is not None and self._incomplete:
            self._on_line(self._incomplete.decode(errors="replace"), self._stream)
            self._incomplete = bytearray()
        gap = f"\n[… {self.left_out} bytes …]\n".encode() if self.left_out else b""
        return (self._head + gap + self._tail).decode(errors="replace")


def _result(code: int, out: _Lines, err: _Lines, began: float) -> GuestResult:
    seconds = time.monotonic() - began
    return GuestResult(code, out.end(), err.end(), seconds, out.left_out + err.left_out)
