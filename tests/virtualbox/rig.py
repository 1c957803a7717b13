"""Real Vagrant and real VirtualBox on a machine that has neither, nor a hypervisor.

VirtualBox comes from Debian sid, in a root file system of its own. It runs without a kernel driver,
in its interpreter, which executes every guest instruction in software: some thousand times
slower than the machine, enough for a tiny guest with an SSH server. All of it lives in mount, PID
and network namespaces that hold a loopback and nothing else: no packet leaves, and every process
ends with them. README.md says what is real here and what is not.

    python -m tests.virtualbox.rig build            make what is missing, print where it is
    python -m tests.virtualbox.rig exec [--work DIR] [--see DIR]... -- COMMAND...

In `exec` the command is one of this machine, in the current directory. `vagrant` and `VBoxManage`
are on its PATH; `in-rig COMMAND` runs anything else beside them.
"""

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from labctl.providers.vagrant.vboxmanage_errors import passes

SOURCE = Path(__file__).resolve().parent
SUITE = "sid"
BOX = "labctl-tiny"
"""Name under which tests add the box."""

_ROOT_RECIPE = ("packages.list", "root.sh", "launcher.c")
_BOX_RECIPE = ("box.sh", "guest")

# In a mount namespace of its own, for mmdebstrap makes all mounts of the one it runs in private;
# in a PID namespace, so that everything ends with whoever started it, even by kill -9.
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork",
          "--kill-child", "--mount-proc")  # fmt: skip
"""The words before a command that runs in namespaces of its own."""

TOOLS = ("mmdebstrap", "setpriv", "unshare", "nsenter", "ip", "chroot", "mount")
"""Commands of this machine that the rig needs; root besides."""


def cache() -> Path:
    """Where the root and the box are kept, beside labctl's own images."""
    return Path(os.environ.get("LABCTL_CACHE") or "/var/cache/labctl").expanduser() / "test"


