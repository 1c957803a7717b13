"""Into an instance by QEMU's guest agent: its script in real shells, and the port's state."""

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.access import guestagent
from labctl.access.guestagent import AgentError, LateError, state_of_port, wait_for_agent
from tests.processes import alive

SHELLS = [shell for shell in ("dash", "busybox") if shutil.which(shell)]
_SU = """#!/bin/sh
[ "$1 $2 $3" = "-l -s /bin/sh" ] || exit 99
echo "$4" >>"$(dirname "$0")/users"
exec sh "$5" "$6"
"""


class Agent:
    """Answers as qemu-ga does, and runs the commands on this machine."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.gone = False

    def ask(self, command: str, **arguments: Any) -> Any:
        if self.gone:
            raise AgentError("Guest agent is not responding")
        if command == "guest-exec":
            return {"pid": self._start(**arguments)}
        assert command == "guest-exec-status"
        process = self.processes[arguments["pid"]]
        if process.poll() is None:
            return {"exited": False}
        out, err = (
            (self.programs / f"{process.pid}.{name}").read_bytes() for name in ("out", "err")
        )
        ended = (
            {"signal": -process.returncode}
            if process.returncode < 0
            else {"exitcode": process.returncode}
        )
        data = {"out-data": out, "err-data": err}
        encoded = {name: base64.b64encode(text).decode() for name, text in data.items() if text}
        return {"exited": True, **ended, **encoded}

    def _start(self, path: str, arg: list[str], **options: Any) -> int:
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        given = base64.b64decode(options.get("input-data", ""))
        out, err = self.programs / "out", self.programs / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [path, *arg], env=environment, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr
            )
        out.rename(self.programs / f"{process.pid}.out")
        err.rename(self.programs / f"{process.pid}.err")
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        self.processes[process.pid] = process
        return process.pid


@pytest.fixture(params=SHELLS)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    shell = shutil.which(request.param)
    assert shell is not None
    names = ["sh", "dd", "wc", "cat"] if request.param == "busybox" else ["sh"]
    for name in names:
        (tmp_path / name).symlink_to(shell)
    su = tmp_path / "su"
    su.write_text(_SU)
    su.chmod(0o755)
    made = Agent(tmp_path)
    yield made
    for process in made.processes.values():
        process.wait(20)


def run(agent: Agent, script: str, timeout: float = 20) -> Any:
    return guestagent.run(agent.ask, script, "cirros", timeout)


def test_output_errors_and_exit_code(agent: Agent) -> None:
    assert run(agent, "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n", (0, 0))
    assert run(agent, "true") == (0, b"", b"", (0, 0))
    assert (agent.programs / "users").read_text() == "cirros\n" * 2


def test_whatever_bytes_go_through(agent: Agent) -> None:
    content = bytes(range(256)) * 20
    quoted = base64.b64encode(content).decode()
    assert run(agent, f"printf %s {quoted} | base64 -d; printf é >&2") == (
        0,
        content,
        "é".encode(),
        (0, 0),
    )
    script = "cat; printf %s '" + "é$(no)`no`\\\n" * 20_000 + "'"  # more than an argument may have
    assert run(agent, script)[1].decode() == "é$(no)`no`\\\n" * 20_000


def test_of_a_long_output_the_beginning_comes_and_the_rest_is_counted(agent: Agent) -> None:
    surplus = 12_345
    script = f"head -c {guestagent.MAX_OUTPUT + surplus} /dev/zero; echo err >&2; exit 3"
    code, out, err, cut = run(agent, script)
    assert (code, len(out), err, cut) == (3, guestagent.MAX_OUTPUT, b"err\n", (surplus, 0))


def test_several_at_once(agent: Agent) -> None:
    pid = agent.ask("guest-exec", path="sh", arg=["-c", "sleep 0.3; echo first"])["pid"]
    assert run(agent, "echo second")[1] == b"second\n"
    agent.processes[pid].wait(20)
    assert agent.ask("guest-exec-status", pid=pid)["exitcode"] == 0


def test_a_script_that_takes_too_long_is_ended_with_all_it_started(agent: Agent) -> None:
    began = time.monotonic()
    pids = agent.programs / "pids"
    with pytest.raises(LateError):
        run(agent, f"sleep 100 & echo $! >{pids}; sleep 100", timeout=1)
    (child,) = map(int, pids.read_text().split())
    while alive(child):
        assert time.monotonic() - began < 20
        time.sleep(0.02)


def test_a_killed_script_has_the_code_of_its_signal(agent: Agent) -> None:
    assert run(agent, "echo begun; kill -9 $$")[:2] == (137, b"begun\n")


def test_an_agent_that_goes_away_meanwhile(agent: Agent) -> None:
    def ask(command: str, **arguments: Any) -> Any:
        answer = agent.ask(command, **arguments)
        agent.gone = True  # as when the instance is rebooted
        return answer

    with pytest.raises(AgentError, match="not responding"):
        guestagent.run(ask, "true", "cirros", 20)


# -- the port --------------------------------------------------------------------------------------
def domain(*channels: str) -> str:
    return f"<domain><devices><serial/>{''.join(channels)}</devices></domain>"


def channel(state: str, name: str = guestagent.PORT) -> str:
    return f"<channel type='unix'><target type='virtio' name='{name}' {state}/></channel>"


def test_the_port_and_its_state() -> None:
    spice = channel("state='connected'", "com.redhat.spice.0")
    assert state_of_port(domain()) == ""
    assert state_of_port(domain(spice)) == ""
    assert state_of_port(domain(spice, channel("state='connected'"))) == "connected"
    assert state_of_port(domain(channel("state='disconnected'"))) == "disconnected"
    assert state_of_port(domain(channel(""))) == "disconnected"


def test_it_waits_for_an_agent_that_is_still_booting() -> None:
    states = iter([*["state='disconnected'"] * 2, "state='connected'"])
    wait_for_agent(lambda: domain(channel(next(states))), 20)
    assert list(states) == []


def test_it_does_not_wait_where_there_will_be_none() -> None:
    began = time.monotonic()
    with pytest.raises(AgentError, match="no port for a guest agent"):
        wait_for_agent(lambda: domain(), 60)
    with pytest.raises(AgentError, match="no guest agent answers"):
        wait_for_agent(lambda: domain(channel("state='disconnected'")), 0)
    assert time.monotonic() - began < 10
