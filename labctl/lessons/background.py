"""A command that runs on a node while other commands run, and how it is ended."""

import base64
import time
from dataclasses import dataclass

from labctl.access.guest import Guest

_LONGEST = 3600
"""Seconds after which it ends by itself, if nobody is left to end it; our choice."""
_GRACE = 5
"""Seconds between SIGINT, as Ctrl-C sends it, SIGTERM and SIGKILL; our choice."""


@dataclass(frozen=True)
class Ended:
    """How a command in the background ended."""

    output: str
    exit_code: int
    by_itself: bool
    """Whether it was over before it was ended."""
    seconds: float


class BackgroundCommand:
    """One command in the background of a node."""

    def __init__(self, guest: Guest, script: str, name: str) -> None:
        """`name`, of letters, digits and hyphens, tells it from others on this node.

        One of that name that a labctl left behind is ended first.
        """
        self._guest = guest
        self._script = script
        self._files = f"/run/labctl-background-{name}"
        self._began = 0.0

    def start(self) -> None:
        """Start it. Raises GuestError when the node does not answer."""
        files, first = self._files, (self._script.strip().splitlines() or [""])[0]
        self._began = time.monotonic()
        # With job control (set -m) it has a process group of its own, and does not ignore SIGINT.
        # The shell around it must outlive that signal, to write down the exit code.
        self._guest.run(
            f"""# {first}
            {_end(files)}
            rm -f {files}.*
            cat >{files}.sh
            set -m
            (
                trap : INT
                timeout --foreground -s INT -k {_GRACE} {_LONGEST} bash -c \
                    '. /etc/profile.d/labctl.sh; shopt -s expand_aliases; . {files}.sh'
                echo $? >{files}.code
            ) </dev/null >{files}.output 2>&1 &
            echo $! >{files}.pid
            """,
            input=self._script.encode(),
        )

    def end(self) -> Ended:
        """End it as Ctrl-C does, and give what it printed. Raises GuestError."""
        files = self._files
        result = self._guest.run(
            f"""# kill -INT
            test -e {files}.code && echo yes || echo no
            {_end(files)}
            cat {files}.code 2>/dev/null || echo 137
            base64 -w 0 {files}.output 2>/dev/null
            rm -f {files}.*
            """,
            timeout=60,
        )
        by_itself, code, *output = result.stdout.splitlines()
        text = base64.b64decode("".join(output)).decode(errors="replace")
        return Ended(text, int(code), by_itself == "yes", time.monotonic() - self._began)


def _end(files: str) -> str:
    """Shell commands that end its process group, if it is still there."""
    return f"""
            if pid=$(cat {files}.pid 2>/dev/null); then
                for signal in INT TERM KILL; do
                    kill -s $signal -- -$pid 2>/dev/null || break
                    for _ in $(seq {_GRACE * 20}); do
                        kill -0 -- -$pid 2>/dev/null || break 2
                        sleep 0.05
                    done
                done
            fi"""
