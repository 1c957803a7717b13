"""macOS, as far as it can be played on Linux: its answers, what it has not, and what it forbids."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# There is none of these on macOS, and a program that asks for one has not asked where it is.
_LINUX_ONLY = ("sched_getaffinity", "setns", "unshare", "pidfd_open", "memfd_create", "getrandom")
_LINUX_PLACES = ("/proc", "/sys", "/run")
_MACOS_PROGRAMS = frozenset({"vagrant", "VBoxManage", "ssh", "sysctl", "netstat"})
_killpg = os.killpg


class _Watch:
    """What the process under test opens and starts; an audit hook cannot be removed, but rest."""

    def __init__(self) -> None:
        self.at_work = False
        self.found: list[str] = []
        self.more_programs = frozenset[str]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.at_work:
            return
        if event in ("open", "os.listdir", "os.scandir"):
            path = arguments[0]
            if isinstance(path, (str, os.PathLike)) and _is_linuxs(Path(path)):
                self.found.append(f"{event} {path}")
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
            name = Path(os.fsdecode(arguments[0])).name
            if name not in _MACOS_PROGRAMS | self.more_programs:
                self.found.append(f"{event} {name}")


def _is_linuxs(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in _LINUX_PLACES)


_watch = _Watch()
sys.addaudithook(_watch)


def killpg(group: int, sig: int) -> None:
    """killpg(2) of macOS: of a group with nothing but zombies it says "not permitted"."""
    _killpg(group, sig)
    with suppress(ChildProcessError):
        zombie = os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        living = [pid for pid in _group(group) if zombie is None or pid != zombie.si_pid]
        if zombie is not None and not living:
            raise PermissionError(1, "Operation not permitted")


def _group(group: int) -> list[int]:
    """The processes of a group, by Linux's /proc, which the test itself may read."""
    was, _watch.at_work = _watch.at_work, False
    try:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                words = stat.read_text().rpartition(")")[2].split()
                if int(words[2]) == group:
                    found.append(int(stat.parent.name))
        return found
    finally:
        _watch.at_work = was


@contextmanager
def macos(
    monkeypatch: pytest.MonkeyPatch, *, more_programs: frozenset[str] = frozenset()
) -> Iterator[None]:
    """Inside, this is an Intel Mac with macOS 15.

    At the end it fails if a program was started that macOS has not (`more_programs`: or these), or
    a file below /proc, /sys or /run was opened.
    """
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "24.6.0")
    for name in _LINUX_ONLY:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "killpg", killpg)
    _watch.found.clear()
    _watch.more_programs = more_programs
    _watch.at_work = True
    try:
        yield
    finally:
        _watch.at_work = False
    assert not _watch.found, f"macOS has not: {', '.join(_watch.found)}"
