"""Debian's cloud image as a box: found, checked, unpacked, packed with its seed."""

import hashlib
import io
import json
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pycdlib
import pytest

from labctl.errors import LabError
from labctl.images import cloud
from labctl.images.box_format import DISK_GIB
from labctl.images.cloud_box import make_cloud_box
from labctl.images.seed import seed_disk
from labctl.providers.registry import entries
from tests.unit.golden import GOLDEN
from tests.unit.images.test_box import OVF, RASD
from tests.unit.images.test_vmdk import read
from tests.unit.images.web import serving

FILES = GOLDEN.parents[1] / "provision" / "image" / "box" / "files"
DISK = b"\xeb\x3c".ljust(510, b"x") + b"\x55\xaa" + bytes(300_000) + b"end".ljust(724, b"\0")


def archive(path: Path, name: str = "disk.raw", mode: str = "w:xz") -> Path:
    """A cloud image as Debian's: the disk in a compressed tar."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.size = len(DISK)
        tar.addfile(member, io.BytesIO(DISK))
    return path


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [("x86_64", "amd64"), ("AMD64", "amd64"), ("arm64", "arm64"), ("aarch64", "arm64")],
)
def test_every_host_says_it_in_its_own_way(machine: str, wanted: str) -> None:
    assert cloud.architecture(machine) == wanted


def test_a_processor_without_a_box() -> None:
    with pytest.raises(LabError, match="riscv64") as error:
        cloud.architecture("riscv64")
    assert "amd64, arm64" in (error.value.hint or "")


# -- the disk in an image --------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w", "raw"])
def test_the_disk_is_found_in_what_debian_publishes(mode: str, tmp_path: Path) -> None:
    if mode == "raw":
        file = tmp_path / "disk.raw"
        file.write_bytes(DISK)
    else:
        file = archive(tmp_path / "image", mode=mode)
    with cloud.open_disk(file) as (source, size):
        assert size == len(DISK)
        assert source.read() == DISK


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"QFI\xfb" + bytes(600), "QCOW2"),
        (b"KDMV" + bytes(600), "VMDK"),
        (b"<html>not found</html>", "is no cloud image"),
        (b"", "is no cloud image"),
    ],
)
def test_what_is_no_cloud_image_is_said_to_be_none(
    content: bytes, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "image"
    file.write_bytes(content)
    with pytest.raises(LabError, match=says) as error, cloud.open_disk(file):
        pass
    assert "debian-13-generic" in (error.value.hint or "")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    file = archive(tmp_path / "image", name="readme.txt")
    with pytest.raises(LabError, match=r"there is no file \*\.raw in it"), cloud.open_disk(file):
        pass


def test_a_download_that_was_cut_short(tmp_path: Path) -> None:
    file = archive(tmp_path / "image", mode="w:gz")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(LabError, match="is no cloud image"), cloud.open_disk(file):
        pass


# -- Debian's site ---------------------------------------------------------------------------------
@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server with these files, by path."""
    files: dict[str, bytes] = {}

    def answer(request: BaseHTTPRequestHandler) -> None:
        content = files.get(request.path.rpartition("/")[2])
        if content is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    with serving(answer, monkeypatch) as address:
        yield f"{address}/latest", files


def publish(
    files: dict[str, bytes], content: bytes, name: str = "debian-13-generic-amd64.tar.xz"
) -> None:
    files[name] = content
    files["SHA512SUMS"] = f"{hashlib.sha512(content).hexdigest()}  {name}\n".encode()


def fetch(site: str, directory: Path) -> Path:
    return cloud.fetch("amd64", directory, lambda text: None, lambda: False, site)


