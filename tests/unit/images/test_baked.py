"""The cache of baked images: what makes a key, what is built, and what an interruption leaves.

What really builds (mmdebstrap, a chroot) is played by a function that makes the same files.
"""

import os
import re
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import labctl.images.baked
import labctl.images.debian
from labctl.errors import Cancelled, LabError
from labctl.images.baked import BakedImage, ImageCache, exclusive
from labctl.operating_system.architecture import ARCHITECTURES, host_architecture
from tests.unit.conftest import GROUP, USER
from tests.unit.golden import GOLDEN

PROVISION = GOLDEN.parents[1] / "provision"
RECIPE = labctl.images.baked.PACKAGES + labctl.images.baked.BAKED
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def provision(tmp_path: Path) -> Path:
    """A copy of the recipe that a test may change; a path that needs quotes."""
    copy = tmp_path / "it's provision"
    shutil.copytree(PROVISION, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@dataclass
class Workshop:
    """A cache, and the commands that it runs."""

    cache: ImageCache
    ran: list[list[str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    fail: Callable[[str], Exception | None] = lambda command: None
    lines: Sequence[str] = ("Setting up nova-api (3.14) ...",)
    """What mmdebstrap prints."""

    def stream(self, argv: Sequence[str | Path], *, log: Path, **how: Any) -> None:
        words = [str(word) for word in argv]
        self.ran.append(words)
        assert how["timeout"] >= 600
        command = self.commands[-1]
        if command == "mmdebstrap":
            suite = words.index(labctl.images.debian.SUITE)
            root = Path(words[suite + 1])
            (root / "etc").mkdir(parents=True)
            (root / "etc" / "packages").write_text("from the packages layer")
            (root / "etc" / "both").write_text("below")
            for line in self.lines:
                how["on_line"](line)
        else:
            lower, partial, _, stack = words[-4:]
            assert stack == self.cache.stack
            assert (Path(lower) / "etc" / "packages").exists()
            (Path(partial) / "root" / "etc").mkdir()
            (Path(partial) / "root" / "etc" / "both").write_text("above")
            how["on_line"]("baked")
        if error := self.fail(command):
            raise error

    def build(self) -> BakedImage:
        return self.cache.build(
            log=self.cache.root / "log", progress=self.said.append, cancel=lambda: False
        )

    @property
    def commands(self) -> list[str]:
        """`mmdebstrap` or `bake` for each."""
        return ["mmdebstrap" if "mmdebstrap" in words else "bake" for words in self.ran]


@pytest.fixture
def workshop(tmp_path: Path, provision: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(ImageCache(tmp_path / "cache", provision))
    monkeypatch.setattr(labctl.images.baked, "stream", made.stream)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 9 * 2**30))
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.delenv("LABCTL_MIRROR", raising=False)
    return made


# -- keys ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", RECIPE)
def test_every_part_of_the_recipe_is_there(name: str) -> None:
    # A name that is misspelt would be left out of the key without a word.
    assert (PROVISION / name).exists()


@pytest.mark.parametrize("name", [*RECIPE, "image/instance/init"])
def test_a_change_of_the_recipe_changes_the_key(name: str, provision: Path) -> None:
    cache = ImageCache(provision, provision)
    before, packages_before = cache.key, cache.packages_key
    file = provision / name
    file = file / "init" if file.is_dir() else file
    file.write_bytes(file.read_bytes() + b"\n")
    assert cache.key != before
    assert (cache.packages_key != packages_before) == (name in labctl.images.baked.PACKAGES)


def test_a_new_file_in_a_directory_of_the_recipe_changes_the_key(provision: Path) -> None:
    cache = ImageCache(provision, provision)
    before = cache.key
    (provision / "image" / "instance" / "new").touch()
    with_it = cache.key
    (provision / "image" / "instance" / "new").rename(provision / "image" / "instance" / "renamed")
    assert len({before, with_it, cache.key}) == 3


def test_the_key_depends_on_content_alone(provision: Path, tmp_path: Path) -> None:
    for path in provision.rglob("*"):
        os.utime(path, (1, 1))
    (provision / "50-keystone.sh").write_text("no part of the image")
    original = ImageCache(tmp_path / "elsewhere", PROVISION)
    assert ImageCache(tmp_path, provision).key == original.key
    assert re.fullmatch("[0-9a-f]{16}", original.key)
    assert original.key != original.packages_key


def test_what_the_baking_scripts_read_is_part_of_the_recipe() -> None:
    scripts = [
        *(PROVISION / "image").glob("*.sh"),
        *(PROVISION / name for name in labctl.images.baked.BAKED if name.endswith(".sh")),
    ]
    found = set()
    for script in scripts:
        lines = script.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        used = re.findall(r'\$(?:PROVISION|2)"?/([\w./-]+)', text)
        used += [f"files/{name}" for name in re.findall(r"^\s*(?:verbatim|template) (\S+)", text)]
        if script.name in ("enter.sh", "lib.sh"):
            continue  # one copies all of provision/ and runs bake.sh, the other holds functions
        assert "order_after" not in text, f"{script.name} reads files/unit-dropin.conf by it"
        for name in filter(lambda name: not name.endswith("/"), used):
            found.add(name)
            part_of = any(name == part or name.startswith(f"{part}/") for part in RECIPE)
            assert part_of, f"{script.name} reads {name}, which is not in the key"
    assert len(found) > 3


# -- finding ---------------------------------------------------------------------------------------
def test_nothing_is_found_in_an_empty_cache(workshop: Workshop) -> None:
    assert workshop.cache.find() is None
    assert workshop.cache.find("0123456789abcdef") is None
    assert not workshop.cache.root.exists()  # looking makes nothing


def test_an_image_is_found_by_its_key_when_the_recipe_has_moved_on(
    workshop: Workshop, provision: Path
) -> None:
    first = workshop.build()
    (provision / "lib.sh").write_text("changed")
    assert workshop.cache.find() is None
    assert workshop.cache.find(first.key) == first


def test_an_image_without_its_packages_is_none(workshop: Workshop) -> None:
    first = workshop.build()
    shutil.rmtree(first.layers[1].parent)
    assert workshop.cache.find() is None


def test_the_upper_layer_counts(workshop: Workshop) -> None:
    image = workshop.build()
    assert image.file("etc/both").read_text() == "above"
    assert image.file("etc/packages").read_text() == "from the packages layer"
    for missing in ("etc/nothing", "etc"):
        with pytest.raises(FileNotFoundError):
            image.file(missing)


# -- building --------------------------------------------------------------------------------------
def test_an_image_is_built_once(workshop: Workshop) -> None:
    first = workshop.build()
    assert workshop.commands == ["mmdebstrap", "bake"]
    assert first.key == workshop.cache.key
    assert workshop.build() == first == workshop.cache.find()
    assert workshop.commands == ["mmdebstrap", "bake"]
    root = workshop.cache.root
    names = {f"baked-{first.key}", f"packages-{workshop.cache.packages_key}", "lock"}
    assert {path.name for path in root.iterdir()} == names
    assert {path.name for path in (root / f"baked-{first.key}").iterdir()} == {"root", "packages"}
    assert "1 package: nova-api" in workshop.said
    assert "baked" in workshop.said


def test_what_is_asked_of_mmdebstrap(
    workshop: Workshop, provision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ovn-central", "controller", "compute", "image"):
        (provision / "packages" / f"{name}.list").write_text("")
    other = next(name for name in ARCHITECTURES if name != host_architecture().name)
    (provision / "packages" / "base.list").write_text(
        f"# comment\none # more\n\ntwo [{host_architecture().name}]\nfour [{other}]\n  three\n"
    )
    monkeypatch.setenv("LABCTL_MIRROR", "http://mirror.example/debian")
    workshop.build()
    words = workshop.ran[0]
    assert "--include=one,two,three" in words
    partial = workshop.cache.root / f"packages-{workshop.cache.packages_key}.partial"
    assert words[-3:] == ["trixie", f"{partial}/root", "http://mirror.example/debian"]
    (hook,) = [word for word in words if word.startswith("--essential-hook=")]
    # mmdebstrap gives it to a shell, and the path holds a space and a quote.
    assert hook.count('"$1"') == 1
    assert provision.name not in hook
    assert "'\"'\"'s provision" in hook
    assert "3 packages and what they need, from Debian trixie" in workshop.said


def test_an_image_for_another_architecture(
    workshop: Workshop, provision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(one for one in ARCHITECTURES.values() if one != host_architecture())
    own = workshop.cache.key
    tried: list[str] = []
    monkeypatch.setattr(
        labctl.images.baked, "require_emulator", lambda which, directory: tried.append(which.name)
    )
    workshop.build()
    assert not [word for word in workshop.ran[0] if word.startswith("--arch")]
    assert tried == []
    workshop.cache = ImageCache(workshop.cache.root, provision, other, "ovn")
    assert workshop.cache.key != own
    workshop.build()
    words = workshop.ran[-2]
    assert f"--architectures={other.name}" in words
    assert tried == [other.name]
    (packages,) = [word for word in words if word.startswith("--include=")]
    assert "ovn-central" in packages
    assert "nova" not in packages


def test_a_changed_bake_script_keeps_the_packages(workshop: Workshop, provision: Path) -> None:
    first = workshop.build()
    (provision / "17-schema.sh").write_text("changed")
    second = workshop.build()
    assert workshop.commands == ["mmdebstrap", "bake", "bake"]
    assert first.key != second.key
    assert first.layers[1] == second.layers[1]
    assert workshop.cache.find(first.key) == first  # a lab may still stand on it


@pytest.mark.parametrize("command", ["mmdebstrap", "bake"])
@pytest.mark.parametrize("error", [LabError("no network"), Cancelled("stop")], ids=repr)
def test_what_was_interrupted_is_no_image_and_is_made_anew(
    workshop: Workshop, command: str, error: Exception
) -> None:
    workshop.fail = lambda its: error if its == command else None
    with pytest.raises(type(error)):
        workshop.build()
    assert workshop.cache.find() is None
    assert list(workshop.cache.root.glob("*.partial"))
    workshop.fail = lambda its: None
    image = workshop.build()
    assert image.file("etc/both").read_text() == "above"
    assert not list(workshop.cache.root.glob("*.partial"))
    # What was whole before the interruption is not made twice.
    assert workshop.commands.count("mmdebstrap") == (2 if command == "mmdebstrap" else 1)


def test_without_mmdebstrap_nothing_is_begun(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(LabError, match="'mmdebstrap' is not installed"):
        workshop.build()
    assert workshop.ran == []


def test_too_little_space_is_said_before_anything_is_done(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 4.9 * 2**30))
    with pytest.raises(LabError, match=r"4\.9 GiB free; the baked image needs 5 GiB") as error:
        workshop.build()
    assert "LABCTL_CACHE" in error.value.hint
    assert workshop.ran == []


def test_baking_anew_needs_less_space(
    workshop: Workshop, provision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workshop.build()
    (provision / "lib.sh").write_text("changed")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 4.9 * 2**30))
    anew = workshop.build()
    assert anew.key != first.key
    assert anew == workshop.cache.find()
    assert workshop.commands == ["mmdebstrap", "bake", "bake"]


def test_two_labs_build_one_image(workshop: Workshop) -> None:
    building, go_on = threading.Event(), threading.Event()

    def wait(command: str) -> None:
        building.set()
        assert go_on.wait(10)

    workshop.fail = wait
    images: list[BakedImage] = []
    threads = [threading.Thread(target=lambda: images.append(workshop.build())) for _ in range(2)]
    threads[0].start()
    assert building.wait(10)
    threads[1].start()
    for _ in range(1000):
        if any("waiting for it" in said for said in workshop.said):
            break
        go_on.wait(0.01)
    else:
        raise AssertionError("the second does not say that it waits")
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert images[0] == images[1]
    assert workshop.commands == ["mmdebstrap", "bake"]


def test_a_line_of_apt_in_a_few_words() -> None:
    said: list[str] = []
    on_line = labctl.images.baked.apt_progress(said.append)
    for line in (
        "I: running apt-get update...", "Get:1 http://mirror.example trixie InRelease",
        "Setting up bash (5.2) ...", "Setting up libc6:amd64 (2.41-1) ...",
    ):  # fmt: skip
        on_line(line)
    assert said == ["running apt-get update...", "1 package: bash", "2 packages: libc6:amd64"]


def test_a_cache_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ImageCache(tmp_path / "file" / "cache", Path("/nowhere"))
    with pytest.raises(LabError, match=r"cannot write .*/file/cache: Not a directory") as error:
        cache.build(log=tmp_path / "log", progress=print, cancel=lambda: False)
    assert "LABCTL_CACHE" in error.value.hint


# -- who may look in, and wait ---------------------------------------------------------------------
def test_images_are_closed_to_others(workshop: Workshop) -> None:
    workshop.build()
    root = workshop.cache.root
    layers = sorted(path.name.partition("-")[0] for path in root.iterdir() if path.is_dir())
    assert layers == ["baked", "packages"]
    closed = [root, *(path for path in root.iterdir() if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in closed} == {0o700}
    assert (root / "lock").stat().st_mode & 0o777 == 0o600


def test_what_an_older_labctl_left_open_is_closed(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = workshop.build()
    root = workshop.cache.root
    for path in (root, *(layer.parent for layer in image.layers)):
        path.chmod(0o755)
    workshop.cache.protect()
    # A directory that LABCTL_CACHE names may hold other things, and stays as it is.
    assert root.stat().st_mode & 0o777 == 0o755
    assert {layer.parent.stat().st_mode & 0o777 for layer in image.layers} == {0o700}
    monkeypatch.setattr(labctl.images.baked, "cache_directory", lambda **_: root)
    workshop.cache.protect()
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_layer_that_somebody_else_made_is_no_part_of_a_node(workshop: Workshop) -> None:
    image = workshop.build()
    os.chown(image.layers[0].parent, USER, GROUP)
    with pytest.raises(LabError, match=f"belongs to another user: {USER}"):
        workshop.cache.protect()


def test_a_finished_image_waits_for_nobody(workshop: Workshop) -> None:
    image = workshop.build()
    workshop.said.clear()
    with exclusive(workshop.cache.root / "lock", workshop.said.append):
        assert workshop.build() == image
    assert workshop.said == []


def test_waiting_for_the_lock_comes_to_an_end(tmp_path: Path) -> None:
    said: list[str] = []
    lock = tmp_path / "lock"
    with exclusive(lock, said.append):
        assert said == []
        with (
            pytest.raises(LabError, match="the lock of the images is free") as error,
            exclusive(lock, said.append, deadline=0.1),
        ):
            pass
        assert f"process {os.getpid()} holds it" in error.value.hint
        with pytest.raises(Cancelled), exclusive(lock, said.append, cancelled=lambda: True):
            pass
    assert said == ["another labctl builds the image; waiting for it to finish"] * 2
    with exclusive(lock, said.append, deadline=0):
        assert len(said) == 2


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(LabError, match="cannot write"), exclusive(tmp_path / "lock", said.append):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


# -- unknown keys ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "line",
    [
        "W: GPG error: trixie InRelease: The following signatures couldn't be verified because the"
        " public key is not available: NO_PUBKEY 6ED0E7B82643E131 NO_PUBKEY 78DBA3BC47EF2265",
        "Sub-process /usr/bin/sqv returned an error code (1), error message is: Missing key"
        " B8E5F13176D2A7A75220028078DBA3BC47EF2265, which is needed to verify signature.",
    ],
)
def test_a_mirrors_own_key_is_named_and_not_the_network(workshop: Workshop, line: str) -> None:
    network = LabError("mmdebstrap failed", hint="is there a network?")
    workshop.fail = lambda command: network
    with pytest.raises(LabError) as error:
        workshop.build()
    assert error.value.hint == "is there a network?"
    workshop.lines = (line, "E: The repository is not signed.")
    with pytest.raises(LabError) as error:
        workshop.build()
    assert "the mirror signs with a key" in error.value.hint
