"""The verbs on a Mac that is played, with VirtualBox and Vagrant that are a file of text.

Whatever a verb does there, it calls no program of Linux and opens nothing below /proc.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.access.guest import GuestError, GuestResult
from labctl.cli.app import main
from labctl.engine.wait import wait_until
from labctl.operating_system import processes, rights
from labctl.run import run
from labctl.state import cache_directory
from tests.processes import alive
from tests.unit.macos import macos
from tests.unit.providers.test_vagrant import HOST_KEY, World

LAB = "name: x\nstack: ovn\nprovider: virtualbox\n"
PROGRAMS = {
    "vagrant": """case "$1" in
    --version) echo Vagrant 2.4.9 ;;
    *) exec {real}/vagrant "$@" ;;
    esac""",
    "VBoxManage": """case "$*" in
    --version) echo 7.2.8r173730 ;;
    "list systemproperties") echo "Default machine folder:          {home}/VirtualBox VMs" ;;
    *) exec {real}/VBoxManage "$@" ;;
    esac""",
    "sysctl": 'test "$*" = "-n hw.memsize" && echo 17179869184',
    "netstat": """test "$*" = "-rn -f inet" && printf '%s\\n' \\
        'Destination        Gateway            Flags               Netif Expire' \\
        'default            192.168.1.1        UGScg                 en0' \\
        '192.168.1          link#14            UCS                   en0      !'""",
}
BOX = ["labctl/lab", "virtualbox", "20261123.1.1"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A Mac with nothing on its PATH but what is called there."""
    home = tmp_path / "Users" / "mei"
    real, programs, lab = tmp_path / "real", tmp_path / "bin", home / "lab"
    lab.mkdir(parents=True)
    programs.mkdir()
    made = World(real)
    made.set(boxes=[BOX])
    for name, script in PROGRAMS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script.format(real=real, home=home)}\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.chdir(lab)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LABCTL_LANG", "en")
    for name in ("LABCTL_CACHE", "LABCTL_FILE", "XDG_CACHE_HOME", "VAGRANT_HOME", "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def lab(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (Path.cwd() / "lab.yaml").write_text(LAB, encoding="utf-8")
    with macos(monkeypatch):
        yield Path.cwd()


@pytest.fixture
def labctl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """labctl(words) -> the exit code, and what was printed."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["labctl", *words])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.mark.parametrize(
    "words", [["validate"], ["render"], ["graph"], ["lessons"], ["status"], ["destroy"], ["-h"]]
)
def test_verbs_that_need_no_lab(
    lab: Path, labctl: Callable[..., tuple[int, str]], words: list[str]
) -> None:
    code, said = labctl(*words)
    assert code == 0, said
    assert said


def test_init(world: World, labctl: Callable[..., tuple[int, str]],
              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with macos(monkeypatch):
        assert labctl("init", "mine")[0] == 0
    assert "name: mine" in Path("lab.yaml").read_text("utf-8")


def test_the_doctor_looks_at_what_a_mac_has(
    lab: Path, labctl: Callable[..., tuple[int, str]]
) -> None:
    code, said = labctl("doctor", "--json")
    report = json.loads(said)
    assert code == 0, said
    assert report["provider"] == "virtualbox"
    host = report["host"]
    assert (host["family"], host["memory_mib"]) == ("macos", 16384)
    assert host["routes"] == [{"network": "192.168.1.0/24", "device": "en0"}]
    assert host["virtualbox"]["version"] == "7.2.8"


def test_files_for_all_labs_are_where_they_are_on_linux(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights, "is_root", lambda: False)
    with macos(monkeypatch):
        assert cache_directory() == Path.home() / ".cache/labctl"


_ONE_AFTER_THE_OTHER = threading.Lock()


class Guest:
    """A node that does all it is told and says nothing, until it is to have a second connection."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world

    def another(self) -> "Guest":
        raise GuestError("so far, and no further")

    def run(self, command: Any, **options: Any) -> GuestResult:
        if "poweroff" in command:
            with _ONE_AFTER_THE_OTHER:
                self.world.state(self.name, "poweroff")
        return GuestResult(0, "", "", 0.0)

    def put(self, *words: Any, **options: Any) -> None: ...

    def close(self) -> None: ...


def test_a_lab_from_create_to_destroy(
    lab: Path,
    world: World,
    labctl: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as the nodes' own scripts, which are the same wherever the nodes run."""
    monkeypatch.setattr(
        "labctl.providers.vagrant.provider.install_lab_key", lambda *words, **options: HOST_KEY
    )
    monkeypatch.setattr(
        "labctl.providers.vagrant.provider.SSHGuest",
        lambda name, *words, **options: Guest(name, world),
    )
    code, said = labctl("create")
    assert code == 1
    assert "done     boot (compute-01)" in said
    assert set(world.states.values()) == {"running"}
    _, said = labctl("status")
    assert "x: unfinished" in said
    assert labctl("halt")[0] == 0
    assert set(world.states.values()) == {"poweroff"}
    code, said = labctl("destroy")
    assert code == 0, said
    assert world.states == {}
    assert not (lab / ".labctl").exists()


# -- the player of macOS ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Path("/proc/self/stat").read_bytes(),
        lambda: list(Path("/sys").iterdir()),
        lambda: run(["true"]),
    ],
    ids=["proc", "sys", "program"],
)
def test_what_a_mac_has_not_is_seen(
    wrong: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="macOS has not"), macos(monkeypatch):
        wrong()


def test_a_group_ends_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose first process ends at once, and whose second does not listen."""
    sh = "trap '' TERM; while :; do sleep 0.1; done"
    with macos(monkeypatch, more_programs=frozenset({"sh"})):
        monkeypatch.setenv("PATH", os.defpath)
        monkeypatch.setattr(processes, "END_TIMEOUT", 0.5)
        process = processes.start_group(
            ["sh", "-c", f'sh -c "{sh}" & echo $! >pid; exit 0'], output=subprocess.DEVNULL
        )
        wait_until("its child is there", lambda: Path("pid").exists(), deadline=20, hint="")
        processes.end_group(process)
    assert process.returncode == 0
    assert not alive(int(Path("pid").read_text()))
