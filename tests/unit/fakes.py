"""Stand-ins for what a test may not touch: nodes, the cloud, the console."""

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.access.guest import GuestError, GuestResult, OnLine
from labctl.provisioning.services import units_of
from labctl.spec.load import parse_spec
from labctl.state import Secrets
from labctl.terminal.page import BaseConsole
from labctl.terminal.text import Line
from labctl.topology import Node, Topology, build_topology

SECRETS = Secrets(
    admin="a" * 32, database="d" * 32, rabbit="b" * 32, service="5" * 32, metadata="e" * 32
)


def topology(text: str = "name: ovn-tutorial\n") -> Topology:
    """The topology of a lab.yaml; left out, the tutorial's."""
    return build_topology(parse_spec(text.encode(), "lab.yaml"))


@dataclass(frozen=True)
class Ran:
    """One command that somebody ran on a guest."""

    node: str
    command: str
    input: bytes | None = None


def healthy(node: Node, lab: Topology, states: Mapping[str, str] | None = None) -> str:
    """What a node on which all is well tells of itself; but `states` {unit: state}, if they are
    given (provisioning/node_health.py)."""
    states = states or {}
    units = " ".join(states.get(unit, "active") for unit in units_of(node, lab.stack))
    eth1 = {peer.name: str(peer.eth1.address.ip) for peer in lab.nodes}
    peers = [address for name, address in eth1.items() if name != node.name]
    settings = {
        "ovn-remote": f"tcp:{lab.controller.eth1.address.ip}:6642",
        "ovn-encap-ip": eth1[node.name],
        "ovn-encap-type": "geneve",
        "ovn-bridge-mappings": f"{lab.physical_network}:br-ex",
    }
    tunnels = [
        ["geneve", ["map", [["remote_ip", address]]], number]
        for number, address in enumerate(peers, 1)
    ]
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {
        "Open_vSwitch": (["external_ids"], [[["map", [list(pair) for pair in settings.items()]]]]),
        "Bridge": (["name", "ports"], [["br-ex", ["uuid", "p0"]]]),
        "Port": (["_uuid", "name"], [[["uuid", "p0"], "eth0"]]),
        "Interface": (["type", "options", "ofport"], tunnels),
    }
    return "\n".join(
        [
            f"time {time.time()}",
            f"states {units}",
            "mtu eth0 1500",
            "mtu eth1 1500",
            f"address {'br-ex' if node.is_gateway else 'eth0'} {node.eth0.address.ip}",
            f"address eth1 {eth1[node.name]}",
            *(f"in_port {number}" for number in range(1, len(lab.nodes))),
            *(f"answer {address}" for address in [*peers, node.eth0.gateway]),
            *(
                f"{name} " + json.dumps({"headings": headings, "data": rows})
                for name, (headings, rows) in tables.items()
            ),
        ]
    )


@dataclass(frozen=True)
class _Answer:
    pattern: re.Pattern[str]
    stdout: str
    stderr: str
    exit: int
    raises: Exception | None
    once: bool


@dataclass
class FakeGuest:
    """A node that answers as it was told to, and remembers what it was asked.

    A command without an answer fails the test. Files are in memory.
    """

    name: str = "network-controller"
    timeout_factor: int = 1
    ran: list[Ran] = field(default_factory=list)
    """Shared by the guests of one test, it tells the order across nodes."""
    files: dict[str, bytes] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    _answers: list[_Answer] = field(default_factory=list)

    def on(
        self,
        pattern: str,
        stdout: str = "",
        *,
        stderr: str = "",
        exit: int = 0,
        raises: Exception | None = None,
        once: bool = False,
    ) -> "FakeGuest":
        """Answer every command in which the pattern is found; the latest answer counts."""
        compiled = re.compile(pattern, re.DOTALL)
        self._answers.insert(0, _Answer(compiled, stdout, stderr, exit, raises, once))
        return self

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60,
        check: bool = True,
        input: bytes | None = None,
        on_line: OnLine | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> GuestResult:
        script = command if isinstance(command, str) else shlex.join(command)
        self.ran.append(Ran(self.name, script, input))
        answer = next((one for one in self._answers if one.pattern.search(script)), None)
        assert answer is not None, f"{self.name} has no answer to: {script}"
        if answer.once:
            self._answers.remove(answer)
        if answer.raises is not None:
            raise answer.raises
        return _finished(self.name, script, answer, check, on_line)

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        self.files[path] = content
        self.modes[path] = mode

    def get(self, path: str) -> bytes:
        if path not in self.files:
            raise GuestError(f"{self.name}: {path} cannot be read")
        return self.files[path]

    def dial(self, host: str, port: int) -> socket.socket:
        raise OSError(f"nothing listens on {host}:{port} of a fake")

    def another(self) -> "FakeGuest":
        return self

    def close(self) -> None:
        pass


def _finished(
    node: str, script: str, answer: _Answer, check: bool, on_line: OnLine | None
) -> GuestResult:
    for stream, text in (("stdout", answer.stdout), ("stderr", answer.stderr)):
        for line in text.splitlines() if on_line else ():
            on_line(line, stream)  # type: ignore[misc]  # the loop is empty without it
    if check and answer.exit != 0:
        raise GuestError(f"{node}: `{script}` failed (exit {answer.exit}): {answer.stderr}")
    return GuestResult(answer.exit, answer.stdout, answer.stderr, 0.01)


class LocalGuest(FakeGuest):
    """A node whose commands really run, by the bash of this machine, in a directory of the test.

    Paths under /etc, /var/lib and /run are moved into that directory; `stub` puts a command of
    the node in front of the machine's own.
    """

    _MOVED = re.compile(r"(?<![\w./])/(?=(etc|var/lib|run|opt)/)")

    def __init__(self, root: Path, name: str = "network-controller") -> None:
        super().__init__(name)
        self.root = root
        (root / "bin").mkdir(parents=True)
        (root / "etc/profile.d").mkdir(parents=True)
        (root / "etc/profile.d/labctl.sh").touch()

    def stub(self, command: str, script: str) -> None:
        """A command of the node, as a script for bash."""
        path = self.root / "bin" / command
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60,
        check: bool = True,
        input: bytes | None = None,
        on_line: OnLine | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> GuestResult:
        script = command if isinstance(command, str) else shlex.join(command)
        self.ran.append(Ran(self.name, script, input))
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", self._MOVED.sub(f"{self.root}/", script)],
            input=input or b"",
            capture_output=True,
            timeout=timeout,
            cwd=self.root,
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": str(self.root)},
            check=False,
        )
        answer = _Answer(
            re.compile(""), done.stdout.decode(), done.stderr.decode(), done.returncode, None, False
        )
        result = _finished(self.name, script, answer, check, on_line)
        return GuestResult(
            result.returncode, result.stdout, result.stderr, time.monotonic() - began
        )

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)

    def get(self, path: str) -> bytes:
        try:
            return (self.root / path.lstrip("/")).read_bytes()
        except OSError as error:
            raise GuestError(f"{self.name}: {path} cannot be read") from error


class PlainPage(BaseConsole):
    """A console whose lines are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def width(self) -> int | None:
        return None

    def __call__(self, event: Any) -> None:
        self.lines.append(f"event {event}")

    def close(self) -> None:
        pass

    def verbatim(self, lines: Sequence[Line]) -> None:
        self.lines += ["".join(span.text for span in line) for line in lines]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def no_cloud() -> Any:
    """For what must not ask OpenStack."""
    raise AssertionError("the cloud was asked")
