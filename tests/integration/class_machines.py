"""Learners' machines and a teacher's laptop: real OpenSSH servers, real keys, labctl in each.

A machine is an sshd in a mount namespace where root's home is a directory of the test, on 127.0.0.1
with a port of its own. Nothing of this machine's own is written.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from labctl.access import keys
from labctl.lab import Lab
from tests.documents import expect_said_by
from tests.integration.own_sshd import start_sshd

TOOLS = ("sshd", "ssh", "ssh-keygen", "unshare")
_INSIDE = """set -e
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
# Terminals of its own: what is told to all of a user's reaches nobody who works here.
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
mkdir -p /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""
_LABCTL = f'#!/bin/sh\nexec {sys.executable} -m labctl "$@"\n'


class Machine:
    """An SSH server that lets `key` in as root."""

    def __init__(self, directory: Path, sshd: str, key: Path) -> None:
        directory.mkdir()
        self.directory, self.home = directory, directory / "root"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.home.chmod(0o700)
        self.authorized = self.home / ".ssh/authorized_keys"
        self.authorized.write_text(f"# the owner's\n{keys.public(key).strip()} owner")
        self.authorized.chmod(0o600)
        (self.home / "bin").mkdir()
        self.labctl(_LABCTL)
        others = [line for line in Path("/etc/passwd").read_text().splitlines()
                  if not line.startswith("root:")]  # fmt: skip
        users = [f"root:x:0:0::{self.home}:/bin/sh", *others]
        (directory / "passwd").write_text("\n".join(users) + "\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._sshd = sshd
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def labctl(self, script: str) -> None:
        """What `labctl` is on the machine."""
        (self.home / "bin/labctl").write_text(script)
        (self.home / "bin/labctl").chmod(0o755)

    def start(self) -> None:
        """Start it with a new host key."""
        host_key = self.directory / "host_key"
        host_key.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True)
        (self.directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {host_key}\n"
            f"PidFile {self.directory}/pid\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nStrictModes no\n"
            f"SetEnv PATH={self.home}/bin:/usr/sbin:/usr/bin:/sbin:/bin LABCTL_NO_SUDO=1"
            f" TMUX_TMPDIR={self.home}\n"
        )
        self._process = start_sshd(
            _INSIDE, ["machine", self.directory, self._sshd], self.directory / "log", self.port,
            (self.directory / "log").read_text,
        )  # fmt: skip

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lab(self) -> Lab:
        """A lab that was created there, as far as its files tell; its nodes do not run."""
        (self.home / "lab").mkdir()
        (self.home / "lab/lab.yaml").write_text("name: mine\nstack: ovn\nprovider: nspawn\n")
        lab = Lab(self.home / "lab/lab.yaml")
        lab.state.begin("mine", "nspawn")
        lab.state.created.touch()
        return lab

    def files(self) -> dict[str, str]:
        return {
            f"{path.relative_to(self.home)} {path.lstat().st_mode:o}": (
                path.read_text() if path.is_file() else ""
            )
            for path in sorted(self.home.rglob("*"))
        }


class Teacher:
    """A laptop: a directory with class.yaml and the key that the machines let in."""

    def __init__(self, directory: Path, key: Path) -> None:
        self.directory = directory
        directory.mkdir()
        shutil.copy(key, directory / "owner.key")

    def writes(self, machines: dict[str, int], **more: object) -> None:
        """A class.yaml; {learner: port}."""
        rows = [{"address": "127.0.0.1", "port": port, "learner": learner}
                for learner, port in machines.items()]  # fmt: skip
        spec = {"name": "day", "engine": "ssh", "user": "root", "learners": list(machines),
                "ssh": {"key": "owner.key", "machines": rows}, **more}  # fmt: skip
        (self.directory / "class.yaml").write_text(yaml.safe_dump(spec))

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "labctl", "--lang", "en", "class", *words],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=200,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert "labctl itself broke" not in done.stderr, done.stderr
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        done = self(*words, "--json")
        assert done.returncode == code, done.stderr
        return expect_said_by(("class", words[0]), json.loads(done.stdout))


@contextmanager
def running(directory: Path, key: Path, *names: str) -> Iterator[list[Machine]]:
    """A machine of each name, below the directory; both keys of `key` are made by `keys.ensure`."""
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    assert sshd is not None
    made: list[Machine] = []
    try:
        for name in names:
            made.append(Machine(directory / name, sshd, key))
        yield made
    finally:
        for machine in made:
            machine.stop()
