"""The only module that starts processes on the host: argv lists, a timeout, clear errors."""

import contextlib
import os
import queue
import shlex
import site
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl.assets import PACKAGE
from labctl.errors import Cancelled, LabError
from labctl.i18n import tr
from labctl.operating_system.processes import end_group, start_group
from labctl.operating_system.programs import command_line, decoded

__all__ = [
    "CommandFailed",
    "CommandTimeoutError",
    "Completed",
    "build_environment",
    "python_module",
    "run",
    "run_at_exit",
    "run_bounded",
    "spawn",
    "stop_service",
    "stream",
]

CommandFailed = subprocess.CalledProcessError
"""What a library raises that runs commands by itself (python-vagrant)."""

Argv = Sequence[str | Path]
SYSTEMD = Path("/run/systemd/system")
"""This directory exists if and only if systemd is this host's init (sd_booted(3))."""


def python_module(module: str, *words: str) -> list[str]:
    """argv that runs a module of labctl in a new Python, as `python -m` does.

    Isolated (-I): neither the current directory, which may be a stranger's, nor PYTHONPATH and
    PYTHONSTARTUP decide which code runs. A virtual environment still counts: it belongs to the
    interpreter.
    """
    place = str(PACKAGE.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    by_environment = any(path and os.path.realpath(path) == place for path in paths)
    by_user = bool(site.ENABLE_USER_SITE) and os.path.realpath(site.getusersitepackages()) == place
    if not by_environment and not by_user:
        return [sys.executable, "-I", "-m", module, *words]
    # An isolated Python would not find labctl. It is told where labctl is, and nothing else.
    program = (
        f"import runpy, sys; sys.path.append({place!r});"
        f" runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-c", program, *words]


def build_environment() -> dict[str, str]:
    """The environment in which root builds what all labs share: of the caller's only the proxies.

    Not their language, which programs' messages are in and which a new system does not have, and
    not their TMPDIR, which does not exist in there or may not be executable.
    """
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **kept,
    }


KILLED_WITH_LABCTL = ("setpriv", "--pdeathsig", "KILL")
"""Put before a command that must not go on writing files after labctl was killed."""


_DRAIN = 2.0
"""Seconds for the rest of a command's output after its end."""


class CommandTimeoutError(LabError):
    """A command did not end within its time limit, and was killed."""


@dataclass(frozen=True)
class Completed:
    """The result of a command: exit code and both streams as text."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False
    """Whether it was killed at its time limit; `run` itself raises then."""


def run(
    argv: Argv,
    *,
    check: bool = True,
    timeout: float = 60,
    input: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    hint: str | None = None,
) -> Completed:
    """Run a host command and wait for its end.

    `timeout` is in seconds. Raises LabError when the command is missing, takes too long, or (with
    `check`) exits non-zero; the message carries the command and the last lines it printed.
    """
    words = [str(word) for word in argv]
    try:
        finished = subprocess.run(
            command_line(words),
            input=None if input is None else input.encode(),
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env=None if env is None else dict(env),
            check=False,
        )
    except OSError as error:
        raise _cannot_start(words[0], error, hint) from error
    except subprocess.TimeoutExpired as error:
        raise CommandTimeoutError(
            tr("`{command}` did not finish within {seconds} s",
               command=shlex.join(words), seconds=f"{timeout:.0f}"),
            hint=hint,
        ) from error  # fmt: skip
    stdout, stderr = decoded(finished.stdout), decoded(finished.stderr)
    if check and finished.returncode != 0:
        last_lines = (stderr or stdout).strip().splitlines()[-4:]
        raise LabError(
            tr("`{command}` failed (exit {code}): {said}",
               command=shlex.join(words), code=finished.returncode, said=" / ".join(last_lines)),
            hint=hint,
        )  # fmt: skip
    return Completed(finished.returncode, stdout, stderr)


def run_bounded(argv: Argv, *, timeout: float, most: int) -> Completed:
    """Run a command whose output somebody else decides, and wait for its end.

    At most `most` bytes of each stream are kept; with more, or after `timeout` seconds, it is
    killed. Raises LabError only when it cannot be started.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            command_line(words),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise _cannot_start(words[0], error, None) from error
    assert process.stdout is not None
    assert process.stderr is not None
    texts = (bytearray(), bytearray())

    def read(pipe: IO[bytes], text: bytearray) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                text += chunk[: most - len(text) + 1]
                if len(text) > most:
                    process.kill()
                    return

    readers = [
        threading.Thread(target=read, args=pair, daemon=True)
        for pair in zip((process.stdout, process.stderr), texts, strict=True)
    ]
    for reader in readers:
        reader.start()
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        process.kill()
        process.wait()
    for reader in readers:
        reader.join(_DRAIN)  # a descendant may hold the pipe for ever
    stdout, stderr = (decoded(bytes(text[:most])) for text in texts)
    return Completed(process.returncode, stdout, stderr, timed_out)


