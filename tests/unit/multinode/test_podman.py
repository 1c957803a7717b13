"""The stand-in for podman: what a command in a node is given, and what comes back.

The program that enters a node needs root; here another one is in its place, which runs the command
where it is. tests/integration/test_multinode_podman.py enters a real container.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.multinode.suite import SCRIPTS

ENTER = """#!/bin/bash
printf '%s\\n' "$@" >"$0.argv"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def podman(tmp_path: Path) -> "Podman":
    return Podman(tmp_path)


class Podman:
    """The stand-in, with two nodes."""

    def __init__(self, directory: Path) -> None:
        self.enter = directory / "nsenter"
        self.enter.write_text(ENTER)
        self.enter.chmod(0o755)
        self._nodes = directory / "nodes"
        self._nodes.write_text("ovn-chassis-1 4711\novn-chassis-10 4712\n")

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", SCRIPTS / "podman.sh", *words],
            env={"PATH": f"{self.enter.parent}:{os.environ['PATH']}",
                 "MULTINODE_NODES": str(self._nodes), "OVS_RUNDIR": "/of/the/tests"},
            input="for the testsuite itself", capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.mark.parametrize(("node", "pid"), [("ovn-chassis-1", 4711), ("ovn-chassis-10", 4712)])
def test_it_enters_the_node_of_that_name(podman: Podman, node: str, pid: int) -> None:
    assert podman("exec", node, "true").returncode == 0
    entered = Path(f"{podman.enter}.argv").read_text().splitlines()
    assert entered[:2] == ["--target", str(pid)]
    assert {"--mount", "--net", "--pid"} <= set(entered)


def test_no_shell_reads_the_words_of_a_command(podman: Podman) -> None:
    words = ["a b", "", "$HOME;id", "'\"`", "*", "--", "-x", "line\nline", "臺灣"]
    assert podman("exec", "ovn-chassis-1", "printf", "<%s>", *words).stdout == "".join(
        f"<{word}>" for word in words
    )


def test_a_command_has_neither_the_testsuites_variables_nor_its_input(podman: Podman) -> None:
    done = podman("exec", "ovn-chassis-1", "sh", "-c", "env; cat")
    assert "OVS_RUNDIR" not in done.stdout
    assert "PATH=/usr/local/sbin:" in done.stdout
    assert "for the testsuite itself" not in done.stdout


@pytest.mark.parametrize("status", [0, 1, 42])
def test_its_exit_status_is_the_commands(podman: Podman, status: int) -> None:
    assert podman("exec", "ovn-chassis-1", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ps"],
        ["exec"],
        ["exec", "ovn-chassis-1"],
        ["exec", "-it", "ovn-chassis-1", "true"],
        ["exec", "ovn-chassis", "true"],
        ["run", "ovn-chassis-1", "true"],
    ],
)
def test_what_it_does_not_do_is_an_error_of_podmans(podman: Podman, words: list[str]) -> None:
    done = podman(*words)
    assert done.returncode == 125
    assert "stand-in" in done.stderr
    assert not Path(f"{podman.enter}.argv").exists()
