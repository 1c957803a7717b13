"""Incus' REST API: requests, their answers, and the operations that they begin.

There is no library for Incus in Python that is kept up: pylxd is LXD's. The API is small, and
`requests` comes with openstacksdk.
"""

import hashlib
import os
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from labctl.classroom.incus.remotes import Remote
from labctl.engine.wait import NotYet, wait_until
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

BUSY = frozenset({429, 502, 503, 504})
"""Status codes after which the same call may succeed. 500 is Incus' word for any failure."""
_WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try."""
_SECONDS = 60
"""For one answer. With a member that is lost, a server may take 20 s to give that one up."""
_LONG_POLL = 20
"""Seconds that the server holds one question whether an operation is over."""
_UPLOAD = 3600
"""Seconds without progress after which an upload is given up."""
_CONNECTIONS = 66
"""At most: those of `parallel` and a few more."""
_FAILURE = 400
"""Incus' status codes of operations from here on: it failed, or was cancelled."""
_OVER = 200
"""… and from here on: it is over."""


class IncusError(LabError):
    """Incus answered with an error; `status` is its HTTP code, `text` its words."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(tr("Incus answered {code}: {text}", code=status, text=text))


class IncusAPI:
    """One server or cluster, as one project of it. Threads may share it."""

    def __init__(
        self, remote: Remote, project: str, patience: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """`patience` is the seconds that one operation may take. Nothing is sent yet."""
        self.project = project
        self._remote = remote
        self._patience = patience
        self._sleep = sleep
        self._session, self._base = _session(remote)
        self._calls = 0
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """Requests that were sent."""
        return self._calls

    def get(self, *path: str, **parameters: str | int) -> Any:
        """What is at a path: `get("instances", name)`. Raises IncusError, LabError."""
        return self._sent("GET", path, parameters).json().get("metadata")

    def find(self, *path: str, **parameters: str | int) -> Any:
        """The same; None if there is nothing."""
        try:
            return self.get(*path, **parameters)
        except IncusError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def text(self, *path: str) -> str:
        """What is at a path that holds no JSON, as UTF-8."""
        return self._sent("GET", path, {}).content.decode("utf-8", "replace")

    def change(self, method: str, *path: str, body: Any = None, **parameters: str | int) -> Any:
        """POST, PUT, PATCH or DELETE; waits until the operation that it begins is over.

        Raises IncusError if it fails, LabError if it takes too long.
        """
        return self.finish(self.begin(method, *path, body=body, **parameters))

    def begin(self, method: str, *path: str, body: Any = None, **parameters: str | int) -> Any:
        """The same without waiting; what it returns is for `finish`."""
        return self._sent(method, path, parameters, json=body).json()

    def finish(self, begun: Mapping[str, Any]) -> Any:
        """Wait until what `begin` began is over. Raises IncusError, LabError."""
        metadata = begun.get("metadata")
        if begun.get("type") != "async" or metadata is None:
            return metadata
        return self._finished(str(metadata["id"]), str(metadata.get("description", "")))

    def upload(self, content: IO[bytes], headers: Mapping[str, str]) -> Any:
        """POST a file to the images, and wait until the server has read it."""
        begun = self._sent("POST", ("images",), {}, data=content, headers=headers, timeout=_UPLOAD)
        return self.finish(begun.json())

    # -- parts -------------------------------------------------------------------------------------
    def _finished(self, id: str, description: str) -> Any:
        """What an operation came to."""

        def look() -> Any:
            operation = self.get("operations", id, "wait", timeout=_LONG_POLL)
            code = int(operation["status_code"])
            if code >= _FAILURE:
                raise IncusError(code, str(operation.get("err") or operation.get("status")))
            if code < _OVER:
                raise NotYet(str(operation.get("status")))
            return operation

        return wait_until(
            tr("Incus: {operation}", operation=description), look, deadline=self._patience,
            hint=tr("look with {command}", command="incus operation list"), sleep=self._sleep,
        )  # fmt: skip

    def _sent(
        self, method: str, path: tuple[str, ...], parameters: Mapping[str, str | int], **more: Any
    ) -> requests.Response:
        url = "/".join([self._base, "1.0", *(quote(part, safe="") for part in path)])
        options = {"timeout": _SECONDS, **more}
        for wait in (*_WAITS, None):
            with self._lock:
                self._calls += 1
            try:
                answer = self._session.request(
                    method, url, params={"project": self.project, **parameters}, **options
                )
            except requests.RequestException as error:
                # A change that was under way may have been made: only what asks is asked again.
                if wait is None or not (method == "GET" or _not_connected(error)):
                    raise self._unreachable(error) from error
            else:
                if answer.ok:
                    return answer
                if wait is None or answer.status_code not in BUSY:
                    raise _error_in(answer)
            self._sleep(wait * random.uniform(0.75, 1.25))
        raise AssertionError("the last try returns or raises")

    def _unreachable(self, error: requests.RequestException) -> LabError:
        return LabError(
            tr("the Incus server {name} cannot be reached: {error}", name=repr(self._remote.name),
               error=_reason(error)),
            hint=tr("try it with the command {command}; docs/class.md tells where the server is"
                    " looked for", command=f"incus info {self._remote.name}:"),
            code=EXIT_USAGE,
        )  # fmt: skip


def _error_in(answer: requests.Response) -> IncusError:
    try:
        content = answer.json()
        text = str(content["error"]) if isinstance(content, dict) else answer.reason
    except (ValueError, KeyError):
        text = answer.reason
    return IncusError(answer.status_code, text.strip())


def _not_connected(error: requests.RequestException) -> bool:
    """Whether the request never left."""
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )


def _reason(error: Exception) -> str:
    """The innermost cause, as one line without the names of classes."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return (os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno
            else " ".join(str(cause).split()))  # fmt: skip


