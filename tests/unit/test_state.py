"""What a lab keeps on disk: whole or not at all, for its owner only, for one labctl at a time."""

import ast
import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import labctl
from labctl.errors import EXIT_USAGE, LabError
from labctl.state import Identity, LabState, as_json, cache_directory, write_atomic
from tests.unit.conftest import GROUP, USER

Require = Callable[..., None]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def state(tmp_path: Path) -> LabState:
    return LabState(tmp_path)


# -- write_atomic ----------------------------------------------------------------------------------
def test_text_and_bytes_are_written_with_their_mode(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_atomic(tmp_path / "new" / "text", "中\n")
        write_atomic(tmp_path / "bytes", b"\xff", 0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "new" / "text").read_bytes() == "中\n".encode()
    assert mode(tmp_path / "new" / "text") == 0o644
    assert mode(tmp_path / "bytes") == 0o600


def test_a_file_is_never_more_open_than_it_shall_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    seen: list[int] = []
    real = os.replace

    def replace(source: str, target: Path) -> None:
        seen.append(mode(Path(source)))
        real(source, target)

    def fchmod(fd: int, its_mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        assert os.fstat(fd).st_size == 0, "the mode comes after the content"
        os.chmod(fd, its_mode)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fchmod", fchmod)
    write_atomic(path, "new", 0o600)
    assert seen == [0o600, 0o600]  # before the mode was set, and when the file was put in place
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(fd: int) -> None:
        assert os.fstat(fd).st_size == 3
        order.append("fsync")
        fsync(fd)

    def noting_replace(source: str, target: Path) -> None:
        order.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    write_atomic(tmp_path / "file", "new")
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(LabError) as error:
        write_atomic(path, "new")
    assert error.value.message == f"cannot write {path}: No space left on device"
    assert "free some disk space" in error.value.hint
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; skipped where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root and the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    state = LabState(small_disk)
    state.begin("lab", "nspawn")
    before = (state.root / "lab.json").read_text()
    with pytest.raises(LabError, match="No space left on device"):
        state.write_json(state.root / "lab.json", {"much": "x" * 100_000})
    assert (state.root / "lab.json").read_text() == before
    assert state.identity().lab == "lab"
    assert names(state.root) == ["lab.json", "logs"]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"cannot write .*(Not a directory|File exists)"):
        write_atomic(tmp_path / "file" / "below", "x")


def test_an_interruption_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


# -- identity and secrets --------------------------------------------------------------------------
def test_a_lab_keeps_its_identity(state: LabState) -> None:
    assert not state.exists
    first = state.begin("lab", "nspawn")
    assert state.exists
    assert re.fullmatch("[0-9a-f]{8}", first.lab_id)
    assert abs(first.created - time.time()) < 60
    # Whatever is asked of it later: another name or provider does not make another lab.
    assert state.begin("other", "virtualbox") == first == state.identity()
    assert LabState(state.root.parent).identity() == first
    assert mode(state.root) == 0o700
    assert state.logs.is_dir()


def test_labs_are_told_apart(tmp_path: Path) -> None:
    ids = set()
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        ids.add(LabState(tmp_path / str(number)).begin("lab", "p").lab_id)
    assert len(ids) == 20


def test_an_identity_may_gain_an_image(state: LabState) -> None:
    first = state.begin("lab", "nspawn")
    state.save_identity(Identity(**{**vars(first), "image": "abc"}))
    assert state.identity().image == "abc"
    assert state.identity().lab_id == first.lab_id


def test_without_a_lab_there_is_no_identity(state: LabState) -> None:
    with pytest.raises(LabError, match="there is no lab here") as error:
        state.identity()
    assert "labctl create" in error.value.hint


def test_secrets_are_made_once_and_for_the_owner_only(state: LabState) -> None:
    state.begin("lab", "nspawn")
    made = state.secrets()
    assert mode(state.root / "secrets.json") == 0o600
    assert state.secrets() == made == LabState(state.root.parent).secrets()
    values = list(vars(made).values())
    assert len(set(values)) == len(values) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in values)


def test_no_two_labs_share_a_secret(tmp_path: Path) -> None:
    one, other = (LabState(tmp_path / name).secrets() for name in "ab")
    assert not set(vars(one).values()) & set(vars(other).values())


# -- files that are not what they were -------------------------------------------------------------
BROKEN = ["", "{", "[]", '"text"', "null", '{"other": 1}', "\0" * 40, "中"]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_state_is_an_error_with_a_way_out(state: LabState, content: str) -> None:
    state.begin("lab", "nspawn")
    readers: dict[str, Callable[[], object]] = {
        "lab.json": state.identity,
        "secrets.json": state.secrets,
    }
    for name, read in readers.items():
        (state.root / name).write_text(content, encoding="utf-8")
        with pytest.raises(LabError) as error:
            read()
        assert name in error.value.message
        assert "labctl destroy" in error.value.hint


def test_bytes_that_are_no_text(state: LabState) -> None:
    state.begin("lab", "nspawn")
    (state.root / "lab.json").write_bytes(b'{"lab": "\xff"}')
    with pytest.raises(LabError, match=r"lab\.json cannot be read"):
        state.identity()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_lab(state: LabState) -> None:
    state.begin("lab", "nspawn")
    os.chown(state.root, USER, GROUP)
    others = LabState(state.root.parent)
    assert others.owner == USER
    for ask in (lambda: others.exists, others.identity, others.make_root):
        with pytest.raises(LabError, match=f"belongs to another user: {USER}"):
            ask()
    with pytest.raises(LabError, match="belongs to another user"), others.locked("create"):
        pass


