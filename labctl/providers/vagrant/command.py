"""Runs the command `vagrant`, shows its progress, and reads its machine-readable output.

python-vagrant is used for what it does well: status, ssh_config, box_list. It does not show the
progress of `up` or the reason of a failure, has no deadlines, and takes no snapshot of a single
machine; that is done here.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from labctl.engine.wait import wait_until
from labctl.errors import DiskFullError, LabError, says_disk_full
from labctl.i18n import tr
from labctl.operating_system.programs import find
from labctl.providers.vagrant.vboxmanage_errors import failed_verb, last_words, passes
from labctl.run import CommandFailed, stream
from labctl.state import vagrant_data

_ASK_AGAIN = 3
"""Seconds between two attempts while another Vagrant has locked the machine."""


_TRIES = 3
"""Of a command that VirtualBox refused for a moment only."""


class PassingError(LabError):
    """VirtualBox could not do it at this moment, and has changed nothing."""


class MachineHeldError(LabError):
    """Another Vagrant has locked the machine, perhaps one that was started by a killed labctl."""


@dataclass(frozen=True)
class OutputLine:
    """One line of `vagrant --machine-readable`."""

    target: str
    """The machine; "" if the line is about none in particular."""
    kind: str
    """Vagrant's word for it, such as `ui` or `error-exit`."""
    data: tuple[str, ...]


