"""The WebSocket of a page on which everything that changes comes as JSON messages."""

import asyncio

from starlette.websockets import WebSocket, WebSocketDisconnect

from labctl.errors import LabError
from labctl.page.feed import Feed, Reader

TOO_MANY, DROPPED = 4429, 4408
"""Codes with which a WebSocket is closed; the page connects again after them."""


async def send_feed(socket: WebSocket, feed: Feed) -> None:
    """Send what the feed has to an accepted WebSocket, until one of the two is gone."""
    try:
        reader = feed.subscribe()
    except LabError as error:
        await socket.close(TOO_MANY, error.message[:100])
        return
    gone = asyncio.create_task(_answer_pings(socket, reader))
    try:
        while not gone.done() and not reader.dropped:
            await either(reader.wake, gone)
            reader.wake.clear()
            while reader.waiting and not gone.done():
                await socket.send_text(reader.waiting.popleft())
        if reader.dropped and not gone.done():
            await socket.close(DROPPED)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass
    finally:
        feed.close(reader)
        gone.cancel()


async def _answer_pings(socket: WebSocket, reader: Reader) -> None:
    """Whatever a page says on the stream asks whether it is alive; until the page is gone."""
    while (await socket.receive())["type"] == "websocket.receive":
        reader.answer()


async def either(wake: asyncio.Event, task: "asyncio.Task[None]") -> None:
    """Wait for one of the two."""
    waiting = asyncio.create_task(wake.wait())
    try:
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
