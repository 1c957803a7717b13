"""The addresses that the page asks: what each request gets, and the two kinds of WebSocket.

/events is one stream of JSON messages to the page; /terminals/N carries a terminal: binary frames
are what is typed and printed, text frames JSON about them.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from labctl.access.instance import ConsoleInUseError
from labctl.access.shell import Shell, open_shell
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.operating_system.memory import give_back_memory
from labctl.page.answers import body as _body
from labctl.page.answers import refused as _refused
from labctl.page.events import DROPPED, TOO_MANY, either, send_feed
from labctl.page.feed import Feed
from labctl.page.following import Following, version
from labctl.page.front import lab_of
from labctl.page.instance_shells import ConsoleShell, open_instance
from labctl.page.picture import Picture
from labctl.page.snapshots import SNAPSHOT_VERBS
from labctl.page.terminals import OpenShell, Terminal, Terminals, Viewer, sane_size
from labctl.page.tools import Tools
from labctl.page.work import Message, Work
from labctl.state import LabState

FOLLOW_SECONDS = 0.3
"""Between two looks at what another labctl did."""
_STAY_SECONDS = 10.0
"""After the last page is gone: it may be loaded again, or connect again."""
_CLEAN_SECONDS = 60.0
"""Between two looks for terminals that nobody uses."""
_GONE = 4404
"""A code with which a WebSocket is closed; the page does not connect again."""


class Page:
    """What the page shows of one lab, and what it lets the learner do."""

    def __init__(self, file: Path, command: str, open_shell: OpenShell | None = None) -> None:
        """`file` is the lab.yaml; `command` is how the user called labctl, for hints.

        `open_shell` logs in to a node or an instance: (name, columns, rows); by default as
        `labctl ssh` does.
        """
        self.file = file
        self._lab: tuple[tuple[int, ...], Lab] | None = None
        self.feed = Feed()
        self.work = Work(file, self._publish, command, SNAPSHOT_VERBS)
        self.picture = Picture(self.lab, self.feed.publish)
        self.terminals = Terminals(open_shell or self._open_shell)
        self.tools = Tools(self.lab, command, self.feed.publish)
        self._following = Following(self.lab, self.work, self._publish)

    def _publish(self, message: Message) -> None:
        self.feed.publish(message)
        if message["kind"] == "done" or message.get("event") == "run_finished":
            self.picture.look_again()

    def lab(self) -> Lab:
        """The lab of now: another object once it was destroyed and made anew."""
        # Asked three times a second: no more is read than whether the lab's identity was replaced.
        seen = version(LabState(self.file.absolute().parent).identity_file)
        if self._lab is None or self._lab[0] != seen:
            self._lab = (seen, lab_of(self.file))
        return self._lab[1]

    def _open_shell(self, name: str, columns: int, rows: int) -> Shell:
        lab = self.lab()
        lab.require_created()
        if name in (machine.name for machine in lab.topology.machines):
            return open_shell(lab.guest(name), columns, rows)
        shown = self._console_of(name)
        return open_instance(lab, name, (columns, rows), console=shown is None)

    def _console_of(self, instance: str) -> Terminal | None:
        """The terminal that shows the console of an instance."""
        return next(
            (
                terminal
                for terminal in self.terminals.all()
                if terminal.node == instance
                and isinstance(terminal.shell, ConsoleShell)
                and not terminal.ended
            ),
            None,
        )

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
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
            await self.tools.close()
            await self.terminals.close_all()

    async def _follow(self) -> None:
        """Only while a page is open, and so nothing is asked of an idle lab."""
        watching = False
        open_until = 0.0
        while True:
            now = time.monotonic()
            if self.feed.pages:
                open_until = now + _STAY_SECONDS
            if (now < open_until) is not watching:
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
            await asyncio.to_thread(give_back_memory)

    def tell_terminals(self) -> None:
        """Publish which terminals there are."""
        terminals = [
            {"number": t.number, "node": t.node, "console": isinstance(t.shell, ConsoleShell)}
            for t in self.terminals.all()
        ]
        self.feed.publish({"kind": "terminals", "open": terminals})

    def application(self) -> Starlette:
        """All but the HTML and its files, which front.py has, as an ASGI application."""
        return Starlette(
            routes=[
                Route("/do", self.do, methods=["POST"]),
                Route("/terminals", self.open_terminal, methods=["POST"]),
                Route("/terminals/{number:int}", self.close_terminal, methods=["DELETE"]),
                WebSocketRoute("/events", self.events),
                WebSocketRoute("/terminals/{number:int}", self.terminal),
                *self.tools.routes(),
            ]
        )

    # -- requests --------------------------------------------------------------------------------
    async def do(self, request: Request) -> Response:
        """Begin a verb of the lesson: {"verb": …, "argument": …}."""
        data = await _body(request)
        verb, argument = data.get("verb"), data.get("argument", "")
        texts = isinstance(verb, str) and isinstance(argument, str)
        if not texts or verb not in self.work.verbs or len(argument) > 200:
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
            shown = self._console_of(node) if isinstance(error, ConsoleInUseError) else None
            if shown is not None:  # there is no other way in now
                return JSONResponse({"number": shown.number})
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
        await send_feed(socket, self.feed)

    async def terminal(self, socket: WebSocket) -> None:
        """One page's view of a terminal."""
        await socket.accept()
        terminal = self.terminals.get(socket.path_params["number"])
        if terminal is None:
            await socket.close(_GONE)
            return
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        text = socket.query_params.get("seen", "")
        seen = int(text) if text.isdecimal() and len(text) < 19 else None
        try:
            viewer = terminal.attach(lambda: _wake(loop, wake), seen)
        except LabError as error:
            await socket.close(TOO_MANY, error.message[:100])
            return
        typing = asyncio.create_task(_listen(socket, terminal, viewer))
        try:
            while not typing.done():
                await either(wake, typing)
                wake.clear()
                while not typing.done() and (data := terminal.take(viewer)):
                    if isinstance(data, str):
                        await socket.send_text(data)
                    else:
                        await socket.send_bytes(data)
                if viewer.dropped:
                    await socket.close(DROPPED)
                    break
                if terminal.ended:
                    await socket.send_text(json.dumps({"ended": True}))
                    await socket.close(_GONE)
                    break
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass
        finally:
            typing.cancel()
            await asyncio.to_thread(terminal.detach, viewer)


async def _listen(socket: WebSocket, terminal: Terminal, viewer: Viewer) -> None:
    """What is typed, and what the browser says about the terminal, until it is gone."""
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        if (data := message.get("bytes")) is not None:
            await asyncio.to_thread(terminal.write, viewer, data)
            continue
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            told = json.loads(message["text"])
            if "ack" in told:
                terminal.acknowledge(viewer, int(told["ack"]))
            if "size" in told:
                size = sane_size(*map(int, told["size"])) if told["size"] else None
                await asyncio.to_thread(terminal.resize, viewer, size)
            if "ping" in told:  # is the connection alive? A browser does not notice that it is not
                viewer.tell(pong=True)
                viewer.wake()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed: the server ends
        loop.call_soon_threadsafe(event.set)
