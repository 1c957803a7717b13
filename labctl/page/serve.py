"""Runs the page's server on this machine's loopback address until Ctrl-C."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.operating_system import rights
from labctl.page.app import Page, application
from labctl.page.connections import LimitedConnection
from labctl.page.guard import Guard

ADDRESS = "127.0.0.1"
_MESSAGE = 64 << 10
"""Bytes of a WebSocket message from a browser: what was typed or pasted, in parts."""


def listen(port: int) -> socket.socket:
    """The socket of the page; port 0: a free one. Raises LabError when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows lets two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
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


def server_of(page: Page, port: int) -> tuple[uvicorn.Server, Guard]:
    """The page's server, guarded for that port. It runs until `should_exit` or a signal."""
    guard = Guard(application(page), port)
    config = uvicorn.Config(
        guard,
        http=LimitedConnection,
        ws="websockets-sansio",
        ws_max_size=_MESSAGE,
        ws_per_message_deflate=False,  # on one machine it costs time and saves nothing
        lifespan="on",
        log_config=None,  # its log would hold the token
        log_level="error",  # a defect of labctl; nothing that a request can cause
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16 << 10,
    )
    return uvicorn.Server(config), guard


def serve(
    file: Path,
    command: str,
    *,
    port: int = 0,
    ready: Callable[[str], None],
    browser: bool = False,
) -> None:
    """Serve the page of the lab of `file` until Ctrl-C; `ready` is called with its address.

    `command` is how the user called labctl. `browser`: open the page in the user's browser.
    Raises LabError.
    """
    listener = listen(port)
    port = listener.getsockname()[1]
    server, guard = server_of(Page(file, command), port)
    address = f"http://{ADDRESS}:{port}/?token="
    ready(address + guard.token)
    if browser:
        once = address + guard.token_for_one_use()
        # The listener queues the browser's connection until the server runs.
        threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has ended in order, and repeats the signal
        return
    finally:
        listener.close()