def parse(line: str) -> OutputLine | None:
    """A line of machine-readable output; None for any other line, such as a warning of Ruby."""
    # timestamp,target,type,data… In the data commas and newlines are escaped.
    # https://developer.hashicorp.com/vagrant/docs/cli/machine-readable
    words = line.rstrip("\r\n").split(",")
    if len(words) < 3 or not words[0].isdigit():
        return None
    data = tuple(
        word.replace("%!(VAGRANT_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
        for word in words[3:]
    )
    return OutputLine(words[1], words[2], data)


def failure(output: list[OutputLine]) -> str:
    """Why Vagrant failed, as one line; "" if its output does not tell.

    Of an error of VBoxManage it is what that itself says, without Vagrant's words around it.
    """
    for line in reversed(output):
        if line.kind == "error-exit" and line.data:
            text = line.data[-1]
            if reason := last_words(text):
                return f"VBoxManage {failed_verb(text)}".rstrip() + f": {reason}"
            return " ".join(text.split())
    return ""


def _held(output: list[OutputLine]) -> bool:
    """Whether Vagrant failed because another one has locked the machine."""
    # With several machines at once, one error contains the texts of the errors of all.
    signs = ("MachineLocked", "MachineActionLockedError", "another process is already executing")
    return any(
        sign in word
        for line in output
        if line.kind == "error-exit"
        for word in line.data
        for sign in signs
    )


def _kind(output: list[OutputLine]) -> type[LabError]:
    """The error for what Vagrant has said: one that another try may not meet, or a last one."""
    if _held(output):
        return MachineHeldError
    reasons = (word for line in output if line.kind == "error-exit" for word in line.data)
    return PassingError if any(passes(reason) for reason in reasons) else LabError


class VagrantCommand:
    """Runs Vagrant in one directory; all its output goes to one log."""

    def __init__(self, root: Path, log: Path, environment: Mapping[str, str]) -> None:
        """`root` is the directory of the Vagrantfile."""
        self.root = root
        self.log = log
        self._environment = dict(environment)

    def environment(self) -> dict[str, str]:
        """Vagrant's environment: ours, its files below the lab, no check for new versions."""
        return {**os.environ, **self._own()}

    def _own(self) -> dict[str, str]:
        return {
            "VAGRANT_CWD": str(self.root),
            # Set even to the default: the user may have set these for other projects.
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
        """Run `vagrant WORDS --machine-readable`; returns the machine-readable lines of its output.

        Every line goes to the log. `timeout` is in seconds. If another Vagrant has locked the
        machine, up to `timeout` is spent waiting for it, and each attempt has `timeout` for itself.
        Raises LabError with Vagrant's own reason, Cancelled.
        """
        _executable()
        refused: list[PassingError] = []

        def attempt() -> tuple[list[OutputLine]]:
            try:
                return (self._attempt(words, timeout, cancel, on_output),)
            except PassingError as error:
                refused.append(error)
                if len(refused) < _TRIES:
                    raise
                final = LabError(error.message, hint=error.hint)
                final.log = error.log
                raise final from error
            except MachineHeldError:
                if on_output is not None:
                    text = tr("another Vagrant is at work on this machine; waiting for it to end")
                    on_output(OutputLine("", "ui", ("info", text)))
                raise

        (output,) = wait_until(
            tr("`vagrant {words}` gets the machine", words=words[0]),
            attempt,
            deadline=timeout,
            hint=tr("end the other Vagrant; see {log}", log=self.log),
            interval=_ASK_AGAIN,
            transient=(MachineHeldError, PassingError),
            cancelled=cancel,
        )
        return output

    def _attempt(
        self,
        words: tuple[str, ...],
        timeout: float,
        cancel: Callable[[], bool],
        on_output: Callable[[OutputLine], None] | None,
    ) -> list[OutputLine]:
        output: list[OutputLine] = []

        def on_line(line: str) -> None:
            parsed = parse(line)
            if parsed is not None:
                output.append(parsed)
                if on_output is not None:
                    on_output(parsed)

        with self._sink() as sink:  # for whoever wants to run the same command by hand
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
            reason = failure(output)
            if says_disk_full(reason or error.message):
                full = DiskFullError(reason or error.message)
                full.log = self.log
                raise full from error
            if reason:
                kind = _kind(output)
                explained = kind(
                    tr("`vagrant {words}` failed: {reason}", words=words[0], reason=reason),
                    hint=tr("see {log}", log=self.log),
                )
                explained.log = self.log
                raise explained from error
            raise
        return output

    @contextmanager
    def python(self) -> Iterator[Any]:
        """python-vagrant for the same directory. Raises LabError for what fails in it."""
        _executable()
        import vagrant  # prints a warning when imported where Vagrant is not installed

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
            output = [
                parsed for line in _text(error.output).splitlines() if (parsed := parse(line))
            ]
            # python-vagrant runs `ssh-config` without --machine-readable: its reason is in the log.
            with self.log.open("rb") as log:
                log.seek(before)
                logged = " ".join(log.read().decode(errors="replace").split())
            reason = failure(output) or logged[-600:]
            reason = reason or tr("exit {code}", code=error.returncode)
            failed = (
                DiskFullError(reason)
                if says_disk_full(reason)
                else LabError(
                    tr("`vagrant {words}` failed: {reason}", words=words, reason=reason),
                    hint=tr("see {log}", log=self.log),
                )
            )
            failed.log = self.log
            raise failed from error
        except (ValueError, IndexError) as error:
            raise LabError(
                tr("Vagrant's answer cannot be read: {error}", error=error),
                hint=tr("see {log}; run `vagrant status` yourself in {directory}",
                        log=self.log, directory=self.root),
            ) from error  # fmt: skip

    @contextmanager
    def _sink(self) -> Iterator[TextIO]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8", newline="\n") as sink:
            yield sink


def _text(output: Any) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")


def _assignments(environment: Mapping[str, str]) -> list[str]:
    """The variables that differ from our own environment, as the shell's `export` takes them."""
    return [
        f"{name}={value}" for name, value in environment.items() if os.environ.get(name) != value
    ]


def _executable() -> None:
    if find("vagrant") is None:
        raise LabError(
            tr("the command {command!r} is not installed", command="vagrant"),
            hint=tr(
                "install it; README.md, Requirements (`labctl doctor` says what else is missing)"
            ),
        )
