"""The page's tools beside the drawing: listen, walk, and what is known of an object."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from labctl.actions.capture import interfaces_of
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.page.answers import body, failed, refused
from labctl.page.captures import Captures
from labctl.page.objects import KINDS, ask
from labctl.page.walks import Walks
from labctl.page.work import Publish
from labctl.terminal.text import one_line

_TICK_SECONDS = 0.15
"""Between two looks for new packets."""
_MOST_NAME = 300


class Tools:
    """Their requests."""

    def __init__(self, lab: Callable[[], Lab], command: str, publish: Publish) -> None:
        """`command` is how the user called labctl."""
        self._lab = lab
        self._captures = Captures(lab, command)
        self._walks = Walks(lab, publish)

    def routes(self) -> Sequence[BaseRoute]:
        """Their addresses."""
        return (
            Route("/interfaces", self.interfaces),
            Route("/captures", self.listen, methods=["POST"]),
            Route("/captures", self.end_listening, methods=["DELETE"]),
            Route("/captures/packets/{number:int}", self.packet),
            Route("/captures/file", self.file),
            WebSocketRoute("/captures/packets", self.packets),
            Route("/ends", self.ends),
            Route("/walks", self.walk, methods=["POST"]),
            Route("/object", self.object_),
        )

    async def close(self) -> None:
        """End what still runs in the lab."""
        await asyncio.to_thread(self._captures.end)

    # -- listen ------------------------------------------------------------------------------------
    async def interfaces(self, _: Request) -> Response:
        """The interfaces of each node; none of a node that does not answer."""
        return await _answer(self._interfaces)

    def _interfaces(self) -> dict[str, list[str]]:
        lab = self._lab()
        lab.require_created()

        def names(node: str) -> list[str]:
            with suppress(LabError, OSError):
                return [one_line(name) for name in interfaces_of(lab, node)]
            return []

        nodes = [machine.name for machine in lab.topology.machines]
        with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
            return dict(zip(nodes, pool.map(names, nodes), strict=True))

    async def listen(self, request: Request) -> Response:
        """Begin a capture: {"places": ["NODE:INTERFACE", …], "filter": …}."""
        data = await body(request)
        places, filter_ = data.get("places"), data.get("filter", "")
        if not (_texts(places) and isinstance(filter_, str) and len(filter_) <= _MOST_NAME):
            return refused(tr("a capture needs interfaces"), code=400)
        return await _answer(lambda: self._captures.begin(places or [], filter_))

    async def end_listening(self, _: Request) -> Response:
        """End it; its packets stay."""
        return await _answer(self._captures.end)

    async def packet(self, request: Request) -> Response:
        """One packet with its layers and bytes."""
        number = request.path_params["number"]
        return await _answer(lambda: self._captures.detail(number))

    async def file(self, _: Request) -> Response:
        """The packets that are kept, as a file to be saved."""
        content = await asyncio.to_thread(self._captures.file)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
        return Response(
            content, media_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )  # fmt: skip

    async def packets(self, socket: WebSocket) -> None:
        """What the capture is, and its packets as they come; a slow page gets them later."""
        await socket.accept()
        gone = asyncio.create_task(_until_gone(socket))
        self._captures.watch(1)
        state: dict[str, Any] = {}
        number = 0
        try:
            while not gone.done():
                now = self._captures.state()
                if now["run"] != state.get("run"):
                    number = 0
                rows, left_out, number = self._captures.since(number)
                if rows or left_out or now != state:
                    await socket.send_json({"state": now, "rows": rows, "left_out": left_out})
                    state = now
                if len(rows) < 100:
                    await asyncio.wait({gone}, timeout=_TICK_SECONDS)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass
        finally:
            self._captures.watch(-1)
            gone.cancel()

    # -- walk --------------------------------------------------------------------------------------
    async def ends(self, _: Request) -> Response:
        """What a packet can be sent from and to."""
        return await _answer(self._walks.ends)

    async def walk(self, request: Request) -> Response:
        """Send a packet: {"protocol": …, "source": …, "target": …, "port": …}."""
        data = await body(request)
        protocol, source, target = (data.get(key) for key in ("protocol", "source", "target"))
        port = data.get("port")
        is_port = port is None or (type(port) is int and 0 < port < 65536)
        if not (_texts([protocol, source, target]) and is_port):
            return refused(tr("a walk needs a protocol, a source and a target"), code=400)
        return await _answer(
            lambda: self._walks.send(str(protocol), str(source), str(target), port)
        )

    # -- objects -----------------------------------------------------------------------------------
    async def object_(self, request: Request) -> Response:
        """One object: ?kind=…&name=…, of a NAT rule also &router=…"""
        query = request.query_params
        kind = next((kind for kind in KINDS if kind == query.get("kind")), None)
        name, router = query.get("name", ""), query.get("router", "")
        if kind is None or not _texts([name, router]) or not name:
            return refused(tr("there is no such object"), code=400)
        return await _answer(lambda: ask(self._lab(), kind, name, router))


def _texts(data: Any) -> bool:
    """Whether it is a list of short texts."""
    return isinstance(data, list) and all(
        isinstance(text, str) and len(text) <= _MOST_NAME for text in data
    )


async def _answer(work: Callable[[], Any]) -> Response:
    """The result of work that asks the lab, or why there is none."""
    try:
        result = await asyncio.to_thread(work)
    except (LabError, OSError) as error:
        return failed(error)
    return JSONResponse({"ok": True} if result is None else result)


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] == "websocket.receive":
        pass
