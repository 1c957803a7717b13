"""A shell on a guest's serial port, which VirtualBox offers as a socket of this machine."""

import re
import socket
import time
from pathlib import Path


class SerialShell:
    """Runs commands as root in the tiny guest, one after another, without using its network."""

    def __init__(self, path: Path, boot: float = 900) -> None:
        """Waits up to `boot` seconds until the guest is up. Raises TimeoutError."""
        self.console = ""
        self._nudge = False
        until = time.monotonic() + boot
        while True:
            try:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        self._until("~ # ", boot)
        # No echo, no prompt, no line editing: a shell that reads from a pipe has none of them.
        self._nudge = True
        self._send("dmesg -n 1; stty -echo; echo ready-$((40 + 2)); cat | sh 2>&1")
        self._until("ready-42", 180)

    def _send(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\n")

    def _until(self, pattern: str, timeout: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        seen = ""
        while True:
            if match := re.search(pattern, seen):
                return match
            self._socket.settimeout(0.3)
            try:
                chunk = self._socket.recv(4096)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"no {pattern!r} on the serial port:\n{seen[-2000:]}"
                    ) from None
                # Bytes that arrive while the port is sending may lie in it until the next one
                # comes: VirtualBox's UART does not always interrupt the guest for them.
                if self._nudge:
                    self._socket.sendall(b"\n")
                continue
            if not chunk:
                raise ConnectionError(f"the serial port was closed:\n{seen[-2000:]}")
            text = chunk.decode(errors="replace").replace("\r", "")
            seen += text
            self.console += text

    def run(self, command: str, timeout: float = 180) -> tuple[int, str]:
        """Exit code and output of the command. Raises TimeoutError."""
        self._send(f"echo begin''-; {{ {command}\n}} </dev/null; echo end-$?-")
        match = self._until(r"(?s)begin-\n(.*)end-(\d+)-", timeout)
        return int(match[2]), match[1]

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()
