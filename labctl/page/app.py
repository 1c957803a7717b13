"""The page's addresses: what each request gets, and the two kinds of WebSocket.

/events is one stream of JSON messages to the page; /terminals/N carries a terminal: binary frames
are what is typed and printed, text frames JSON about them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from labctl.access.shell import Shell, open_shell
from labctl.errors import LabError
from labctl.i18n import current_language, tr
from labctl.lab import Lab
from labctl.page.feed import Feed
from labctl.page.following import Following
from labctl.page.picture import Picture
from labctl.page.terminals import OpenShell, Terminal, Terminals, Viewer, sane_size
from labctl.page.words import page_words
from labctl.page.work import VERBS, Work
from labctl.terminal.text import sanitize

MOST_BODY = 4096
"""Bytes of a request's body: a verb with its argument."""
FOLLOW_SECONDS = 0.3
"""Between two looks at what another labctl did."""
_CLEAN_SECONDS = 60.0
"""Between two looks for terminals that nobody uses."""
_TOO_MANY, _DROPPED, _GONE = 4429, 4408, 4404
"""Codes with which a WebSocket is closed; the page connects again after the first two."""


class Page:
    """What the page shows of one lab, and what it lets the learner do."""

    def __init__(self, file: Path, command: str, open_shell: OpenShell | None = None) -> None:
        """`file` is the lab.yaml; `command` is how the user called labctl, for hints.

        `open_shell` logs in to a node: (node, columns, rows); by default by the lab's SSH.
        """
        self._file = file
        self._lab: tuple[str, Lab] | None = None
        self.feed = Feed()
        self.work = Work(file, self.feed.publish, command)
        self.picture = Picture(self.lab, self.feed.publish)
        self.terminals = Terminals(open_shell or self._open_shell)
        self._following = Following(self.lab, self.work, self.feed.publish)

    def lab(self) -> Lab:
        """The lab of now: another object once it was destroyed and made anew."""
        lab = Lab(self._file)
        name = lab.state.identity().lab_id if lab.state.exists else ""
        if self._lab is None or self._lab[0] != name:
            self._lab = (name, lab)
        return self._lab[1]

    def _open_shell(self, node: str, columns: int, rows: int) -> Shell:
        lab = self.lab()
        lab.require_created()
        return open_shell(lab.guest(node), columns, rows)

    @asynccontextmanager
    async def living(self, _: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        self.feed.run_in(asyncio.get_running_loop())
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._clean())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.feed.run_in(None)
            self.picture.stop()
            await self.terminals.close_all()

    async def _follow(self) -> None:
        """Only while a page is open, and so nothing is asked of an idle lab."""
        watching = False
        while True:
            if (self.feed.pages > 0) is not watching:
                watching = not watching
                await asyncio.to_thread(self.picture.start if watching else self.picture.stop)
            if watching:
                with suppress(LabError, OSError):
                    await asyncio.to_thread(self._following.look)
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(_CLEAN_SECONDS)
            if await self.terminals.close_idle():
                self.tell_terminals()

    def tell_terminals(self) -> None:
        """Publish which terminals there are."""
        terminals = [{"number": t.number, "node": t.node} for t in self.terminals.all()]
        self.feed.publish({"kind": "terminals", "open": terminals})

    # -- requests --------------------------------------------------------------------------------
    async def index(self, request: Request) -> Response:
        """The page itself."""
        text = files("labctl.page").joinpath("page.html.j2").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        html = environment.from_string(text).render(
            words=page_words(),
            language=current_language(),
            lab=self.lab().topology.lab,
            nonce=request.state.nonce,
        )
        return HTMLResponse(html)

    async def do(self, request: Request) -> Response:
        """Begin a verb of the lesson: {"verb": …, "argument": …}."""
        data = await _body(request)
        verb, argument = data.get("verb"), data.get("argument", "")
        texts = isinstance(verb, str) and isinstance(argument, str)
        if not texts or verb not in VERBS or len(argument) > 200:
            return _refused(tr("there is no such verb"), code=400)
        try:
            self.work.begin(verb, argument)
        except LabError as error:
            return _refused(error.message, error.hint, code=409)
        return JSONResponse({"ok": True})

    async def open_terminal(self, request: Request) -> Response:
        """A new terminal: {"node": …, "columns": …, "rows": …} gives its number."""
        data = await _body(request)
        node, columns, rows = data.get("node"), data.get("columns"), data.get("rows")
        if not (isinstance(node, str) and isinstance(columns, int) and isinstance(rows, int)):
            return _refused(tr("a terminal needs a node, columns and rows"), code=400)
        columns, rows = sane_size(columns, rows)
        try:
            terminal = await self.terminals.begin(node, columns, rows)
        except LabError as error:
            return _refused(error.message, error.hint, code=409)
        self.tell_terminals()
        return JSONResponse({"number": terminal.number})

    async def close_terminal(self, request: Request) -> Response:
        """End a terminal."""
        await self.terminals.close(request.path_params["number"])
        self.tell_terminals()
        return JSONResponse({"ok": True})

    # -- WebSockets ------------------------------------------------------------------------------
    async def events(self, socket: WebSocket) -> None:
        """Everything that changes, as JSON messages."""
        await socket.accept()
        self.tell_terminals()
        try:
            reader = self.feed.subscribe()
        except LabError as error:
            await socket.close(_TOO_MANY, error.message[:100])
            return
        gone = asyncio.create_task(_until_gone(socket))
        try:
            while not gone.done() and not reader.dropped:
                await _either(reader.wake, gone)
                reader.wake.clear()
                while reader.waiting and not gone.done():
                    await socket.send_text(reader.waiting.popleft())
            if reader.dropped and not gone.done():
                await socket.close(_DROPPED)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass
        finally:
            self.feed.close(reader)
            gone.cancel()

    async def terminal(self, socket: WebSocket) -> None:
        """One page's view of a terminal."""
        await socket.accept()
        terminal = self.terminals.get(socket.path_params["number"])
        if terminal is None:
            await socket.close(_GONE)
            return
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        try:
            viewer = terminal.attach(lambda: _wake(loop, wake))
        except LabError as error:
            await socket.close(_TOO_MANY, error.message[:100])
            return
        typing = asyncio.create_task(_listen(socket, terminal, viewer))
        try:
            while not typing.done():
                await _either(wake, typing)
                wake.clear()
                while not typing.done() and (data := terminal.take(viewer)):
                    await socket.send_bytes(data)
                if viewer.dropped:
                    await socket.close(_DROPPED)
                    break
                if terminal.ended:
                    await socket.send_text(json.dumps({"ended": True}))
                    await socket.close(_GONE)
                    break
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass
        finally:
            terminal.detach(viewer)
            typing.cancel()


