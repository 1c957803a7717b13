"""The lab of lab.yaml, made ready for OVN's tests."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labctl.providers import netns

SCRIPTS = Path(__file__).parent


class NodesError(Exception):
    """labctl, or a command in a node, has failed."""


class Nodes:
    """The nodes of a lab of containers, entered by their inits' process IDs."""

    def __init__(self, directory: Path) -> None:
        """`directory` holds nothing yet, or the lab."""
        self.directory = directory
        self.inits: dict[str, int] = {}
        """{name: process ID on the host}, once they run."""

    def create(self) -> None:
        """Make the lab of lab.yaml. Raises NodesError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        spec = (SCRIPTS / "lab.yaml").read_text(encoding="utf-8")
        (self.directory / "lab.yaml").write_text(spec, encoding="utf-8")
        self._labctl("create")
        identity = json.loads((self.directory / ".labctl/lab.json").read_text(encoding="utf-8"))
        prefix = f"labctl-{identity['lab_id']}-"
        for namespace in netns.listed(prefix):
            if (init := container_init(netns.processes(namespace))) is not None:
                self.inits[namespace.removeprefix(prefix)] = init

    def destroy(self) -> None:
        """Destroy it, whatever the tests have left in it. Raises NodesError."""
        self._labctl("destroy")

    def prepare(self, packages: Sequence[Path]) -> None:
        """On each node prepare.sh, create_fake_vm.sh and the packages. Raises NodesError."""
        for node in self.inits:
            self.run(node, ["mkdir", "-p", "/data"])
            fake = (SCRIPTS / "create_fake_vm.sh").read_bytes()
            self.run(node, ["tee", "/data/create_fake_vm.sh"], fake)
            self.run(node, ["chmod", "755", "/data/create_fake_vm.sh"])
            for package in packages:
                self.run(node, ["tee", f"/data/{package.name}"], package.read_bytes())
                self.run(node, ["dpkg", "--install", f"/data/{package.name}"])
            self.run(node, ["bash", "-s"], (SCRIPTS / "prepare.sh").read_bytes())

    def run(self, node: str, command: Sequence[str], content: bytes = b"") -> bytes:
        """A command in a node, with `content` to read; its stdout. Raises NodesError."""
        done = subprocess.run(
            ["nsenter", f"--target={self.inits[node]}", "--all", "--root", "--",
             "env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
             "LC_ALL=C.UTF-8", *command],
            input=content, capture_output=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            output = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise NodesError(f"{node}: {' '.join(command)}: {output[-2000:]}")
        return done.stdout

    def _labctl(self, verb: str) -> None:
        words = [sys.executable, "-m", "labctl", "--lang", "en", verb]
        if subprocess.run(words, cwd=self.directory, timeout=3600, check=False).returncode != 0:
            raise NodesError(f"`labctl {verb}` in {self.directory} has failed; see above")


def container_init(processes: Sequence[int]) -> int | None:
    """Of the processes of a container that which is 1 within: its number on the host, or None."""
    for process in processes:
        try:
            status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        except OSError:  # it has just ended
            continue
        # NSpid: the process ID here, then in each PID namespace within (proc_pid_status(5)).
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if len(numbers) == 3 and numbers[-1] == "1":
            return process
    return None
