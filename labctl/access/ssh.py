"""Our handle on a node: run a command, put and get a file, over SSH."""

import base64
import logging
import posixpath
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko

from labctl.access.guest import Dial, GuestError, GuestResult, OnLine, UnreachableError
from labctl.errors import Cancelled
from labctl.i18n import tr

# paramiko logs what it raises as well, and a logger without a handler prints: tracebacks in the
# middle of a wait for a node that is still booting.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


_SILENCE = 120
"""Seconds in which a node's kernel acknowledges what it is sent, or the connection is over.

Linux itself would go on trying for a quarter of an hour (tcp(7), tcp_retries2).
"""


class SSHGuest:
    """A node reached by SSH as root, over one connection that is made when first needed."""

    def __init__(
        self,
        name: str,
        dial: Dial | None,
        key: Path,
        host_key: Path,
        connect: Callable[[], socket.socket] | None = None,
        patience: int = 1,
    ) -> None:
        """A handle that has not connected yet.

        `dial` opens connections inside the node's network; where nothing of the host can, it is
        None: `connect` opens the connection to the node's SSH server then, and all others are
        forwarded through that. `host_key` is a file with the node's own key, the private one or its
        public half as in known_hosts. `patience`: see Guest.
        """
        if dial is None and connect is None:
            raise ValueError("either dial or connect must be given")
        self.name = name
        self.patience = patience
        self._dial = dial
        self._connector = connect
        self._open = connect or (lambda: self.dial("127.0.0.1", 22))
        self._key = key
        self._host_key = host_key
        self._transport: paramiko.Transport | None = None
        self._lock = threading.Lock()

    def dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection from the node to somewhere; OSError when it is refused."""
        if self._dial is not None:
            return self._dial(host, port)
        try:
            try:
                channel = self._forward(host, port)
            except (EOFError, paramiko.SSHException) as error:
                if isinstance(error, paramiko.ChannelException):
                    raise  # the node answers; who is called does not
                self.close()  # it only seemed alive: one new connection, then the error counts
                channel = self._forward(host, port)
        except (EOFError, paramiko.SSHException) as error:
            raise ConnectionRefusedError(f"{self.name}: {host}:{port}: {error}") from error
        except GuestError as error:
            raise ConnectionError(error.message) from error
        return _as_socket(channel)

    def _forward(self, host: str, port: int) -> paramiko.Channel:
        return self._connected().open_channel(
            "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=30 * self.patience
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
        with suppress(OSError):  # a socket that is not TCP's has no need of it
            # A command begins with several small packets. None may wait until the server has got
            # around to acknowledging the one before: that took 40 of the 55 ms of each command.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, AttributeError):  # Linux has it, and not for every kind of socket
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE * 1000)
        transport = paramiko.Transport(sock)
        try:
            transport.banner_timeout = 30 * self.patience
            # A server may have keys of several kinds; it is to show the one we know.
            transport.get_security_options().key_types = _signatures(expected)
            transport.start_client(timeout=30 * self.patience)
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
            transport.set_keepalive(15)
        except BaseException:
            transport.close()  # or its thread and its socket stay
            raise
        return transport

    def another(self) -> "SSHGuest":
        """A handle on the same node with a connection of its own."""
        return SSHGuest(
            self.name, self._dial, self._key, self._host_key, self._connector, self.patience
        )

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    @contextmanager
    def _channel(self) -> Iterator[paramiko.Channel]:
        try:
            channel = self._connected().open_session(timeout=30 * self.patience)
        except (OSError, EOFError, paramiko.SSHException):
            # The server closed an idle or restarted connection: one new one, then the error counts.
            self.close()
            try:
                channel = self._connected().open_session(timeout=30 * self.patience)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise GuestError(
                    tr("{name}: SSH opens no session: {error}", name=self.name, error=error)
                ) from error
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

        `timeout` is in seconds, times the patience. Raises GuestError when the node cannot be
        reached, when the command takes too long, or (with `check`) exits non-zero; Cancelled when
        `cancelled()` turns true.
        The command itself goes on in the node in that case: what changes a node takes a lock there.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        shown = script.strip().splitlines()[0][:120] if script.strip() else "(nothing)"
        timeout *= self.patience
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
                        tr(
                            "{name}: `{command}` did not finish within {seconds} s",
                            name=self.name,
                            command=shown,
                            seconds=f"{timeout:.0f}",
                        ),
                        hint=tr("look at the node: `labctl ssh {name}`", name=self.name),
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
                tr(
                    "{name}: `{command}` was killed, or the connection broke while it ran",
                    name=self.name,
                    command=shown,
                ),
                hint=tr("see `labctl status`; the node may have stopped"),
            )
        if check and code != 0:
            said = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
            raise GuestError(
                tr(
                    "{name}: `{command}` failed (exit {code}): {said}",
                    name=self.name,
                    command=shown,
                    code=code,
                    said=" / ".join(said[-3:]),
                )
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
            channel.settimeout(60 * self.patience)
            self._start(channel, f"exec cat -- {shlex.quote(path)}")
            try:
                while chunk := channel.recv(65536):
                    content += chunk
            except TimeoutError:
                raise GuestError(
                    tr("{name}: {path}: nothing comes any more", name=self.name, path=path)
                ) from None
            if channel.recv_exit_status() != 0:
                said = channel.recv_stderr(4096).decode(errors="replace").strip()
                raise GuestError(
                    tr("{name}: {path} cannot be read: {error}",
                       name=self.name, path=path, error=said)
                )  # fmt: skip
        return bytes(content)

    def _start(self, channel: paramiko.Channel, command: str) -> None:
        try:
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(
                tr("{name}: SSH starts no command: {error}", name=self.name, error=error)
            ) from error


def _host_key(path: Path) -> paramiko.PKey:
    """The key in a file: a private one, or the public half as `TYPE BASE64`."""
    text = path.read_text().strip()
    if text.startswith("-----BEGIN"):
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    kind, encoded = text.split()[:2]
    return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))


def _signatures(key: paramiko.PKey) -> tuple[str, ...]:
    """The names under which SSH negotiates a key: RSA has newer signatures (RFC 8332)."""
    name = key.get_name()
    return ("rsa-sha2-512", "rsa-sha2-256") if name == "ssh-rsa" else (name,)


def _as_socket(channel: paramiko.Channel) -> socket.socket:
    """A real socket in front of an SSH channel: what speaks HTTP wants select() and makefile()."""
    ours, theirs = socket.socketpair()

    def downstream() -> None:
        with suppress(OSError, EOFError):
            while data := channel.recv(65536):
                theirs.sendall(data)
        with suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)  # ends upstream() too

    def upstream() -> None:
        with suppress(OSError, EOFError):
            while data := theirs.recv(65536):
                channel.sendall(data)
        with suppress(OSError, EOFError):
            channel.shutdown_write()
        # The peer may go on talking to who only has nothing more to say, but not to who is gone.
        hung_up = select.poll()
        hung_up.register(theirs, 0)
        hung_up.poll()
        channel.close()  # ends downstream() too
        answers.join()
        theirs.close()

    answers = threading.Thread(target=downstream, daemon=True)
    answers.start()
    threading.Thread(target=upstream, daemon=True).start()
    return ours


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
