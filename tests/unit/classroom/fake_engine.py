"""An engine that only pretends: what `ClassWork` decides, without a cloud."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from labctl.classroom.engine import Machine
from labctl.errors import LabError


@dataclass
class FakeEngine:
    """Machines in a dictionary; each takes `build` looks to run."""

    quota: int = 1000
    build: int = 2
    refuse: set[str] = field(default_factory=set)
    """Learners whose launch the engine answers with an error."""
    break_: set[str] = field(default_factory=set)
    """Learners whose machine becomes an error while it is built."""
    stuck: set[str] = field(default_factory=set)
    """Learners whose machine cannot be deleted."""
    kill: Callable[[str], None] = lambda verb: None
    """Called before each verb; it may raise KeyboardInterrupt."""
    there: dict[str, Machine] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    at_once: int = 0
    most_at_once: int = 0
    authorized: dict[str, str] = field(default_factory=dict)
    _looks: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _call(self, verb: str) -> None:
        self.kill(verb)
        self.calls += 1

    def require_room(self, machines: int) -> None:
        self._call("require_room")
        if len(self.there) + machines > self.quota:
            raise LabError(f"{self.quota} is too small for {machines} more")

    def image(self) -> None:
        self._call("image")
        self.shared.add("image")

    def prepare(self, public_key: str) -> None:
        self._call("prepare")
        assert public_key.startswith("ssh-ed25519 ")
        self.shared.add("network")

    def machines(self) -> list[Machine]:
        self._call("machines")
        with self._lock:
            for id, machine in self.there.items():
                self._looks[id] = self._looks.get(id, 0) + 1
                if machine.state == "building" and self._looks[id] > self.build:
                    wrong = machine.learner in self.break_
                    self.there[id] = replace(
                        machine,
                        state="failed" if wrong else "running",
                        reason="No valid host was found" if wrong else "",
                    )
            return [
                replace(machine, address=self.addresses.get(id, ""))
                for id, machine in self.there.items()
            ]

    def launch(self, learner: str, authorized: str, ends: datetime | None) -> None:
        self._call("launch")
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        threading.Event().wait(0.002)
        with self._lock:
            self.at_once -= 1
            if learner in self.refuse:
                raise LabError("the cloud answered 403: no")
            id = f"id-{self.calls}-{learner}"
            self.there[id] = Machine(id, learner, "building", ends=ends)
            self.authorized[learner] = authorized

    def extend(self, machine: Machine, ends: datetime) -> None:
        self._call("extend")
        if machine.learner in self.refuse:
            raise LabError("the cloud answered 403: no")
        with self._lock:
            self.there[machine.id] = replace(self.there[machine.id], ends=ends)

    def address(self, machine: Machine) -> str:
        self._call("address")
        self.addresses[machine.id] = f"203.0.113.{len(self.addresses) + 1}"
        return self.addresses[machine.id]

    def console_log(self, machine: Machine) -> str:
        self._call("console_log")
        return f"{machine.learner} login:"

    def delete(self, machine: Machine) -> None:
        self._call("delete")
        with self._lock:
            if machine.learner not in self.stuck:
                self.there.pop(machine.id, None)
                self.addresses.pop(machine.id, None)

    def clear(self) -> int:
        self._call("clear")
        assert not self.there
        removed = len(self.shared)
        self.shared.clear()
        return removed
