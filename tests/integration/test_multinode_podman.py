"""The stand-in for podman of OVN's multinode tests, with a container of namespaces."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.multinode.nodes import container_init
from tests.multinode.suite import SCRIPTS

CONTAINER = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork",
             "--kill-child", "--mount-proc", "sh", "-c", "hostname in-here; sleep 100"]  # fmt: skip


@pytest.fixture
def container(require: Callable[..., None], tmp_path: Path) -> Iterator[int]:
    """The process ID of its init."""
    require("unshare", "nsenter", root=True)
    with subprocess.Popen(CONTAINER) as process:
        deadline = time.monotonic() + 20
        while (init := container_init(_children(process.pid))) is None:
            assert time.monotonic() < deadline, "the container has not started"
            time.sleep(0.05)
        yield init
        process.kill()


def _children(process: int) -> list[int]:
    return [
        int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def test_a_command_runs_in_the_node(container: int, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text(f"node {container}\n")

    def podman(*words: str) -> str:
        return subprocess.run(
            ["sh", SCRIPTS / "podman.sh", "exec", "node", *words],
            env={"PATH": os.environ["PATH"], "MULTINODE_NODES": str(nodes)},
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    deadline = time.monotonic() + 20
    while podman("hostname") != "in-here":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert podman("pwd") == "/"
    # Its processes are those of the container, so a `killall` meets no other's.
    assert int(podman("sh", "-c", "ls -d /proc/[0-9]* | wc -l")) < 10
    assert podman("ip", "-brief", "link").split()[:1] == ["lo"]
