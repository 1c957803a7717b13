"""The page on another address than 127.0.0.1: only with TLS and the token. Attacks from outside."""

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from websockets.exceptions import InvalidStatus
from websockets.protocol import State

from labctl.page import tls
from labctl.page.connections import WebSocket
from labctl.page.tls import tls_for
from labctl.state import LabState
from tests.integration.page_server import LAB, Served, anybody, page_of
from tests.unit.page.certificates import given

ADDRESS = "127.0.0.2"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(page_of(tmp_path), tls_for(ADDRESS, LabState(tmp_path)))
    yield running
    running.stop()


def test_nobody_gets_in_without_tls_and_token(served: Served) -> None:
    client = http.client.HTTPConnection(ADDRESS, served.port, timeout=30)
    with contextlib.closing(client):
        client.request("GET", f"/?token={served.guard.token}")
        with pytest.raises((http.client.HTTPException, OSError)):
            client.getresponse()
    for path in ("/", "/?token=", "/?token=wrong", "/static/page.js"):
        answer, body = served.request("GET", path, {"Cookie": "__Host-labctl=1"})
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
        assert "labctl open" in body


def test_the_cookie_goes_by_tls_alone_and_to_this_host_alone(served: Served) -> None:
    marks = {mark.strip().lower() for mark in served.set_cookie.split(";")[1:]}
    assert marks == {"httponly", "samesite=strict", "path=/", "secure"}
    assert served.cookie.startswith("__Host-")
    assert served.request("GET", "/", {"Cookie": served.cookie})[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1:{port}", "localhost:{port}", ADDRESS, ""]
)
def test_another_name_for_the_machine_is_refused(served: Served, host: str) -> None:
    headers = {"Host": host.format(port=served.port), "Cookie": served.cookie}
    for path in ("/", f"/?token={served.guard.token}"):
        assert served.request("GET", path, headers)[0].status == 403


def test_another_sites_page_can_do_nothing(served: Served) -> None:
    wish = json.dumps({"node": "here", "columns": 80, "rows": 24})
    plain = f"http://{ADDRESS}:{served.port}"  # the same host without TLS is another site
    for origin in (plain, "https://evil.example", "null", f"https://127.0.0.1:{served.port}"):
        headers = {"Cookie": served.cookie, "Origin": origin}
        assert served.request("POST", "/terminals", headers, wish)[0].status == 403
        with pytest.raises(InvalidStatus) as refusal:
            served.socket("/events", origin=origin)
        assert refusal.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        served.socket("/events", cookie="none=1")
    assert len(served.page.terminals.all()) == 0
    with served.socket("/events") as events:
        assert json.loads(events.recv(timeout=30))["kind"]


def test_the_certificate_is_the_one_whose_fingerprint_is_printed(served: Served) -> None:
    raw = socket.create_connection((ADDRESS, served.port), timeout=30)
    with anybody().wrap_socket(raw) as client:
        shown = client.getpeercert(binary_form=True)
        assert client.version() in ("TLSv1.2", "TLSv1.3")
    assert shown is not None
    assert served.tls is not None
    assert hashlib.sha256(shown).hexdigest() == served.tls.fingerprint.replace(":", "").lower()


def test_connections_that_never_shake_hands_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "SECONDS_TO_SHAKE_HANDS", 2)
    served = Served(page_of(tmp_path), tls_for(ADDRESS, LabState(tmp_path)))
    silent = [socket.create_connection((ADDRESS, served.port)) for _ in range(200)]
    try:
        assert served.request("GET", "/", {"Cookie": served.cookie})[0].status == 200
        for connection in silent:
            connection.settimeout(20)
            with suppress(ConnectionError):
                assert connection.recv(1) == b""  # closed by the server
    finally:
        for connection in silent:
            connection.close()
        served.stop()


def test_the_page_ends_while_a_browser_says_goodbye(tmp_path: Path) -> None:
    """It has closed its WebSocket, and still holds the connection: the server ends all the same."""
    served = Served(page_of(tmp_path), tls_for(ADDRESS, LabState(tmp_path)))
    raw = socket.create_connection((ADDRESS, served.port), timeout=30)
    with anybody().wrap_socket(raw) as client:
        wish = (
            "GET /events HTTP/1.1",
            f"Host: {ADDRESS}:{served.port}",
            f"Origin: {served.origin}",
            f"Cookie: {served.cookie}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==",
        )
        client.sendall("".join(f"{line}\r\n" for line in (*wish, "")).encode())
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(bytes([0x88, 0x80, 0, 0, 0, 0]))  # a close frame (RFC 6455, 5.5.1)
        connections = served.server.server_state.connections
        until = time.monotonic() + 30
        while time.monotonic() < until and not any(
            isinstance(connection, WebSocket) and connection.conn.state is State.CLOSING
            for connection in tuple(connections)
        ):
            time.sleep(0.01)
        served.stop()
    assert time.monotonic() < until
    assert served.failure is None


def test_an_ipv6_address_is_one_as_well(tmp_path: Path, chromium: Browser) -> None:
    served = Served(page_of(tmp_path), tls_for("::1", LabState(tmp_path)))
    try:
        assert served.origin == f"https://[::1]:{served.port}"
        assert served.request("GET", "/", {"Cookie": served.cookie})[0].status == 200
        headers = {"Cookie": served.cookie, "Host": f"localhost:{served.port}"}
        assert served.request("GET", "/", headers)[0].status == 403
        context = chromium.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{served.origin}/?token={served.guard.token}")
        page.locator("#nodes button").first.wait_for(timeout=60_000)  # told by /events
        context.close()
    finally:
        served.stop()


def test_a_given_certificate_opens_the_page_at_its_names(tmp_path: Path) -> None:
    certificate, key = given(tmp_path, names=("lab.example",))
    served = Served(page_of(tmp_path), tls_for(ADDRESS, LabState(tmp_path), certificate, key))
    try:
        trusting = ssl.create_default_context(cafile=str(certificate))
        raw = socket.create_connection((ADDRESS, served.port), timeout=30)
        with trusting.wrap_socket(raw, server_hostname="lab.example") as client:
            host = f"lab.example:{served.port}"
            request = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {served.cookie}\r\n\r\n"
            client.sendall(request.encode())
            assert client.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        served.stop()


def test_the_browser_has_lesson_and_terminal_by_tls(
    served: Served, chromium: Browser, require: Callable[..., None]
) -> None:
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.goto(f"{served.origin}/?token={served.guard.token}")
    page.locator("#nodes button").first.click(timeout=60_000)
    page.locator(".xterm-screen").wait_for()
    page.keyboard.type("echo by-$((40+2))-tls")
    page.keyboard.press("Enter")
    page.locator(".xterm-rows", has_text="by-42-tls").wait_for(timeout=90_000)
    assert wrong == []
    context.close()


def test_the_command_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    for options, message in (
        (["--cert", "x", "--key", "y"], "--cert and --key belong to --listen"),
        (["--listen", ADDRESS], "there is no lab here"),
    ):
        (tmp_path / "lab.yaml").write_text(LAB.replace("nspawn", "libvirt"), encoding="utf-8")
        command = [sys.executable, "-m", "labctl", "--lang", "en", "open", "--no-browser", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / ".labctl").exists()
