"""SSHGuest where nothing of the host is inside the node: all goes through one SSH connection."""

import hashlib
import http.client
import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paramiko
import pytest

from labctl.access.guest import GuestError
from labctl.access.ssh import SSHGuest
from tests.integration.test_guest import (
    MEGABYTE,
    Server,
    living_transport,
    make_key,
    server,
    settles,
    sshd,
)

__all__ = ["server", "sshd"]  # the fixtures


@pytest.fixture
def guest(server: Server) -> Iterator[SSHGuest]:
    made = by_connecting(server)
    yield made
    made.close()


def by_connecting(server: Server, host_key: Path | None = None) -> SSHGuest:
    """A guest as the providers of virtual machines make it."""
    return SSHGuest(
        "node-1",
        None,
        server.key,
        host_key or server.host_key,
        connect=lambda: server.dial("127.0.0.1", 22),
    )


# -- what listens in the node ----------------------------------------------------------------------
class _Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self.path.encode())

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(hashlib.sha256(content).hexdigest().encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[int]:
    """The port of an HTTP server with keep-alive."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Web) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does `talk` with everyone who calls; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            talk(self.request)

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

    with Listener(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_address[1]
        made.shutdown()
        thread.join()


class _Through(http.client.HTTPConnection):
    def __init__(self, guest: SSHGuest, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=60)
        self._guest = guest

    def connect(self) -> None:
        self.sock = self._guest.dial(self.host, self.port)


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def once(guest: SSHGuest, port: int, path: str) -> str:
    """One request over a connection of its own."""
    connection = _Through(guest, port)
    try:
        return ask(connection, path)
    finally:
        connection.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- HTTP ------------------------------------------------------------------------------------------
def test_many_requests_over_one_kept_connection(server: Server, guest: SSHGuest, web: int) -> None:
    connection = _Through(guest, web)
    assert [ask(connection, f"/{number}") for number in range(20)] == [
        f"/{number}" for number in range(20)
    ]
    connection.close()
    assert guest.run("echo beside it").stdout == "beside it\n"
    assert server.dialled == 1


def test_many_connections_at_once(server: Server, guest: SSHGuest, web: int) -> None:
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        connection = _Through(guest, web)
        answers[number] = "".join(ask(connection, f"/{number}.{turn};") for turn in range(3))
        connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert answers == {n: f"/{n}.0;/{n}.1;/{n}.2;" for n in range(25)}
    assert server.dialled == 1


def test_a_large_upload(guest: SSHGuest, web: int) -> None:
    content = os.urandom(8 * MEGABYTE)
    connection = _Through(guest, web)
    connection.request("POST", "/", body=content)
    assert connection.getresponse().read().decode() == hashlib.sha256(content).hexdigest()
    connection.close()


def test_much_in_both_directions_at_once(guest: SSHGuest) -> None:
    def echo(peer: socket.socket) -> None:
        while data := peer.recv(65536):
            peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)

    content = os.urandom(6 * MEGABYTE)
    with listening(echo) as port, guest.dial("127.0.0.1", port) as sock:
        sock.settimeout(120)

        def feed() -> None:
            sock.sendall(content)
            sock.shutdown(socket.SHUT_WR)

        feeder = threading.Thread(target=feed)
        feeder.start()
        received = bytearray()
        while data := sock.recv(65536):
            received += data
        feeder.join(60)
        assert bytes(received) == content


# -- ends ------------------------------------------------------------------------------------------
def test_a_refused_port(guest: SSHGuest) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"node-1: 127.0.0.1:{port}"):
        guest.dial("127.0.0.1", port)
    assert guest.run(["true"]).ok  # the connection is none the worse


def test_the_peer_closes(guest: SSHGuest) -> None:
    with (
        listening(lambda peer: peer.sendall(b"good bye")) as port,
        guest.dial("127.0.0.1", port) as sock,
    ):
        sock.settimeout(60)
        assert sock.makefile("rb").read() == b"good bye"


def test_who_has_no_more_to_say_still_hears_the_answer(guest: SSHGuest) -> None:
    def answer(peer: socket.socket) -> None:
        content = peer.makefile("rb").read()
        peer.sendall(f"{len(content)} bytes".encode())

    with listening(answer) as port, guest.dial("127.0.0.1", port) as sock:
        sock.settimeout(60)
        sock.sendall(b"x" * 1000)
        sock.shutdown(socket.SHUT_WR)
        assert sock.makefile("rb").read() == b"1000 bytes"


@pytest.mark.parametrize("shut_first", [False, True])
def test_closing_is_seen_by_a_peer_that_says_nothing(guest: SSHGuest, shut_first: bool) -> None:
    """And no thread, no file of ours waits for it to say something."""
    guest.run(["true"])
    threads, files = threading.active_count(), open_files()
    release = threading.Event()

    def silent(peer: socket.socket) -> None:
        release.wait(60)

    with listening(silent) as port:
        before = threading.active_count()
        for _ in range(5):
            sock = guest.dial("127.0.0.1", port)
            if shut_first:
                sock.shutdown(socket.SHUT_WR)
            sock.close()
        # The five of the server itself stay until they are let go.
        assert settles(lambda: threading.active_count() <= before + 5)
        release.set()
    assert settles(lambda: threading.active_count() <= threads)
    assert settles(lambda: open_files() <= files)
    assert guest.run(["true"]).ok


def test_nothing_is_left_of_many_connections(guest: SSHGuest, web: int) -> None:
    once(guest, web, "/")
    guest.run(["true"])
    threads, files = threading.active_count(), open_files()
    for number in range(30):
        assert once(guest, web, f"/{number}") == f"/{number}"
    assert settles(lambda: threading.active_count() <= threads)
    assert settles(lambda: open_files() <= files)


def test_the_node_dies_under_an_open_connection(server: Server, guest: SSHGuest) -> None:
    waiting = threading.Event()

    def silent(peer: socket.socket) -> None:
        waiting.wait(60)

    with listening(silent) as port:
        sock = guest.dial("127.0.0.1", port)
        sock.settimeout(60)
        server.stop()
        assert sock.recv(1) == b""  # not for ever
        sock.close()
        waiting.set()
        with pytest.raises(ConnectionError, match="node-1 cannot be reached by SSH"):
            guest.dial("127.0.0.1", port)


def test_after_a_restart_dial_connects_anew(server: Server, guest: SSHGuest, web: int) -> None:
    assert once(guest, web, "/1") == "/1"
    server.stop()
    server.start()
    assert once(guest, web, "/2") == "/2"
    assert server.dialled == 2


def test_a_connection_that_only_seems_alive_is_made_anew_by_dial(
    server: Server, guest: SSHGuest, web: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.run(["true"])
    transport = living_transport()
    server.stop()
    assert settles(lambda: not transport.is_active())
    server.start()
    monkeypatch.setattr(transport, "is_active", lambda: True)
    assert once(guest, web, "/") == "/"


# -- keys and handles ------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_public_host_keys_of_all_kinds(
    server: Server, tmp_path: Path, kind: str, require: Callable[..., None]
) -> None:
    """The server has keys of all kinds; it is asked for the one that is known."""
    require("ssh-keygen")
    server.stop()
    with (tmp_path / "config").open("a") as config:
        for each in ("rsa", "ecdsa", "ed25519"):
            path = tmp_path / f"host_{each}"
            subprocess.run(["ssh-keygen", "-q", "-t", each, "-N", "", "-f", path], check=True)
            config.write(f"HostKey {path}\n")
    text = (tmp_path / "config").read_text()
    (tmp_path / "config").write_text(text.replace(f"HostKey {server.host_key}\n", ""))
    server.start()
    words = (tmp_path / f"host_{kind}.pub").read_text().split()
    known = tmp_path / "known.pub"
    for line in (" ".join(words[:2]), " ".join(words) + "\n"):  # with and without a comment
        known.write_text(line)
        guest = by_connecting(server, known)
        assert guest.run(["true"]).ok
        shown = str(living_transport().host_key_type)
        assert shown.startswith({"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-", "rsa": "rsa-"}[kind])
        guest.close()


def test_another_public_key_of_the_same_kind_is_refused(server: Server, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    guest = by_connecting(server, other.with_suffix(".pub"))
    with pytest.raises(GuestError, match="unknown host key"):
        guest.run(["true"])
    assert "Accepted publickey" not in (tmp_path / "log").read_text()


def test_a_kind_of_key_that_the_server_does_not_have(server: Server, tmp_path: Path) -> None:
    rsa = paramiko.RSAKey.generate(2048)
    (tmp_path / "rsa.pub").write_text(f"{rsa.get_name()} {rsa.get_base64()}\n")
    guest = by_connecting(server, tmp_path / "rsa.pub")
    with pytest.raises(GuestError, match=r"node-1 cannot be reached by SSH: .*host key"):
        guest.run(["true"])


def test_another_is_a_connection_of_its_own(server: Server, guest: SSHGuest) -> None:
    guest.run(["true"])
    other = guest.another()
    assert other.run("echo here").stdout == "here\n"
    assert server.dialled == 2
    other.close()
    assert guest.run(["true"]).ok
    assert server.dialled == 2
    dialling = server.guest()  # the same of one that dials
    third = dialling.another()
    assert third.run(["true"]).ok
    third.close()


def test_one_of_the_two_ways_must_be_given(server: Server) -> None:
    with pytest.raises(ValueError, match="either dial or connect"):
        SSHGuest("node-1", None, server.key, server.host_key)
