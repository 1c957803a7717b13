"""A page of `labctl open` that runs in the test's process, with shells of this machine."""

import contextlib
import fcntl
import http.client
import json
import os
import pty
import signal
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

import labctl.actions.lessons  # noqa: F401  (see tests/unit/page/conftest.py)
from labctl.classroom.page import ClassPage
from labctl.page import serve
from labctl.page.app import Page
from labctl.page.tls import Tls

LAB = "name: paged\nprovider: nspawn\nstack: ovn\n"


class LocalShell:
    """bash on a pseudo-terminal of this machine, in place of a node's."""

    def __init__(self, columns: int, rows: int) -> None:
        self.process, self._master = pty.fork()
        if self.process == 0:
            os.environ.update(PS1="$ ", TERM="xterm-256color")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.resize(columns, rows)

    def read(self) -> bytes:
        with suppress(OSError):
            return os.read(self._master, 65536)
        return b""

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data) :]

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)


def page_of(directory: Path) -> Page:
    """A page of a lab that does not exist, whose terminals are shells of this machine."""
    (directory / "lab.yaml").write_text(LAB, encoding="utf-8")
    return Page(directory / "lab.yaml", "labctl", lambda _, *size: LocalShell(*size))


def anybody() -> ssl.SSLContext:
    """A client that takes any certificate, as somebody who attacks would."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Served:
    """A page that is served, and a client that has its cookie."""

    def __init__(
        self,
        page: Page | ClassPage,
        tls: Tls | None = None,
        verb: str = "labctl open",
        load: Callable[[], Page] | None = None,
    ) -> None:
        """`load` gives that page when it is needed."""
        self.tls = tls
        self.address = serve.ADDRESS if tls is None else tls.address
        listener = serve.listen(0, self.address)
        self.port: int = listener.getsockname()[1]
        if isinstance(page, Page):
            self.page = page
            self.server, self.guard = serve.server_of(
                page.file, load or (lambda: page), self.port, tls
            )
        else:
            self.server, self.guard = serve.guarded(page.application(), self.port, verb=verb)
        self.origin = serve.address_of(self.address, self.port, tls=tls is not None).rstrip("/")
        self.failure: Exception | None = None
        """What ended the server, if that was not `stop`."""
        self._thread = threading.Thread(target=self._serve, args=(listener,))
        self._thread.start()
        answer, _ = self.get(f"/?token={self.guard.token}")
        assert answer.status == 303
        self.set_cookie = answer.headers["Set-Cookie"]
        self.cookie = self.set_cookie.partition(";")[0]

    def _serve(self, listener: socket.socket) -> None:
        try:
            self.server.run([listener])
        except Exception as failure:
            self.failure = failure
            raise

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def request(
        self, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        client = (
            http.client.HTTPConnection(self.address, self.port, timeout=30)
            if self.tls is None
            else http.client.HTTPSConnection(self.address, self.port, timeout=30, context=anybody())
        )
        with contextlib.closing(client):
            client.request(method, path, body, headers)
            answer = client.getresponse()
            return answer, answer.read().decode()

    def get(
        self, path: str, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        return self.request("GET", path, headers or {})

    def open_terminal(self) -> int:
        headers = {"Cookie": self.cookie, "Origin": self.origin}
        wish = json.dumps({"node": "here", "columns": 80, "rows": 24})
        answer, body = self.request("POST", "/terminals", headers, wish)
        assert answer.status == 200, body
        return int(json.loads(body)["number"])

    def socket(self, path: str, *, cookie: str | None = None, origin: str = "") -> ClientConnection:
        return connect(
            f"{self.origin.replace('http', 'ws')}{path}",
            origin=Origin(origin or self.origin),
            additional_headers={"Cookie": self.cookie if cookie is None else cookie},
            ssl=None if self.tls is None else anybody(),
            max_size=1 << 20,
            compression=None,
        )
