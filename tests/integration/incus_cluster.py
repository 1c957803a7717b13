"""An Incus cluster of two members on this machine, each in namespaces of its own, and its teacher.

A member is an incusd with its own mounts, network and processes; 10.77.0.1 and 10.77.0.2 hang on a
bridge, as the teacher's 10.77.0.100 does. Nothing of it reaches this machine's own network, and all
of it dies with one process.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.virtualbox.rig import cache

_MEMBER = Path(__file__).with_name("incus_member.sh")
_INIT = """#!/bin/sh
# What an image with cloud-init does: an address by DHCP, the user data, an SSH server.
ip link set lo up
udhcpc -i eth0 -s /etc/udhcpc.sh -q -n -t 20 >/dev/null 2>&1
cp /etc/resolv.dhcp /etc/resolv.conf 2>/dev/null
sh /etc/user-data >/dev/console 2>&1
echo "the machine of the test is ready: $(hostname)" >/dev/console
mkdir -p /etc/dropbear
exec dropbear -R -F -E -s -p 22
"""
_DHCP = """#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/${mask:-24}" dev "$interface"
ip link set "$interface" up
[ -z "$router" ] || ip route add default via "$router"
"""
_METADATA = """architecture: x86_64
creation_date: 1700000000
properties:
  description: the machine of labctl's tests
templates:
  /etc/user-data:
    when: [create, copy]
    template: user-data.tpl
