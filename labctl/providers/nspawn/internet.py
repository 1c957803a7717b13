"""The host of the simulated Internet: an HTTP server that answers with the caller's address, and a
name server (see `dns`).

It runs inside a NAT namespace, so nothing outside the lab can reach it; the kernel answers pings to
its address. Its arguments are ADDRESS PORT NAMESPACE; the last one only shows, in a list of
processes, which lab it belongs to.
"""

import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from socketserver import BaseRequestHandler, BaseServer, ThreadingTCPServer, UDPServer
from typing import Any

from labctl.providers.nspawn import dns

DNS_PORT = 53
_PATIENCE = 5
"""Seconds for a whole query over TCP; a client that sends nothing is let go."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"The Internet of your lab. You come from {self.client_address[0]}.\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _host(server: Any) -> IPv4Address:
    return IPv4Address(server.server_address[0])


class _QueryByUdp(BaseRequestHandler):
    def handle(self) -> None:
        query, connection = self.request
        if answer := dns.answer(query, _host(self.server)):
            connection.sendto(answer, self.client_address)


class _QueryByTcp(BaseRequestHandler):
    """A query after its length, and the answer so as well (RFC 1035, section 4.2.2)."""

    def handle(self) -> None:
        self.request.settimeout(_PATIENCE)
        try:
            (length,) = struct.unpack("!H", self._read(2))
            if answer := dns.answer(self._read(length), _host(self.server)):
                self.request.sendall(struct.pack("!H", len(answer)) + answer)
        except OSError:
            pass  # the client has gone, or never sent its query

    def _read(self, length: int) -> bytes:
        content = b""
        while len(content) < length:
            more = self.request.recv(length - len(content))
            if not more:
                raise ConnectionError("the query ends too early")
            content += more
        return content


class _Tcp(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve_names(address: str, port: int = DNS_PORT) -> list[BaseServer]:
    """Answer DNS queries over UDP and TCP, in threads of this process. Raises OSError."""
    servers: list[Any] = [
        UDPServer((address, port), _QueryByUdp),
        _Tcp((address, port), _QueryByTcp),
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


def main(address: str, port: int) -> None:
    """Serve until killed. HTTP is last: who sees it answer knows that the others do."""
    serve_names(address)
    ThreadingHTTPServer((address, port), _Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
