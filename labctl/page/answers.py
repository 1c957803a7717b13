"""What every request of the page has in common: its body, and how it is refused."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.terminal.text import sanitize

MOST_BODY = 4096
"""Bytes of a request's body: a verb with its argument, or the interfaces of a capture."""


async def body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request; an empty one if it is something else, or too large."""
    text = bytearray()
    async for part in request.stream():
        text += part
        if len(text) > MOST_BODY:
            return {}
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def refused(message: str, hint: str | None = None, *, code: int) -> JSONResponse:
    """The answer to what is not done, with the reason."""
    texts = {"text": sanitize(message), "hint": sanitize(hint or "")}
    return JSONResponse(texts, status_code=code)


def failed(error: LabError | OSError) -> JSONResponse:
    """The answer to what could not be done."""
    if isinstance(error, LabError):
        return refused(error.message, error.hint, code=409)
    return refused(tr("the lab does not answer: {error}", error=str(error)), code=409)
