"""Runs a script in a shell on a serial line; returns output and exit code.

This file runs inside a compute node, where labctl passes its text to `python3 -c`. So it imports
only the standard library, and nothing of labctl.

Data goes over the line as base64 between markers that contain a random number, with a checksum.
Anything else that the instance writes to its console (kernel messages, a prompt, the echo of what
is typed) is ignored, and data that arrives damaged is read again.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import select
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

MAX_OUTPUT = 512 * 1024
"""Bytes of each stream that are read back. An emulated line carries about 100 KB/s."""
IN_USE = "the console is open in another window"


class NoShellError(Exception):
    """No shell answers on the line, or not correctly."""


class LateError(Exception):
    """A marker did not come in time."""


class SerialShell:
    """A shell at the other end of a serial line."""

    def __init__(self, fd: int) -> None:
        """`fd` is the line, open for reading and writing."""
        self._fd = fd
        self._seen = b""

    def run(
        self, script: str, timeout: float, shell_timeout: float = 60
    ) -> tuple[int, bytes, bytes, tuple[int, int]]:
        """Run a script with sh: (exit code, stdout, stderr, bytes cut off each).

        `timeout` is for the script, `shell_timeout` until a shell answers; both in seconds. A
        script that takes longer is interrupted. Raises NoShellError, LateError.
        """
        self.sync(shell_timeout)
        directory = f"{self._writable()}/.labctl-{uuid.uuid4().hex[:8]}"
        try:
            self._upload(script, directory)
            code = self._execute(directory, timeout)
            out, out_cut = self._fetch(f"{directory}/o")
            err, err_cut = self._fetch(f"{directory}/e")
            return code, out, err, (out_cut, err_cut)
        finally:
            with contextlib.suppress(NoShellError, LateError):
                self._type(f"rm -rf {directory}; {self._marker('gone')}")
                self._await("gone", rb"", 5)

    def _execute(self, directory: str, timeout: float) -> int:
        """Run the uploaded script; its exit code. Raises LateError."""
        self._type(
            f"sh {directory}/s >{directory}/o 2>{directory}/e </dev/null; echo $? >{directory}/r; "
            + self._marker("done", f"$(cat {directory}/r)")
        )
        try:
            return int(self._await("done", rb"(\d+)", timeout)[1])
        except LateError:
            self.sync(15)  # interrupts it
        # It may have ended while a kernel message broke the marker: ask for the exit code again.
        self._type(self._marker("code", f"$(cat {directory}/r)"))
        code = int(self._await("code", rb"(\d*)", 5)[1] or -1)
        if code in (-1, 130):  # 128 + SIGINT
            raise LateError(f"not finished within {timeout:.0f} s")
        return code

    def sync(self, timeout: float) -> str:
        """Interrupt what runs or was typed there, until the shell answers; the user it runs as.

        Raises NoShellError after `timeout` seconds, or sooner when the console asks for a login.
        """
        end = time.monotonic() + timeout
        attempt = 0
        while True:
            # Ctrl-C ends a program and a half-typed line; Ctrl-\ also programs that ignore Ctrl-C.
            self._write(b"\x1c\x03" if attempt % 4 == 3 else b"\x03")
            self._drain(0.1)
            self._nonce = uuid.uuid4().hex[:10]
            self._type(f"stty echo; {self._marker('ready', '$(id -un)')}")
            try:
                return self._await("ready", rb"([\w.-]+)", min(1.0 + attempt, 5.0))[1].decode()
            except LateError:
                pass
            attempt += 1
            login = re.search(rb"login: *$", self._seen)
            if time.monotonic() > end or (login and attempt > 2):
                what = "asks for a login" if login else "does not answer"
                raise NoShellError(f"the console {what}")

    def _writable(self) -> str:
        first_writable = (
            'for d in /tmp "$HOME" /dev/shm; do [ -w "$d" ] && echo "$d" && break; done'
        )
        self._type(self._marker("place", f"$({first_writable})"))
        return self._await("place", rb"(/[\w./-]*)", 20)[1].decode().rstrip("/")

    # -- the line --------------------------------------------------------------------------------
    def _marker(self, word: str, value: str = "") -> str:
        """A shell command that prints a marker. The echo of the command does not match `_await`."""
        return f'printf "\\n[%s-%s]%s\\n" {self._nonce} {word} "{value}"'

    def _type(self, line: str) -> None:
        self._write(f" {line}\n".encode())  # begins with a space: not in the shell's history

    def _write(self, data: bytes) -> None:
        end = time.monotonic() + 30
        while data:
            ready = select.select([], [self._fd], [], 1)[1]
            if ready:
                data = data[os.write(self._fd, data[:256]) :]
            elif time.monotonic() > end:
                raise NoShellError("the console takes nothing any more")

    def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass

    def _read(self, seconds: float) -> bool:
        """Wait for data and append it to `_seen`, of which the end is kept; whether any came."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError as error:  # the far end of a pty is gone: the instance was stopped
            raise NoShellError("the console is gone") from error
        if not data:
            raise NoShellError("the console is gone")
        self._seen = (self._seen + data)[-8 * MAX_OUTPUT :]
        return True

    def _await(self, word: str, rest: bytes, timeout: float) -> "re.Match[bytes]":
        """Wait for a marker, with `rest` after it; text before it goes to `_before`.

        Raises LateError.
        """
        pattern = re.compile(rb"\[%s-%s\]%s *\r*\n" % (self._nonce.encode(), word.encode(), rest))
        end = time.monotonic() + timeout
        while True:
            if match := pattern.search(self._seen):
                self._before, self._seen = self._seen[: match.start()], self._seen[match.end() :]
                return match
            if (left := end - time.monotonic()) <= 0:
                raise LateError(f"no answer within {timeout:.0f} s")
            self._read(left)

    # -- files -----------------------------------------------------------------------------------
    def _upload(self, script: str, directory: str) -> None:
        content = script.encode()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        encoded = base64.b64encode(content).decode()
        for _ in range(4):
            # `read` takes the lines, because the shell's line editor echoes, is slow and has a
            # limit. It must run before the first line is sent: so wait for the marker "send".
            self._type(
                f"mkdir -p {directory}; chmod 700 {directory}; stty -echo; {self._marker('send')}; "
                f'while read -r l && [ "$l" != . ]; do echo "$l"; done >{directory}/b; stty echo; '
                f"base64 -d {directory}/b >{directory}/s; "
                + self._marker("sum", f"$(md5sum <{directory}/s)")
            )
            self._await("send", rb"", 20)
            for start in range(0, len(encoded), 128):
                self._write(encoded[start : start + 128].encode() + b"\n")
            self._write(b".\n")
            with contextlib.suppress(LateError):
                if self._await("sum", rb"(\w{32}) +-", 20)[1].decode() == digest:
                    return
            self.sync(15)
        raise NoShellError("the console garbles what is typed")

    def _fetch(self, file: str) -> tuple[bytes, int]:
        """The beginning of a file, and how many bytes follow it."""
        for _ in range(4):
            mark = f"{self._nonce}:"
            self._type(
                self._marker("size", f"$(wc -c <{file}) $(head -c {MAX_OUTPUT} {file} | md5sum)")
                + f"; head -c {MAX_OUTPUT} {file} | base64 | sed s/^/{mark}/; {self._marker('end')}"
            )
            try:
                size, digest = self._await("size", rb" *(\d+) (\w{32}) +-", 20).groups()
                self._await("end", rb"", 60)
            except LateError:
                self.sync(15)
                continue
            lines = re.findall(rb"^%s([A-Za-z0-9+/=]+)" % mark.encode(), self._before, re.MULTILINE)
            with contextlib.suppress(ValueError):
                content = base64.b64decode(b"".join(lines))
                if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest.decode():
                    return content, int(size) - len(content)
        raise NoShellError("the console garbles what is said")


