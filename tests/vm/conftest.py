"""A libvirt of the tests' own, a box of `labctl box build`, and labctl in front of them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli

RIG = Path(__file__).with_name("rig.sh")
TOOLS = ("vagrant", "virsh", "qemu-system-x86_64", "dnsmasq", "nsenter", "unshare", "mmdebstrap")


class VmCli(Cli):
    """labctl inside the rig: its network and its libvirt are the ones labctl sees."""

    def __init__(self, directory: Path, rig: Path, home: Path) -> None:
        super().__init__(directory, [])
        self._rig = rig
        self._home = home

    def argv(self, *words: str) -> list[str]:
        """labctl's own command line, entered into the rig."""
        return [
            str(RIG), "exec", str(self._rig), "env", "-C", str(self.directory),
            f"VAGRANT_HOME={self._home}", "LABCTL_DOCTOR_IGNORE=no-virtualization",
            sys.executable, "-m", "labctl", *words,
        ]  # fmt: skip

    def run(self, *words: str, timeout: float = 3600) -> "subprocess.CompletedProcess[str]":
        """As Cli.run."""
        done = subprocess.run(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    def __call__(
        self, *words: str, expect: int | tuple[int, ...] = 0, timeout: float = 1500
    ) -> str:
        """As Cli's, and once more after a machine has hung.

        That is its emulator's fault, not labctl's. But it must be sure, and labctl's way out of it,
        `halt` and `up`, has to work.
        """
        try:
            return super().__call__(*words, expect=expect, timeout=timeout)
        except (AssertionError, subprocess.TimeoutExpired):
            subprocess.run([RIG, "look", self._rig], timeout=120, check=False)
            if not (hung := self.hung()):
                raise
        sys.stderr.write(f"{hung} hung during `labctl {' '.join(words)}`\n")
        # What a test gave up waiting for still runs.
        subprocess.run([RIG, "exec", self._rig, "pkill", "-KILL", "-f", "-m labctl"], check=False)
        super().__call__("halt")
        if words[0] not in ("create", "halt"):
            super().__call__("up")
        return super().__call__(*words, expect=expect, timeout=timeout)

    def hung(self) -> list[str]:
        """Machines that run, and whose kernel does not answer a key on its console."""
        running = self.in_rig("virsh", "-q", "list", "--name", "--state-running").split()
        return [
            name
            for name in running
            if subprocess.run([RIG, "awake", self._rig, name], check=False).returncode != 0
        ]

    def in_rig(self, *words: str) -> str:
        """A command in the rig; its stdout."""
        return subprocess.run(
            [str(RIG), "exec", str(self._rig), *words], capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture(scope="session")
def rig(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require(*TOOLS, root=True)
    directory = tmp_path_factory.mktemp("rig")
    subprocess.run([RIG, "start", directory], check=True)
    yield directory
    subprocess.run([RIG, "stop", directory], check=True)


@pytest.fixture(scope="session")
def home(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vagrant's home with the box in it, made and added as docs/boxes.md says."""
    require(*TOOLS, root=True)
    home, boxes = tmp_path_factory.mktemp("vagrant-home"), tmp_path_factory.mktemp("boxes")
    labctl = [sys.executable, "-m", "labctl"]
    subprocess.run(
        [*labctl, "box", "build", "--provider", "libvirt", "--output", boxes], check=True
    )
    subprocess.run(
        ["vagrant", "box", "add", "labctl-lab.json", "--provider", "libvirt"],
        cwd=boxes,
        env={**os.environ, "VAGRANT_HOME": str(home), "VAGRANT_CHECKPOINT_DISABLE": "1"},
        check=True,
    )
    for box in boxes.glob("*.box"):
        box.unlink()  # Vagrant has a copy
    return home


@pytest.fixture(scope="module")
def make_vm_lab(
    rig: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], VmCli]]:
    """Takes a lab.yaml; the lab's command line. What it made is destroyed at the end."""
    made: list[VmCli] = []

    def make(spec: str) -> VmCli:
        directory = tmp_path_factory.mktemp("lab")
        (directory / "lab.yaml").write_text(spec, encoding="utf-8")
        made.append(VmCli(directory, rig, home))
        return made[-1]

    yield make
    for cli in made:
        cli("destroy")
        assert not [
            name
            for words in (["list"], ["net-list"])
            for name in cli.in_rig("virsh", "-q", *words, "--all", "--name").split()
            if name.startswith("labctl-")
        ]