def test_the_image_is_fetched_and_checked(
    site: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, files = site
    publish(files, b"of today")
    assert fetch(url, tmp_path).read_bytes() == b"of today"
    publish(files, b"of tomorrow")  # `latest` moves on
    file = fetch(url, tmp_path)
    assert file.read_bytes() == b"of tomorrow"
    assert list(tmp_path.iterdir()) == [file]


def test_an_image_that_was_altered_is_refused(
    site: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, files = site
    publish(files, b"Debian's")
    files["debian-13-generic-amd64.tar.xz"] = b"another's"
    with pytest.raises(LabError, match="is not what its checksum says"):
        fetch(url, tmp_path)


def test_a_site_without_the_image(site: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, files = site
    with pytest.raises(LabError, match="cannot be fetched: 404") as error:
        fetch(url, tmp_path)
    assert "image.source" not in error.value.message
    publish(files, b"", name="debian-13-generic-arm64.tar.xz")
    with pytest.raises(LabError, match="names no debian-13-generic-amd64"):
        fetch(url, tmp_path)


def test_the_checksums_beside_a_file_of_the_user(tmp_path: Path) -> None:
    file = tmp_path / "image.tar.xz"
    file.write_bytes(b"mine")
    assert not cloud.check_beside(file, lambda: False)
    sums = tmp_path / "SHA512SUMS"
    sums.write_text(f"{hashlib.sha512(b'mine').hexdigest()} *image.tar.xz\n")
    assert cloud.check_beside(file, lambda: False)
    file.write_bytes(b"another's")
    with pytest.raises(LabError, match="is not what its checksum says"):
        cloud.check_beside(file, lambda: False)


# -- the box ---------------------------------------------------------------------------------------
def test_what_cloud_init_is_told() -> None:
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(seed_disk("labctl-lab", ['ssh-ed25519 AAAA "quoted" key'], "i-1")))
    assert image.pvd.volume_identifier.decode().strip() == "cidata"
    texts = {}
    for name in ("user-data", "meta-data"):
        for path in ({"rr_path": f"/{name}"}, {"joliet_path": f"/{name}"}):
            sink = io.BytesIO()
            image.get_file_from_iso_fp(sink, **path)
            texts[name] = sink.getvalue().decode()
    image.close()
    first, _, rest = texts["user-data"].partition("\n")
    assert first == "#cloud-config"
    (user,) = json.loads(rest)["users"]
    assert (user["name"], user["ssh_authorized_keys"]) == (
        "vagrant", ['ssh-ed25519 AAAA "quoted" key'],
    )  # fmt: skip
    assert json.loads(texts["meta-data"])["instance-id"] == "i-1"


@pytest.mark.parametrize(
    ("architecture", "os_type", "controller"),
    [("amd64", "Debian_64", "AHCI"), ("arm64", "Debian_arm64", "VirtioSCSI")],
)
def test_a_box_of_a_cloud_image(
    architecture: str, os_type: str, controller: str, tmp_path: Path
) -> None:
    (format,) = (box for entry in entries() if (box := entry.box) and box.kind == "vmdk")
    target = tmp_path / "cloud.box"
    with target.open("wb") as sink:
        make_cloud_box(
            archive(tmp_path / "image.tar.xz"), sink, target, tmp_path, format=format, files=FILES,
            architecture=architecture, version="20261128.1.2", key="ab" * 8,
            progress=lambda text: None, cancelled=lambda: False,
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cloud.box", "image.tar.xz"]
    with tarfile.open(target) as tar:
        files = {name: _content(tar, name) for name in tar.getnames()}
    assert json.loads(files["metadata.json"])["architecture"] == architecture
    ovf = ElementTree.fromstring(files["box.ovf"].decode())
    name = f"{{{OVF['ovf']}}}"
    sizes = {
        file.get(f"{name}href"): file.get(f"{name}size")
        for file in ovf.iterfind(".//ovf:File", OVF)
    }
    assert sizes == {key: str(len(files[key])) for key in ("box-disk001.vmdk", "box-disk002.vmdk")}
    assert os_type in files["box.ovf"].decode()
    assert controller in files["box.ovf"].decode()
    items = list(ovf.iterfind(".//ovf:Item", OVF))
    ids = [item.findtext(f"{RASD}InstanceID") for item in items]
    assert len(ids) == len(set(ids))
    disks = [item for item in items if item.findtext(f"{RASD}ResourceType") == "17"]
    assert [disk.findtext(f"{RASD}AddressOnParent") for disk in disks] == ["0", "1"]
    # VirtualBox compares the ID in the OVF with that in the disk.
    uuids = [
        disk.get("{http://www.virtualbox.org/ovf/machine}uuid")
        for disk in ovf.iterfind(".//ovf:Disk", OVF)
    ]
    for uuid, key in zip(uuids, ("box-disk001.vmdk", "box-disk002.vmdk"), strict=True):
        assert re.search(rb'ddb.uuid.image = "([^"]+)"', files[key])[1].decode() == uuid  # type: ignore[index]
    seed = read(files["box-disk002.vmdk"])
    assert b"cidata" in seed
    assert b"vagrant insecure public key" in seed
    system = files["box-disk001.vmdk"]
    assert int.from_bytes(system[12:20], "little") * 512 == DISK_GIB * 2**30


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    content = tar.extractfile(name)
    assert content is not None
    return content.read()
