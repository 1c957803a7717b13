"""What is done to a class: create, reset, destroy. Each looks at what is there and goes on.

No file says how far an earlier run came: the engine is asked for the machines with the label of the
class, before anything is made and after everything is gone. So a run that was killed at any moment,
or one on another laptop, is gone on with.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from labctl.classroom.ends import end_of, labelled_end, new_end
from labctl.classroom.engine import STATES, Engine, Machine
from labctl.classroom.keys import ClassKeys
from labctl.classroom.model import ClassSpec
from labctl.classroom.remote import login
from labctl.errors import LabError
from labctl.i18n import tr, tr_n

Say = Callable[[str], None]
_LOOKS = (2.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
"""Seconds before each next look at all machines; the last is that of all further ones."""


@dataclass
class Outcome:
    """What came of a verb."""

    machines: list[Machine] = field(default_factory=list)
    """Of the learners whose machine runs and has an address."""
    failed: dict[str, str] = field(default_factory=dict)
    """{learner: why}."""
    calls: int = 0
    """Requests to the engine's API."""


class ClassWork:
    """The verbs of one class."""

    def __init__(
        self, spec: ClassSpec, engine: Engine, directory: Path, say: Say,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """`directory` is where class.yaml is; `say` is told of every step, by several threads."""
        self._spec = spec
        self._engine = engine
        self._keys = ClassKeys(spec, directory)
        self._say = say
        self._sleep = sleep
        self._ends = spec.ends

    def create(self, learners: Sequence[str] = ()) -> Outcome:
        """Have a machine that runs for each of these learners; default: for all of the class.

        Failed machines are replaced. A learner whose machine cannot be made stops nobody else's.
        Raises LabError for what concerns all: a quota, the image, the network.
        """
        outcome = Outcome()
        wanted = list(learners or self._spec.learners)
        machines = self._engine.machines()
        if useless := self._useless(machines, wanted):
            self._delete(useless, outcome)
            machines = self._engine.machines()
        there = {machine.learner for machine in machines}
        missing = [name for name in wanted if name not in there and name not in outcome.failed]
        # What `extend` has said counts, also for machines that are made later.
        self._ends = labelled_end(machines) or self._ends
        public_key = self._keys.ensure()
        if missing:
            self._engine.require_room(len(missing))
            self._engine.image()
        self._engine.prepare(public_key)
        if missing:
            self._each(missing, self._launch, outcome)
        for machine in self._wait_built(wanted):
            if machine.state != "running":
                outcome.failed[machine.learner] = machine.reason or tr(
                    "its machine: {state}", state=tr(STATES[machine.state])
                )
            else:
                outcome.machines.append(machine)
        running = {machine.learner: machine for machine in outcome.machines}
        for name in wanted:
            if name not in running:
                outcome.failed.setdefault(name, tr("there is no machine"))
        without = [name for name, machine in running.items() if not machine.address]
        self._each(without, lambda name: self._address(running[name]), outcome)
        outcome.machines = [
            machine
            for machine in self._engine.machines()
            if machine.learner in running and machine.address
        ]
        outcome.calls = self._engine.calls
        return outcome

    def reset(self, learners: Sequence[str]) -> Outcome:
        """Give these learners a new machine; with floating IPs at the address of the old one."""
        outcome = Outcome()
        machines = self._engine.machines()
        self._ends = end_of(self._spec, machines)  # with --all nothing is left that tells it
        chosen = [machine for machine in machines if machine.learner in learners]
        self._delete(chosen, outcome)
        left = [name for name in learners if name not in outcome.failed]
        if left:
            made = self.create(left)
            outcome.machines = made.machines
            outcome.failed |= made.failed
        outcome.calls = self._engine.calls
        return outcome

    def extend(self, text: str, now: datetime) -> tuple[datetime, Outcome]:
        """Move the end of the class; see `ends.new_end` for the text. Raises LabError.

        Returns the new end, and the machines that carry it.
        """
        outcome = Outcome()
        machines = self._engine.machines()
        if not machines:
            raise LabError(
                tr("the class has no machine, and so no end"),
                hint=tr("make it with {command}", command="labctl class create"),
            )
        end = new_end(text, self._spec, end_of(self._spec, machines), now)
        by_id = {machine.id: machine for machine in machines}
        failed = Outcome()
        self._each(list(by_id), lambda id: self._engine.extend(by_id[id], end), failed, by_id)
        outcome.failed = {by_id[id].learner: why for id, why in failed.failed.items()}
        outcome.machines = [by_id[id] for id in by_id if id not in failed.failed]
        outcome.calls = self._engine.calls
        return end, outcome

    def end(self) -> datetime | None:
        """When the class ends, by the labels of its machines. Raises LabError."""
        return end_of(self._spec, self._engine.machines())

    def destroy(self) -> Outcome:
        """Remove everything that carries the label of the class, and nothing else.

        Raises LabError for what cannot be removed; the same command goes on.
        """
        outcome = Outcome()
        self._delete(self._engine.machines(), outcome)
        if not outcome.failed:
            removed = self._engine.clear()
            if removed:
                self._say(
                    tr_n("{n} other thing is removed", "{n} other things are removed", n=removed)
                )
        return outcome

    def console_log(self, learner: str) -> str:
        """What the console of a learner's machine printed last. Raises LabError without one."""
        return self._engine.console_log(self._machine(learner))

    def login(self, learner: str, command: Sequence[str], *, terminal: bool) -> list[str]:
        """argv that logs in to a learner's machine with the teacher's key. Raises LabError."""
        machine = self._machine(learner)
        self._keys.require()
        return login(self._spec, self._keys, machine, command, ["-t"] if terminal else [])

    def _machine(self, learner: str) -> Machine:
        self._spec.require([learner])
        for machine in self._engine.machines():
            if machine.learner == learner:
                return machine
        raise LabError(
            tr("there is no machine of {name}", name=learner),
            hint=tr("make it with {command}", command="labctl class create"),
        )

    # -- parts -------------------------------------------------------------------------------------
    def _useless(self, machines: Sequence[Machine], wanted: Sequence[str]) -> list[Machine]:
        """Failed machines, and all but one of a learner's that were made by runs at one time."""
        useless, kept = [], set()
        for machine in machines:
            if machine.learner not in wanted:
                continue
            if machine.state == "failed" or machine.learner in kept:
                useless.append(machine)
            else:
                kept.add(machine.learner)
        return useless

    def _launch(self, learner: str) -> None:
        self._engine.launch(learner, self._keys.authorized(learner), self._ends)
        self._say(tr("{name}: ordered", name=learner))

    def _address(self, machine: Machine) -> None:
        address = self._engine.address(machine)
        self._say(tr("{name}: reached at {address}", name=machine.learner, address=address))

    def _each(
        self, keys: Sequence[str], act: Callable[[str], None], outcome: Outcome,
        machines: Mapping[str, Machine] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Do it for each key, `parallel` at a time; what fails is noted, and stops nobody.

        A key is a learner, or the id of one of `machines`.
        """

        def attempt(key: str) -> None:
            try:
                act(key)
            except LabError as error:
                outcome.failed[key] = error.message
                name = machines[key].learner if key in machines else key
                self._say(tr("{name}: {message}", name=name, message=error.message))

        pool = ThreadPoolExecutor(self._spec.parallel)
        try:
            list(pool.map(attempt, keys))
        finally:
            pool.shutdown(cancel_futures=True)

    def _wait_built(self, learners: Sequence[str]) -> list[Machine]:
        """The machines of these learners, once none is being built or the time is over."""
        reported: set[str] = set()
        machines: list[Machine] = []
        for all_there in self._looks():
            machines = [each for each in all_there if each.learner in learners]
            for machine in machines:
                if machine.state in ("running", "failed") and machine.id not in reported:
                    reported.add(machine.id)
                    text = tr("runs") if machine.state == "running" else machine.reason
                    self._say(tr("{name}: {message}", name=machine.learner, message=text))
            if not any(machine.state == "building" for machine in machines):
                break
        return machines

    def _looks(self) -> Iterator[list[Machine]]:
        """All machines, again and again and less and less often, until the time is over."""
        deadline = time.monotonic() + 60 * self._spec.minutes
        for pause in itertools.chain(_LOOKS, itertools.repeat(_LOOKS[-1])):
            yield self._engine.machines()
            if time.monotonic() > deadline:
                return
            self._sleep(pause)

    def _delete(self, machines: Sequence[Machine], outcome: Outcome) -> None:
        """Delete machines and wait until they are gone; notes those that stay."""
        if not machines:
            return
        by_id = {machine.id: machine for machine in machines}
        failed = Outcome()
        self._each(list(by_id), lambda id: self._engine.delete(by_id[id]), failed, by_id)
        left = set(by_id) - set(failed.failed)
        for machines in self._looks() if left else ():
            there = {machine.id for machine in machines}
            for id in sorted(left - there):
                self._say(tr("{name}: deleted", name=by_id[id].learner))
            left &= there
            if not left:
                break
        for id in left:
            failed.failed[id] = tr("its machine is still there after {n} minutes",
                                   n=self._spec.minutes)  # fmt: skip
        outcome.failed |= {by_id[id].learner: why for id, why in failed.failed.items()}
