"""Snapshots of containers' files: their upper layers (overlay.py)."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labctl.engine.wait import wait_until
from labctl.i18n import tr
from labctl.providers.nspawn import overlay, thaw
from labctl.providers.nspawn.thaw import processes_in, state, stopped_in
from labctl.run import run_at_exit
from labctl.state import LabState
from labctl.topology import Machine, Topology


class NspawnSnapshots:
    """Snapshots of the containers of one lab."""

    def __init__(
        self, topology: Topology, state: LabState, init_pid: Callable[[Machine], int | None]
    ) -> None:
        """`init_pid` gives the process ID on this machine of a node's init; None if it is down."""
        self._topology = topology
        self._state = state
        self._init_pid = init_pid

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of every node; another process lets them go on if we are killed."""
        spaces = {
            str(Path(f"/proc/{pid}/ns/pid").readlink())
            for node in self._topology.machines
            if (pid := self._init_pid(node)) is not None
        }
        # What a learner stopped by Ctrl-Z, or `labctl fault`, is no matter of ours.
        left = sorted(map(str, stopped_in(spaces)))
        # Isolated, without site-packages: started in a hundredth of a second.
        words = [
            sys.executable,
            "-I",
            "-S",
            thaw.__file__,
            ",".join(sorted(spaces)),
            ",".join(left),
        ]
        with run_at_exit(words):
            _stop(spaces)
            yield

    def save(self, node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        """Pack the node's upper layer into one file."""
        return overlay.pack(
            self._state.node_files(node.name).upper,
            self._state.snapshot_part(directory, node.name),
        )

    def trouble(self, node: Machine, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """Why that file is not the one that was made; "" if it is."""
        return overlay.trouble(self._state.snapshot_part(directory, node.name), proof)

    def stage(self, node: Machine, name: str, directory: Path) -> None:
        """Unpack the file beside the node's own layer."""
        overlay.stage(self._state.snapshot_part(directory, node.name), self._state.node(node.name))

    def unstage(self, node: Machine) -> None:
        """Remove what was unpacked."""
        overlay.unstage(self._state.node(node.name))

    def restore(self, node: Machine, name: str) -> None:
        """Exchange the node's layer for the unpacked one."""
        overlay.exchange(self._state.node(node.name))

    def clean_up(self, node: Machine) -> None:
        """Remove the layer the node had before."""
        overlay.discard(self._state.node(node.name))

    def delete(self, node: Machine, name: str) -> None:
        """Nothing to do: the file is in the snapshot's directory."""


def _stop(spaces: set[str]) -> None:
    """Stop all processes in these PID namespaces, also those that are started meanwhile."""
    stopped: set[int] = set()
    while True:
        pids = set(processes_in(spaces))
        if pids <= stopped:
            return
        for pid in pids - stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.Signals["SIGSTOP"])
        stopped |= pids
        for pid in stopped:
            _wait_until_stopped(pid)


def _wait_until_stopped(pid: int) -> None:
    """A process that is in a system call stops only at the end of it."""

    def stopped() -> bool:
        # Stopped, traced, zombie, dead.
        return state(pid) in "TtZX" or _waits_for_its_child(pid)

    if not stopped():
        wait_until(tr("process {pid} stops", pid=pid), stopped, deadline=20, hint="", interval=0.01)


def _waits_for_its_child(pid: int) -> bool:
    """Whether it waits in vfork(2) until its child has begun another program, or has ended.

    It runs nothing meanwhile, and would wait for as long as the child is stopped.
    """
    try:
        # The function it sleeps in, "0" where the kernel does not tell (proc_pid_wchan(5)).
        place = Path(f"/proc/{pid}/wchan").read_text(encoding="utf-8")
    except OSError:
        return False
    return state(pid) == "D" and place in {"kernel_clone", "wait_for_vfork_done"}
