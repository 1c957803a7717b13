"""A class on machines that are there: the verbs of `engine.Engine`, by the OpenSSH client.

Nothing is made and nothing is deleted. `launch` labels a machine and lets two keys in, the class's
and the learner's; `delete` takes both back. machine.sh is what does it there. Which machine is
whose follows from class.yaml alone.
"""

import hashlib
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from labctl.access import keys
from labctl.classroom.engine import Machine, State
from labctl.classroom.keys import ACCEPTING, ClassKeys, other_teacher
from labctl.classroom.labels import description, end_in, end_text
from labctl.classroom.model import ClassSpec, MachineSpec
from labctl.classroom.remote import NO_QUESTIONS, reason_of
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.run import Completed, run_bounded

Run = Callable[[Sequence[str]], Completed]
_SCRIPT = Path(__file__).with_name("machine.sh")
_SECONDS = 30.0
"""For one command on a machine, with the login."""
_MOST = 65536
"""Bytes of its output that are read."""
_AT_A_TIME = 32
"""Machines that are looked at together: each costs a process here."""


def _run(argv: Sequence[str]) -> Completed:
    return run_bounded(argv, timeout=_SECONDS, most=_MOST)


class SSHEngine:
    """The machines of one class, listed in class.yaml."""

    def __init__(self, spec: ClassSpec, directory: Path, run: Run = _run) -> None:
        """`directory` is where class.yaml is: paths of keys are relative to it."""
        self._spec = spec
        self._directory = directory
        self._run = run
        self._known_hosts = ClassKeys(spec, directory).known_hosts
        self._script = _SCRIPT.read_text(encoding="utf-8")
        self._learners = _learners_of(spec)
        self._teacher = ""
        self._teachers_there: set[str] = set()
        self._given: dict[str, str] = {}
        self._calls = 0
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """Logins to machines."""
        return self._calls

    def require_room(self, machines: int) -> None:
        """class.yaml was found to list enough machines."""

    def image(self) -> None:
        """The machines have theirs."""

    def prepare(self, public_key: str) -> None:
        """Keep the teacher's key for `launch`. Raises LabError if a machine lets another one in."""
        self._teacher = " ".join(public_key.split()[:2])
        if self._teachers_there - {_fingerprint(self._teacher)}:
            raise other_teacher()

    def machines(self) -> list[Machine]:
        """Those that carry the label of the class, and those that do not answer."""
        listed = self._spec.ssh.machines
        self._given.clear()
        with ThreadPoolExecutor(max(1, min(_AT_A_TIME, len(listed)))) as pool:
            machines = list(pool.map(self._look, listed))
        return [machine for machine in machines if machine is not None]

    def _look(self, listed: MachineSpec) -> Machine | None:
        whose = self._learners.get(listed, "")
        done = self._ask(listed, "look", self._spec.name)
        label = _label(done.stdout) if done.returncode == 0 else None
        if label is None:
            # Nothing is known of a spare machine that does not answer.
            return _machine(listed, whose, "stopped", reason_of(done)) if whose else None
        if not label:
            return None
        learner = label.get("learner", "")
        with self._lock:
            self._teachers_there |= {label["teacher"]} if "teacher" in label else set()
            self._given[learner] = listed.address
        if whose and learner != whose:
            reason = _given_to(learner, listed.address)
            return _machine(listed, whose, "stopped", reason)
        if "complete" not in label:
            return _machine(listed, learner, "failed", tr("its preparation was interrupted"))
        return replace(_machine(listed, learner, "running"), ends=end_in(label.get("ends")))

    def launch(self, learner: str, authorized: str, ends: datetime | None) -> None:
        """Label the learner's machine, and let the teacher's and the learner's key in."""
        if learner in self._given:
            raise LabError(_given_to(learner, self._given[learner]))
        listed = next(each for each, name in self._learners.items() if name == learner)
        teachers = f"{self._teacher} {description(self._spec.name)}"
        mark = _fingerprint(self._teacher)
        until = end_text(ends) if ends else ""
        self._do(listed, "take", self._spec.name, learner, mark, until, teachers, authorized)

    def extend(self, machine: Machine, ends: datetime) -> None:
        """Put the end into the label on the machine."""
        self._do(self._listed(machine), "end", self._spec.name, end_text(ends))

    def address(self, machine: Machine) -> str:
        """The one of class.yaml."""
        return machine.address

    def console_log(self, machine: Machine) -> str:
        """Raises LabError: nobody sees the console of such a machine."""
        raise LabError(
            tr("the engine {engine} does not see the console of a machine", engine="ssh"),
            hint=tr("log in with {command}", command=f"labctl class ssh {machine.learner}"),
            code=EXIT_USAGE,
        )

    def delete(self, machine: Machine) -> None:
        """Take the label and both keys back; the machine and all that is on it stay."""
        self._do(self._listed(machine), "leave", self._spec.name)
        with self._lock:
            self._given.pop(machine.learner, None)

    def clear(self) -> int:
        """There is nothing else."""
        return 0

    # -- parts -------------------------------------------------------------------------------------
    def _listed(self, machine: Machine) -> MachineSpec:
        return next(each for each in self._spec.ssh.machines if _id(each) == machine.id)

    def _do(self, listed: MachineSpec, *words: str) -> None:
        done = self._ask(listed, *words)
        if done.returncode != 0:
            raise LabError(reason_of(done))

    def _ask(self, listed: MachineSpec, *words: str) -> Completed:
        with self._lock:
            self._calls += 1
        command = shlex.join(["sh", "-c", self._script, "labctl", *words])
        user = listed.user or self._spec.user
        return self._run([*self._client(listed), f"{user}@{listed.address}", command])

    def _client(self, listed: MachineSpec) -> list[str]:
        own = ["ssh"]
        if key := listed.key or self._spec.ssh.key:
            path = self._directory / Path(key).expanduser()
            if not path.is_file():
                raise LabError(tr("there is no file {path}", path=path), code=EXIT_USAGE)
            own = keys.client(path, self._known_hosts, _id(listed))
            own[1:1] = ACCEPTING
        return [*own, *NO_QUESTIONS, "-p", str(listed.port)]


def _learners_of(spec: ClassSpec) -> dict[MachineSpec, str]:
    """{machine: learner}: those that class.yaml names, then the others in their order."""
    named = {machine: machine.learner for machine in spec.ssh.machines if machine.learner}
    free = [machine for machine in spec.ssh.machines if machine not in named]
    left = [learner for learner in spec.learners if learner not in named.values()]
    return named | dict(zip(free, left, strict=False))


def _given_to(learner: str, address: str) -> str:
    return tr(
        "{address} was given to {learner}: say so in class.yaml (learner: {learner}),"
        " or destroy the class first",
        address=address,
        learner=learner,
    )


def _id(listed: MachineSpec) -> str:
    return f"{listed.address}-{listed.port}"


def _machine(listed: MachineSpec, learner: str, state: State, reason: str = "") -> Machine:
    return Machine(
        _id(listed), learner, state, listed.address, reason, listed.port, listed.user or ""
    )


def _fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _label(output: str) -> Mapping[str, str] | None:
    """What `look` printed; {} without a label; None if it did not come to its end."""
    _, begin, after = output.partition("labctl-class begin\n")
    text, end, _ = after.partition("labctl-class end\n")
    if not begin or not end:
        return None
    fields = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in fields}
