"""The console of an instance as a terminal: its size goes by the guest agent."""

import re
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from labctl.access.guest import GuestError, GuestResult
from labctl.page import instance_shells
from labctl.page.instance_shells import ConsoleShell


class Line:
    """The console's own program."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.closed = False

    def read(self) -> bytes:
        return b"login: "

    def write(self, data: bytes) -> None: ...

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    def close(self) -> None:
        self.closed = True


class Agent:
    """An instance whose agent answers from some call on."""

    def __init__(self, silent: int = 0) -> None:
        self._silent = silent
        self.scripts: list[str] = []

    def run_by_agent(self, script: str, timeout: float) -> GuestResult | None:
        self.scripts.append(script)
        if len(self.scripts) <= self._silent:
            if len(self.scripts) % 2:
                raise GuestError("the node is busy")
            return None
        return GuestResult(0, "", "", 0.1)

    @property
    def sizes(self) -> list[tuple[str, str]]:
        return [re.findall(r"rows (\d+) columns (\d+)", script)[0] for script in self.scripts]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_shells, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(instance_shells, "RETRY_SECONDS", 0.01)


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_last_size_is_told_once_the_instance_has_booted() -> None:
    line, agent = Line(), Agent(silent=3)
    shell = ConsoleShell(line, cast(Any, agent), (80, 24))
    wait(lambda: len(agent.sizes) == 4)
    assert set(agent.sizes) == {("24", "80")}
    for columns in (90, 95, 101):  # a divider that is dragged
        shell.resize(columns, 37)
    wait(lambda: agent.sizes[-1] == ("37", "101"))
    assert line.sizes == [(90, 37), (95, 37), (101, 37)]
    assert len(agent.sizes) <= 6
    shell.close()
    assert line.closed


def test_an_instance_that_is_never_told_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_shells, "MOST_TRIES", 3)
    agent = Agent(silent=1000)
    shell = ConsoleShell(Line(), cast(Any, agent), (80, 24))
    wait(lambda: len(agent.scripts) == 3)
    time.sleep(0.3)
    assert len(agent.scripts) == 3
    shell.close()
