"""Machines made of one image of `labctl class image`: no secret of one is in another.

LABCTL_GOLDEN names an image that was made before; without it the test makes one, in minutes.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from labctl.access import keys
from labctl.engine.wait import wait_until
from labctl.images.seed import iso
from labctl.providers.kvm import kvm_works

KVM = kvm_works()
BOOT = 300 if KVM else 1500
"""Seconds from power to a lab that runs; emulated a machine is some twenty times as slow."""

# Runs as root in a machine: {what: SHA-256 of all that opens something}, and of every file that
# only root may read.
GATHER = r"""
import hashlib, json, os, pathlib, stat
def digest(data): return hashlib.sha256(data).hexdigest()
lab, found, closed = pathlib.Path("/srv/lab/.labctl"), {}, {}
for name, word in json.loads((lab / "secrets.json").read_text()).items():
    found["password " + name] = digest(word.encode())
places = [pathlib.Path("/")] + sorted((lab / "nodes").glob("*/root"))
for top in places:
    for name in ("etc/machine-id", "var/lib/systemd/random-seed"):
        if (top / name).is_file():
            found[str(top / name)] = digest((top / name).read_bytes())
hosts = [key for top in places for key in (top / "etc/ssh").glob("ssh_host_*")]
for key in [*(lab / "ssh").glob("*"), *hosts]:
    if "PRIVATE KEY" in key.read_text():
        found[str(key)] = digest(key.read_bytes())
for top in ("/etc", "/root", "/srv/lab/.labctl"):
    for where, _, files in os.walk(top):
        for name in files:
            path = os.path.join(where, name)
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_size and not info.st_mode & 0o077:
                closed[path] = digest(open(path, "rb").read())
