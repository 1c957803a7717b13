"""The page's server as it runs: real connections on loopback, a real shell on a real terminal.

Attacks are made as another site's page, another user of the machine or a guest would make them.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from labctl.page import connections, terminals
from labctl.page.app import Page
from tests.integration.page_server import Served, page_of


def read_until(socket: ClientConnection, text: str, *, ack: bool = True) -> str:
    """What the terminal prints up to a text."""
    printed = ""
    while text not in printed:
        data = socket.recv(timeout=30)
        if isinstance(data, str):  # a notice of the server
            continue
        if ack:
            socket.send(json.dumps({"ack": len(data)}))
        printed = (printed + data.decode(errors="replace"))[-200_000:]
    return printed


def closing_code(socket: ClientConnection) -> int | None:
    """The code with which the server closes it."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=30)
    return socket.close_code


# -- who gets in ---------------------------------------------------------------------------------
def test_the_token_is_exchanged_for_a_cookie_that_no_script_can_read(served: Served) -> None:
    marks = {mark.strip().lower() for mark in served.set_cookie.split(";")[1:]}
    assert marks == {"httponly", "samesite=strict", "path=/"}
    assert served.guard.token not in served.set_cookie
    answer, body = served.get("/", {"Cookie": served.cookie})
    assert answer.status == 200
    assert "paged" in body


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/static/page.js", "/nothing"])
def test_nothing_is_served_without_token_or_cookie(served: Served, path: str) -> None:
    for cookie in ("", f"labctl-{served.port}=wrong", "labctl=1"):
        answer, body = served.get(path, {"Cookie": cookie})
        assert answer.status == 403
        assert "labctl open" in body


def test_the_browsers_own_token_is_good_once(served: Served) -> None:
    token = served.guard.tokens.for_one_use()
    assert [served.get(f"/?token={token}")[0].status for _ in range(2)] == [303, 403]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}"]
)
def test_another_hosts_name_is_refused_even_with_the_token(served: Served, host: str) -> None:
    """DNS rebinding: another site's name that leads to 127.0.0.1."""
    headers = {"Host": host.format(port=served.port), "Cookie": served.cookie}
    for path in ("/", f"/?token={served.guard.token}"):
        answer, _ = served.get(path, headers)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_another_sites_page_can_do_nothing(served: Served, origin: str) -> None:
    headers = {"Cookie": served.cookie, **({"Origin": origin} if origin else {})}
    wish = json.dumps({"node": "here", "columns": 80, "rows": 24})
    assert served.request("POST", "/terminals", headers, wish)[0].status == 403
    assert served.request("POST", "/do", headers, '{"verb": "next"}')[0].status == 403
    assert len(served.page.terminals.all()) == 0


def test_a_websocket_needs_the_cookie_and_the_pages_own_origin(served: Served) -> None:
    number = served.open_terminal()
    for path in ("/events", f"/terminals/{number}"):
        for cookie, origin in (("", ""), ("labctl=1", ""), (served.cookie, "http://evil.example")):
            with pytest.raises(InvalidStatus) as refusal:
                served.socket(path, cookie=cookie or "none", origin=origin)
            assert refusal.value.response.status_code == 403


def test_what_a_browser_paints_is_answered_before_the_rest_is_loaded(tmp_path: Path) -> None:
    page, wanted, may_load = page_of(tmp_path), threading.Event(), threading.Event()

    def load() -> Page:
        wanted.set()
        assert may_load.wait(60)
        return page

    served = Served(page, load=load)
    try:
        for path in ("/", "/static/way.js", "/static/page.js", "/static/xterm/xterm.css"):
            assert served.get(path, {"Cookie": served.cookie})[0].status == 200
        assert not wanted.is_set()
        with ThreadPoolExecutor() as pool:
            streams = [pool.submit(served.socket, "/events") for _ in range(2)]
            assert wanted.wait(30)
            assert served.get("/", {"Cookie": served.cookie})[0].status == 200
            may_load.set()
            for stream in streams:
                with stream.result(30) as events:
                    assert json.loads(events.recv(timeout=30))["kind"] == "terminals"
    finally:
        may_load.set()
        served.stop()


