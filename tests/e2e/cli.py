"""The command line as a user runs it, and a look at what a lab leaves on the host."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.documents import expect_said_by


class Cli:
    """labctl on the lab of one directory."""

    def __init__(self, directory: Path, names: list[str]) -> None:
        """`names` collects the lab's ID, by which its leftovers would be known."""
        self.directory = directory
        self._names = names
        self.command_lines: set[bytes] = set()
        """What any user of the host could see of the processes while the lab was created."""

    def _learn_id(self) -> None:
        identity = self.directory / ".labctl" / "lab.json"
        if identity.exists():
            lab_id = json.loads(identity.read_text())["lab_id"]
            # Interfaces on the host carry the first six digits.
            self._names += [name for name in (lab_id, lab_id[:6]) if name not in self._names]

    def run(self, *words: str, timeout: float = 1500) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever that is; but never a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        self._learn_id()
        assert "Traceback" not in done.stdout + done.stderr, _said(words, done)
        self.stderr = done.stderr
        return done

    def __call__(
        self, *words: str, expect: int | tuple[int, ...] = 0, timeout: float = 1500
    ) -> str:
        """Run it to its end; stdout. Fails the test on another exit code than `expect`."""
        done = self.run(*words, timeout=timeout)
        allowed = expect if isinstance(expect, tuple) else (expect,)
        assert done.returncode in allowed, _said(words, done)
        return done.stdout

    def json(self, *words: str, expect: int | tuple[int, ...] = 0) -> Any:
        """Run it with --json; the document, which is as its schema says."""
        return expect_said_by(words, json.loads(self(*words, "--json", expect=expect)))

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Run it in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "labctl", *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill_at(self, event: str, step: str, *words: str, sig: int = signal.SIGKILL) -> None:
        """Run it, and kill it as soon as it has written that event of that step down."""
        log = self.directory / ".labctl" / "events.jsonl"
        begin = log.stat().st_size if log.exists() else 0
        wanted = re.compile(rf'"event": "{event}", "id": "{re.escape(step)}"')

        def written() -> bool:
            if not log.exists():
                return False
            with log.open() as stream:
                stream.seek(begin)
                return wanted.search(stream.read()) is not None

        self.kill_when(written, *words, sig=sig)

    def kill_when(self, true: Callable[[], bool], *words: str, sig: int = signal.SIGKILL) -> None:
        """Run it, and kill it as soon as that is true."""
        process = self.start(*words)
        deadline = time.monotonic() + 600
        try:
            while not true():
                assert process.poll() is None, f"labctl {words} ended before it was to be killed"
                assert time.monotonic() < deadline, f"what labctl {words} waits for never came"
                time.sleep(0.01)
        finally:
            os.kill(process.pid, sig)
            process.wait(timeout=30)
            self._learn_id()


def _said(words: tuple[str, ...], done: "subprocess.CompletedProcess[str]") -> str:
    # What went wrong comes first: a report shortens long texts at their end.
    return f"{words} -> {done.returncode}\n{done.stderr[-4000:]}\n{done.stdout[-4000:]}"


def host_facts() -> dict[str, set[str]]:
    """What a lab could leave on the host: namespaces, mounts, interfaces, processes."""

    def lines(*argv: str) -> set[str]:
        out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return set(out.splitlines())

    mounts = {
        line.split()[4] + " " + line.split(" - ")[1].split()[1]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    }
    return {
        "namespaces": {line.split()[0] for line in lines("ip", "netns", "list") if line},
        "mounts": {mount for mount in mounts if not mount.startswith("/run/netns")},
        "interfaces": {line.split("@")[0].split()[0] for line in lines("ip", "-br", "link")},
        "processes": {
            line
            for line in lines("ps", "-ww", "-eo", "args")
            # (A "<defunct>" one is over and waits for the host's init to take notice.)
            if "<defunct>" not in line
        },
    }


@contextmanager
def learner_at_the_console(cli: Cli, instance: str) -> Iterator[None]:
    """Somebody has the instance's console open, with half a line typed; nobody else types there."""
    pid, fd = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(cli.directory)
        argv = [sys.executable, "-m", "labctl", "ssh", instance, "--console"]
        os.execv(sys.executable, argv)
    seen = b""

    def read(seconds: float) -> None:
        nonlocal seen
        while select.select([fd], [], [], seconds)[0]:
            seen += os.read(fd, 65536)

    try:
        deadline = time.monotonic() + 60
        while not re.search(rb"\$ (\x1b\[6n)?$", seen):
            assert time.monotonic() < deadline, seen
            read(0.2)
        os.write(fd, b"echo half a lin")
        read(1)
        seen = b""
        yield
        read(1)
        assert seen == b"", "somebody typed at the learner's console"
    finally:
        os.write(fd, b"\x1d")
        os.waitpid(pid, 0)
        os.close(fd)


def claims(report: Any) -> dict[str, Any]:
    """The claims of a report, by their ids."""
    return {claim["id"]: claim for one in report["checkpoints"] for claim in one["claims"]}


def failing(cli: Cli) -> set[str]:
    """What of the lesson so far does not hold now; `check` must say it by its exit code, too."""
    # What was just changed in the databases has to reach the nodes first; a dead one never says so.
    on(cli, "network-controller", "ovn-nbctl --timeout=5 --wait=hv sync || true")
    done = cli.run("check", "--all", "--json")
    assert done.returncode in (0, 3), done.stderr[-3000:]
    lost = {id for id, claim in claims(json.loads(done.stdout)).items() if not claim["holds"]}
    assert done.returncode == (3 if lost else 0)
    return lost


def on(cli: Cli, node: str, command: str) -> str:
    """What a command says that somebody runs on a node, with the learner's environment."""
    return cli("ssh", node, "--", "bash", "-c", f". /etc/profile.d/labctl.sh; {command}")


def namespace(lab: Cli, name: str) -> str:
    """The network namespace of a node, or what belongs to it, on the host."""
    lab_id = json.loads((lab.directory / ".labctl" / "lab.json").read_text())["lab_id"]
    return f"labctl-{lab_id}-{name}"


@contextmanager
def watching_command_lines(seen: set[bytes]) -> Iterator[None]:
    """Add the command line of every process of the machine to `seen`, the nodes' included.

    Some hundred looks a second: what lives for a moment only may be missed.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for process in os.listdir("/proc"):  # noqa: PTH208 - a hundred times a second
                if process.isdecimal():
                    with suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:  # noqa: PTH123
                        seen.add(file.read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
