"""Runs the page's server on this machine's loopback address until Ctrl-C."""

import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.actions.served import noted
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.operating_system import rights
from labctl.page.tokens import Tokens
from labctl.state import LabState

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from labctl.page.app import Page
    from labctl.page.guard import Guard
    from labctl.page.tls import Tls

# The server and its libraries are imported once the address is printed and the browser is on its
# way; the page (front.py), once the browser has painted.

ADDRESS = "127.0.0.1"
_MESSAGE = 64 << 10
"""Bytes of a WebSocket message from a browser: what was typed or pasted, in parts."""


def listen(port: int, address: str = ADDRESS) -> socket.socket:
    """The socket of the page; port 0: a free one. Raises LabError when the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows lets two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise LabError(
                tr("--listen {address}: this machine has no such address", address=address),
                hint=tr("choose one of its addresses"),
                code=EXIT_USAGE,
            ) from error
        raise LabError(
            tr("--port {port}: {error}", port=port, error=error.strerror or str(error)),
            hint=tr("choose another port, or none: then a free one is taken"),
            code=EXIT_USAGE,
        ) from error
    return listener


def has_desktop() -> bool:
    """Whether this user has a desktop with a browser; root has none."""
    if rights.is_root():
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def address_of(host: str, port: int, *, tls: bool = False) -> str:
    """The page's address without its token."""
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"


@dataclass(frozen=True)
class Offer:
    """A page whose address was told, and whose server is yet to run."""

    listener: socket.socket
    port: int
    address: str
    """Without its token."""
    tokens: Tokens


@contextmanager
def offered(
    port: int,
    host: str = ADDRESS,
    *,
    tls: bool = False,
    ready: Callable[[str], None],
    browser: bool = False,
) -> Iterator[Offer]:
    """Listen, and call `ready` with the address; the body runs the server, until Ctrl-C ends it.

    `browser`: open the page in the user's browser. Raises LabError.
    """
    listener = listen(port, host)
    port = listener.getsockname()[1]
    address, tokens = address_of(host, port, tls=tls), Tokens()
    ready(f"{address}?token={tokens.token}")
    if browser:
        # The listener queues the browser's connection until the server runs.
        once = f"{address}?token={tokens.for_one_use()}"
        threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()
    try:
        yield Offer(listener, port, address, tokens)
    except KeyboardInterrupt:  # uvicorn has ended in order, and repeats the signal
        return
    finally:
        listener.close()


def server_of(
    file: Path,
    load: "Callable[[], Page]",
    port: int,
    tls: "Tls | None" = None,
    tokens: Tokens | None = None,
) -> "tuple[uvicorn.Server, Guard]":
    """The server of a lab's page, guarded for that port; `load` makes the page (front.py)."""
    from labctl.page.front import Front

    return guarded(Front(file, load).application(), port, tls, tokens)


def guarded(
    app: "ASGIApp",
    port: int,
    tls: "Tls | None" = None,
    tokens: Tokens | None = None,
    verb: str = "labctl open",
) -> "tuple[uvicorn.Server, Guard]":
    """The server of a page, guarded for that port. It runs until `should_exit` or a signal.

    `verb` is what printed the address, for who comes without its token.
    """
    import uvicorn

    from labctl.page.connections import LimitedConnection, WebSocket
    from labctl.page.guard import LOOPBACK, Guard

    kind = uvicorn.Server
    if tls is not None:
        from labctl.page.tls import TlsServer

        kind = TlsServer
    names = LOOPBACK if tls is None else tls.names
    guard = Guard(app, port, names, tls=tls is not None, tokens=tokens, verb=verb)
    config = uvicorn.Config(
        guard,
        http=LimitedConnection,
        ws=WebSocket,
        ws_max_size=_MESSAGE,
        ws_per_message_deflate=False,  # on one machine it costs time and saves nothing
        lifespan="on",
        log_config=None,  # its log would hold the token
        log_level="error",  # a defect of labctl; nothing that a request can cause
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,  # more than a TLS connection may take to end
        h11_max_incomplete_event_size=16 << 10,
    )
    server = kind(config)
    if tls is not None:
        config.load()
        config.ssl = tls.context  # with the certificate in it, which uvicorn would read from files
    return server, guard


def serve(
    file: Path,
    command: str,
    *,
    port: int = 0,
    tls: "Tls | None" = None,
    ready: Callable[[str], None],
    browser: bool = False,
) -> None:
    """Serve the page of the lab of `file` until Ctrl-C; `ready` is called with its address.

    `command` is how the user called labctl. `tls`: on another address than 127.0.0.1, with TLS.
    `browser`: open the page in the user's browser.
    Raises LabError.
    """
    host = ADDRESS if tls is None else tls.address
    with offered(port, host, tls=tls is not None, ready=ready, browser=browser) as offer:

        def load() -> "Page":
            from labctl.page.app import Page

            return Page(file, command)

        server, _ = server_of(file, load, offer.port, tls, offer.tokens)
        with noted(LabState(file.absolute().parent), offer.address, offer.tokens.identifier):
            server.run(sockets=[offer.listener])
