"""A running lab stands still while its files are copied, and goes on afterwards: real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from labctl.providers.nspawn import thaw
from labctl.providers.nspawn.snapshots import NspawnSnapshots
from labctl.spec.load import parse_spec
from labctl.state import LabState
from labctl.topology import build_topology

MEMBERS = {
    # Its child waits in open(2) before it begins another program: the parent waits in vfork(2).
    "in-vfork": """
import os
import signal
os.mkfifo("fifo")
opening = (os.POSIX_SPAWN_OPEN, 0, "fifo", os.O_RDONLY, 0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[opening])
""",
    # It stopped itself before, as Ctrl-Z does.
    "stopped-before": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "breeding": "import subprocess\nwhile True: subprocess.run(['true'])",
    "counting": """
import time
while True:
    with open("count", "a") as stream: stream.write(".")
    time.sleep(0.01)
""",
}


@pytest.fixture
def space(tmp_path: Path, require: Callable[..., None]) -> Iterator[int]:
    """A PID namespace with such processes; the ID of its first process on this machine."""
    require("unshare", root=True)
    words = " & ".join(f"{sys.executable} {name}.py" for name in MEMBERS)
    for name, program in MEMBERS.items():
        (tmp_path / f"{name}.py").write_text(program)
    outer = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", f"{words} & wait; sleep 600"],
        cwd=tmp_path,
    )
    try:
        until(lambda: (tmp_path / "count").exists() and (tmp_path / "fifo").exists())
        yield int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
    finally:
        outer.kill()
        outer.wait()


def grown(path: Path, length: int) -> bool:
    return path.stat().st_size > length


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(first: int) -> dict[int, str]:
    spaces = {str(Path(f"/proc/{first}/ns/pid").readlink())}
    return {pid: thaw.state(pid) for pid in thaw.processes_in(spaces)}


def all_stopped(first: int) -> bool:
    """Stop them all; whether they are. Some end, and others begin, meanwhile."""
    for pid in states(first):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return set(states(first).values()) <= set("TZDX")


@pytest.fixture
def snapshots(space: int, tmp_path: Path) -> NspawnSnapshots:
    topology = build_topology(parse_spec(b"name: t\n", "t"))
    node = topology.nodes[0]
    return NspawnSnapshots(topology, LabState(tmp_path), lambda its: space if its == node else None)


def test_all_stand_still_and_go_on(space: int, snapshots: NspawnSnapshots, tmp_path: Path) -> None:
    until(lambda: list(states(space).values()).count("T") == 1)
    (stopped_before,) = (pid for pid, state in states(space).items() if state == "T")
    for _ in range(5):
        with snapshots.frozen():
            found = states(space)
            assert set(found.values()) <= set("TZD"), found
            # In vfork(2) two of them may be: each waits for a child that is stopped.
            waiting = [pid for pid, state in found.items() if state == "D"]
            assert len(waiting) <= 2
            for pid in waiting:
                (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                assert found[int(child)] == "T"
            length = (tmp_path / "count").stat().st_size
            time.sleep(0.05)
            assert (tmp_path / "count").stat().st_size == length
            assert states(space).keys() == found.keys()
        assert [pid for pid, state in states(space).items() if state == "T"] == [stopped_before]
        until(partial(grown, tmp_path / "count", length))


def test_they_go_on_when_labctl_is_killed(space: int, tmp_path: Path) -> None:
    spaces = str(Path(f"/proc/{space}/ns/pid").readlink())
    program = subprocess.Popen(
        [sys.executable, "-I", "-S", thaw.__file__, spaces, ""], stdin=subprocess.PIPE
    )
    assert program.stdin is not None
    until(partial(all_stopped, space))
    length = (tmp_path / "count").stat().st_size
    program.stdin.close()
    assert program.wait(timeout=20) == 0
    until(partial(grown, tmp_path / "count", length))
    assert "T" not in states(space).values()
