"""A tutorial's commands, run one after another, each compared with what it is to show.

The commands are those of steps.yaml. What one leaves in its shell, the next one finds there, as
for somebody who types: there is one shell on each node.
"""

import base64
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

STEPS = Path(__file__).with_name("steps.yaml")
_PAUSE = 2.0
"""Seconds before a step is tried again that has time to come true."""


@dataclass(frozen=True)
class Step:
    """One command, and what it is to show."""

    part: str
    at: str
    """The name of a node or an instance."""
    run: str
    shows: tuple[str, ...] = ()
    """Regular expressions that its output must hold; `^` and `$` are the ends of a line."""
    hides: tuple[str, ...] = ()
    """Those that its output must not hold."""
    exit: int | None = 0
    """Its exit status; None: any."""
    differs: str = ""
    """Why that is not what the tutorial says; empty: it is."""
    ours: bool = False
    """It is none of the tutorial's: it makes what DevStack would have, waits, or looks closer."""
    keeps: tuple[str, ...] = ()
    """Shell variables that the other nodes' shells are to have, too."""
    within: float = 0
    """Seconds in which it may come true; it is run again and again."""
    timeout: float = 120
    """Seconds that the command may take."""


@dataclass(frozen=True)
class Followed:
    """What a step gave."""

    step: Step
    output: str
    exit: int | None
    """None: it did not end in time."""
    seconds: float
    wrong: tuple[str, ...]
    """What is not as it is to be, a sentence each."""


def load_steps(text: str) -> list[Step]:
    """The steps of a file like steps.yaml, in order. Raises TypeError, KeyError for a wrong one."""
    steps = []
    for part in yaml.safe_load(text):
        for entry in part["steps"]:
            fields: dict[str, Any] = {"run": entry} if isinstance(entry, str) else dict(entry)
            for name in ("shows", "hides", "keeps"):
                value = fields.get(name, [])
                fields[name] = (value,) if isinstance(value, str) else tuple(value)
            steps.append(Step(**{"part": part["part"], "at": part["at"], **fields}))
    return steps


def judge(step: Step, output: str, code: int | None) -> tuple[str, ...]:
    """What of an output is not as the step says."""
    if code is None:
        return (f"did not end within {step.timeout:g} s",)
    wrong = [f"does not show {each}" for each in step.shows if not _holds(output, each)]
    wrong += [f"shows {each}" for each in step.hides if _holds(output, each)]
    if step.exit is not None and code != step.exit:
        wrong.append(f"exits {code}, not {step.exit}")
    return tuple(wrong)


def _holds(output: str, pattern: str) -> bool:
    return re.search(pattern, output, re.MULTILINE) is not None


class Shell:
    """A shell of bash that was started elsewhere, and takes one script after another."""

    def __init__(self, argv: Sequence[str], directory: Path) -> None:
        """`argv` starts bash, which reads what to do from stdin."""
        self._argv, self._directory = argv, directory
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._argv,
            cwd=self._directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # what a command has started ends with the shell
        )

    def run(self, script: str, timeout: float) -> tuple[str, int | None]:
        """Its output and exit status; None if it did not end in time, and the next shell is new."""
        self._number += 1
        mark = f"@@ended-{self._number}@@"
        word = base64.b64encode(script.encode()).decode()
        line = f'eval "$(echo {word} | base64 -d)" 2>&1 </dev/null; printf "\\n{mark} %d\\n" $?\n'
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._anew(b"")
        output, deadline = b"", time.monotonic() + timeout
        for chunk in self._chunks(deadline):
            output += chunk
            if ended := re.search(rf"\n{mark} (\d+)\n".encode(), output):
                return output[: ended.start()].decode(errors="replace"), int(ended.group(1))
        return self._anew(output)

    def _chunks(self, deadline: float) -> Iterator[bytes]:
        assert self._process.stdout is not None
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._process.stdout], [], [], left)[0]:
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    return
                yield chunk

    def _anew(self, output: bytes) -> tuple[str, None]:
        self.close()
        self._start()
        return output.decode(errors="replace"), None

    def close(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class LabShells:
    """The nodes and instances of a lab: a shell on each node, single commands in instances."""

    def __init__(self, directory: Path, nodes: Sequence[str]) -> None:
        """`directory` is that of a lab.yaml; `nodes` are to have a shell."""
        self._directory = directory
        self._shells = {
            node: Shell([*self._ssh(node), "bash"], directory) for node in nodes
        }  # fmt: skip

    def _ssh(self, name: str) -> list[str]:
        return [sys.executable, "-m", "labctl", "--lang", "en", "ssh", name, "--"]

    def run(self, name: str, script: str, timeout: float) -> tuple[str, int | None]:
        """Output and exit status of a script on a node or in an instance; None: not in time."""
        if name in self._shells:
            return self._shells[name].run(script, timeout)
        try:
            done = subprocess.run(
                [*self._ssh(name), "sh", "-c", script],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return (late.stdout or b"").decode(errors="replace"), None
        return done.stdout.decode(errors="replace"), done.returncode

    def carry(self, variables: Sequence[str], source: str) -> None:
        """Give shell variables of one node to all others."""
        for variable in variables:
            value, _ = self._shells[source].run(f'printf %s "${variable}"', 30)
            for node in self._shells.keys() - {source}:
                self._shells[node].run(f"{variable}={shlex.quote(value.strip())}", 30)

    def close(self) -> None:
        """End the shells."""
        for shell in self._shells.values():
            shell.close()


def follow(step: Step, shells: LabShells) -> Followed:
    """Run a step, again and again if it has time to come true."""
    begun = time.monotonic()
    while True:
        output, code = shells.run(step.at, step.run, step.timeout)
        wrong, seconds = judge(step, output, code), time.monotonic() - begun
        if not wrong or seconds > step.within:
            break
        time.sleep(_PAUSE)
    if step.keeps:
        shells.carry(step.keeps, step.at)
    return Followed(step, output, code, seconds, wrong)


def table(followed: Sequence[Followed]) -> str:
    """By part how many of the tutorial's own commands were as written, in Markdown."""
    rows = ["| part | commands | as written | otherwise, and why is known | not as expected |",
            "|---|---|---|---|---|"]  # fmt: skip
    for part in dict.fromkeys(result.step.part for result in followed):
        own = [result for result in followed if result.step.part == part and not result.step.ours]
        wrong = sum(bool(result.wrong) for result in own)
        differs = sum(bool(result.step.differs and not result.wrong) for result in own)
        rows.append(f"| {part} | {len(own)} | {len(own) - wrong - differs} | {differs} | {wrong} |")
    return "\n".join(rows)
