"""What labctl writes into a user's directory: theirs, through no link, over nothing special."""

import ast
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import labctl
from labctl import user_files
from labctl.caller import acting_as_caller, caller
from labctl.errors import LabError
from labctl.user_files import (
    directory_for_user,
    new_for_user,
    replacing_for_user,
    write_for_user,
)
from tests.unit.conftest import GROUP, USER

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="what root must not do, only root can try")


def refused(path: Path, content: str = "new") -> LabError:
    with pytest.raises(LabError) as error:
        write_for_user(path, content)
    assert error.value.hint or error.value.code == 2
    return error.value


@pytest.fixture
def by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(GROUP))


# -- what is there already -------------------------------------------------------------------------
def test_a_regular_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "page"
    write_for_user(path, "old")
    with path.open() as reader:
        write_for_user(path, b"new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["page"]  # noqa: PTH208


def test_it_has_the_permissions_that_the_callers_umask_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_files, "_umask", 0o077)
    write_for_user(tmp_path / "page", "x")
    new_for_user(tmp_path / "lab.yaml", "x")
    directory_for_user(tmp_path / "captures")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted(tmp_path.iterdir())]
    assert modes == [0o700, 0o600, 0o600]


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_text("old")

    def write_half() -> None:
        with replacing_for_user(path) as stream:
            stream.write(b"ha")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["box"]


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_nothing_is_written_through_a_link(tmp_path: Path, there: bool) -> None:
    victim, link = tmp_path / "victim", tmp_path / "page"
    if there:
        victim.write_text("precious")
    link.symlink_to(victim)
    assert "is a link" in refused(link).message
    assert link.is_symlink()
    assert victim.exists() == there
    assert not there or victim.read_text() == "precious"
    with pytest.raises(FileExistsError):
        new_for_user(link, "new")


def test_a_fifo_is_written_into_and_stays(tmp_path: Path) -> None:
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    write_for_user(fifo, "through")
    reader.join(10)
    assert got == ["through"]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


@root_only
def test_a_device_is_written_into_and_stays(tmp_path: Path) -> None:
    for name, minor in (("null", 3), ("full", 7)):
        try:
            os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        except PermissionError:
            pytest.skip("no devices can be made here")
    write_for_user(tmp_path / "null", "gone")
    assert "No space left" in refused(tmp_path / "full").message
    for name in ("null", "full"):
        assert stat.S_ISCHR((tmp_path / name).lstat().st_mode)
    os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 255))
    assert "is a disk" in refused(tmp_path / "disk").message


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_labctls_own_output_is_written_to(tmp_path: Path, name: str, kind: str) -> None:
    program = (
        "import sys; from pathlib import Path; from labctl.user_files import write_for_user;"
        f"print('before'); write_for_user(Path({name!r}), 'page\\n'); print('after')"
    )
    command = [sys.executable, "-c", program]
    if kind == "pipe":
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        with (tmp_path / "out").open("w") as sink:
            subprocess.run(command, stdout=sink, check=True)
        out = (tmp_path / "out").read_text()
    assert out == "before\npage\nafter\n"


def test_a_directory_and_a_place_that_is_none_are_told(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path).message
    error = refused(tmp_path / "missing" / "page")
    assert (error.message, error.code) == (f"there is no directory {tmp_path / 'missing'}", 2)
    with pytest.raises(LabError, match="no directory"):
        directory_for_user(tmp_path / "missing" / "captures")
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="is not a directory"):
        directory_for_user(tmp_path / "file")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# -- who writes ------------------------------------------------------------------------------------
@root_only
def test_what_root_writes_for_a_user_is_theirs(home: Path, by_sudo: None) -> None:
    write_for_user(home / "page", "x")
    new_for_user(home / "lab.yaml", "x")
    directory_for_user(home / "captures")
    with replacing_for_user(home / "captures" / "box") as stream:
        stream.write(b"x")
    made = [*home.iterdir(), home / "captures" / "box"]
    assert len(made) == 4
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(USER, GROUP)}


@root_only
def test_root_writes_nowhere_for_a_user_who_may_not(
    home: Path, tmp_path: Path, by_sudo: None
) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    (home / "door").symlink_to(roots)
    os.lchown(home / "door", USER, GROUP)
    for directory in (roots, home / "door"):
        error = refused(directory / "page")
        assert "Permission denied" in error.message
        assert str(USER) in error.hint
        with pytest.raises(LabError):
            directory_for_user(directory / "captures")
        with pytest.raises(PermissionError):
            new_for_user(directory / "lab.yaml", "x")
    assert list(roots.iterdir()) == []


@root_only
def test_a_link_in_the_way_that_a_stranger_made_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    link = tmp_path / "door"
    link.symlink_to(tmp_path / "target")
    write_for_user(link / "page", "root's own link")
    os.lchown(link, USER, GROUP)
    assert f"made by {USER}" in refused(link / "page").message
    assert (tmp_path / "target" / "page").read_text() == "root's own link"


@root_only
def test_only_this_thread_has_the_users_rights_and_only_meanwhile(
    tmp_path: Path, by_sudo: None
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    read: list[str] = []
    now = threading.Event()

    def look() -> None:
        now.wait()
        read.append(secret.read_text())

    other, before = threading.Thread(target=look), os.getgroups()
    other.start()
    with acting_as_caller():
        now.set()
        other.join()
        with pytest.raises(PermissionError):
            secret.read_text()
        status = Path("/proc/thread-self/status").read_text()
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
        assert groups.split()[1:] == [str(GROUP)]
    assert read == ["root's"] == [secret.read_text()]
    assert os.getgroups() == before


@root_only
@pytest.mark.parametrize("number", ["4294967295", "4294967296", "-1", "１", "x", " 1"])
def test_a_caller_that_is_none_is_told(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", number)
    monkeypatch.setenv("SUDO_GID", "0")
    with pytest.raises(LabError, match="is not the number of a user"):
        caller()


@root_only
def test_root_calling_sudo_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "0")
    monkeypatch.setenv("SUDO_GID", "0")
    assert caller() is None


# -- that it is the one place ----------------------------------------------------------------------
def test_nothing_else_gives_files_to_a_user_or_writes_where_one_says() -> None:
    package = Path(labctl.__file__).parent
    chown = {"chown", "lchown", "fchown", "set_owner"}
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in chown
    }
    # renewal.py: a file on a node's disk, for the node's own MariaDB.
    own = {"caller.py", "own_directory.py", "operating_system/rights.py"}
    assert found <= own | {"snapshots/renewal.py"}
    # The verbs, and the report, write by user_files only.
    verbs = {
        f"{file.relative_to(package)}: {node.attr}"
        for room in ("cli", "report", "walks", "spec", "graph")
        for file in (package / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"write_text", "write_bytes", "mkdir"}
    }
    assert verbs <= {"cli/help.py: write_text"}  # of click's formatter, and no file
