"""Windows for the tests of this level: a bare one, and one with Vagrant, VirtualBox and ssh."""

import subprocess
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from tests.unit.providers import fake_vagrant
from tests.windows.rig import CHECKOUT, HOME, SOURCE, TOOLS, Done, Windows, windows

WORLD = PureWindowsPath(r"C:\world\world")
VAGRANT = PureWindowsPath(r"C:\Program Files\Vagrant\bin\vagrant.exe")
VBOXMANAGE = PureWindowsPath(r"C:\Program Files\Oracle\VirtualBox\VBoxManage.exe")
SSH = PureWindowsPath(r"C:\Windows\System32\OpenSSH\ssh.exe")
POWERSHELL = WORLD.parent / "bin" / "powershell.exe"
"""In the place of Windows' own wine runs the one that it brings along, which prints nothing."""
LAB_YAML = "name: x\nprovider: virtualbox\nstack: ovn\n"
NODES = ("network-controller", "compute-01")


@pytest.fixture(scope="session")
def system(require: Callable[..., None]) -> Iterator[Windows]:
    """A Windows with labctl, and without Vagrant, VirtualBox and ssh."""
    require(*TOOLS, root=True)
    with windows() as made:
        yield made


class Laptop:
    """A Windows with a Vagrant and a VirtualBox that are a text, and a lab that is to be made."""

    def __init__(self, system: Windows, lab: PureWindowsPath) -> None:
        self.system = system
        self.lab = lab
        own = {name: (SOURCE / name).read_bytes() for name in ("fake_hypervisor.py",)}
        own["fake_vagrant.py"] = Path(fake_vagrant.__file__).read_bytes()
        for path in (VAGRANT, VBOXMANAGE, SSH, POWERSHELL):
            main = (
                f"import sys\nsys.argv.insert(1, {path.stem!r})\n"
                "import fake_hypervisor\nfake_hypervisor.main()\n"
            )
            system.program(path, {**own, "__main__.py": main.encode()})
        self.set(
            machines={}, volumes=[], networks={}, fail={}, slow={}, forgets_snapshots=False, held=0,
            boxes=[["labctl/lab", "virtualbox", "1"]],
            ports={name: 2201 + number for number, name in enumerate(NODES)}, hangs=False,
            hyperv=[],
        )  # fmt: skip
        system.write(lab / "lab.yaml", LAB_YAML.encode())
        key = system.path(HOME / ".vagrant.d" / "insecure_private_key")
        system.write(HOME / ".vagrant.d" / "rgloader" / "loader.rb", b"")
        self._nodes = subprocess.Popen(
            ["nsenter", f"--target={system.pid}", "--net", "--", sys.executable, "-m",
             "tests.windows.nodes", system.path(WORLD), system.path(lab / "lab.yaml"), key],
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._nodes.stdout is not None
        assert self._nodes.stdout.readline() == "ready\n"
        key.chmod(0o644)

    def close(self) -> None:
        """End the nodes."""
        assert self._nodes.stdin is not None
        assert self._nodes.stdout is not None
        self._nodes.stdin.close()
        self._nodes.wait(timeout=30)
        self._nodes.stdout.close()

    def __getitem__(self, what: str) -> Any:
        return literal_eval(self.system.path(WORLD).read_text(encoding="utf-8"))[what]

    def set(self, **values: Any) -> None:
        """Change the world."""
        file = self.system.path(WORLD)
        world = literal_eval(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.system.write(WORLD, repr(world | values).encode())

    @property
    def states(self) -> dict[str, str]:
        """Machine -> state."""
        return {name: machine["state"] for name, machine in self["machines"].items()}

    def labctl(self, *words: str, **environment: str) -> Done:
        """Run labctl in the lab's directory; it waits longer, for wine starts programs slowly."""
        return self.system.labctl(
            *words, directory=self.lab, **{"LABCTL_PATIENCE": "20", **environment}
        )


@pytest.fixture(scope="session")
def laptop(require: Callable[..., None]) -> Iterator[Laptop]:
    """A Windows with all that a lab needs, and a lab.yaml in a directory of two languages."""
    require(*TOOLS, root=True)
    with windows() as made:
        found = Laptop(made, HOME / "文件" / "實驗 lab")
        yield found
        found.close()
