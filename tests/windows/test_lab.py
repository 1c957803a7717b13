"""A lab from create to destroy, with a Vagrant, a VBoxManage and an ssh of Windows."""

import json
import time
from collections.abc import Callable

from labctl.errors import EXIT_INTERRUPTED
from tests.unit.actions.test_box import box_file
from tests.windows.conftest import NODES, WORLD, Laptop
from tests.windows.rig import HOME, LABCTL, PYTHON, Terminal


def test_the_life_of_a_lab(laptop: Laptop) -> None:
    """create, status, ssh, snapshot, halt, up, destroy; each leaves what the next needs."""
    machines = {f"labctl-x-{node}" for node in NODES}
    done = laptop.labctl("create")
    assert done.code == 0, done.text
    assert laptop.states == dict.fromkeys(machines, "running")
    assert not laptop.system.path(laptop.lab / ".labctl.lock").exists()

    done = laptop.labctl("status", "--json")
    assert done.code == 0, done.text
    status = json.loads(done.stdout.decode())
    assert [node["name"] for node in status["nodes"]] == list(NODES)
    assert status["state"] == "up", status

    done = laptop.labctl("ssh", NODES[1], "--", "labctl-test-greeting", "王 小明")
    assert (done.code, done.text) == (0, f"你好，這裡是 {NODES[1]}"), done.text

    done = laptop.labctl("snapshot", "save", "before")
    assert done.code == 0, done.text
    assert {tuple(machine["snapshots"]) for machine in laptop["machines"].values()} == {("before",)}
    done = laptop.labctl("snapshot", "list")
    assert "before" in done.text

    done = laptop.labctl("halt")
    assert done.code == 0, done.text
    assert laptop.states == dict.fromkeys(machines, "poweroff")
    done = laptop.labctl("ssh", NODES[0], "--", "true")
    assert "labctl up" in done.text
    done = laptop.labctl("up")
    assert done.code == 0, done.text
    assert laptop.states == dict.fromkeys(machines, "running")

    done = laptop.labctl("destroy", "--yes")
    assert done.code == 0, done.text
    assert laptop.states == {}
    left = sorted(path.name for path in laptop.system.path(laptop.lab).iterdir())
    assert left == ["lab.yaml"], "the lock beside .labctl goes with it"


def test_ctrl_c_ends_vagrant_and_what_it_started(laptop: Laptop) -> None:
    laptop.set(hangs=True)
    pids = laptop.system.path(WORLD.parent / "pids")
    with laptop.system.terminal(LABCTL, "create", directory=laptop.lab) as console:
        wait_for(pids.exists, console)
        time.sleep(2)  # Vagrant's child has started, too

        second = laptop.labctl("halt")  # meanwhile
        assert second.code == 1, second.text
        assert "another labctl is at work on this lab: `labctl create`" in second.text

        console.press(b"\x03")
        shown = console.end()
    assert "interrupted" in shown, shown
    assert console.code == EXIT_INTERRUPTED
    code = f"import psutil; print([psutil.pid_exists(pid) for pid in {pids.read_text().split()!r}])"
    code = code.replace("pid_exists(pid)", "pid_exists(int(pid))")
    done = laptop.system.run(PYTHON / "python.exe", "-I", "-c", code)
    assert done.text.strip() == "[False, False]"

    laptop.set(hangs=False)
    done = laptop.labctl("destroy", "--yes")
    assert done.code == 0, done.text
    left = sorted(path.name for path in laptop.system.path(laptop.lab).iterdir())
    assert left == ["lab.yaml"]


def wait_for(happened: Callable[[], bool], console: Terminal) -> None:
    """Wait until it has happened, for two minutes."""
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until, console.shown
        time.sleep(0.3)


def test_a_box_from_a_place_that_vagrant_cannot_name(laptop: Laptop) -> None:
    """Vagrant takes no blank and nothing but ASCII in the path of a box: it gets a copy."""
    file = HOME / "下載" / "老師的 box.box"
    laptop.system.write(file.with_name("empty"), b"")
    box_file(laptop.system.path(file))
    laptop.set(boxes=[])
    done = laptop.labctl("box", "add", str(file))
    assert done.code == 0, done.text
    assert laptop["boxes"] == [["labctl/lab", "virtualbox", "20261128.9.1"]]
    calls = laptop.system.path(WORLD.parent / "calls").read_text(encoding="utf-8").splitlines()
    (added,) = (line for line in calls if "box add" in line)
    assert added.isascii(), added
    assert " box add C:" in added
