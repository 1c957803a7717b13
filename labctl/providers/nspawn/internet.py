"""The host of the simulated Internet: an HTTP server that answers with the caller's address.

It runs inside a NAT namespace, so nothing outside the lab can reach it; the kernel answers pings to
its address. Its arguments are ADDRESS PORT NAMESPACE; the last one only shows, in a list of
processes, which lab it belongs to.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"The Internet of your lab. You come from {self.client_address[0]}.\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(address: str, port: int) -> None:
    ThreadingHTTPServer((address, port), _Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
