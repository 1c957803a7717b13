"""`labctl status` names a page that is served, and no other."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.actions.served import IDENTIFIER, addresses, noted
from labctl.state import LabState


@contextmanager
def answering(identifier: str) -> Iterator[str]:
    """A server that answers as the page's does: refusing, with its identifier."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.send_header(IDENTIFIER, identifier)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def state_in(directory: Path) -> LabState:
    state = LabState(directory)
    state.make_root()
    return state


def test_pages_that_are_served_are_named_until_they_end(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    assert addresses(state) == []
    with answering("one") as first, answering("two") as second:
        with noted(state, first, "one"), noted(state, second, "two"):
            assert sorted(addresses(state)) == sorted([first, second])
        assert addresses(state) == []
        assert list(state.pages.iterdir()) == []


def test_what_a_killed_one_left_is_not_named(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    with answering("now") as address:
        state.write_json(state.page(1), {"address": address, "identifier": "killed"})
        state.write_json(state.page(2), {"address": "http://127.0.0.1:1/", "identifier": "gone"})
        state.write_json(state.page(3), {"address": "nonsense", "identifier": "now"})
        state.write_json(state.page(4), {})
        assert addresses(state) == []
        with noted(state, address, "now"):
            assert addresses(state) == [address]
