"""Boxes: what their key is made of, what is built and built again, what Vagrant and VirtualBox get.

The tools of the image (mke2fs, qemu-img, apt) are played by a function that makes files of the same
names.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import labctl.images.box
from labctl.engine.steps import StepFailed
from labctl.errors import Cancelled, LabError
from labctl.images.baked import BakedImage, ImageCache
from labctl.images.box import BoxBuilder
from labctl.images.box_file import pack, root_uuid, version_of
from labctl.operating_system.architecture import (
    AMD64,
    ARCHITECTURES,
    ARM64,
    Architecture,
    host_architecture,
)
from labctl.providers.registry import entries
from tests.unit.golden import GOLDEN

PROVISION = GOLDEN.parents[1] / "provision"
FILES = PROVISION / "image" / "box" / "files"
Usage = namedtuple("Usage", "total used free")
OVF = {"ovf": "http://schemas.dmtf.org/ovf/envelope/1"}
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


@dataclass
class Workshop:
    """A cache with a baked image, a directory for boxes, and the scripts that were run."""

    provision: Path
    images: ImageCache
    output: Path
    ran: list[tuple[str, ...]] = field(default_factory=list)
    fail: Callable[[str], Exception | None] = lambda what: None

    def stream(self, argv: Sequence[str | Path], *, log: Path, **how: Any) -> None:
        words = [str(word) for word in argv]
        at = next(i for i, word in enumerate(words) if word.endswith("box/enter.sh"))
        lower, area, provision, script, *arguments = words[at + 1 :]
        home = Path(words[words.index("-C") + 1])
        assert all((home / layer).is_dir() for layer in lower.split(":"))
        assert (Path(provision) / "image" / script).is_file()
        assert (home / area / "merged").is_dir()
        out = home / area / "out"
        what = "system" if script == "box/system.sh" else arguments[0]
        self.ran.append((what, *arguments))
        if what == "system":
            assert len(lower.split(":")) == 2
            (home / area / "root" / "etc").mkdir()
        elif what == "raw":
            assert len(lower.split(":")) == 3, "the disk holds the box's own layer too"
            (out / "disk.raw").write_text("disk")
        else:
            assert (out / "disk.raw").read_text() == "disk"
            name = {"qcow2": "box.img", "vmdk": "box-disk001.vmdk"}[what]
            (out / name).write_text(f"disk as {what}")
        if error := self.fail(what):
            raise error

    def builder(self, *providers: str) -> BoxBuilder:
        formats = {entry.name: entry.box for entry in entries() if entry.box is not None}
        return BoxBuilder(
            self.images, self.provision, self.output, formats.values(), providers or list(formats)
        )

    @property
    def steps(self) -> list[str]:
        return [words[0] for words in self.ran]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    provision = tmp_path / "provision"
    shutil.copytree(PROVISION, provision, ignore=shutil.ignore_patterns("__pycache__"))
    images = ImageCache(tmp_path / "cache", provision)
    layers = (images.root / "baked" / "root", images.root / "packages" / "root")
    for layer in layers:
        layer.mkdir(parents=True)
    monkeypatch.setattr(ImageCache, "find", lambda self, key=None: BakedImage(self.key, layers))
    made = Workshop(provision, images, tmp_path / "out")
    monkeypatch.setattr(labctl.images.box, "stream", made.stream)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 9 * 2**30))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return made


# -- the recipe ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", labctl.images.box.RECIPE)
def test_a_change_of_the_recipe_changes_the_key(name: str, workshop: Workshop) -> None:
    before = workshop.builder().key
    file = workshop.provision / name
    file = file / "files" / "grub.cfg" if file.is_dir() else file
    file.write_bytes(file.read_bytes() + b"\n")
    assert workshop.builder().key != before


def test_another_baked_image_makes_another_box(workshop: Workshop) -> None:
    before = workshop.builder().key
    (workshop.provision / "17-schema.sh").write_text("changed")
    assert workshop.builder().key != before


def test_the_box_is_no_part_of_the_baked_image(workshop: Workshop) -> None:
    before = workshop.images.key
    (workshop.provision / "image" / "box" / "system.sh").write_text("changed")
    (workshop.provision / "packages" / "box.list").write_text("changed")
    assert workshop.images.key == before


def test_every_file_of_the_recipe_is_used_and_every_file_used_is_there() -> None:
    script = (FILES.parent / "system.sh").read_text()
    used = set(re.findall(r"^put (\S+)", script, re.MULTILINE))
    used |= set(re.findall(r"\$box/files/([\w.-]+)", script))
    used |= {
        "box.ovf",
        "machine.arm64.xml",
        "Vagrantfile.libvirt",
        "Vagrantfile.virtualbox",
    }  # labctl fills them in
    assert used == {path.name for path in FILES.iterdir()}


def test_the_keys_are_whole() -> None:
    lines = [line for line in (FILES / "vagrant.pub").read_text().splitlines() if line[0] != "#"]
    prints = set()
    for line in lines:
        kind, blob, *_ = line.split(" ")
        data = base64.b64decode(blob, validate=True)
        assert data[4 : 4 + data[3]].decode() == kind
        prints.add(base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("="))
    # As `ssh-keygen -lf` prints them for Vagrant's own files.
    assert prints == {
        "1M4RzhMyWuFS/86uPY/ce2prh/dVTHW7iD2RhpquOZA",
        "WkvqjnyPAeC0cbPErYiGP9vqHdgL1MqqvPdIe3lvHgI",
    }


# -- names -----------------------------------------------------------------------------------------
def test_versions_sort_by_time_and_tell_the_recipe() -> None:
    def at(when: str, key: str = "00000f" + "0" * 10) -> str:
        return version_of(key, time.strptime(when, "%Y-%m-%d %H:%M"))

    assert at("2026-11-23 07:04") == "20261123.704.15"
    assert at("2026-01-02 00:05") == "20260102.5.15"
    assert at("2026-01-02 00:05", "ff" * 8).endswith(f".{0xFFFFFF}")
    moments = ["2026-01-02 00:05", "2026-01-02 23:59", "2026-01-03 00:00", "2026-11-23 07:04"]
    numbers = [[int(part) for part in at(moment).split(".")] for moment in moments]
    assert numbers == sorted(numbers)


def test_a_repeated_build_has_the_same_file_system_id() -> None:
    assert root_uuid("00" * 8) == root_uuid("00" * 8) != root_uuid("01" * 8)
    assert str(uuid.UUID(root_uuid("00" * 8))) == root_uuid("00" * 8)


# -- building --------------------------------------------------------------------------------------
def test_both_boxes_and_what_is_in_them(workshop: Workshop) -> None:
    builder = workshop.builder()
    boxes = builder.build()
    assert [box.provider for box in boxes] == ["libvirt", "virtualbox"]
    assert sorted(workshop.steps) == ["qcow2", "raw", "system", "vmdk"]
    version = builder.version
    assert workshop.ran[0] == ("system", version, root_uuid(builder.key))
    assert workshop.ran[1] == ("raw", "raw", root_uuid(builder.key), "20")
    architecture = host_architecture().name
    names = {f"labctl-lab-{version}-{box.provider}-{architecture}.box" for box in boxes}
    assert {path.name for path in workshop.output.iterdir()} == {*names, "labctl-lab.json"}
    for box in boxes:
        assert box.sha256 == hashlib.sha256(box.file.read_bytes()).hexdigest()
        assert box.size == box.file.stat().st_size

    with tarfile.open(boxes[0].file) as archive:
        assert archive.getnames() == ["metadata.json", "Vagrantfile", "box.img"]
        assert _read(archive, "box.img") == "disk as qcow2"
        metadata = json.loads(_read(archive, "metadata.json"))
    assert {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": 20,
    }.items() <= metadata.items()
    assert metadata["labctl"] == {"version": version, "recipe": builder.key}

    with tarfile.open(boxes[1].file) as archive:
        names_inside = ["metadata.json", "Vagrantfile", "box.ovf", "box-disk001.vmdk"]
        assert archive.getnames() == names_inside
        assert _read(archive, "box-disk001.vmdk") == "disk as vmdk"
        assert json.loads(_read(archive, "metadata.json"))["provider"] == "virtualbox"
        assert re.search(r'base_mac = "080027[0-9A-F]{6}"', _read(archive, "Vagrantfile"))


def test_what_virtualbox_is_told_of_the_machine(workshop: Workshop) -> None:
    (box,) = workshop.builder("virtualbox").build()
    with tarfile.open(box.file) as archive:
        root = ElementTree.fromstring(_read(archive, "box.ovf"))
        (file,) = root.iterfind(".//ovf:File", OVF)
        (disk,) = root.iterfind(".//ovf:Disk", OVF)
        name = f"{{{OVF['ovf']}}}"
        assert file.get(f"{name}href") == "box-disk001.vmdk"
        assert file.get(f"{name}size") == str(archive.getmember("box-disk001.vmdk").size)
    assert disk.get(f"{name}fileRef") == file.get(f"{name}id")
    assert disk.get(f"{name}capacity") == str(20 * 2**30)
    items = {
        item.findtext(f"{RASD}ResourceType"): item for item in root.iterfind(".//ovf:Item", OVF)
    }
    assert set(items) == {"3", "4", "20", "17", "10"}  # CPUs, memory, SATA, disk, network card
    assert items["17"].findtext(f"{RASD}Parent") == items["20"].findtext(f"{RASD}InstanceID")
    wanted = f"ovf:/disk/{disk.get(f'{name}diskId')}"
    assert items["17"].findtext(f"{RASD}HostResource") == wanted
    ids = [item.findtext(f"{RASD}InstanceID") for item in items.values()]
    assert len(set(ids)) == len(ids)
    assert "$" not in ElementTree.tostring(root, encoding="unicode")


def test_the_catalogue_names_files_beside_it(workshop: Workshop) -> None:
    builder = workshop.builder()
    boxes = builder.build()
    catalogue = json.loads(builder.catalogue.read_text())
    assert catalogue["name"] == "labctl/lab"
    (version,) = catalogue["versions"]
    assert version["version"] == builder.version
    for box, told in zip(boxes, version["providers"], strict=True):
        # Vagrant: what has no scheme is a file, and it is looked for where `vagrant` is called.
        assert told["url"] == box.file.name
        assert (told["checksum_type"], told["checksum"]) == ("sha256", box.sha256)
        assert told["architecture"] == "amd64"


def test_a_box_is_built_once(workshop: Workshop) -> None:
    first = workshop.builder().build()
    count = len(workshop.ran)
    assert workshop.builder().build() == first
    assert len(workshop.ran) == count
    # What is left in the cache is the layer: neither disks nor anything unfinished.
    left = {path.name for path in (workshop.images.root / "boxes").iterdir()}
    assert left - {"box.log"} == {
        "lock",
        f"layer-{host_architecture().name}-openstack-{workshop.builder().key}",
    }


def test_the_other_box_later_is_of_the_same_version(workshop: Workshop) -> None:
    (first,) = workshop.builder("libvirt").build()
    boxes = workshop.builder("virtualbox").build()
    assert workshop.steps == ["system", "raw", "qcow2", "raw", "vmdk"]
    assert boxes[0] == first
    assert boxes[1].file.name == first.file.name.replace("libvirt", "virtualbox")


@pytest.mark.parametrize(
    ("what", "repeated"),
    [
        ("system", ["system", "system", "raw", "qcow2"]),
        ("raw", ["system", "raw", "raw", "qcow2"]),
        ("qcow2", ["system", "raw", "qcow2", "qcow2"]),
    ],
)
def test_what_was_interrupted_is_made_anew_and_nothing_else(
    workshop: Workshop, what: str, repeated: list[str]
) -> None:
    workshop.fail = lambda its: LabError("no network") if its == what else None
    with pytest.raises(StepFailed, match="no network"):
        workshop.builder("libvirt").build()
    assert not list(workshop.output.glob("*.box"))
    assert not (workshop.output / "labctl-lab.json").exists()
    workshop.fail = lambda its: None
    (box,) = workshop.builder("libvirt").build()
    assert workshop.steps == repeated
    assert box.file.is_file()


def test_the_layer_of_an_older_recipe_goes_when_there_is_a_new_box(workshop: Workshop) -> None:
    (old,) = workshop.builder("libvirt").build()
    (workshop.provision / "packages" / "box.list").write_text("changed")
    workshop.fail = lambda its: LabError("no network") if its == "system" else None
    with pytest.raises(StepFailed):
        workshop.builder("libvirt").build()
    assert len(list((workshop.images.root / "boxes").glob("layer-*[!l]"))) == 1
    workshop.fail = lambda its: None
    builder = workshop.builder("libvirt")
    (new,) = builder.build()
    (layer,) = (workshop.images.root / "boxes").glob("layer-*")
    assert layer.name.endswith(f"-{builder.key}")
    assert new.file != old.file
    assert old.file.is_file()  # the user's, who may be using it


def test_half_a_box_is_thrown_away(workshop: Workshop) -> None:
    workshop.output.mkdir()
    half = workshop.output / ".labctl-lab-20261123.1.1-libvirt.box.partial"
    half.write_text("half")
    old = workshop.images.root / "boxes" / "disk-of-an-older-recipe.partial"
    old.mkdir(parents=True)
    foreign = workshop.output / "mine.partial"
    foreign.write_text("not ours")
    workshop.builder("libvirt").build()
    assert not half.exists()
    assert not old.exists()
    assert foreign.exists()


def test_too_little_space_is_said_before_a_disk_is_made(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2 * 2**30))
    with pytest.raises(StepFailed, match=r"2\.0 GiB free; the disk of the box needs 5 GiB"):
        workshop.builder().build()
    assert workshop.steps == ["system"]


def test_building_needs_root(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root"):
        workshop.builder().build()
    assert not workshop.output.exists()


def test_a_place_that_is_none(workshop: Workshop) -> None:
    workshop.output.write_text("a file")
    with pytest.raises(LabError, match="is not a directory"):
        workshop.builder().build()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_who_called_sudo_owns_the_boxes(
    workshop: Workshop, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", str(home.stat().st_uid))
    monkeypatch.setenv("SUDO_GID", str(home.stat().st_gid))
    workshop.output = home / "out"
    (box,) = workshop.builder("libvirt").build()
    made = [workshop.output, *workshop.output.iterdir()]
    assert {path.name for path in made} == {"out", "labctl-lab.json", box.file.name}
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in made}
    assert owners == {(home.stat().st_uid, home.stat().st_gid)}


# -- packing ---------------------------------------------------------------------------------------
def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    disk = tmp_path / "box.img"
    disk.write_bytes(os.urandom(100_000))
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as stream:
            pack(stream, tmp_path / name, {"metadata.json": "{}"}, [disk], lambda: False)
        os.utime(disk, (1, 1))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_packing_can_be_interrupted(tmp_path: Path) -> None:
    disk = tmp_path / "box.img"
    disk.write_bytes(bytes(100_000))
    with (tmp_path / "box").open("wb") as stream, pytest.raises(Cancelled):
        pack(stream, tmp_path / "box", {}, [disk], lambda: True)


def test_a_box_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    disk = tmp_path / "box.img"
    disk.write_bytes(b"disk")
    with (
        Path("/dev/full").open("wb", buffering=0) as stream,
        pytest.raises(LabError, match=r"cannot write .*/box: No space left") as error,
    ):
        pack(stream, tmp_path / "box", {}, [disk], lambda: False)
    assert "--output" in error.value.hint


def _read(archive: tarfile.TarFile, name: str) -> str:
    member = archive.extractfile(name)
    assert member is not None
    return member.read().decode()


# -- architectures ---------------------------------------------------------------------------------
def test_boxes_for_both_architectures_are_side_by_side(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = workshop.builder().build()
    other = next(one for one in ARCHITECTURES.values() if one != host_architecture())
    images = workshop.images
    workshop.images = ImageCache(images.root, workshop.provision, other)
    theirs = workshop.builder("virtualbox").build()
    assert {box.architecture for box in theirs} == {other.name}
    assert all(box.file.is_file() for box in (*own, *theirs))
    written = json.loads((workshop.output / "labctl-lab.json").read_text(encoding="utf-8"))
    listed = {
        (entry["name"], entry["architecture"], entry["url"])
        for version in written["versions"]
        for entry in version["providers"]
    }
    assert listed == {(box.provider, box.architecture, box.file.name) for box in (*own, *theirs)}
    # The layer of the other architecture is none of an older recipe.
    ran = len(workshop.ran)
    workshop.images = images
    assert [box.sha256 for box in workshop.builder().build()] == [box.sha256 for box in own]
    assert len(workshop.ran) == ran


@pytest.mark.parametrize(
    ("architecture", "os_type", "controller"),
    [(AMD64, "Debian_64", "AHCI"), (ARM64, "Debian_arm64", "VirtioSCSI")],
)
def test_what_virtualbox_is_told_of_the_architecture(
    architecture: Architecture, os_type: str, controller: str, workshop: Workshop
) -> None:
    workshop.images = ImageCache(workshop.images.root, workshop.provision, architecture)
    (box,) = workshop.builder("virtualbox").build()
    with tarfile.open(box.file) as archive:
        ovf = archive.extractfile("box.ovf")
        metadata = archive.extractfile("metadata.json")
        assert ovf is not None
        assert metadata is not None
        text = ovf.read().decode()
        assert json.loads(metadata.read())["architecture"] == architecture.name
    assert f">{os_type}</vbox:OSType>" in text
    assert f"<rasd:ResourceSubType>{controller}</rasd:ResourceSubType>" in text


def test_a_box_without_openstack_is_another_one(workshop: Workshop) -> None:
    whole = workshop.builder().key
    workshop.images = ImageCache(workshop.images.root, workshop.provision, stack="ovn")
    assert workshop.builder().key != whole
