"""A lab from create to destroy, with a Vagrant, a VBoxManage and an ssh of Windows."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from labctl.errors import EXIT_INTERRUPTED
from tests.unit.actions.test_box import box_file
from tests.windows.conftest import NODES, POWERSHELL, WORLD, Laptop
from tests.windows.rig import HOME, LABCTL, PYTHON, Terminal

PAGE_PORT = 8765


@pytest.mark.timeout(3600)
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

    done = laptop.labctl("snapshot", "restore", "before", "--cold")
    assert done.code == 0, done.text
    assert {machine["restored"] for machine in laptop["machines"].values()} == {"before"}
    assert laptop.states == dict.fromkeys(machines, "running")

    the_page_opens(laptop)

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


def the_page_opens(laptop: Laptop) -> None:
    """`labctl open` lets in who has the token of its address, and ends by Ctrl-C.

    No terminal is opened: the nodes here have no shell.
    """
    words = ("open", "--no-browser", "--port", str(PAGE_PORT))
    with laptop.system.terminal(LABCTL, *words, directory=laptop.lab) as console:
        wait_for(lambda: "?token=" in console.shown and "Ctrl-C" in console.shown, console)
        found = re.search(r"\?token=([\w-]{43})", console.shown)
        assert found is not None, console.shown
        assert page(laptop, "/")["status"] == 403
        assert page(laptop, "/?token=" + "x" * 43)["status"] == 403
        entered = page(laptop, f"/?token={found[1]}")
        assert entered["status"] == 303
        shown = page(laptop, "/", cookie=entered["cookie"])
        assert shown["status"] == 200
        assert "page.js" in shown["body"]
        assert page(laptop, "/", host="labctl.example", cookie=entered["cookie"])["status"] == 403
        console.press(b"\x03")
        console.end()
    assert console.code == 0, console.shown
    assert page(laptop, "/")["status"] == 0, "nobody listens any more"


def page(laptop: Laptop, path: str, *, host: str = "", cookie: str = "") -> dict[str, Any]:
    """What the page's server answers in the network of this Windows; status 0: nothing."""
    code = """
import http.client, json, sys
path, host, cookie, port = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
try:
    connection.request("GET", path, headers={"Host": host, "Cookie": cookie})
    answer = connection.getresponse()
    body = answer.read().decode()
    cookie = answer.getheader("Set-Cookie", "").partition(";")[0]
    print(json.dumps({"status": answer.status, "cookie": cookie, "body": body}))
except ConnectionRefusedError:
    print(json.dumps({"status": 0}))
"""
    done = subprocess.run(
        ["nsenter", f"--target={laptop.system.pid}", "--net", "--", sys.executable, "-I", "-c",
         code, path, host or f"127.0.0.1:{PAGE_PORT}", cookie, str(PAGE_PORT)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_doctor_names_what_windows_runs_its_hypervisor_for(laptop: Laptop) -> None:
    laptop.set(hyperv=["vbs", "VirtualMachinePlatform", "NetFx4"])
    path = rf"{POWERSHELL.parent};C:\windows\system32;C:\windows"
    done = laptop.labctl("--lang", "zh-TW", "doctor", COLUMNS="200", PATH=path)
    assert "記憶體完整性）、「虛擬機器平台」" in done.text
    assert "bcdedit /set hypervisorlaunchtype off" in done.text
    laptop.set(hyperv=[])
    done = laptop.labctl("--lang", "en", "doctor", PATH=path)
    assert done.code == 0, done.text
    assert "Hyper-V" not in done.text


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
    """Wait until it has happened, for five minutes."""
    until = time.monotonic() + 300
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