def key(names: Sequence[str], *more: str) -> str:
    """A hash of files of this directory, of the suite and of `more`: names what is made of them."""
    digest = hashlib.sha256("\0".join((SUITE, *more)).encode())
    for name in names:
        top = SOURCE / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            digest.update(f"{path.relative_to(SOURCE)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def only_one() -> Iterator[None]:
    """The right to make things in the cache, which one process has at a time."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "virtualbox.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def root() -> Path:
    """The root file system with Vagrant and VirtualBox, made if it is not there (a minute)."""
    with only_one():
        return _root()


def _root() -> Path:
    made = cache() / f"virtualbox-{key(_ROOT_RECIPE)}"
    if made.is_dir():
        return made
    partial = made.with_name(made.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    lines = (SOURCE / "packages.list").read_text(encoding="utf-8").splitlines()
    packages = [word for line in lines for word in line.partition("#")[0].split()]
    mirror = os.environ.get("LABCTL_MIRROR")
    hook = f'sh {shlex.quote(str(SOURCE / "root.sh"))} "$1" {shlex.quote(str(SOURCE))}'
    logged(
        [
            *ALONE, "mmdebstrap", "--mode=root", "--variant=minbase",
            "--components=main,contrib",
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=Acquire::Check-Valid-Until "false"',
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            f"--include={','.join(packages)}",
            f"--customize-hook={hook}",
            SUITE, str(partial), *([mirror] if mirror else []),
        ],
        made.with_suffix(".log"),
    )  # fmt: skip
    partial.rename(made)
    return made


def box() -> Path:
    """The tiny Vagrant box for VirtualBox, made if it is not there (seconds)."""
    with only_one():
        base = _root()
        made = cache() / f"virtualbox-{key(_BOX_RECIPE, base.name)}.box"
        if made.is_file():
            return made
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            output = Path(scratch) / "labctl.images.box"
            with Rig(Path(scratch), see=[SOURCE], base=base) as rig:
                script = str(SOURCE / "box.sh")
                argv = ["in-rig", "bash", script, str(SOURCE), str(output)]
                logged(rig.argv(argv), made.with_suffix(".log"), env=rig.environment())
            output.rename(made)
        return made


def logged(argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
    """Run a command, its output in the file `log`. Raises RuntimeError with the last of it."""
    with log.open("wb") as sink:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise RuntimeError(f"{shlex.join(argv)}\nfailed with {done.returncode}; {log}:\n{tail}")


TRIES = 3
"""Of a VBoxManage whose service is just starting or ending."""


class Rig:
    """The namespaces with VirtualBox in them, while the `with` block lasts.

    What is on disks stays below `work` (VirtualBox's and Vagrant's homes): a second rig on the same
    directory finds the machines of the first, powered off as after a power cut.
    """

    def __init__(self, work: Path, see: Sequence[Path] = (), base: Path | None = None) -> None:
        """`see`: directories VirtualBox and Vagrant may see, besides `work` and the cache."""
        self.work = work.resolve()
        self._see = [self.work, cache().resolve(), *(path.resolve() for path in see)]
        self._base = base
        self._holder: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> "Rig":
        base = self._base or root()
        self.work.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            [*ALONE, "--net", "bash", str(SOURCE / "enter.sh"), str(base), str(SOURCE),
             *map(str, self._see)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self._close()
            raise RuntimeError("the rig could not be set up; its message is above")
        pid = self._holder.pid
        self._pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._holder is not None:
            assert self._holder.stdin is not None
            assert self._holder.stdout is not None
            self._holder.stdin.close()
            self._holder.wait(timeout=30)
            self._holder.stdout.close()
            self._holder = None

    def argv(self, argv: Sequence[str | Path], cwd: Path | None = None) -> list[str]:
        """The command line that runs `argv` in there, in the directory `cwd` (default: `work`)."""
        assert self._pid, "only inside the with block"
        # The directory is entered afterwards: one that was entered before would be the machine's,
        # which has no path in there.
        return ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--net", "--",
                "sh", "-c", 'cd "$0" && exec "$@"', str(cwd or self.work),
                *map(str, argv)]  # fmt: skip

    def environment(self, **more: str) -> dict[str, str]:
        """The environment it needs: this process's own, with the rig's commands on PATH."""
        return {
            **os.environ,
            "PATH": f"{self.work}/rig/bin:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "HOME": f"{self.work}/home",
            "LC_ALL": "C.UTF-8",
            "LOGNAME": "root",
            "USER": "root",
            "VAGRANT_HOME": f"{self.work}/vagrant",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "LABCTL_RIG_WORK": str(self.work),
            **more,
        }

    def start(
        self, argv: Sequence[str | Path], *, cwd: Path | None = None, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start a command of this machine in there; options are those of Popen."""
        options.setdefault("env", self.environment())
        return subprocess.Popen(self.argv(argv, cwd), text=True, **options)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        timeout: float = 900,
        check: bool = True,
        **more: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in there to its end; `more` are environment variables.

        With `check` a failure raises RuntimeError with what the command said. A VBoxManage that
        met its service at the wrong moment is asked again, as a person would (see
        labctl/providers/virtualbox/service.py).
        """
        for _ in range(TRIES):
            done = subprocess.run(
                self.argv(argv, cwd), env=self.environment(**more), text=True,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
            )  # fmt: skip
            if argv[0] != "VBoxManage" or done.returncode == 0 or not passes(done.stderr):
                break
            time.sleep(2)
        if check and done.returncode != 0:
            command = shlex.join(map(str, argv))
            raise RuntimeError(
                f"{command} failed with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def add_box(self, name: str = BOX) -> None:
        """`vagrant box add` of the tiny box."""
        self.run(["vagrant", "box", "add", "--name", name, box()])

    def definition(self, machine: str) -> dict[str, str]:
        """What VBoxManage said of the machine when it was last started: key -> value."""
        text = (self.work / "definitions" / machine).read_text(encoding="utf-8")
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key.strip('"'): value.strip('"') for key, _, value in pairs}

    def calls(self) -> list[str]:
        """Every call of VBoxManage so far: its arguments as one line, after the time."""
        log: IO[str]
        with (self.work / "vboxmanage.log").open(encoding="utf-8") as log:
            return log.read().splitlines()


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.virtualbox.rig")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make the root and the box if they are not there")
    enter = verbs.add_parser("exec", help="run a command with Vagrant and VirtualBox on its PATH")
    enter.add_argument("--work", type=Path, help="keep machines and boxes in this directory")
    enter.add_argument("--see", type=Path, action="append", default=[], metavar="DIR")
    enter.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.verb == "build":
        sys.stdout.write(f"{root()}\n{box()}\n")
        return 0
    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not command:
        enter.error("no command given")
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="labctl-rig-") as scratch:
        work = arguments.work or Path(scratch)
        with Rig(work, see=[here, *arguments.see]) as rig:
            return rig.start(command, cwd=here).wait()


if __name__ == "__main__":
    raise SystemExit(main())
