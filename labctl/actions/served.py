"""Which `labctl open` serve this lab's page now, for `labctl status`.

Each notes its address below `.labctl/`. A note that a killed one left is told from others
by asking: the page's server answers everybody with a random identifier, which is in the note too.
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from labctl.errors import LabError
from labctl.state import LabState

IDENTIFIER = "Labctl-Page"
"""Header of each answer of the page's server; its value says which `labctl open` it is."""
SECONDS_TO_ANSWER = 2.0


@contextmanager
def noted(state: LabState, address: str, identifier: str) -> Iterator[None]:
    """The page is served at the address (without its token) while the body runs."""
    path = state.page(urlsplit(address).port or 0)
    state.write_json(path, {"address": address, "identifier": identifier})
    try:
        yield
    finally:
        with suppress(OSError, LabError):
            note = state.read_json(path)
            if note is not None and note.get("identifier") == identifier:
                path.unlink(missing_ok=True)


def addresses(state: LabState) -> list[str]:
    """Where this lab's page is served now; addresses without a token."""
    notes = sorted(state.pages.glob("*.json")) if state.pages.is_dir() else []
    return [address for note in notes if (address := _address(note))]


def _address(note: Path) -> str:
    """The address in a note, if that page is served; else ""."""
    with suppress(OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        content = json.loads(note.read_text(encoding="utf-8"))
        address, identifier = str(content["address"]), str(content["identifier"])
        if _identifier_at(address) == identifier:
            return address
    return ""


def _identifier_at(address: str) -> str | None:
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # Nothing secret is sent, and the identifier says whether it is the one we look for.
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, port, timeout=SECONDS_TO_ANSWER, context=anybody
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS_TO_ANSWER)
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().headers.get(IDENTIFIER)
    finally:
        connection.close()