def test_a_lab_yaml_that_is_wrong_is_told_where_the_page_would_be(served: Served) -> None:
    served.page.file.write_text("name: paged\nprovider: nowhere\n", encoding="utf-8")
    answer, body = served.get("/", {"Cookie": served.cookie})
    assert answer.status == 409
    assert "lab.yaml:2: provider:" in body


def test_every_answer_forbids_foreign_content(served: Served) -> None:
    policies = set()
    for path in ("/", "/", "/static/page.js", "/nothing"):
        answer, _ = served.get(path, {"Cookie": served.cookie})
        policy = answer.headers["Content-Security-Policy"]
        policies.add(policy)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert (rules["default-src"], rules["script-src"]) == ("'none'", "'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
    assert len(policies) == 4  # a nonce of its own each


def test_a_path_leads_to_no_file_but_the_pages(served: Served) -> None:
    for path in ("/static/../serve.py", "/static/%2e%2e/serve.py", "/static/..%2f..%2fstate.py"):
        assert served.get(path, {"Cookie": served.cookie})[0].status == 404


def test_requests_that_mean_nothing_are_refused(served: Served) -> None:
    headers = {"Cookie": served.cookie, "Origin": served.origin}
    for body in ("", "[]", "{", '{"verb": "destroy"}', '{"verb": 1}', '{"verb": ["next"]}'):
        assert served.request("POST", "/do", headers, body)[0].status == 400
    for body in ("", '{"node": 1, "columns": 80, "rows": 24}', '{"node": "x", "columns": "1"}'):
        assert served.request("POST", "/terminals", headers, body)[0].status == 400
    assert (
        served.request("POST", "/do", headers, json.dumps({"verb": "x" * 100_000}))[0].status == 400
    )


# -- limits --------------------------------------------------------------------------------------
def test_two_hundred_connections_do_not_keep_the_learner_out(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SECONDS_TO_ASK", 2.0)
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(200)]
    for connection in silent[::2]:
        with suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")  # and never goes on
    deadline = time.monotonic() + 20
    while True:
        with suppress(OSError, http.client.HTTPException):
            if served.get("/", {"Cookie": served.cookie})[0].status == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for connection in silent:
        connection.settimeout(10)
        with suppress(ConnectionError):
            assert connection.recv(1) == b""  # closed by the server
        connection.close()


def test_pages_and_terminals_are_limited(served: Served) -> None:
    for _ in range(terminals.MOST_TERMINALS):
        served.open_terminal()
    headers = {"Cookie": served.cookie, "Origin": served.origin}
    wish = json.dumps({"node": "here", "columns": 80, "rows": 24})
    answer, body = served.request("POST", "/terminals", headers, wish)
    assert (answer.status, json.loads(body)["hint"]) == (409, "close one of them")
    with ExitStack() as pages:
        for _ in range(terminals.MOST_VIEWERS):
            pages.enter_context(served.socket("/terminals/1"))
        assert closing_code(pages.enter_context(served.socket("/terminals/1"))) == 4429


# -- terminals -----------------------------------------------------------------------------------
def test_a_terminal_goes_on_while_its_page_is_loaded_again(served: Served) -> None:
    number = served.open_terminal()
    with served.socket(f"/terminals/{number}") as page:
        page.send(b"value=kept; echo first-$value\n")
        read_until(page, "first-kept")
        page.send(b"(sleep 1; echo printed-meanwhile) &\n")
        read_until(page, "&")
    time.sleep(1.5)
    with served.socket(f"/terminals/{number}") as page:
        printed = read_until(page, "printed-meanwhile")
        assert "first-kept" in printed
        page.send(json.dumps({"size": [101, 37]}))
        page.send(b"stty size; echo then-$value\n")
        assert "37 101" in read_until(page, "then-kept")
        page.send(b"exit\n")
        assert closing_code(page) == 4404


def test_a_flood_waits_for_a_page_that_draws_slowly(served: Served) -> None:
    """100 MB into a terminal: nothing is lost, and no more is kept than the limits say."""
    number = served.open_terminal()
    terminal = served.page.terminals.get(number)
    assert terminal is not None
    with served.socket(f"/terminals/{number}") as page:
        page.send(b"stty -echo; head -c 100000000 /dev/zero | tr '\\0' x; echo THE-END\n")
        seen = 0
        while seen < terminals.MOST_UNSEEN:  # and acknowledges nothing
            seen += len(page.recv(timeout=30))
        with suppress(TimeoutError):
            while True:
                seen += len(page.recv(timeout=1))
        assert seen < terminals.MOST_UNSEEN + (2 << 16), "the shell is read on"
        page.send(json.dumps({"ack": seen}))
        tail = b""
        while b"THE-END" not in tail:
            data = page.recv(timeout=30)
            if isinstance(data, str):
                continue
            seen += len(data)
            page.send(json.dumps({"ack": len(data)}))
            tail = (tail + data)[-100:]
    assert seen > 100_000_000
    with served.socket(f"/terminals/{number}") as page:
        replayed = len(read_until(page, "THE-END").encode())
    assert replayed <= terminals.REPLAY_BYTES


def test_what_the_browser_gets_wrong_harms_nothing(served: Served) -> None:
    number = served.open_terminal()
    with served.socket(f"/terminals/{number}") as page:
        for text in ("", "[]", "{", '{"size": [1]}', '{"size": ["a", 2]}', '{"ack": -5}', "7"):
            page.send(text)
        page.send(json.dumps({"size": [10**9, -1]}))
        page.send(b"echo still-$((40+2))\n")
        assert "still-42" in read_until(page, "still-42")


# -- in a browser --------------------------------------------------------------------------------
def test_markup_from_a_guest_stays_text(
    served: Served, chromium: Browser, require: Callable[..., None]
) -> None:
    """A guest prints markup, a lesson has markup in it; and nothing is asked of other servers."""
    number = served.open_terminal()
    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    evil = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
    with served.socket(f"/terminals/{number}") as shell:
        form = r"\033]0;%s\a%s \033[38;2;9;99;199mSHOWN\033[0m\n"
        words = "'<script>window.evil=1</script>' '<b onclick=evil>bold</b>'"
        shell.send(f"clear; printf '{form}' {words}\n".encode())
        read_until(shell, "bold")
    page.goto(f"{served.origin}/?token={served.guard.token}")
    page.locator(".xterm-rows", has_text="SHOWN").wait_for(timeout=60_000)
    checkpoint = {"id": "one", "title": evil, "standing": "now", "next": True, "hints": 0, "of": 0,
                  "explain": f"{evil} and **{evil}**",
                  "commands": [{"prompt": "#", "text": evil, "output": evil}],
                  "claims": [{"ok": True, "text": evil}]}  # fmt: skip
    lesson = {"id": "l", "title": evil, "goal": evil, "practice": False, "passed": 0, "summary": "",
              "checkpoints": [checkpoint]}  # fmt: skip
    served.page.feed.publish({"kind": "lesson", "verb": "", "lesson": lesson, "choices": []})
    texts = dict.fromkeys(("text", "evidence", "expected", "seen"), evil)
    served.page.feed.publish({"kind": "claim", "ok": False, **texts})
    script = "<script>window.evil = 1</script>"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{script}<text>drawn</text></svg>'
    served.page.feed.publish({"kind": "picture", "svg": svg, "style": "text { fill: red }"})
    page.locator("#picture text", has_text="drawn").wait_for()
    page.locator("#course", has_text="onerror").wait_for()
    time.sleep(0.5)
    assert page.evaluate("window.evil") is None
    assert page.locator("main img").count() == 0
    servers = {url.split("/")[2] for url in asked if not url.startswith("data:")}
    assert servers == {f"127.0.0.1:{served.port}"}
    assert [text for text in wrong if "script" not in text] == []
    context.close()