def is_in_use(path: str) -> bool:
    """Whether another process has the line open: `virsh console` has, by libvirt's daemon."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has ended
            # Not by its name: a process in a container may have another line of the same name.
            if link.samefile(path) and link.parts[2] != str(os.getpid()):
                return True
    return False


@contextlib.contextmanager
def opened(path: str, timeout: float) -> Iterator[int]:
    """Open a serial line, e.g. /dev/pts/3, locked against other labctl processes.

    Raises NoShellError when somebody else has it open, or another labctl for `timeout` seconds.
    """
    if sys.platform == "win32":
        raise NoShellError("no serial line of a node is here")
    # A Windows host has none of these, and imports this file to send it to a node.
    import fcntl
    import termios
    import tty

    lock = os.open(f"/run/lock/labctl{path.replace('/', '-')}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise NoShellError("another labctl types on the console") from None
                time.sleep(0.1)
        if is_in_use(path):
            raise NoShellError(IN_USE)
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(fd, termios.TCSANOW)
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(lock)


def main() -> None:
    """The first argument is the line's path. JSON in on stdin, JSON out on stdout.

    With the second argument --in-use it only prints whether the line is: yes or no.
    """
    if "--in-use" in sys.argv[2:]:
        sys.stdout.write("yes" if is_in_use(sys.argv[1]) else "no")
        return
    request = json.load(sys.stdin)
    try:
        with opened(sys.argv[1], request["shell_timeout"]) as fd:
            code, out, err, cut = SerialShell(fd).run(
                request["script"], request["timeout"], request["shell_timeout"]
            )
    except (NoShellError, OSError) as error:
        answer: dict[str, object] = {"no_shell": str(error)}
    except LateError as error:
        answer = {"late": str(error)}
    else:
        answer = {
            "code": code,
            "out": base64.b64encode(out).decode(),
            "err": base64.b64encode(err).decode(),
            "cut": cut,
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