def test_json_is_read_back_and_may_hold_chinese(state: LabState) -> None:
    data = {"title": "建立 external network", "n": [1, None]}
    state.write_json(state.lesson_position, data)
    assert state.read_json(state.lesson_position) == data
    assert "建立" in state.lesson_position.read_text(encoding="utf-8")
    assert state.read_json(state.root / "nothing") is None


# -- the lock --------------------------------------------------------------------------------------
HOLD = """
import sys, time
from pathlib import Path
import labctl
from labctl.state import LabState
with LabState(Path(sys.argv[1])).locked("create"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(directory: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another labctl, in a process of its own, that has the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_labctl_is_told_who_has_the_lab(state: LabState) -> None:
    with holder(state.root.parent) as other:
        with pytest.raises(LabError) as error, state.locked("destroy"):
            raise AssertionError("two hold the lock")
        said = error.value.message
        assert re.search(rf"`labctl create`, process {other.pid}, since \d\d:\d\d:\d\d$", said)
        assert error.value.hint
        # A refusal leaves the name of the holder alone.
        with pytest.raises(LabError, match=f"process {other.pid}"), state.locked("up"):
            pass


def test_a_killed_labctl_leaves_no_lock(state: LabState) -> None:
    with holder(state.root.parent) as other:
        other.kill()
        other.wait()
        with state.locked("create"):
            assert f"process {os.getpid()}," in (state.root / "lock").read_text()


def test_the_lock_is_free_afterwards_even_after_a_failure(state: LabState) -> None:
    with pytest.raises(RuntimeError), state.locked("create"):
        raise RuntimeError
    with state.locked("up"):
        pass


def test_a_short_holder_leaves_nothing_of_a_longer_name(state: LabState) -> None:
    with state.locked("replay a-lesson-with-a-long-name"):
        pass
    with state.locked("up"):
        assert (state.root / "lock").read_text().startswith("`labctl up`, process")
        assert "lesson" not in (state.root / "lock").read_text()


def test_a_lock_of_a_lab_that_was_destroyed_meanwhile_is_none(
    state: LabState, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def destroyed_while_waiting(stream: object, operation: int) -> None:
        (state.root / "lock").unlink()

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", destroyed_while_waiting)
        with pytest.raises(LabError, match="destroyed this lab just now"), state.locked("create"):
            pass
    with state.locked("create"):
        pass


def test_removing_leaves_nothing(state: LabState) -> None:
    with state.locked("destroy"):
        state.begin("lab", "nspawn")
        state.secrets()
        state.remove()
    assert names(state.root.parent) == []


def test_every_name_is_inside_the_directory_of_the_lab(state: LabState) -> None:
    names = [
        state.logs, state.events, state.ssh_key, state.known_hosts, state.host_key("n"),
        state.node("n"), state.built_spec, state.created, state.lesson_position,
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert all(name.is_relative_to(state.root) for name in names)


@pytest.mark.parametrize("word", ["", "short", "../../x", 7, None, "G" * 32])
def test_strange_passwords_are_told(tmp_path: Path, word: object) -> None:
    state = LabState(tmp_path)
    state.root.mkdir()
    good = dict.fromkeys(("admin", "database", "rabbit", "service", "metadata"), "a" * 32)
    state.write_json(state.root / "secrets.json", {**good, "rabbit": word})
    with pytest.raises(LabError, match="does not hold what this version of labctl writes"):
        state.secrets()


def test_a_deeply_nested_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(LabError, match=r"x\.json cannot be read"):
        LabState(tmp_path).read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a\nb"])
def test_a_cache_that_overlayfs_cannot_be_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_CACHE", f"/tmp/{name}")
    with pytest.raises(LabError, match=r"(?s)LABCTL_CACHE: .* which overlayfs takes") as error:
        cache_directory()
    assert error.value.code == EXIT_USAGE
    assert "without colons, commas and backslashes" in error.value.hint
    monkeypatch.setenv("LABCTL_CACHE", "/tmp/it's a cache")
    assert cache_directory() == Path("/tmp/it's a cache")


def test_json_for_programs_controls_no_terminal() -> None:
    said = {"a": "\x1b]0;x\x07 \x9b31m \x7f \u202e \u2028 \ud800 外部 é"}
    text = as_json(said)
    assert json.loads(text) == said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", text)
    assert "外部 é" in text


# -- names -----------------------------------------------------------------------------------------
def joined(file: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every `… / "name"` in a module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            match node.right:
                case ast.Constant(value=str(name)):
                    yield node.lineno, name


def test_only_state_py_spells_a_name_under_the_labs_directory() -> None:
    package = Path(labctl.__file__).parent
    names = {name for _, name in joined(package / "state.py")}
    names -= {"labctl", "root", "work", "lock"}  # names in the cache of images, too
    assert {"lab.json", "nodes", "upper", "manifest.json", "image.log"} <= names
    spelled = [
        f"{file.relative_to(package)}:{line}: {name}"
        for file in sorted(package.rglob("*.py"))
        for line, name in joined(file)
        if name in names and file.name != "state.py"
    ]
    assert spelled == []


@pytest.mark.parametrize(
    ("directory", "fits"),
    [
        ("", True),
        ("/home/a/lab/.labctl", True),
        (r"C:\Users\王 小明\lab\.labctl", True),
        ("d:/lab/.labctl", True),
        (r"\\server\share\lab\.labctl", True),
        ("lab/.labctl", False),
        (r"..\lab", False),
        ("C:lab", False),
    ],
)
def test_a_lab_knows_its_place_as_a_whole_path(directory: str, fits: bool) -> None:
    data = {
        "lab": "x", "lab_id": "0123abcd", "provider": "virtualbox", "created": 1.0,
        "directory": directory,
    }  # fmt: skip
    if fits:
        assert Identity.from_json(data).directory == directory
    else:
        with pytest.raises(ValueError, match="directory"):
            Identity.from_json(data)
