"""The disk of a class's machines: what is put into it, in which order, and what is left.

The tools of the image and pip are played by a function that makes files of the same names.
"""

import configparser
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import labctl.images.box
import labctl.images.machine
from labctl.engine.steps import StepFailed
from labctl.errors import LabError
from labctl.images.baked import BakedImage, ImageCache
from labctl.images.box import BoxSystem
from labctl.images.box_file import root_uuid
from labctl.images.machine import MachineBuilder
from tests.unit.golden import GOLDEN

PROVISION = GOLDEN.parents[1] / "provision"
MACHINE = PROVISION / "image" / "machine"
Usage = namedtuple("Usage", "total used free")


@dataclass
class Workshop:
    """A cache with a baked image, and the scripts that were run."""

    images: ImageCache
    output: Path
    ran: list[tuple[str, ...]] = field(default_factory=list)
    fail: str = ""
    more: str = ""

    def stream(self, argv: Sequence[str | Path], **how: Any) -> None:
        words = [str(word) for word in argv]
        if "pip" in words:
            self._pip(words)
            return
        at = next(i for i, word in enumerate(words) if word.endswith("box/enter.sh"))
        lower, area, provision, script, *arguments = words[at + 1 :]
        home = Path(words[words.index("-C") + 1])
        assert all((home / layer).is_dir() for layer in lower.split(":"))
        assert (Path(provision) / "image" / script).is_file()
        self.ran.append((script, *arguments))
        if self.fail == script:
            raise LabError("no network")
        if script == "machine/machine.sh":
            assert len(lower.split(":")) == 3
            inside = home / area / "in"
            assert (inside / "lab/lab.yaml").is_file()
            assert (inside / "site/typer").is_dir()
            for name in ("cli/app.py", "_assets/provision/lib.sh", "_assets/requirements.lock"):
                assert (inside / "site/labctl" / name).is_file(), name
            assert not list(inside.rglob("__pycache__"))
            (home / area / "root/opt").mkdir()
        elif arguments[:1] == ["raw"]:
            assert (home / lower.split(":")[0] / "opt").is_dir(), "labctl is on top"
            self.more = (home / area / "more").read_text()
            (home / area / "out/disk.raw").write_text("disk")
        elif arguments[:1] == ["qcow2"]:
            (home / area / "out/box.img").write_text("disk as qcow2")

    def _pip(self, words: list[str]) -> None:
        lock = Path(words[words.index("--requirement") + 1])
        assert "pydantic==" in lock.read_text()
        self.ran.append(("pip", *words))
        (Path(words[words.index("--target") + 1]) / "typer").mkdir()

    def builder(self) -> MachineBuilder:
        return MachineBuilder(self.images, PROVISION, self.output)

    def build(self) -> Path:
        builder = self.builder()
        with builder.working(lambda: None):
            builder.prepare()
            builder.lab.mkdir()
            (builder.lab / "lab.yaml").write_text("name: x\n")
            return builder.finish()


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    images = ImageCache(tmp_path / "cache", PROVISION, stack="ovn")
    layers = (images.root / "baked-1" / "root", images.root / "packages-2" / "root")
    for layer in layers:
        layer.mkdir(parents=True)
    monkeypatch.setattr(ImageCache, "find", lambda self, key=None: BakedImage("1", layers))
    made = Workshop(images, tmp_path / "golden.qcow2")
    monkeypatch.setattr(labctl.images.box, "stream", made.stream)
    monkeypatch.setattr(labctl.images.machine, "stream", made.stream)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 9 * 2**30))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return made


def test_the_disk_and_what_is_in_it(workshop: Workshop) -> None:
    assert workshop.build().read_text() == "disk as qcow2"
    key = BoxSystem(workshop.images, PROVISION).key
    scripts = [words for words in workshop.ran if words[0] != "pip"]
    assert [words[0] for words in scripts] == [
        "box/system.sh", "machine/machine.sh", "box/disk.sh", "box/disk.sh",
    ]  # fmt: skip
    assert scripts[1] == ("machine/machine.sh", "baked-1", "packages-2")
    # The system's own fstab and boot loader name the file system by this.
    assert scripts[2] == ("box/disk.sh", "raw", root_uuid(key), "8")
    assert workshop.more == (
        "baked-1 var/cache/labctl/baked-1\npackages-2 var/cache/labctl/packages-2\n"
    )


def test_libraries_are_those_of_the_lock_for_the_python_in_the_image(workshop: Workshop) -> None:
    workshop.build()
    (pip,) = [words for words in workshop.ran if words[0] == "pip"]
    assert {"--require-hashes", "--no-deps", "manylinux2014_x86_64"} <= set(pip)
    assert pip[pip.index("--only-binary") + 1] == ":all:"
    assert pip[pip.index("--python-version") + 1] == "3.13"


def test_nothing_unfinished_is_left_and_the_system_is_kept(workshop: Workshop) -> None:
    workshop.fail = "machine/machine.sh"
    with pytest.raises(StepFailed, match="no network"):
        workshop.build()
    builder = workshop.builder()
    assert not builder.work.exists()
    assert not workshop.output.exists()
    workshop.fail = ""
    workshop.build()
    assert [words[0] for words in workshop.ran].count("box/system.sh") == 1
    assert not builder.work.exists()


def test_what_may_still_use_it_is_ended_before_and_after(workshop: Workshop) -> None:
    builder = workshop.builder()
    (builder.work / "lab").mkdir(parents=True)
    seen = []
    with builder.working(lambda: seen.append((builder.work / "lab").exists())):
        assert seen == [True]
        (builder.work / "lab").mkdir(parents=True)
    assert seen == [True, True]


def test_building_needs_root(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root"):
        workshop.build()
    assert workshop.ran == []


# -- the first boot --------------------------------------------------------------------------------
def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(MACHINE / "files" / name, encoding="utf-8")
    return parser


def test_nobody_logs_in_before_the_keys_are_new() -> None:
    made = unit("labctl-keys.service")
    assert "ssh.service" in made["Unit"]["Before"].split()
    assert made["Install"]["RequiredBy"] == "ssh.service"
    assert made["Service"]["Type"] == "oneshot"  # it is done once its commands have ended
    text = (MACHINE / "files/labctl-keys.service").read_text()
    commands = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    mark = made["Unit"]["ConditionPathExists"]
    # The mark goes after the command has succeeded, so a failed one is repeated at the next boot.
    assert commands == [
        "/usr/local/bin/labctl renew --file /srv/lab/lab.yaml --halted", f"/usr/bin/rm {mark}",
    ]  # fmt: skip
    assert f"touch {mark} " in (MACHINE / "machine.sh").read_text()


def test_the_lab_starts_after_its_keys() -> None:
    made = unit("labctl-lab.service")
    for key in ("Requires", "After"):
        assert "labctl-keys.service" in made["Unit"][key].split()


def test_every_file_of_the_recipe_is_used_and_every_file_used_is_there() -> None:
    script = (MACHINE / "machine.sh").read_text()
    used = set(re.findall(r"^put (\S+)", script, re.MULTILINE))
    assert used == {path.name for path in (MACHINE / "files").iterdir()}


def test_vagrants_published_key_lets_nobody_in() -> None:
    assert "userdel --remove vagrant" in (MACHINE / "machine.sh").read_text()
