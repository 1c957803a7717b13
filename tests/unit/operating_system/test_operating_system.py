"""What differs between operating systems: of the others, as much as this one can show."""

import locale
import os
import subprocess
import sys
from pathlib import Path

import filelock  # noqa: F401 - it asks for the system when it is imported: before one is played
import pytest

from labctl.operating_system import closing, files, locks, processes, programs
from labctl.own_directory import open_text

HOLDER = """
import sys, time
from pathlib import Path
import filelock
from labctl.operating_system import locks
from labctl.own_directory import open_text
sys.platform = sys.argv[1]
with locks.holding(Path(sys.argv[2]), "process one", open_text):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(system: str, path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, system, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_a_lock_names_its_holder_and_ends_with_it(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    process = hold(system, path)
    monkeypatch.setattr(sys, "platform", system)
    try:
        with (
            pytest.raises(locks.HeldError, match="process one"),
            locks.holding(path, "process two", open_text),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with locks.holding(path, "process two", open_text):
        said = path if system == "linux" else path.with_name("lock.holder")
        assert said.read_text(encoding="utf-8") == "process two"


def test_the_lock_of_a_directory_that_goes_is_beside_it_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = tmp_path / ".labctl"
    assert locks.beside(lab) == lab / "lock"
    monkeypatch.setattr(sys, "platform", "win32")
    assert locks.beside(lab).parent == tmp_path
    with locks.holding(locks.beside(lab), "us", open_text):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == [], "nothing stays beside lab.yaml"


def test_windows_rights_are_for_the_user_and_administrators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "icacls.exe"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/told\n[ ! -e {tmp_path}/no ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("USERNAME", "王 小明")
    monkeypatch.setenv("LOGNAME", "王 小明")
    monkeypatch.setenv("USERDOMAIN", "LAPTOP")
    monkeypatch.setattr(sys, "platform", "win32")
    closing.close_directory_to_others(tmp_path / "王 lab")
    told = (tmp_path / "told").read_text(encoding="utf-8").splitlines()
    assert told[0] == str(tmp_path / "王 lab")
    assert told[1] == "/inheritance:r"
    assert [word for word in told if ":(OI)(CI)F" in word] == [
        "LAPTOP\\王 小明:(OI)(CI)F",
        "*S-1-5-18:(OI)(CI)F",
        "*S-1-5-32-544:(OI)(CI)F",
    ]
    (tmp_path / "no").touch()
    with pytest.raises(OSError, match="icacls"):
        closing.close_directory_to_others(tmp_path)


def test_without_open_directories_files_are_found_by_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert files.open_directory(tmp_path) is None
    assert files.within(None, tmp_path / "a") == tmp_path / "a"
    assert files.within(5, tmp_path / "a") == Path("a")
    with pytest.raises(FileNotFoundError):
        files.open_directory(tmp_path / "missing")


@pytest.mark.skipif(sys.platform == "win32", reason="directories are not opened there")
def test_what_is_no_directory_is_not_opened_as_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    for name in ("fifo", "file"):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            files.open_directory(tmp_path / name)


def test_a_group_of_zombies_has_ended_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """There killpg(2) of a group with nothing but zombies is not permitted."""
    process = processes.start_group(["sleep", "60"], output=subprocess.DEVNULL)
    real = os.killpg

    def killpg(group: int, sig: int) -> None:
        real(group, sig)
        if sig == 0:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", killpg)
    processes.end_group(process)
    assert process.returncode is not None


# -- programs of Windows ---------------------------------------------------------------------------
@pytest.fixture
def on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with programs, on PATH; the current directory is another, with the same ones."""
    for directory in ("bin", "stranger"):
        (tmp_path / directory).mkdir()
        for name in ("vagrant", "Vagrant.EXE", "tool.cmd", "tool.txt"):
            (tmp_path / directory / name).touch()
    monkeypatch.chdir(tmp_path / "stranger")
    monkeypatch.setenv("PATHEXT", ".COM;.EXE;.BAT;.CMD")
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", "stranger", f'"{tmp_path}/bin"']))
    monkeypatch.setattr(sys, "platform", "win32")
    return tmp_path / "bin"


def test_a_program_of_windows_is_found_on_path_alone(on_windows: Path) -> None:
    assert programs.find("vagrant") == str(on_windows / "Vagrant.EXE")
    assert programs.find("VAGRANT.exe") == str(on_windows / "Vagrant.EXE")
    assert programs.find("tool") == str(on_windows / "tool.cmd")
    assert programs.find("tool.txt") is None
    assert programs.find("VBoxManage") is None
    with pytest.raises(FileNotFoundError):
        programs.command_line(["VBoxManage", "list", "vms"])
    assert programs.command_line(["tool", "a b"]) == [str(on_windows / "tool.cmd"), "a b"]


def test_installers_that_leave_path_alone(
    on_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = on_windows.parent / "VirtualBox"
    place.mkdir()
    monkeypatch.setenv("VBOX_MSI_INSTALL_PATH", f"{place}\\")
    monkeypatch.setenv("PROGRAMFILES", str(on_windows.parent / "nothing"))
    (place / "VBoxManage.exe").touch()
    monkeypatch.setattr(programs, "Path", lambda *parts: Path(*(p.rstrip("\\") for p in parts)))
    programs.complete_path()
    programs.complete_path()
    assert programs.find("VBoxManage") == str(place / "VBoxManage.exe")
    assert os.environ["PATH"].count("VirtualBox") == 1
    assert "nothing" not in os.environ["PATH"]


def test_output_in_another_code_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locale, "getencoding", lambda: "cp950")
    text = r"Default machine folder: C:\Users\王 小明\VirtualBox VMs"
    assert programs.decoded(f"{text}\r\n".encode("cp950")) == f"{text}\n"
    assert programs.decoded(f"{text}\r\n".encode()) == f"{text}\n"
    assert programs.decoded(b"\xff\xff") == "\ufffd\ufffd"