async def _listen(socket: WebSocket, terminal: Terminal, viewer: Viewer) -> None:
    """What is typed, and what the browser says about the terminal, until it is gone."""
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        if (data := message.get("bytes")) is not None:
            await asyncio.to_thread(terminal.write, data)
            continue
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            told = json.loads(message["text"])
            if "ack" in told:
                terminal.acknowledge(viewer, int(told["ack"]))
            if "size" in told:
                columns, rows = sane_size(*map(int, told["size"]))
                await asyncio.to_thread(terminal.resize, columns, rows)


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] == "websocket.receive":
        pass


async def _either(wake: asyncio.Event, task: "asyncio.Task[None]") -> None:
    """Wait for one of the two."""
    waiting = asyncio.create_task(wake.wait())
    try:
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed: the server ends
        loop.call_soon_threadsafe(event.set)


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request; an empty one if it is something else, or too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return {}
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _refused(message: str, hint: str | None = None, *, code: int) -> JSONResponse:
    texts = {"text": sanitize(message), "hint": sanitize(hint or "")}
    return JSONResponse(texts, status_code=code)


def application(page: Page) -> Starlette:
    """The page as an ASGI application, which nothing guards yet."""
    static = Path(str(files("labctl.page").joinpath("static")))
    return Starlette(
        routes=[
            Route("/", page.index),
            Route("/do", page.do, methods=["POST"]),
            Route("/terminals", page.open_terminal, methods=["POST"]),
            Route("/terminals/{number:int}", page.close_terminal, methods=["DELETE"]),
            WebSocketRoute("/events", page.events),
            WebSocketRoute("/terminals/{number:int}", page.terminal),
            Mount("/static", StaticFiles(directory=static)),
        ],
        lifespan=page.living,
    )
