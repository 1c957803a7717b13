"""The only door to subprocess on the host: argv lists, a deadline, errors that say what failed."""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import Cancelled, LabError
from labctl.i18n import tr

__all__ = ["CommandFailed", "Completed", "outlived_by", "retire", "run", "spawn", "stream"]

CommandFailed = subprocess.CalledProcessError
"""What a library that runs commands itself raises (python-vagrant)."""

Argv = Sequence[str | Path]
PATIENCE = 5.0
"""Seconds a command may take to end after it was asked to."""
SYSTEMD = Path("/run/systemd/system")
"""Is there exactly when systemd runs this host (sd_booted(3))."""


@dataclass(frozen=True)
class Completed:
    """What a finished command left: exit code and both streams as text."""

    returncode: int
    stdout: str
    stderr: str


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
    """Run a host command to its end.

    `timeout` is in seconds. Raises LabError when the command is missing, takes too long, or (with
    `check`) exits non-zero; the message carries the command and the last lines it printed.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            env=None if env is None else dict(env),
            check=False,
        )
    except OSError as error:
        raise _cannot_start(words[0], error, hint) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            tr("`{command}` did not finish within {seconds} s",
               command=shlex.join(words), seconds=f"{timeout:.0f}"),
            hint=hint,
        ) from error  # fmt: skip
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-4:]
        raise LabError(
            tr("`{command}` failed (exit {code}): {said}",
               command=shlex.join(words), code=done.returncode, said=" / ".join(said)),
            hint=hint,
        )  # fmt: skip
    return Completed(done.returncode, done.stdout, done.stderr)


def spawn(
    argv: Argv,
    *,
    log: Path,
    cwd: Path | None = None,
    unit: str = "",
    properties: Sequence[str] = (),
) -> None:
    """Start a host command that outlives us; its output goes to `log`.

    Where systemd runs the host it becomes the service `unit`, with `properties` of systemd.service;
    elsewhere, or without a name, it gets a session of its own. It is not our child: whoever spawned
    it finds it again by its network namespace, never by a process ID that another process may have
    inherited. Raises LabError when it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if unit and SYSTEMD.is_dir():
        _serve(argv, log, unit, properties)
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


def _serve(argv: Argv, log: Path, unit: str, properties: Sequence[str]) -> None:
    # A service, because a mere process ends with the login session (or the CI job, itself a
    # service) it was started from, wherever logind or the job's KillMode says so.
    run(["systemctl", "reset-failed", f"{unit}.service"], check=False)
    wanted = [f"StandardOutput=append:{log}", f"StandardError=append:{log}", *properties]
    run(
        # Of type "exec", so that the process is what we asked for when systemd-run is over.
        ["systemd-run", "--quiet", "--collect", "--service-type=exec",
         f"--unit={unit}", f"--description={unit}",
         *(f"--property={word}" for word in wanted), "--",
         # systemd expands variables in a command; nobody else does.
         *(str(word).replace("$", "$$") for word in argv)],
        hint=tr("see `systemctl status {unit}` and `journalctl -u {unit}`", unit=unit),
    )  # fmt: skip


def retire(unit: str) -> None:
    """Wait until nothing is left of a service that `spawn` started and whose processes are gone."""
    if SYSTEMD.is_dir():
        run(["systemctl", "stop", f"{unit}.service"], check=False, timeout=120)


@contextlib.contextmanager
def outlived_by(argv: Argv) -> Iterator[None]:
    """Have a host command do something at the end of this context, even if we are killed in it.

    Its standard input stays open until then; it is to read that to the end before it works. Raises
    LabError when it cannot be started, or fails.
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
    """Run a long host command: every line goes to `log` and to `on_line` as it comes.

    Raises LabError when it fails or takes more than `timeout` seconds, Cancelled when `cancel()`
    turns true; its whole process group is ended then.
    """
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    tail: deque[str] = deque(maxlen=4)
    with log.open("ab", buffering=0) as sink:
        sink.write(f"$ {shlex.join(words)}\n".encode())
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if env is None else dict(env),
            )
        except OSError as error:
            raise _cannot_start(words[0], error, hint) from error

        def still_wanted() -> None:
            if cancel():
                raise Cancelled(words[0])
            if time.monotonic() - began > timeout:
                raise LabError(
                    tr("{command} did not finish within {seconds} s",
                       command=words[0], seconds=f"{timeout:.0f}"),
                    hint=hint,
                )  # fmt: skip

        def take(line: bytes) -> None:
            if text := line.decode(errors="replace").strip():
                tail.append(text)
                if on_line is not None:
                    on_line(text)

        assert process.stdout is not None
        try:
            with process.stdout, selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                rest = b""
                while True:
                    still_wanted()
                    if not selector.select(0.3):
                        continue
                    chunk = os.read(process.stdout.fileno(), 65536)
                    if not chunk:
                        break
                    sink.write(chunk)
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        take(line)
                take(rest)
            while (code := process.poll()) is None:  # it may go on after closing its output
                still_wanted()
                time.sleep(0.02)
        except BaseException:
            _end_group(process)
            raise
    if code != 0:
        failure = LabError(
            tr("{command} failed (exit {code}): {said}",
               command=words[0], code=code, said=" / ".join(tail)),
            hint=hint,
        )  # fmt: skip
        failure.log = log
        raise failure


def _cannot_start(command: str, error: OSError, hint: str | None) -> LabError:
    if isinstance(error, FileNotFoundError) and error.filename == command:
        return LabError(
            tr("the command {command!r} is not installed", command=command),
            hint=hint or tr("install it; README.md, Requirements"),
        )
    return LabError(
        tr("{command!r} cannot be run: {error}", command=command, error=error), hint=hint
    )


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all its descendants that share its group; the deaf ones by force."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + PATIENCE
        try:
            os.killpg(process.pid, sig)
            # The first process may be gone before the others: the group is asked, not only it.
            while time.monotonic() < until:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            break
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
