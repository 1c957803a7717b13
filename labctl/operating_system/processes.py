"""Processes and their groups, CPUs, output."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from io import TextIOWrapper
from typing import IO, NoReturn

from labctl.operating_system.programs import command_line

END_TIMEOUT = 5.0
"""Seconds that processes may take to end after a signal."""


def usable_cpus() -> int:
    """Number of CPUs that this process may use, on macOS and Windows of all that are there."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def start_group(
    argv: list[str], *, output: int | IO[bytes], env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command, away from the terminal's Ctrl-C; `end_group` ends it and its descendants.

    Both its streams go to `output`. Raises OSError.
    """
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(
        command_line(argv),
        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env,
        start_new_session=sys.platform != "win32", creationflags=flags,
    )  # fmt: skip


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End what `start_group` started, and its descendants; kill those that do not end by a signal.

    Windows has no signal that a program without a window would take, so there all are killed.
    """
    if sys.platform == "win32":
        subprocess.run(
            command_line(["taskkill", "/T", "/F", "/PID", str(process.pid)]),
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    else:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + END_TIMEOUT
            try:
                os.killpg(process.pid, sig)
                # Signal 0 only asks whether anybody in the group lives; the first process may end
                # before the others.
                while time.monotonic() < until:
                    process.poll()
                    os.killpg(process.pid, 0)
                    time.sleep(0.02)
            # Where only zombies are left, macOS says "not permitted" instead of "no such process".
            except (ProcessLookupError, PermissionError):
                break
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def become(argv: list[str]) -> NoReturn:
    """Go on as another program, which has our terminal, and whose exit code is ours.

    Raises OSError when it cannot be started.
    """
    if sys.platform != "win32":
        os.execvp(argv[0], argv)
    else:
        # There is no exec on Windows: the C library's starts a second process and ends this one, so
        # that the shell takes the terminal back at once. Ctrl-C is for the program alone.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(subprocess.call(command_line(argv)))


def write_utf8() -> None:
    """Write UTF-8 into files and pipes, whatever the code page (cp950, cp1252) of Windows is.

    To its console Python writes Unicode anyhow.
    """
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8")