def _session(remote: Remote) -> tuple[requests.Session, str]:
    """Connections to a server, and what its URLs begin with. Raises LabError."""
    session = requests.Session()
    session.trust_env = False  # no proxy, no .netrc: who is trusted says the client's configuration
    if not remote.url:
        session.mount("http://", _SocketAdapter(_socket_of(remote)))
        return session, "http://incus"
    if remote.client is not None:
        certificate, key = remote.client
        session.cert = (str(certificate), str(key))
    adapter: HTTPAdapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
    if remote.pinned is not None:
        # Its own certificate, which no authority signed, and whose names nobody looks at.
        session.verify = False
        adapter = _PinnedAdapter(_fingerprint(remote.pinned))
    session.mount("https://", adapter)
    return session, remote.url


def _socket_of(remote: Remote) -> Path:
    for path in remote.sockets:
        if path.exists() and os.access(path, os.R_OK | os.W_OK):
            return path
    there = next((path for path in remote.sockets if path.exists()), None)
    raise LabError(
        tr("you may not use {path}", path=there) if there
        else tr("no Incus server is on this machine"),
        hint=tr("become a member of its group: {command}", command="sudo adduser YOU incus-admin")
        if there
        else tr("name a server of {command} in class.yaml: {key}", command="incus remote list",
                key="incus.remote"),
        code=EXIT_USAGE,
    )  # fmt: skip


def _fingerprint(certificate: Path) -> str:
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=certificate, error=error), code=EXIT_USAGE
        ) from error
    return hashlib.sha256(der).hexdigest()


class _PinnedAdapter(HTTPAdapter):
    """requests' transport to the one server that has this certificate."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__(pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, assert_fingerprint=self._fingerprint, **options)


class _SocketAdapter(HTTPAdapter):
    """requests' transport over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        path = self._path

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                assert sys.platform != "win32", "there is no local server of Incus"
                connection = socket.socket(socket.AddressFamily["AF_UNIX"])
                try:
                    if isinstance(self.timeout, int | float):
                        connection.settimeout(self.timeout)
                    connection.connect(str(path))
                except OSError as error:
                    connection.close()
                    raise NewConnectionError(self, str(error)) from error
                return connection

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        assert isinstance(self.poolmanager, urllib3.PoolManager)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool}
