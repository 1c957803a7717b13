"""One command on a learner's machine, which is the learner's: nothing it answers is trusted."""

import shlex
from collections.abc import Callable, Sequence

from labctl.access import keys
from labctl.classroom.engine import Machine
from labctl.classroom.keys import ACCEPTING, ClassKeys
from labctl.classroom.model import ClassSpec
from labctl.errors import LabError
from labctl.i18n import current_language, tr
from labctl.run import Completed, run_bounded
from labctl.terminal.text import one_line

Ask = Callable[[Machine, Sequence[str], float], Completed]
"""Runs labctl with these words in the lab on a machine, for at most so many seconds."""
NO_QUESTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR")
"""For OpenSSH: it asks for nothing, and gives a machine up that does not answer."""
NOT_REACHED = 255
"""Exit code of OpenSSH's client for its own failures."""
AT_A_TIME = 100
"""Machines that are asked together: each costs a process here, and its work is done there."""
_MOST = 4 * 2**20
"""Bytes of an answer that are read; what `check` prints of a whole lesson is some 100 KB."""
_LONGEST = 200
"""Characters of a text from a machine that are shown."""


def login(
    spec: ClassSpec, class_keys: ClassKeys, machine: Machine, command: Sequence[str],
    options: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """argv that logs in to a machine with the teacher's key. Raises LabError without an address."""
    if not machine.address:
        raise LabError(tr("the machine of {name} has no address yet", name=machine.learner))
    # Another machine has another host key: the alias makes it another host.
    client = keys.client(class_keys.teachers, class_keys.known_hosts, machine.id)
    # OpenSSH takes the first of two values of an option.
    return [client[0], *ACCEPTING, "-p", str(machine.port), *options, *client[1:],
            f"{machine.user or spec.user}@{machine.address}", *command]  # fmt: skip


def labctl_there(spec: ClassSpec, class_keys: ClassKeys) -> Ask:
    """Runs labctl in the labs of a class, over SSH, in the language of this labctl.

    Raises LabError if the teacher's key is not here.
    """
    class_keys.require()

    def ask(machine: Machine, words: Sequence[str], seconds: float) -> Completed:
        labctl = shlex.join([spec.labctl, "--lang", current_language(), *words])
        command = f"cd -- {shlex.quote(spec.lab)} && exec {labctl}"
        argv = login(spec, class_keys, machine, [command], NO_QUESTIONS)
        return run_bounded(argv, timeout=seconds, most=_MOST)

    return ask


def shown(text: str) -> str:
    """A text from a machine as a short line without control characters."""
    line = one_line(text).strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def reason_of(done: Completed) -> str:
    """Why a command by SSH failed, as one line for people."""
    if done.timed_out:
        return tr("it did not answer in time")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == NOT_REACHED:
        last = shown(lines[-1]) if lines else tr("no connection")
        return tr("SSH: {text}", text=last)
    # labctl puts this mark before its message, and hints after it.
    message = next((line for line in lines if line.startswith("✗")), lines[-1] if lines else "")
    text = shown(message.lstrip("✗ "))
    return text or tr("the command ended with exit code {code}", code=done.returncode)