print(json.dumps({"found": found, "closed": closed}))
"""
# Files, and packed ones unpacked, in which one of the words of standard input is.
HOLDING = r"""
cd /srv/lab/.labctl && words=$(mktemp) && cat >$words
grep -rlaF --devices=skip -f $words --exclude-dir=root --exclude-dir=work . /etc /root
for part in snapshots/*/*.tar; do tar -xOf $part | grep -qaF -f $words && echo $part; done
rm $words
"""
# Microseconds of the kernel's clock at which each began and was there.
WHEN = "systemctl show -p Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"
UNITS = ("labctl-keys.service", "ssh.service", "labctl-lab.service")


class Clone:
    """A machine of the image, with a disk of its own over it."""

    def __init__(self, name: str, golden: Path, directory: Path) -> None:
        self.name, self.directory = name, directory
        directory.mkdir()
        self.key = directory / "key"
        keys.ensure(self.key)
        seed = {
            "user-data": "#cloud-config\n"
            + json.dumps({"ssh_authorized_keys": [keys.public(self.key).strip()]}),
            "meta-data": json.dumps({"instance-id": name, "local-hostname": name}),
        }
        (directory / "seed.iso").write_bytes(iso(seed))
        disk = directory / "disk.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", golden, "-F", "qcow2", disk],
            check=True,
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.console = directory / "console.log"
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            # `restrict`: nothing of the machine reaches this machine's network.
            ["qemu-system-x86_64", "-accel", "kvm" if KVM else "tcg,thread=multi", "-smp", "2",
             "-cpu", "max", "-m", "2048", "-display", "none", "-serial", f"file:{self.console}",
             "-drive", f"file={disk},if=virtio",
             "-drive", f"file={directory / 'seed.iso'},format=raw,if=virtio",
             "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22",
             "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"],
        )  # fmt: skip

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def run(self, command: str, input: str = "", check: bool = True) -> str:
        """A command in the machine, as the user debian."""
        done = subprocess.run(
            ["ssh", "-F", "none", "-i", self.key, "-p", str(self.port), "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "debian@127.0.0.1", command],
            input=input, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, (command, done.stdout, done.stderr, self.said())
        return done.stdout if done.returncode == 0 else ""

    def said(self) -> str:
        return self.console.read_text(errors="replace")[-2000:]

    def wait(self, what: str, command: str) -> float:
        """Until a command succeeds; seconds since the machine was switched on."""

        def there() -> bool:
            assert self.process.poll() is None, "the machine has ended"
            with suppress(subprocess.TimeoutExpired):
                return bool(self.run(command + " && echo yes", check=False))
            return False

        wait_until(f"{self.name}: {what}", there, deadline=BOOT, hint=str(self.console), interval=3)
        return time.monotonic() - self.began

    def gathered(self) -> dict[str, dict[str, str]]:
        told: dict[str, dict[str, str]] = json.loads(self.run("sudo python3 -", GATHER))
        return told

    def holding(self, words: list[str]) -> list[str]:
        """The files of the machine's lab, /etc and /root in which one of the words is."""
        program = "sudo bash -c " + _quoted(HOLDING)
        return self.run(program + " || true", "".join(word + "\n" for word in words)).split()

    def passwords(self) -> list[str]:
        told = json.loads(self.run("sudo cat /srv/lab/.labctl/secrets.json"))
        return [str(word) for word in told.values()]

    def when(self) -> dict[str, tuple[float, float]]:
        """{unit: seconds since the kernel began, when it began and when it was there}."""
        times = {}
        for unit in UNITS:
            lines = self.run(f"{WHEN} {unit}").splitlines()
            values = dict(line.split("=", 1) for line in lines if "=" in line)
            names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
            begun, there = (int(values[name]) / 1e6 for name in names)
            times[unit] = (begun, there)
        return times


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(scope="module")
def golden(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("qemu-system-x86_64", "qemu-img", "mmdebstrap", "systemd-nspawn", "ssh", root=True)
    if made := os.environ.get("LABCTL_GOLDEN"):
        return Path(made)
    file = tmp_path_factory.mktemp("golden") / "golden.qcow2"
    subprocess.run([sys.executable, "-m", "labctl", "class", "image", "-o", file], check=True)
    return file


@pytest.fixture(scope="module")
def clones(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Clone]]:
    place = tmp_path_factory.mktemp("clones")
    with ExitStack() as ends:
        made = []
        for name in ("one", "two"):
            made.append(Clone(name, golden, place / name))
            ends.callback(made[-1].end)
        yield made


@pytest.fixture(scope="module")
def figures(clones: list[Clone]) -> dict[str, Any]:
    """When each was where, once both labs run."""
    told: dict[str, Any] = {"kvm": KVM}
    for clone in clones:
        ssh = clone.wait("answers SSH", "true")
        lab = clone.wait("the lab runs", "systemctl is-active --quiet labctl-lab")
        told[clone.name] = {"ssh": ssh, "lab": lab, "units": clone.when()}
    sys.stderr.write(json.dumps(told, indent=1) + "\n")
    return told


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_secret_is_in_two_clones(clones: list[Clone], figures: dict[str, Any]) -> None:
    one, two = (clone.gathered() for clone in clones)
    sys.stderr.write(json.dumps([one["found"], two["found"]], indent=1) + "\n")
    assert set(one["found"]) == set(two["found"])
    # Five passwords; of the machine and two nodes each a machine ID and host keys; the lab's keys.
    assert len(one["found"]) >= 5 + 3 + 4 + 3
    assert not set(one["found"].values()) & set(two["found"].values())
    assert (
        len(set(one["found"].values())) >= len(one["found"]) - 2
    )  # a node's key is in both places

    # What only root may read and is the same in both is no secret: it is the image's.
    same = {name for name, digest in one["closed"].items() if two["closed"].get(name) == digest}
    sys.stderr.write(f"closed, and the same in both: {sorted(same)}\n")
    assert not [name for name in same if "key" in Path(name).name or "secret" in name]

    first, second = (clone.passwords() for clone in clones)
    assert clones[0].holding(second) == clones[1].holding(first) == []
    assert "./secrets.json" in clones[0].holding(first)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nobody_is_let_in_before_the_keys_are_new(
    clones: list[Clone], figures: dict[str, Any]
) -> None:
    for clone in clones:
        units = figures[clone.name]["units"]
        assert units["ssh.service"][0] >= units["labctl-keys.service"][1] > 0
        assert clone.run("id vagrant 2>/dev/null || echo none").strip() == "none"
        assert clone.run("sudo test ! -e /srv/lab/.labctl/renewal.json && echo gone").strip()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_lab_is_at_base_and_can_be_worked_with(
    clones: list[Clone], figures: dict[str, Any]
) -> None:
    clone = clones[0]
    status = json.loads(clone.run("cd /srv/lab && labctl status --json"))
    assert (status["state"], status["stack"]) == ("up", "ovn")
    rows = json.loads(clone.run("cd /srv/lab && labctl snapshot list --json"))
    assert [row["name"] for row in rows] == ["base"]
    progress = json.loads(clone.run("cd /srv/lab && labctl progress --json"))
    assert progress["lesson"] is None