def spawn(
    argv: Argv,
    *,
    log: Path,
    cwd: Path | None = None,
    unit: str = "",
    properties: Sequence[str] = (),
) -> None:
    """Start a host command that continues after labctl ends; its output goes to `log`.

    On a host with systemd it becomes the service `unit`, with `properties` (systemd.service(5));
    elsewhere, or without `unit`, it gets a session of its own. It is not our child. Find it again
    by its network namespace and not by its process ID, which another process may have got since.
    Raises LabError when it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if unit and SYSTEMD.is_dir():
        _start_service(argv, log, unit, properties)
        return
    with log.open("ab") as sink:
        try:
            subprocess.run(
                ["setsid", "--fork", *(str(word) for word in argv)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                check=True,
            )
        except OSError as error:
            raise _cannot_start("setsid", error, None) from error


def _start_service(argv: Argv, log: Path, unit: str, properties: Sequence[str]) -> None:
    # A service, because a plain process may be killed at the end of the login session (logind's
    # KillUserProcesses) or of the CI job (a service with its KillMode) that started it.
    run(["systemctl", "reset-failed", f"{unit}.service"], check=False)
    wanted = [f"StandardOutput=append:{log}", f"StandardError=append:{log}", *properties]
    run(
        # Type "exec": when systemd-run returns, the process has executed our command.
        ["systemd-run", "--quiet", "--collect", "--service-type=exec",
         f"--unit={unit}", f"--description={unit}",
         *(f"--property={word}" for word in wanted), "--",
         # systemd expands $VARIABLES in a command; "$$" is a plain "$".
         *(str(word).replace("$", "$$") for word in argv)],
        hint=tr("see `systemctl status {unit}` and `journalctl -u {unit}`", unit=unit),
    )  # fmt: skip


def stop_service(unit: str) -> None:
    """Remove a service that `spawn` started, after its processes were ended; waits for that."""
    if SYSTEMD.is_dir():
        run(["systemctl", "stop", f"{unit}.service"], check=False, timeout=120)


@contextlib.contextmanager
def run_at_exit(argv: Argv) -> Iterator[None]:
    """Run a host command at the end of this context, even if labctl is killed before.

    The command starts now and must first read its standard input to the end: that end comes when
    the context, or labctl, ends. Raises LabError when the command cannot be started, or fails.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise _cannot_start(words[0], error, None) from error
    assert process.stdin is not None
    try:
        yield
    finally:
        process.stdin.close()
        code = process.wait(timeout=60)
    if code != 0:
        raise LabError(tr("{command} failed (exit {code})", command=words[0], code=code))


def stream(
    argv: Argv,
    *,
    log: Path,
    timeout: float,
    cancel: Callable[[], bool],
    on_line: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    hint: str | None = None,
) -> None:
    """Run a long host command; every line of its output goes to `log` and to `on_line` at once.

    Raises LabError when it fails or takes more than `timeout` seconds, Cancelled when `cancel()`
    becomes true; then its whole process group is ended.
    """
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    tail: deque[str] = deque(maxlen=4)
    with log.open("ab", buffering=0) as sink:
        sink.write(f"$ {shlex.join(words)}\n".encode())
        try:
            process = start_group(words, output=subprocess.PIPE, env=env)
        except OSError as error:
            raise _cannot_start(words[0], error, hint) from error

        def raise_if_over() -> None:
            if cancel():
                raise Cancelled(words[0])
            if time.monotonic() - began > timeout:
                raise LabError(
                    tr("{command} did not finish within {seconds} s",
                       command=words[0], seconds=f"{timeout:.0f}"),
                    hint=hint,
                )  # fmt: skip

        def handle_line(line: bytes) -> None:
            if text := decoded(line).strip():
                tail.append(text)
                if on_line is not None:
                    on_line(text)

        assert process.stdout is not None
        try:
            chunks = _read_aside(process.stdout)
            incomplete = b""
            while True:
                raise_if_over()
                try:
                    chunk = chunks.get(timeout=0.3)
                except queue.Empty:
                    continue
                if not chunk:
                    break
                sink.write(chunk)
                *lines, incomplete = (incomplete + chunk).split(b"\n")
                for line in lines:
                    handle_line(line)
            handle_line(incomplete)
            while (code := process.poll()) is None:  # it may still run after closing its output
                raise_if_over()
                time.sleep(0.02)
        except BaseException:
            end_group(process)
            raise
    if code != 0:
        failure = LabError(
            tr("{command} failed (exit {code}): {said}",
               command=words[0], code=code, said=" / ".join(tail)),
            hint=hint,
        )  # fmt: skip
        failure.log = log
        raise failure


def _read_aside(pipe: IO[bytes]) -> "queue.Queue[bytes]":
    """What comes out of a pipe, read by a thread; b"" at its end.

    Windows can wait for a socket, but not for a pipe. The thread closes the pipe: a descendant that
    left the group may hold its other end for ever.
    """
    chunks: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                chunks.put(chunk)
        chunks.put(b"")

    threading.Thread(target=read, name="read-output", daemon=True).start()
    return chunks


def _cannot_start(command: str, error: OSError, hint: str | None) -> LabError:
    if isinstance(error, FileNotFoundError) and error.filename == command:
        return LabError(
            tr("the command {command!r} is not installed", command=command),
            hint=hint or tr("install it; README.md, Requirements"),
        )
    return LabError(
        tr("{command!r} cannot be run: {error}", command=command, error=error), hint=hint
    )
