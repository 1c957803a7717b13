"""Lets frozen processes go on when standard input ends: a program of its own, run by snapshots.py.

usage: thaw.py SPACES LEFT

SPACES are PID namespaces as links of /proc name them (`pid:[4026532291]`), LEFT process IDs that
stay stopped; with commas between them. Standard input ends at the end of `frozen`, or when labctl
is killed, which closes it. Exit code 1: a process is still stopped after many tries.

Python's library alone, and no process for each look: a process that was overlooked would stay
stopped for good. On a loaded machine a shell that called readlink(1) for each was seen to do that.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_TRIES, _PAUSE = 100, 0.02


def processes_in(spaces: set[str]) -> Iterator[int]:
    """The process IDs of all processes in these namespaces."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if str((place / "ns/pid").readlink()) in spaces:
                yield int(place.name)
        except OSError:
            continue  # it is gone


def stopped_in(spaces: set[str]) -> Iterator[int]:
    """Those of them that a signal has stopped."""
    return (pid for pid in processes_in(spaces) if state(pid) == "T")


def state(pid: int) -> str:
    """The letter of its state (proc_pid_stat(5)); "X" if it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X"
    # PID (NAME) STATE …; the name may contain spaces and brackets.
    return words.rpartition(")")[2].split()[0]


def thaw(spaces: set[str], left: set[int]) -> bool:
    """Send SIGCONT until nothing but `left` is stopped; False if that did not come about."""
    for _ in range(_TRIES):
        stopped = set(stopped_in(spaces)) - left
        if not stopped:
            return True
        for pid in stopped:
            try:
                os.kill(pid, signal.Signals["SIGCONT"])
            except ProcessLookupError:
                continue
        time.sleep(_PAUSE)
    return False


if __name__ == "__main__":
    of_namespaces, of_processes = (set(filter(None, word.split(","))) for word in sys.argv[1:])
    sys.stdin.buffer.read()
    sys.exit(0 if thaw(of_namespaces, set(map(int, of_processes))) else 1)
