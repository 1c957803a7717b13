"""A lab from create to destroy, with a Vagrant, a VBoxManage and an ssh of Windows."""

import json

from tests.windows.conftest import NODES, Laptop


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
