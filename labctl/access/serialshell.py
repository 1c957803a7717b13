"""A shell on a serial line, used as if it were SSH: a script in; output and exit code out.

Runs inside a compute node, where labctl sends this file's own text to `python3 -c`: the standard
library only, and nothing of labctl. What goes over the line is base64 between markers that carry a
random number, with a checksum: whatever else the instance writes to its console meanwhile (kernel
messages, a prompt, the echo of what is typed) is passed over, and what it garbled is read again.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import sys
import termios
import time
import tty
import uuid
from collections.abc import Iterator

LARGEST = 512 * 1024
"""Bytes of output that are read back; an emulated line carries some 100 KB a second."""


class NoShellError(Exception):
    """Nobody at the far end obeys."""


class LateError(Exception):
    """What was awaited did not come in time."""


class SerialShell:
    """A shell that reads what is typed on a line."""

    def __init__(self, fd: int) -> None:
        """`fd` is the line, open for reading and writing."""
        self._fd = fd
        self._seen = b""

    def run(self, script: str, timeout: float, patience: float = 60) -> tuple[int, bytes, bytes]:
        """Run a script with sh: (exit code, stdout, stderr).

        `timeout` is for the script, `patience` for the shell to be there; both in seconds. A script
        that takes longer is interrupted. Raises NoShellError, LateError.
        """
        self.sync(patience)
        place = f"{self._writable()}/.labctl-{uuid.uuid4().hex[:8]}"
        try:
            self._upload(script, place)
            code = self._execute(place, timeout)
            return code, self._fetch(f"{place}/o"), self._fetch(f"{place}/e")
        finally:
            with contextlib.suppress(NoShellError, LateError):
                self._type(f"rm -rf {place}; {self._say('gone')}")
                self._await("gone", rb"", 5)

    def _execute(self, place: str, timeout: float) -> int:
        """Run the uploaded script; its exit code."""
        self._type(
            f"sh {place}/s >{place}/o 2>{place}/e </dev/null; echo $? >{place}/r; "
            + self._say("done", f"$(cat {place}/r)")
        )
        try:
            return int(self._await("done", rb"(\d+)", timeout)[1])
        except LateError:
            self.sync(15)  # interrupts it
        # Or has it ended, and something was written into the middle of the marker?
        self._type(self._say("code", f"$(cat {place}/r)"))
        code = int(self._await("code", rb"(\d*)", 5)[1] or -1)
        if code in (-1, 130):  # 128 + SIGINT
            raise LateError(f"not finished within {timeout:.0f} s")
        return code

    def sync(self, patience: float) -> str:
        """Get the shell's attention, whatever was typed or runs there; the user it runs as."""
        end = time.monotonic() + patience
        attempt = 0
        while True:
            # Ctrl-C ends a program and a half-typed line; Ctrl-\ what does not heed it.
            self._write(b"\x1c\x03" if attempt % 4 == 3 else b"\x03")
            self._drain(0.1)
            self._nonce = uuid.uuid4().hex[:10]
            self._type(f"stty echo; {self._say('ready', '$(id -un)')}")
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
        tried = 'for d in /tmp "$HOME" /dev/shm; do [ -w "$d" ] && echo "$d" && break; done'
        self._type(self._say("place", f"$({tried})"))
        return self._await("place", rb"(/[\w./-]*)", 20)[1].decode().rstrip("/")

    # -- the line --------------------------------------------------------------------------------
    def _say(self, word: str, value: str = "") -> str:
        """A command that says a marker. The command itself, echoed, does not look like it."""
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
        """Wait for more; whether any came. What was long ago is forgotten."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError as error:  # the far end of a pty is gone: the instance was stopped
            raise NoShellError("the console is gone") from error
        if not data:
            raise NoShellError("the console is gone")
        self._seen = (self._seen + data)[-8 * LARGEST :]
        return True

    def _await(self, word: str, rest: bytes, timeout: float) -> "re.Match[bytes]":
        """The marker and what follows it; what came before is forgotten."""
        pattern = re.compile(rb"\[%s-%s\]%s *\r*\n" % (self._nonce.encode(), word.encode(), rest))
        end = time.monotonic() + timeout
        while True:
            if found := pattern.search(self._seen):
                self._before, self._seen = self._seen[: found.start()], self._seen[found.end() :]
                return found
            if (left := end - time.monotonic()) <= 0:
                raise LateError(f"no answer within {timeout:.0f} s")
            self._read(left)

    # -- files -----------------------------------------------------------------------------------
    def _upload(self, script: str, place: str) -> None:
        content = script.encode()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        encoded = base64.b64encode(content).decode()
        for _ in range(4):
            # `read` and not the shell's line editor takes the lines: that one echoes, is slow,
            # and has a limit. It has to be there before the first of them comes.
            self._type(
                f"mkdir -p {place}; chmod 700 {place}; stty -echo; {self._say('send')}; "
                f'while read -r l && [ "$l" != . ]; do echo "$l"; done >{place}/b; stty echo; '
                f"base64 -d {place}/b >{place}/s; " + self._say("sum", f"$(md5sum <{place}/s)")
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

    def _fetch(self, file: str) -> bytes:
        for _ in range(4):
            mark = f"{self._nonce}:"
            self._type(
                self._say("size", f"$(head -c {LARGEST} {file} | md5sum)")
                + f"; head -c {LARGEST} {file} | base64 | sed s/^/{mark}/; {self._say('end')}"
            )
            try:
                digest = self._await("size", rb"(\w{32}) +-", 20)[1].decode()
                self._await("end", rb"", 60)
            except LateError:
                self.sync(15)
                continue
            lines = re.findall(rb"^%s([A-Za-z0-9+/=]+)" % mark.encode(), self._before, re.MULTILINE)
            with contextlib.suppress(ValueError):
                content = base64.b64decode(b"".join(lines))
                if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest:
                    return content
        raise NoShellError("the console garbles what is said")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """The serial line at a path of /dev, for us alone."""
    lock = os.open(f"/run/lock/labctl{path.replace('/', '-')}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(fd, termios.TCSANOW)
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(lock)


def main() -> None:
    """The line is the first argument; request on stdin, answer on stdout, both JSON."""
    request = json.load(sys.stdin)
    try:
        with opened(sys.argv[1]) as fd:
            code, out, err = SerialShell(fd).run(
                request["script"], request["timeout"], request["patience"]
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
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
