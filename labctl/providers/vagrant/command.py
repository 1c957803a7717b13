"""Vagrant's own command: run with progress, and its machine-readable output read.

python-vagrant is used where it is sound: status, ssh_config, box_list. What it hides or cannot do
is here: the progress of `up`, the reason of a failure, deadlines, and snapshots, whose calls in
python-vagrant take no machine's name.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from labctl.engine.wait import wait_until
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.run import CommandFailed, stream
from labctl.state import vagrant_data

_ASK_AGAIN = 3
"""Seconds between two tries to get a machine that another Vagrant holds."""


class MachineHeldError(LabError):
    """Another Vagrant is at work on the machine: perhaps one that a killed labctl has left."""


@dataclass(frozen=True)
class OutputLine:
    """One line of `vagrant --machine-readable`."""

    target: str
    """The machine, or "" for none in particular."""
    kind: str
    data: tuple[str, ...]


def parse(line: str) -> OutputLine | None:
    """A line of machine-readable output; None for anything else (warnings of Ruby, for one)."""
    # timestamp,target,type,data… with "," and newlines escaped within the data.
    words = line.rstrip("\r\n").split(",")
    if len(words) < 3 or not words[0].isdigit():
        return None
    data = tuple(
        word.replace("%!(VAGRANT_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
        for word in words[3:]
    )
    return OutputLine(words[1], words[2], data)


def failure(said: list[OutputLine]) -> str:
    """Why Vagrant gave up, as one line; "" if it did not say so."""
    for one in reversed(said):
        if one.kind == "error-exit" and one.data:
            return " ".join(one.data[-1].split())
    return ""


def _held(said: list[OutputLine]) -> bool:
    """Whether Vagrant gave up because another one holds the machine."""
    # Several machines at once: the errors are texts within one that tells of all.
    signs = ("MachineLocked", "MachineActionLockedError", "another process is already executing")
    return any(
        sign in word
        for one in said
        if one.kind == "error-exit"
        for word in one.data
        for sign in signs
    )


class VagrantCommand:
    """Vagrant in one directory, with its log."""

    def __init__(self, root: Path, log: Path, environment: Mapping[str, str]) -> None:
        """`root` holds the Vagrantfile. Nothing is run yet."""
        self.root = root
        self.log = log
        self._environment = dict(environment)

    def environment(self) -> dict[str, str]:
        """What Vagrant runs with: our environment, its files where ours are, no calling home."""
        return {**os.environ, **self._own()}

    def _own(self) -> dict[str, str]:
        return {
            "VAGRANT_CWD": str(self.root),
            # A user may have set these for machines of other kinds.
            "VAGRANT_VAGRANTFILE": "Vagrantfile",
            "VAGRANT_DOTFILE_PATH": str(vagrant_data(self.root)),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
            **self._environment,
        }

    def run(
        self,
        *words: str,
        timeout: float,
        cancel: Callable[[], bool] = lambda: False,
        on_output: Callable[[OutputLine], None] | None = None,
    ) -> list[OutputLine]:
        """`vagrant WORDS --machine-readable`; what it said, without what is no such line.

        Every line goes to the log. `timeout` is in seconds; while another Vagrant holds the machine
        it is waited for, as long again. Raises LabError with Vagrant's own reason, Cancelled.
        """
        _executable()

        def attempt() -> tuple[list[OutputLine]]:
            try:
                return (self._attempt(words, timeout, cancel, on_output),)
            except MachineHeldError:
                if on_output is not None:
                    text = tr("another Vagrant is at work on this machine; waiting for it to end")
                    on_output(OutputLine("", "ui", ("info", text)))
                raise

        (said,) = wait_until(
            tr("`vagrant {words}` gets the machine", words=words[0]),
            attempt,
            deadline=timeout,
            hint=tr("end the other Vagrant; see {log}", log=self.log),
            interval=_ASK_AGAIN,
            transient=(MachineHeldError,),
            cancelled=cancel,
        )
        return said

    def _attempt(
        self,
        words: tuple[str, ...],
        timeout: float,
        cancel: Callable[[], bool],
        on_output: Callable[[OutputLine], None] | None,
    ) -> list[OutputLine]:
        said: list[OutputLine] = []

        def on_line(line: str) -> None:
            one = parse(line)
            if one is not None:
                said.append(one)
                if on_output is not None:
                    on_output(one)

        with self._sink() as sink:  # what it takes to do the same by hand
            sink.write(f"$ export {shlex.join(_assignments(self._own()))}\n")
        try:
            stream(
                ["vagrant", *words, "--machine-readable"],
                log=self.log,
                timeout=timeout,
                cancel=cancel,
                on_line=on_line,
                env=self.environment(),
                hint=tr("see {log}", log=self.log),
            )
        except LabError as error:
            if reason := failure(said):
                kind = MachineHeldError if _held(said) else LabError
                better = kind(
                    tr("`vagrant {words}` failed: {reason}", words=words[0], reason=reason),
                    hint=tr("see {log}", log=self.log),
                )
                better.log = self.log
                raise better from error
            raise
        return said

    @contextmanager
    def python(self) -> Iterator[Any]:
        """python-vagrant on the same directory; what fails in it is raised as LabError."""
        _executable()
        import vagrant  # prints a warning when imported without a Vagrant in reach

        with self._sink():
            before = self.log.stat().st_size
        untyped: Any = vagrant  # python-vagrant has no type hints
        command = untyped.Vagrant(
            str(self.root), env=self.environment(), out_cm=self._sink, err_cm=self._sink
        )
        try:
            yield command
        except CommandFailed as error:
            words = " ".join(str(word) for word in error.cmd[1:])
            said = [one for line in _text(error.output).splitlines() if (one := parse(line))]
            # `ssh-config` is not asked for machine-readable lines: its reason went to the log.
            with self.log.open("rb") as log:
                log.seek(before)
                complaint = " ".join(log.read().decode(errors="replace").split())
            reason = failure(said) or complaint[-600:]
            reason = reason or tr("exit {code}", code=error.returncode)
            failed = LabError(
                tr("`vagrant {words}` failed: {reason}", words=words, reason=reason),
                hint=tr("see {log}", log=self.log),
            )
            failed.log = self.log
            raise failed from error
        except (ValueError, IndexError) as error:
            raise LabError(
                tr("Vagrant says what python-vagrant does not understand: {error}", error=error),
                hint=tr("see {log}; run `vagrant status` yourself in {directory}",
                        log=self.log, directory=self.root),
            ) from error  # fmt: skip

    @contextmanager
    def _sink(self) -> Iterator[TextIO]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as sink:
            yield sink


def _text(output: Any) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")


def _assignments(environment: Mapping[str, str]) -> list[str]:
    """What differs from our own environment, as the shell's `export` takes it."""
    return [
        f"{name}={value}" for name, value in environment.items() if os.environ.get(name) != value
    ]


def _executable() -> None:
    if shutil.which("vagrant") is None:
        raise LabError(
            tr("the command {command!r} is not installed", command="vagrant"),
            hint=tr(
                "install it; README.md, Requirements (`labctl doctor` says what else is missing)"
            ),
        )
