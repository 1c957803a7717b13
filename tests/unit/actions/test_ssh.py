"""`labctl ssh NODE -- COMMAND`: what it started ends with the connection."""

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.actions.logs import ssh_argv
from tests.processes import alive


def remote(*command: str) -> str:
    """The script that sshd gives to the node's shell."""
    lab = SimpleNamespace(
        require_created=lambda: None,
        node=lambda name: name,
        provider=SimpleNamespace(running=lambda node: True, ssh_argv=lambda node: ["ssh", node]),
    )
    return ssh_argv(cast(Any, lab), "compute-01", command)[-1]


def test_what_a_command_started_ends_with_the_connection(tmp_path: Path) -> None:
    # As tcpdump and whatever it is piped into: neither reads, so that neither sees the end.
    script = "sleep 300 & echo $! >>pids; sleep 300 & echo $! >>pids; wait"
    # This shell stands in for sshd's process of the connection.
    session = subprocess.Popen(
        ["bash", "-c", 'bash -c "$1" & wait', "sshd", remote("bash", "-c", script)], cwd=tmp_path
    )
    pids = tmp_path / "pids"
    until = time.monotonic() + 20
    while not pids.exists() or len(pids.read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    started = [int(pid) for pid in pids.read_text().split()]
    try:
        assert all(alive(pid) for pid in started)
        session.kill()
        session.wait()
        while any(alive(pid) for pid in started):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        for pid in filter(alive, started):
            os.kill(pid, 9)


@pytest.mark.parametrize("util_linux", [True, False])
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["echo", "a  b", "$HOME", "*"], 0, "a  b $HOME *\n"),
        (["bash", "-c", "cat; exit 7"], 7, "typed"),
        (["ulimit", "-c"], 0, None),  # a builtin, no program
        (["no-such-command"], 127, ""),
    ],
)
def test_words_input_and_exit_code_pass_through(
    command: list[str], code: int, said: str | None, util_linux: bool, tmp_path: Path
) -> None:
    env = dict(os.environ)
    if not util_linux:  # as BusyBox's, which knows other options
        fake = tmp_path / "setpriv"
        fake.write_text("#!/bin/sh\necho unrecognized option >&2\nexit 1\n")
        fake.chmod(0o755)
        env["PATH"] = f"{tmp_path}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", remote(*command)],
        input="typed",
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == code
    assert said is None or done.stdout == said
