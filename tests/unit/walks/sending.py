"""Runs what a walk sends with, and hears it at a socket of the test's own."""

import shlex
import socket
import subprocess
import sys

from labctl.walks.plan import SendCommand


def expect_heard(send: SendCommand, server: socket.socket, kind: str) -> None:
    """The sender's script says the port that `server` sees it come from; 07 marks its packets."""
    words = shlex.split("\n".join(send.script.splitlines()[1:]))
    words[0] = sys.executable
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    server.settimeout(5)
    if kind == "tcp":
        caller, peer = server.accept()
        caller.close()
    else:
        text, peer = server.recvfrom(64)
        assert text == b"labctl-07"
    assert done.stdout.splitlines()[-1] == f"port {peer[1]}"
