"""scripts/setup.sh: what it installs for which nodes, in the shells that hosts have.

The host is played by a PATH of its own: an apt-get and a sudo that write down what they are asked,
a uname, and links to what any system has. No bash 3.2, which macOS has, could be had; dash, busybox
and posh know less than it does.
"""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLS = (["dash"], ["busybox", "sh"], ["posh"], ["bash"])
COMMON = (
    "awk",
    "cat",
    "dirname",
    "env",
    "find",
    "grep",
    "id",
    "mktemp",
    "printf",
    "rm",
    "sed",
    "tr",
)
CONTAINERS = {"mmdebstrap", "systemd-container"}
LIBVIRT = {"vagrant", "vagrant-libvirt", "libvirt-daemon-system", "libvirt-clients", "qemu-utils"}
ANY = ("make", "ssh", "python3")
MADE_BY_APT = (
    "mmdebstrap systemd-nspawn unshare mount ip ethtool nft sysctl modprobe"
    " vagrant libvirtd virsh qemu-system-x86_64 qemu-img dnsmasq"
)


@dataclass
class Host:
    """A host with little on it, and the shell that setup.sh runs in there."""

    directory: Path
    shell: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def program(self, name: str, script: str = "") -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def lab(self, provider: str) -> None:
        text = f"name: x\nprovider: {provider} # or another\n"
        (self.directory / "lab.yaml").write_text(text, encoding="utf-8")

    @property
    def argv(self) -> list[str]:
        return [*self.shell, str(self.directory / "scripts" / "setup.sh"), "system"]

    def setup(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv, env=self.env, cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip

    def setup_at_a_terminal(self, *answers: str) -> str:
        """What it says when somebody types the answers."""
        ours, terminal = pty.openpty()
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        done = subprocess.run(
            self.argv, env=self.env, cwd="/", stdin=terminal, stdout=subprocess.PIPE,
            stderr=terminal, check=False, timeout=50,
        )  # fmt: skip
        os.close(terminal)
        said = os.read(ours, 100_000).decode()
        os.close(ours)
        assert done.returncode == 0, said
        return said

    @property
    def installed(self) -> set[str]:
        """The packages that apt-get was asked for."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        (words, *_) = [line.split() for line in lines if " install " in line] or [[]]
        return {word for word in words if word[0] != "-"} - {"apt-get", "install"}


@pytest.fixture(params=SHELLS, ids=" ".join)
def host(request: pytest.FixtureRequest, tmp_path: Path, require: Callable[..., None]) -> Host:
    """A Linux host that has apt and nothing that nodes need."""
    shell: Sequence[str] = request.param
    require(shell[0])
    path = shutil.which(shell[0])
    assert path is not None
    made = Host(tmp_path, [path, *shell[1:]])
    for name in ("scripts", "bin"):
        (tmp_path / name).mkdir()
    # Its own file, and no /usr/sbin: whatever this machine has there is not on that host.
    script = (ROOT / "scripts/setup.sh").read_text("utf-8")
    script = script.replace("\nPATH=$PATH:/usr/sbin:/sbin ", "\nPATH=$PATH ")
    (tmp_path / "scripts/setup.sh").write_text(script, encoding="utf-8")
    for name in COMMON:
        if found := shutil.which(name):
            (made.bin / name).symlink_to(found)
    for name in ANY:
        made.program(name)
    (made.bin / "python3").unlink()
    (made.bin / "python3").symlink_to(sys.executable)
    made.program("uname", "echo Linux")
    made.program("dpkg")
    made.program("apt-cache")
    made.program("sudo", f'echo "sudo $*" >>{made.log}; exec "$@"')
    made.program(
        "apt-get",
        f"""echo "apt-get $*" >>{made.log}
        [ "$1" = install ] || exit 0
        for name in {MADE_BY_APT}; do ln -sf {made.bin}/true {made.bin}/$name; done""",
    )
    made.program("true")
    (made.bin / "ln").symlink_to(shutil.which("ln") or "/bin/ln")
    made.env = {"PATH": str(made.bin), "HOME": str(tmp_path)}
    return made


def test_virtualbox_needs_no_package_and_no_root(host: Host) -> None:
    host.lab("auto")
    host.env["PROVIDER"] = "virtualbox"
    assert host.setup().returncode == 0
    host.env.pop("PROVIDER")
    host.lab('"virtualbox"')
    done = host.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not host.log.exists()


def test_virtualbox_is_taken_where_it_is(host: Host) -> None:
    host.program("VBoxManage")
    host.program("vagrant")
    host.lab("auto")
    assert host.setup().returncode == 0
    assert not host.log.exists()


@pytest.mark.parametrize(
    ("provider", "there", "not_there"),
    [
        ("libvirt", LIBVIRT, CONTAINERS),
        ("nspawn", CONTAINERS, LIBVIRT),
        ("auto", CONTAINERS, LIBVIRT),
    ],
)
def test_what_the_nodes_need_is_installed(
    host: Host, provider: str, there: set[str], not_there: set[str]
) -> None:
    host.lab(provider)
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert there <= host.installed
    assert not host.installed & not_there
    host.log.unlink()
    assert host.setup().returncode == 0  # what is there is not installed again
    assert not host.log.exists()


def test_a_lab_without_a_file_is_of_containers(host: Host) -> None:
    assert host.setup().returncode == 0
    assert host.installed >= CONTAINERS


def test_at_a_terminal_it_asks_what_the_nodes_will_be(host: Host) -> None:
    host.lab("auto")
    said = host.setup_at_a_terminal("3")
    assert "What will the nodes be?" in said
    assert not host.log.exists()
    said = host.setup_at_a_terminal("2", "y")
    assert host.installed >= LIBVIRT
    assert "Install them with apt?" in said


def test_without_packages_one_message_says_which(host: Host) -> None:
    (host.bin / "apt-get").unlink()
    host.lab("nspawn")
    done = host.setup()
    assert done.returncode == 1
    assert "error: labctl needs these and there is no apt-get" in done.stderr
    assert "mmdebstrap" in done.stderr


@pytest.mark.parametrize("provider", ["auto", "virtualbox"])
def test_macos_has_virtualbox_and_no_apt(host: Host, provider: str) -> None:
    (host.bin / "apt-get").unlink()
    host.program("uname", "echo Darwin")
    host.lab(provider)
    done = host.setup()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("system", "provider", "said"),
    [
        ("Darwin", "nspawn", "on macOS the nodes are machines of VirtualBox: nspawn is for Linux."),
        ("MINGW64_NT-10.0", "auto", "Here: uv tool install ., then labctl create"),
        ("Linux", "virtualbux", "virtualbox, libvirt or nspawn, not: virtualbux"),
    ],
)
def test_what_cannot_be_is_said_at_once(host: Host, system: str, provider: str, said: str) -> None:
    host.program("uname", f"echo {system}")
    host.lab(provider)
    done = host.setup()
    assert done.returncode == 1
    assert said in done.stderr
    assert not host.log.exists()


def test_another_lab_yaml_is_asked(host: Host, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("provider: virtualbox\n", encoding="utf-8")
    host.lab("nspawn")
    host.env["LABCTL_FILE"] = str(tmp_path / "other.yaml")
    assert host.setup().returncode == 0
    assert not host.log.exists()


def test_an_old_python_is_no_python(host: Host) -> None:
    (host.bin / "python3").unlink()
    host.program("python3", "exit 1")
    host.lab("virtualbox")
    host.env["PYTHON"] = "python3"
    done = host.setup()
    assert done.returncode == 1
    assert "PYTHON=python3 is no Python 3.11 or newer" in done.stderr
