"""A box for arm64, and labctl in front of a libvirt that emulates such machines."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.virtualbox.rig import cache
from tests.vm.conftest import RIG, VmCli, rig

__all__ = ["rig"]
TOOLS = ("vagrant", "virsh", "dnsmasq", "nsenter", "unshare", "mmdebstrap",
         "qemu-system-aarch64", "qemu-aarch64-static")  # fmt: skip
EMULATED = Path(__file__).with_name("emulated.sh")
REPOSITORY = Path(__file__).parents[2]


class ArmCli(VmCli):
    """labctl inside the rig, with machines that have an Arm processor whatever the host has."""

    def argv(self, *words: str) -> list[str]:
        """As VmCli's."""
        argv = super().argv(*words)
        at = argv.index("env") + 3  # after `env -C DIRECTORY`
        return [*argv[:at], "LABCTL_MACHINE=aarch64", "LABCTL_PATIENCE=60", *argv[at:]]


def _box() -> Path:
    """The box for arm64 with what `stack: ovn` needs, made if the cache has none of this recipe.

    Its packages take half an hour under an emulator and more. They are labctl's own baked image, so
    that a changed recipe of the box alone takes minutes.
    """
    recipe = hashlib.sha256()
    for folder in ("provision", "labctl/images"):
        for file in sorted((REPOSITORY / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                recipe.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    boxes = cache() / f"arm64-{recipe.hexdigest()[:16]}"
    if not boxes.is_dir():
        partial = boxes.with_name(boxes.name + ".partial")
        subprocess.run(
            [EMULATED, sys.executable, "-m", "labctl", "box", "build", "--provider", "libvirt",
             "--architecture", "arm64", "--stack", "ovn", "--output", partial],
            check=True,
        )  # fmt: skip
        partial.rename(boxes)
    (box,) = boxes.glob("*.box")
    return box


@pytest.fixture(scope="session")
def home(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vagrant's home with a box for arm64, which has what `stack: ovn` needs."""
    require(*TOOLS, root=True)
    home, box = tmp_path_factory.mktemp("vagrant-home"), _box()
    shutil.copy(Path(__file__).with_name("vagrant-home.rb"), home / "Vagrantfile")
    # By name: Vagrant 2.4 takes no box of another architecture out of a catalogue.
    subprocess.run(
        ["vagrant", "box", "add", "--name", "labctl/lab", box.name, "--provider", "libvirt"],
        cwd=box.parent,
        env={**os.environ, "VAGRANT_HOME": str(home), "VAGRANT_CHECKPOINT_DISABLE": "1"},
        check=True,
    )
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
