"""The teacher's page: the state of a class, followed as `class status --watch` does.

It shows and does nothing else: no request changes anything.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from labctl.classroom.status import ClassStatus
from labctl.classroom.table import heads, notes, row
from labctl.errors import LabError
from labctl.i18n import current_language, tr
from labctl.page.events import send_feed
from labctl.page.feed import Feed
from labctl.page.serve import guarded, offered

VERB = "labctl class open"
_LOOK = 0.3
"""Seconds between two looks whether a page is open."""
Collect = Callable[[], ClassStatus]
"""The state of the class now. Raises LabError."""


class ClassPage:
    """What the page shows of one class."""

    def __init__(self, name: str, collect: Collect, every: float) -> None:
        """`every`: seconds between two looks at the class; none while no page is open."""
        self._name = name
        self._collect = collect
        self._every = every
        self._feed = Feed()

    @asynccontextmanager
    async def living(self, _: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        loop = asyncio.get_running_loop()
        self._feed.run_in(loop)
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            self._feed.run_in(None)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            if self._feed.pages and loop.time() >= due:
                self._feed.publish(await asyncio.to_thread(self._look))
                due = loop.time() + self._every
            await asyncio.sleep(_LOOK)

    def _look(self) -> Mapping[str, Any]:
        """The message of now: the report, and the same for people."""
        at = datetime.now().strftime("%H:%M:%S")
        try:
            report = self._collect()
        except LabError as error:
            text = tr("{time}: the class could not be asked: {why}", time=at, why=error.message)
            return {"kind": "class", "error": text}
        return {
            "kind": "class",
            "report": report,
            "rows": [row(learner) for learner in report["learners"]],
            "notes": notes(report),
            "asked": tr("as of {time}", time=at),
        }

    async def index(self, request: Request) -> Response:
        """The page itself."""
        text = files("labctl.classroom").joinpath("page.html.j2").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        html = environment.from_string(text).render(
            name=self._name,
            language=current_language(),
            heads=list(heads().items()),  # as an object its keys would be sorted by name
            words={
                "class": tr("class {name}", name=self._name),
                "asking": tr("asking the class …"),
                "lost": tr("The server does not answer. Is `{command}` still running?",
                           command=VERB),
                "ok": tr("all well"),
                "stuck": tr("stuck"),
                "bad": tr("does not answer"),
                "state": tr("state"),
            },
        )  # fmt: skip
        return HTMLResponse(html)

    async def events(self, socket: WebSocket) -> None:
        """What `_look` says, whenever it is something else."""
        await socket.accept()
        await send_feed(socket, self._feed)

    def application(self) -> Starlette:
        """The page as an ASGI application, which nothing guards yet."""
        own = Path(str(files("labctl.classroom").joinpath("static")))
        shared = Path(str(files("labctl.page").joinpath("static")))
        return Starlette(
            routes=[
                Route("/", self.index),
                WebSocketRoute("/events", self.events),
                Mount("/class", StaticFiles(directory=own)),
                Mount("/static", StaticFiles(directory=shared)),
            ],
            lifespan=self.living,
        )


def serve(
    page: ClassPage, *, port: int = 0, ready: Callable[[str], None], browser: bool = False
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; `ready` is called with its address.

    `browser`: open it in the user's browser. Raises LabError.
    """
    with offered(port, ready=ready, browser=browser) as offer:
        server, _ = guarded(page.application(), offer.port, tokens=offer.tokens, verb=VERB)
        server.run(sockets=[offer.listener])
