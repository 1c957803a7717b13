"""A laptop of real size, emulated: VirtualBox with its kernel driver and AMD-V, Vagrant, labctl.

rig.py runs VirtualBox in its interpreter, which is too slow for Debian. QEMU's emulator (TCG) can
emulate a processor with AMD-V, so VirtualBox finds there what it finds on a laptop: it loads its
driver and runs its guests in hardware, as far as it can tell. What a guest executes is translated
by QEMU as the laptop's own instructions are. README.md says what is real here and what is not.

Nothing leaves the laptop: QEMU's network lets only SSH in (restrict=on), and runs in a network
namespace that has a loopback and nothing else.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.virtualbox import rig

REPOSITORY = rig.SOURCE.parents[1]
TOOLS = (*rig.TOOLS, "mke2fs", "ssh", "ssh-keygen")
"""Commands of this machine that the laptop needs; root besides."""

_RECIPE = ("laptop.list", "laptop.sh", "vagrant-home.rb")
_DISK_GIB = 24
"""The laptop's disk; a sparse file. The lab fills some 8 GiB of it."""
_MEMORY = 3500
"""MB: two machines of 512, what VirtualBox needs for each, Vagrant and labctl."""
_PROCESSOR = "EPYC,svm=on,npt=on"
"""AMD-V with nested paging. QEMU emulates no VT-x."""
_CARRIED = ("labctl", "provision", "Vagrantfile.j2", "lab.yaml", "LICENSE", "README.md")
"""What of the repository labctl needs to run from a checkout."""


def image() -> Path:
    """The directory with the laptop's disk, kernel and key, made if it is not there.

    Some ten minutes the first time, of which the kernel driver's compilation is two.
    """
    base = rig.root()
    with rig.only_one():
        made = rig.cache() / f"laptop-{rig.key(_RECIPE, base.name, str(_DISK_GIB))}"
        if (made / "disk.raw").is_file():
            return made
        partial = made.with_name(made.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", partial / "key"], check=True
        )
        root = partial / "root"
        subprocess.run(["cp", "-a", base, root], check=True)
        rig.logged(
            [*rig.ALONE, "sh", str(rig.SOURCE / "laptop.sh"),
             str(root), str(rig.SOURCE), str(partial / "key.pub")],
            made.with_suffix(".log"),
        )  # fmt: skip
        for name in ("vmlinuz", "initrd.img"):
            (kernel,) = (root / "boot").glob(f"{name}-*")
            shutil.copy(kernel, partial / name)
        _make_disk(root, partial / "disk.raw", "-m", "0", size=f"{_DISK_GIB}G")
        partial.rename(made)
        return made


def _make_disk(tree: Path, disk: Path, *options: str, size: str) -> None:
    """An ext4 file system with the files of `tree` in a sparse file; no mount, no loop device."""
    subprocess.run(["truncate", "-s", size, disk], check=True)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-E", "assume_storage_prezeroed=1", *options,
         "-d", tree, disk],
        check=True,
    )  # fmt: skip


def _libraries(root: Path, target: Path) -> None:
    """labctl's libraries of requirements.lock, for the Python of `root`."""
    asked = ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(
        ["chroot", root, *asked], capture_output=True, text=True, check=True
    ).stdout.strip()
    tag = "cp" + version.replace(".", "")
    platforms = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "any")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--require-hashes", "--only-binary", ":all:", "--no-compile",
         "--implementation", "cp", "--python-version", version,
         *(word for abi in (tag, "abi3", "none") for word in ("--abi", abi)),
         *(word for platform in platforms for word in ("--platform", platform)),
         "--target", target, "--requirement", REPOSITORY / "requirements.lock"],
        check=True,
    )  # fmt: skip


