"""openstacksdk through a guest: every connection is the guest's, and nothing goes round it."""

import json
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from labctl.access.cloud import connect, login
from tests.unit.fakes import FakeGuest, topology
from tests.unit.golden import GOLDEN

if TYPE_CHECKING:
    from openstack.connection import Connection

# openstacksdk 4.22 calls what it has deprecated itself.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
API = GOLDEN / "openstack" / "day-done.api.json"


def fresh(answer: Any) -> Any:
    """An answer of today: the token in it is as good as when it was recorded."""
    if "token" not in answer["body"]:
        return answer
    now = datetime.now(UTC)
    times = {"issued_at": now, "expires_at": now + timedelta(days=1)}
    said = {name: f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for name, at in times.items()}
    return answer | {"body": {"token": answer["body"]["token"] | said}}


class WiredGuest(FakeGuest):
    """A controller whose API ports are answered out of a recording. No port is opened."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.dialled: list[tuple[str, int]] = []
        self.asked: list[tuple[str, Any]] = []

    def dial(self, host: str, port: int) -> socket.socket:
        self.dialled.append((host, port))
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs, f"{host}:{port}"), daemon=True).start()
        return ours

    def _serve(self, sock: socket.socket, origin: str) -> None:
        guest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = f"{self.command} http://{origin}{self.path}"
                guest.asked.append((request, json.loads(body) if body else None))
                found = fresh(guest.answers.get(request, {"status": 404, "body": {}}))
                said = json.dumps(found["body"]).encode()
                self.send_response(HTTPStatus(found["status"]))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                if self.path.endswith("/auth/tokens"):
                    self.send_header("X-Subject-Token", "token-of-the-test")
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with sock:
            Handler(sock, ("guest", 0), None)  # type: ignore[arg-type]  # it needs no server


def connection(
    answers: Mapping[str, Any], password: str = "secret"
) -> "tuple[Connection, WiredGuest]":
    """A connection to a cloud that answers as it was recorded, and the guest it goes through."""
    guest = WiredGuest(answers)
    return connect(guest, login(topology(), password)), guest


@pytest.fixture
def recorded() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(API.read_text(encoding="utf-8"))
    return data


def test_nothing_is_sent_before_use(recorded: dict[str, Any]) -> None:
    _, guest = connection(recorded)
    assert guest.dialled == []


def test_every_connection_is_dialled_by_the_guest(
    recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made round the guest")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    # A proxy of the host knows no way into the lab.
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    cloud, guest = connection(recorded)
    assert sorted(net.name for net in cloud.network.networks()) == ["ext_n2", "n1"]
    assert [server.name for server in cloud.compute.servers()] == ["vm_1"]
    assert set(guest.dialled) == {
        ("192.168.33.10", 5000),
        ("192.168.33.10", 9696),
        ("192.168.33.10", 8774),
    }


def test_threads_share_one_login(recorded: dict[str, Any]) -> None:
    guest, auth = WiredGuest(recorded), login(topology(), "secret")
    threads = [
        threading.Thread(target=lambda: list(connect(guest, auth).network.networks()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [request.rpartition("/")[2] for request, _ in guest.asked]
    assert (asked.count("tokens"), asked.count("networks")) == (1, 4)


def test_it_logs_in_as_the_admin_of_the_lab(recorded: dict[str, Any]) -> None:
    cloud, guest = connection(recorded, "of-this-lab")
    list(cloud.network.networks())
    request, body = guest.asked[0]
    assert request == "POST http://192.168.33.10:5000/v3/auth/tokens"
    user = body["auth"]["identity"]["password"]["user"]
    assert (user["name"], user["password"]) == ("admin", "of-this-lab")
    assert body["auth"]["scope"]["project"]["name"] == "admin"


def test_a_guest_that_cannot_connect_is_a_connection_error() -> None:
    from keystoneauth1.exceptions import ConnectFailure

    from labctl.access.cloud import API_ERRORS

    cloud = connect(FakeGuest(), login(topology(), "secret"))
    with pytest.raises(ConnectFailure, match=r"nothing listens on 192.168.33.10:5000"):
        list(cloud.network.networks())
    assert issubclass(ConnectFailure, API_ERRORS)


def test_the_controller_of_another_lab_is_asked_at_its_address(recorded: dict[str, Any]) -> None:
    text = "name: x\nprivate: {subnet: 10.77.0.0/24}\n"
    guest = WiredGuest({})
    cloud = connect(guest, login(topology(text), "secret"))
    from keystoneauth1.exceptions import NotFound

    with pytest.raises(NotFound):
        list(cloud.network.networks())
    assert set(guest.dialled) == {("10.77.0.10", 5000)}
