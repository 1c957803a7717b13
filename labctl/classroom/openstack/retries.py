"""Calls that are tried again when the cloud says that it is busy, or broke while answering."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from keystoneauth1.exceptions import ConnectFailure, HttpError, RetriableConnectionFailure
from openstack.exceptions import HttpException, SDKException

from labctl.errors import LabError
from labctl.i18n import tr

Result = TypeVar("Result")

BUSY = frozenset({429, 500, 502, 503, 504})
"""Status codes after which the same call may succeed: too many requests, or the server's fault."""
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try."""
_LONGEST_WAIT = 60.0
"""Seconds: a longer Retry-After is not obeyed."""


def retried(
    call: Callable[[], Result],
    found: Callable[[], Result | None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """What `call` returns, tried up to six times in about half a minute.

    A server that answers 500 may have made what it was asked to make. For such calls `found` looks
    for it before the next try. Raises LabError with what the cloud answered at last.
    """
    for wait in (*_WAITS, None):
        try:
            return call()
        except (SDKException, HttpError, ConnectFailure, RetriableConnectionFailure) as error:
            if wait is None or not _may_pass(error):
                raise failure(error) from error
            pause = _retry_after(error)
        # Not all workers at the same moment again.
        sleep(min(pause or wait * random.uniform(0.75, 1.25), _LONGEST_WAIT))
        if found is not None and (made := retried(found, sleep=sleep)) is not None:
            return made
    raise AssertionError("the last try returns or raises")


def failure(error: Exception) -> LabError:
    """The cloud's answer as an error for people."""
    if isinstance(error, HttpException):
        text = str(error.details or error.message or error).strip()
        return LabError(tr("the cloud answered {code}: {text}", code=error.status_code, text=text))
    return LabError(tr("the cloud cannot be used: {error}", error=str(error).strip()))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HttpException):
        return error.status_code in BUSY
    if isinstance(error, HttpError):  # of Keystone, which is asked for a token
        return error.http_status in BUSY
    return isinstance(error, (ConnectFailure, RetriableConnectionFailure))


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isascii() and text.isdigit() else None
