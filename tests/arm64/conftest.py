"""A box for arm64, and labctl in front of a libvirt that emulates such machines."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm.conftest import RIG, VmCli, rig

__all__ = ["rig"]
TOOLS = ("vagrant", "virsh", "dnsmasq", "nsenter", "unshare", "mmdebstrap",
         "qemu-system-aarch64", "qemu-aarch64-static")  # fmt: skip
EMULATED = Path(__file__).with_name("emulated.sh")


class ArmCli(VmCli):
    """labctl inside the rig, with machines that have an Arm processor whatever the host has."""

    def argv(self, *words: str) -> list[str]:
        """As VmCli's."""
        argv = super().argv(*words)
        at = argv.index("env") + 1
        return [*argv[:at], "LABCTL_MACHINE=aarch64", "LABCTL_PATIENCE=60", *argv[at:]]


@pytest.fixture(scope="session")
def home(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vagrant's home with a box for arm64, which has what `stack: ovn` needs."""
    require(*TOOLS, root=True)
    home, boxes = tmp_path_factory.mktemp("vagrant-home"), tmp_path_factory.mktemp("boxes")
    subprocess.run(
        [EMULATED, sys.executable, "-m", "labctl", "box", "build", "--provider", "libvirt",
         "--architecture", "arm64", "--stack", "ovn", "--output", boxes],
        check=True,
    )  # fmt: skip
    (box,) = boxes.glob("*.box")
    # By name: Vagrant 2.4 takes no box of another architecture out of a catalogue.
    subprocess.run(
        ["vagrant", "box", "add", "--name", "labctl/lab", box.name, "--provider", "libvirt"],
        cwd=boxes,
        env={**os.environ, "VAGRANT_HOME": str(home), "VAGRANT_CHECKPOINT_DISABLE": "1"},
        check=True,
    )
    box.unlink()  # Vagrant has a copy
    return home


@pytest.fixture(scope="module")
def make_arm_lab(
    rig: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], ArmCli]]:
    """Takes a lab.yaml; the lab's command line. What it made is destroyed at the end."""
    made: list[ArmCli] = []

    def make(spec: str) -> ArmCli:
        directory = tmp_path_factory.mktemp("lab")
        (directory / "lab.yaml").write_text(spec, encoding="utf-8")
        made.append(ArmCli(directory, rig, home))
        return made[-1]

    yield make
    for cli in made:
        subprocess.run([RIG, "look", rig], timeout=120, check=False)
        cli("destroy")
