"""Templates in the cache: whole or not there, closed to others, not more than the disk bears."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from labctl.errors import LabError
from labctl.images import templates
from labctl.images.templates import TemplateCache

KEYS = [f"{number:032x}" for number in range(1, 8)]


@pytest.fixture
def cache(tmp_path: Path) -> TemplateCache:
    return TemplateCache(tmp_path / "cache")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "node.tar"
    path.write_bytes(b"packed" * 100)
    return path


def keep(cache: TemplateCache, key: str, part: Path, content: str = "{}") -> None:
    with cache.locked():
        cache.keep(key, [part], content)


def test_what_was_kept_is_found(cache: TemplateCache, part: Path) -> None:
    assert (cache.keys(), cache.content(KEYS[0]), cache.in_words()) == ([], None, [])
    keep(cache, KEYS[0], part, '{"format": 1}')
    assert cache.keys() == [KEYS[0]]
    assert cache.content(KEYS[0]) == '{"format": 1}'
    assert (cache.directory(KEYS[0]) / "node.tar").read_bytes() == part.read_bytes()
    keep(cache, KEYS[0], part, "another")
    assert (cache.keys(), cache.content(KEYS[0])) == ([KEYS[0]], "another")
    assert cache.content(KEYS[1]) is None


def test_nobody_else_can_read_it(cache: TemplateCache, part: Path) -> None:
    before = os.umask(0)
    try:
        keep(cache, KEYS[0], part)
    finally:
        os.umask(before)
    for path, mode in (
        (cache.root, 0o700),
        (cache.directory(KEYS[0]), 0o700),
        (cache.directory(KEYS[0]) / "template.json", 0o600),
        (cache.root / "lock", 0o600),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


def test_it_takes_no_space_while_its_lab_is_there_and_outlives_it(
    cache: TemplateCache, part: Path
) -> None:
    keep(cache, KEYS[0], part)
    kept = cache.directory(KEYS[0]) / "node.tar"
    assert kept.stat().st_ino == part.stat().st_ino
    part.unlink()
    assert kept.read_bytes() == b"packed" * 100


def test_on_another_file_system_it_is_copied(
    cache: TemplateCache, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", elsewhere)
    keep(cache, KEYS[0], part)
    kept = cache.directory(KEYS[0]) / "node.tar"
    assert kept.stat().st_ino != part.stat().st_ino
    assert kept.read_bytes() == part.read_bytes()


def test_those_used_last_stay(cache: TemplateCache, part: Path) -> None:
    for number, key in enumerate(KEYS[:4]):
        keep(cache, key, part)
        os.utime(cache.directory(key), (number, number))
    cache.used(KEYS[0])
    keep(cache, KEYS[4], part)
    assert set(cache.keys()) == {KEYS[0], KEYS[2], KEYS[3], KEYS[4]}


def test_they_do_not_fill_the_disk(
    cache: TemplateCache, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_BYTES", 1500)
    for number, key in enumerate(KEYS[:3]):  # each has a little more than 600 bytes
        keep(cache, key, part)
        os.utime(cache.directory(key), (number, number))
    assert cache.keys() == [KEYS[2], KEYS[1]]
    monkeypatch.setattr(templates, "MAX_BYTES", 1)
    keep(cache, KEYS[3], part)
    assert cache.keys() == [KEYS[3]]


@pytest.mark.parametrize("stop", ["mkdir", "link", "write", "remove", "rename"])
def test_a_kill_on_the_way_leaves_none_or_a_whole_one(
    cache: TemplateCache, part: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*words: object, **more: object) -> None:
        raise Killed

    keep(cache, KEYS[0], part, "before")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *words, **more: None)  # a kill cleans nothing up
        if stop == "link":
            patch.setattr("os.link", killed)
        elif stop == "write":
            patch.setattr(templates, "write_atomic", killed)
        elif stop == "remove":
            patch.setattr(TemplateCache, "remove", killed)
        else:
            patch.setattr(f"pathlib.Path.{stop}", killed)
        with pytest.raises(Killed):
            cache.keep(KEYS[0], [part], "after")
    assert cache.keys() in ([], [KEYS[0]])
    assert cache.content(KEYS[0]) in (None, "before")
    keep(cache, KEYS[1], part)
    assert sorted(path.name for path in cache.root.iterdir() if path.name not in KEYS) == ["lock"]


def test_a_part_that_is_missing_leaves_the_template_that_was(
    cache: TemplateCache, part: Path
) -> None:
    keep(cache, KEYS[0], part, "before")
    with pytest.raises(LabError), cache.locked():
        cache.keep(KEYS[0], [part.with_name("none")], "after")
    assert cache.content(KEYS[0]) == "before"
    assert not list(cache.root.glob("*.partial"))


def test_a_disk_that_is_nearly_full_gets_none(
    cache: TemplateCache, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, KEYS[0], part, "before")
    nearly = SimpleNamespace(free=2**29)
    monkeypatch.setattr("shutil.disk_usage", lambda path: nearly)
    with pytest.raises(LabError, match=r"0\.5 GiB free; a template needs 1 GiB"):
        keep(cache, KEYS[0], part, "after")
    assert cache.content(KEYS[0]) == "before"


def test_all_can_be_removed(cache: TemplateCache, part: Path) -> None:
    cache.remove_all()  # nothing is there: nothing is made
    assert not cache.root.exists()
    keep(cache, KEYS[0], part)
    keep(cache, KEYS[1], part)
    (words,) = cache.in_words()
    assert "2" in words
    (cache.root / f"{KEYS[2]}.partial").mkdir()
    cache.remove_all()
    assert [path.name for path in cache.root.iterdir()] == ["lock"]
