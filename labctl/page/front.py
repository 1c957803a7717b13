"""The page as a browser paints it first, before the rest of labctl is loaded.

Importing all that the page can do takes as long as everything else until it is painted, and a
browser that asks meanwhile waits for it. So it gets the page and its files at once. The rest is
imported when the page, painted by then, asks for anything else: first for its stream of events.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from labctl.errors import LabError
from labctl.i18n import current_language
from labctl.lab import Lab
from labctl.page.tool_words import tool_words
from labctl.page.words import page_words

if TYPE_CHECKING:
    from labctl.page.app import Page

_STATIC = Path(str(files("labctl.page").joinpath("static")))
_STYLES = ("xterm/xterm.css", "colors.css", "page.css", "tools.css")
"""They come inside the page: a browser asks for each and paints nothing before it has all."""
_WAY = Path(str(files("labctl.report").joinpath("way.js")))


def lab_of(file: Path) -> Lab:
    """The lab of that lab.yaml as it is now. Raises LabError, also for the copy of a lab."""
    lab = Lab(file)
    if lab.state.exists:
        lab.state.identity()
    return lab


class Front:
    """The page's HTML and files; it loads the page, once, when there is any other request."""

    def __init__(self, file: Path, load: Callable[[], "Page"]) -> None:
        """`file` is the lab.yaml; `load` imports and makes the page, in a thread of its own."""
        self._file = file
        self._load = load
        self._loading: asyncio.Task[ASGIApp] | None = None
        self._living = AsyncExitStack()

    def application(self) -> Starlette:
        """The whole page as an ASGI application, which nothing guards yet."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/static/way.js", self.way),
                Mount("/static", StaticFiles(directory=_STATIC)),
                Mount("/", self._rest),
            ],
            lifespan=self.living,
        )

    @asynccontextmanager
    async def living(self, _: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        async with self._living:
            yield
            if self._loading is not None:
                await asyncio.wait([self._loading])

    async def index(self, request: Request) -> Response:
        """The page itself."""
        try:
            name = (await asyncio.to_thread(lab_of, self._file)).topology.lab
        except LabError as error:
            lines = [error.message, *([error.hint] if error.hint else [])]
            return PlainTextResponse("\n".join([*lines, ""]), status_code=409)
        text = files("labctl.page").joinpath("page.html.j2").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        html = environment.from_string(text).render(
            words={**page_words(), **tool_words()},
            language=current_language(),
            lab=name,
            styles=Markup("".join((_STATIC / css).read_text("utf-8") for css in _STYLES)),
            nonce=request.state.nonce,
        )
        return HTMLResponse(html)

    async def way(self, _: Request) -> Response:
        """The script that finds a path over the drawing, which a report has too."""
        return FileResponse(_WAY, media_type="text/javascript")

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._loading is None:
            self._loading = asyncio.create_task(self._loaded())
        app = await asyncio.shield(self._loading)
        await app(scope, receive, send)

    async def _loaded(self) -> ASGIApp:
        page = await asyncio.to_thread(self._load)
        await self._living.enter_async_context(page.living())
        return page.application()