class Laptop:
    """The emulated laptop, running while the `with` block lasts."""

    def __init__(self, work: Path, boxes: Path) -> None:
        """`work` keeps the disk and the logs; `boxes` is what `labctl box build` made."""
        self.work = work.resolve()
        self._boxes = boxes
        self._qemu: subprocess.Popen[bytes] | None = None
        self._image = Path()

    def __enter__(self) -> "Laptop":
        self._image = image()
        self._carry()
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._qemu is not None:
            self._qemu.kill()  # and with it, as its child, QEMU
            self._qemu.wait(timeout=60)

    def _carry(self) -> None:
        """A second disk with labctl, its libraries and the boxes, as on a USB stick."""
        with tempfile.TemporaryDirectory(dir=self.work) as scratch:
            tree = Path(scratch)
            tree.chmod(0o755)
            (tree / "labctl").mkdir()
            for name in _CARRIED:
                source = REPOSITORY / name
                if source.is_dir():
                    shutil.copytree(source, tree / "labctl" / name,
                                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
                else:
                    shutil.copy(source, tree / "labctl" / name)
            _libraries(self._image / "root", tree / "libraries")
            (tree / "boxes").mkdir()
            for file in self._boxes.iterdir():
                os.link(file, tree / "boxes" / file.name)
            # Compiled here: emulated, Python would take minutes for it.
            subprocess.run(
                [*rig.ALONE, "sh", "-c",
                 'mount --bind "$1" "$0/opt/carried" && exec chroot "$0" python3 -m compileall -q'
                 " /opt/carried/labctl/labctl /opt/carried/libraries",
                 self._image / "root", tree],
                stdout=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            _make_disk(tree, self.work / "carried.raw", size="2G")

    def _start(self) -> None:
        root = self._image / "root"
        # The laptop's disk is as it was at each start: what is written goes to a file of its own.
        script = """
            set -e
            ip link set lo up
            mount --bind "$1" "$0/run/work"
            mount --bind "$2" "$0/mnt"
            mount --rbind /dev "$0/dev"
            mount -t proc proc "$0/proc"
            shift 2
            chroot "$0" qemu-img create -q -f qcow2 -F raw -b /mnt/disk.raw /run/work/disk.qcow2
            exec chroot "$0" qemu-system-x86_64 "$@"
        """
        kernel = (
            "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off tsc=reliable"
            " clocksource=tsc no_timer_check systemd.ssh_auto=no"
        )
        options = [
            "-accel", "tcg,thread=multi,tb-size=1024",
            "-machine", "q35", "-cpu", _PROCESSOR, "-smp", "2", "-m", str(_MEMORY),
            "-kernel", "/mnt/vmlinuz", "-initrd", "/mnt/initrd.img", "-append", kernel,
            "-drive", "file=/run/work/disk.qcow2,if=virtio,format=qcow2,cache=unsafe",
            "-drive", "file=/run/work/carried.raw,if=virtio,format=raw,readonly=on",
            "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:22-:22",
            "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci",
            "-display", "none", "-monitor", "none", "-serial", "file:/run/work/console.log",
        ]  # fmt: skip
        with (self.work / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                ["nice", "-n", "10", *rig.ALONE, "--net", "sh", "-c", script,
                 root, self.work, self._image, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 1200
        while self.run("true", timeout=120, check=False).returncode != 0:
            if self._qemu.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the laptop does not start; see {self.work}")
            time.sleep(2)
        self.run("mount -o ro /dev/vdb /opt/carried")
        self.run("modprobe -a vboxdrv vboxnetflt vboxnetadp && test -c /dev/vboxdrv")
        # As while VirtualBox Manager is open. Else it ends after five idle seconds, and takes ten
        # to start again.
        self.run("systemd-run --quiet --setenv=HOME=/root /usr/lib/virtualbox/VBoxSVC")

    def argv(self, command: str) -> list[str]:
        """The command line that runs a line of shell as root on the laptop."""
        assert self._qemu is not None, "only inside the with block"
        return ["nsenter", f"--target={self._qemu.pid}", "--net", "--",
                "ssh", "-q", "-F", "none", "-i", str(self._image / "key"),
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=60",
                "-o", "ServerAliveCountMax=30", "root@127.0.0.1", command]  # fmt: skip

    def run(
        self, command: str, *, timeout: float = 600, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a line of shell to its end; with `check` a failure raises RuntimeError."""
        done = subprocess.run(
            self.argv(command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{command!r} gave {done.returncode}:\n{done.stdout}{done.stderr}")
        return done
