"""A real VirtualBox reads the VMDKs that labctl writes, and imports its box of a cloud image."""

import io
import random
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.images.box_format import DISK_GIB
from labctl.images.cloud_box import make_cloud_box
from labctl.images.vmdk import write_vmdk
from labctl.providers.registry import entries
from tests.virtualbox.rig import TOOLS, Rig

pytestmark = pytest.mark.timeout(1200)

REPOSITORY = Path(__file__).parents[2]
FILES = REPOSITORY / "provision" / "image" / "box" / "files"
SIZE = 48 * 2**20


@pytest.fixture(scope="module")
def rig(
    require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rig, Path]]:
    """The rig, and a directory that it sees."""
    require(*TOOLS, "qemu-img", root=True)
    seen = tmp_path_factory.mktemp("seen")
    with Rig(tmp_path_factory.mktemp("rig"), see=[seen, REPOSITORY]) as rig:
        yield rig, seen


@pytest.fixture(scope="module")
def disk() -> bytes:
    """A disk with a boot record, something at its very end, and holes of every size."""
    content = bytearray(SIZE)
    chance = random.Random(7)
    content[510:512] = b"\x55\xaa"
    for place in [0, 3, 4, 511, 512, 700, *chance.sample(range(767), 30)]:
        start = place * 65536 + chance.randrange(600, 40_000)
        content[start : start + 9000] = chance.randbytes(9000)
    content[-5:] = b"last!"
    return bytes(content)


def test_virtualbox_gives_back_the_identical_disk(rig: tuple[Rig, Path], disk: bytes) -> None:
    virtualbox, seen = rig
    vmdk, raw = seen / "disk.vmdk", seen / "again.raw"
    with vmdk.open("wb") as sink:
        write_vmdk(io.BytesIO(disk), sink, capacity=SIZE, uuid=str(uuid.uuid4()), name=vmdk.name)
    virtualbox.run(["VBoxManage", "clonemedium", "disk", vmdk, raw, "--format", "RAW"])
    assert raw.read_bytes() == disk


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("amd64", {"firmware": "BIOS", "storagecontrollertype0": "IntelAhci"}),
     ("arm64", {"firmware": "EFI", "storagecontrollertype0": "VirtioSCSI",
               "platformArchitecture": "ARM", "chipset": "armv8virtual",
               "graphicscontroller": "vmsvga", "xhci": "on", "hidkeyboard": "usbkbd"})],
)  # fmt: skip
def test_virtualbox_imports_a_box_of_a_cloud_image(
    architecture: str, expected: dict[str, str], rig: tuple[Rig, Path], disk: bytes
) -> None:
    virtualbox, seen = rig
    name = f"cloud-{architecture}"
    image, box = seen / f"{name}.tar.xz", seen / f"{name}.box"
    with tarfile.open(image, "w:xz") as archive:
        member = tarfile.TarInfo("disk.raw")
        member.size = len(disk)
        archive.addfile(member, io.BytesIO(disk))
    (format,) = (entry.box for entry in entries() if entry.box and entry.box.kind == "vmdk")
    with box.open("wb") as sink:
        make_cloud_box(
            image, sink, box, seen, format=format, files=FILES, architecture=architecture,
            version="20261128.1.2", key="ab" * 8, progress=lambda text: None,
            cancelled=lambda: False,
        )  # fmt: skip
    virtualbox.run(["vagrant", "box", "add", "--name", f"labctl/{name}", box])
    assert f"labctl/{name} (virtualbox, 0" in virtualbox.run(["vagrant", "box", "list"]).stdout
    (ovf,) = (virtualbox.work / "vagrant" / "boxes").glob(f"*{name}/**/box.ovf")
    virtualbox.run(["VBoxManage", "import", ovf, "--vsys", "0", "--vmname", name])
    facts = virtualbox.run(["VBoxManage", "showvminfo", name, "--machinereadable"]).stdout
    told = dict(line.split("=", 1) for line in facts.splitlines() if "=" in line)
    assert {key: told.get(key, "").strip('"') for key in expected} == expected, facts
    attached = [line for line in facts.splitlines() if line.endswith(('.vmdk"', '.vdi"'))]
    assert len(attached) == 2, facts
    system = attached[0].partition("=")[2].strip('"')
    medium = virtualbox.run(["VBoxManage", "showmediuminfo", "disk", system]).stdout
    assert f"{DISK_GIB * 1024} MBytes" in medium

    # As Vagrant does: a linked clone of a snapshot. labctl copies its disk whole, for the box.
    linked = f"linked-{architecture}"
    virtualbox.run(["VBoxManage", "snapshot", name, "take", "base"])
    virtualbox.run(
        ["VBoxManage", "clonevm", name, "--snapshot", "base", "--options", "link", "--name",
         linked, "--register"]
    )  # fmt: skip
    vmdk, raw = seen / f"{name}.vmdk", seen / f"{name}.raw"
    program = (
        "import sys; from pathlib import Path; from labctl.providers.virtualbox.disk import *;"
        "export_disk(sys.argv[3], Path(sys.argv[1]), Path(sys.argv[2]), lambda: False)"
    )
    virtualbox.run([sys.executable, "-c", program, vmdk, seen / "log", linked], cwd=REPOSITORY)
    assert "streamOptimized" in vmdk.read_bytes()[:65536].decode(errors="replace")
    disks = virtualbox.run(["VBoxManage", "list", "hdds"]).stdout
    assert str(vmdk) not in disks, "VirtualBox keeps no account of it"
    subprocess.run(["qemu-img", "convert", "-O", "raw", vmdk, raw], check=True)
    assert raw.stat().st_size == DISK_GIB * 2**30
    with raw.open("rb") as stream:
        assert stream.read(SIZE) == disk
        assert not any(stream.read(2**20))