"""
_TEMPLATE = '{{ config_get("cloud-init.user-data", "") }}'
_APPLETS = ("sh", "sleep", "ls", "cat", "hostname", "ip", "mount", "udhcpc", "cp", "mkdir",
            "chmod", "chown", "echo", "id", "ping", "nc", "touch", "true",
            "grep", "sed", "test", "mv")  # fmt: skip


def packages() -> Path | None:
    """Where the packages of Incus are unpacked, by apt if need be; None where it is installed."""
    if Path("/usr/libexec/incus/incusd").exists() and shutil.which("dropbear"):
        return None
    script = Path(__file__).with_name("incus_packages.sh")
    directory = cache() / f"incus-{hashlib.sha256(script.read_bytes()).hexdigest()[:16]}"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run(["bash", script, directory], check=True, timeout=300)
    return directory / "root"


def _children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in path.read_text().split()]


def _wait(what: str, probe: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Cluster:
    """Two members, the first of which has the teacher's certificate."""

    def __init__(self, directory: Path, unpacked: Path | None) -> None:
        self.directory, self._unpacked = directory, unpacked
        self._outer = self._namespaces([])
        self._bridge()
        self._members: dict[int, subprocess.Popen[bytes]] = {}

    # -- namespaces --------------------------------------------------------------------------------
    def _namespaces(self, before: list[str], *command: str) -> "subprocess.Popen[bytes]":
        command = command or ("sleep", "infinity")
        with (self.directory / "namespaces.log").open("ab") as log:
            process = subprocess.Popen(
                [*before, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
                 "--mount-proc", *command],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        _wait("the namespaces are there", lambda: bool(_children(process.pid)))
        return process

    def _init(self, process: "subprocess.Popen[bytes]") -> str:
        return str(_children(process.pid)[0])

    def _in_network(self, *argv: str) -> None:
        subprocess.run(["nsenter", "-t", self._init(self._outer), "-n", *argv], check=True)

    def _bridge(self) -> None:
        self._in_network("ip", "link", "set", "lo", "up")
        self._in_network("ip", "link", "add", "br0", "type", "bridge")
        self._in_network("ip", "addr", "add", "10.77.0.100/24", "dev", "br0")
        self._in_network("ip", "link", "set", "br0", "up")

    def start(self, number: int) -> None:
        """Start a member, and wait until it answers."""
        ready = self.directory / f"m{number}" / "ready"
        ready.unlink(missing_ok=True)
        member = self._namespaces(
            ["nsenter", "-t", self._init(self._outer), "-n"],
            "bash", str(_MEMBER), str(self.directory), str(self._unpacked or ""), str(number),
        )  # fmt: skip
        self._members[number] = member
        self._in_network("ip", "link", "add", f"v{number}", "type", "veth", "peer", "name",
                         f"b{number}")  # fmt: skip
        self._in_network("ip", "link", "set", f"b{number}", "master", "br0", "up")
        self._in_network("ip", "link", "set", f"v{number}", "netns", self._init(member))

        def answers() -> bool:
            assert member.poll() is None, (self.directory / "namespaces.log").read_text()
            return ready.exists()

        _wait(f"member {number} answers", answers)

    def kill(self, number: int) -> None:
        """End a member and all its machines as a power cut does."""
        member = self._members.pop(number)
        os.kill(int(self._init(member)), 9)
        member.wait()

    def stop(self) -> None:
        """End everything, and remove the directories that were made for containers."""
        for number in list(self._members):
            self.kill(number)
        if self._outer.poll() is None:
            self._outer.kill()
        self._outer.wait()
        for number in (1, 2):
            for top in Path("/sys/fs/cgroup").glob(f"*/labctl-incus-{number}"):
                for path, _, _ in os.walk(top, topdown=False):
                    _wait(f"{path} is empty", partial(_removed, Path(path)), 20)

    # -- commands ----------------------------------------------------------------------------------
    def on(self, number: int, *argv: str, text: str = "", check: bool = True) -> str:
        """Run a command on a member; what it prints."""
        state = self.directory / f"m{number}" / "state"
        return self._run(
            ["nsenter", "-t", self._init(self._members[number]), "-m", "-n", "-p", "env",
             f"INCUS_DIR={state}", f"INCUS_SOCKET={state}/unix.socket",
             f"HOME={self.directory}/m{number}", *argv],
            text, check,
        )  # fmt: skip

    def teacher(self) -> list[str]:
        """What begins a command on the teacher's laptop: it has this machine's files."""
        return ["nsenter", "-t", self._init(self._outer), "-n"]

    def _run(self, argv: Sequence[str], text: str, check: bool) -> str:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    # -- what a class needs ------------------------------------------------------------------------
    def form(self) -> None:
        """Start two members and make them one cluster, with a pool of plain directories."""
        for number in (1, 2):
            self.start(number)
        self.on(1, "incus", "config", "set", "core.https_address", "10.77.0.1:8443")
        self.on(1, "incus", "cluster", "enable", "m1")
        self.on(1, "incus", "config", "set", "cluster.offline_threshold", "11")
        token = self.on(1, "incus", "cluster", "add", "m2", "-q").splitlines()[-1]
        preseed = (f"cluster:\n  enabled: true\n  server_address: 10.77.0.2:8443\n"
                   f"  cluster_token: {token}\n")  # fmt: skip
        self.on(2, "incus", "admin", "init", "--preseed", text=preseed)
        for target in ("m1", "m2"):
            self.on(1, "incus", "storage", "create", "pool", "dir", "--target", target)
        self.on(1, "incus", "storage", "create", "pool", "dir")

    def add_image(self, alias: str) -> None:
        """An image that does what the user data says and runs an SSH server."""
        image = self.directory / "image"
        root = image / "rootfs"
        for name in ("bin", "sbin", "proc", "sys", "dev", "etc", "tmp", "run", "root", "lib",
                     "lib64", "usr/bin", "usr/sbin", "var"):  # fmt: skip
            (root / name).mkdir(parents=True)
        (image / "templates").mkdir()
        source = self._unpacked or Path("/")
        busybox = next(path for path in (source / "bin/busybox", source / "usr/bin/busybox",
                                         Path("/bin/busybox")) if path.exists())  # fmt: skip
        shutil.copy(busybox, root / "bin/busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        dropbear = self.on(1, "sh", "-c", "command -v dropbear").strip()
        self._with_libraries(dropbear, root)
        for path, text, mode in (
            ("sbin/init", _INIT, 0o755), ("etc/udhcpc.sh", _DHCP, 0o755),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644),
            ("etc/group", "root:x:0:\n", 0o644),
            ("etc/shells", "/bin/sh\n", 0o644),
        ):  # fmt: skip
            (root / path).write_text(text)
            (root / path).chmod(mode)
        (image / "metadata.yaml").write_text(_METADATA)
        (image / "templates/user-data.tpl").write_text(_TEMPLATE)
        archive = self.directory / "image.tar.gz"
        subprocess.run(["tar", "-C", image, "-czf", archive, "metadata.yaml", "templates",
                        "rootfs"], check=True)  # fmt: skip
        self.on(1, "incus", "image", "import", str(archive), "--alias", alias)

    def _with_libraries(self, program: str, root: Path) -> None:
        """Copy a program of the members, and what it is linked with."""
        words = self.on(1, "ldd", program).split()
        paths = {word for word in words if word.startswith("/")}
        for path in {program, *paths}:
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.on(1, "cp", "-L", path, str(target))
        if program != "/bin/dropbear":
            (root / "bin/dropbear").symlink_to(program)

    def trust_teacher(self, config: Path) -> None:
        """A remote `school` for the teacher's incus client, whose settings are this directory."""
        token = self.on(1, "incus", "config", "trust", "add", "teacher", "-q").splitlines()[-1]
        mount = (
            f"mount -t overlay -o lowerdir={self._unpacked}/usr:/usr overlay /usr; "
            if self._unpacked
            else ""
        )
        self._run(
            [*self.teacher(), "unshare", "--mount", "sh", "-c",
             mount + 'INCUS_CONF=$1 exec incus remote add school "$2"', "sh", str(config), token],
            "", True,
        )  # fmt: skip


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
