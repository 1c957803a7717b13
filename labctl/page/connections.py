"""uvicorn's protocols with limits: on connections, and on how long one may say nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

MOST = 100
"""Connections at a time. A browser opens six to a site, and one for each WebSocket."""
SECONDS_TO_ASK = 10.0
"""Seconds from the beginning of a connection to the end of its first request's headers."""


class LimitedConnection(H11Protocol):
    """A connection that is closed if there are too many, or if it asks nothing."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        self._deadline = self.loop.call_later(SECONDS_TO_ASK, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        cycle: Any = self.cycle  # None until a request is complete; a WebSocket has left this class
        if cycle is None and self in self.connections:
            self.transport.abort()


class WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that may be closing already when the server ends.

    uvicorn 0.54 tells every browser that it ends, one that has said goodbye and still holds its
    connection too: that raises InvalidState, and Ctrl-C would end with a traceback.
    """

    def shutdown(self) -> None:
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.stop_keepalive()
            self.transport.abort()
            return
        super().shutdown()
