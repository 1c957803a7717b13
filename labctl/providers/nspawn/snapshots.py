"""The files of containers, kept and put back: their upper layers (overlay.py)."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labctl.engine.wait import wait_until
from labctl.i18n import tr
from labctl.providers.nspawn import overlay
from labctl.run import run_at_exit
from labctl.state import LabState
from labctl.topology import Node, Topology

# Our death closes its standard input.
_GO_ON = """cat >/dev/null
for process in /proc/[0-9]*; do
    space=$(readlink "$process/ns/pid" 2>/dev/null) || continue
    for one; do [ "$space" = "$one" ] && kill -CONT "${process#/proc/}"; done
done
true"""


class NspawnSnapshots:
    """Snapshots of the containers of one lab."""

    def __init__(
        self, topology: Topology, state: LabState, init_pid: Callable[[Node], int | None]
    ) -> None:
        """`init_pid` finds the process 1 of a node that runs, by its number on this machine."""
        self._topology = topology
        self._state = state
        self._init_pid = init_pid

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of every node; another process lets them go on, if we cannot."""
        spaces = [
            str(Path(f"/proc/{pid}/ns/pid").readlink())
            for node in self._topology.nodes
            if (pid := self._init_pid(node)) is not None
        ]
        with run_at_exit(["sh", "-c", _GO_ON, "sh", *spaces]):
            _stop(set(spaces))
            yield

    def save(self, node: Node, name: str, directory: Path) -> Mapping[str, Any]:
        """The node's upper layer as one file."""
        return overlay.pack(
            self._state.node_files(node.name).upper,
            self._state.snapshot_part(directory, node.name),
        )

    def trouble(self, node: Node, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """Whether that file is still the one that was made."""
        return overlay.trouble(self._state.snapshot_part(directory, node.name), proof)

    def stage(self, node: Node, name: str, directory: Path) -> None:
        """Unpack the file beside the node's layer."""
        overlay.stage(self._state.snapshot_part(directory, node.name), self._state.node(node.name))

    def unstage(self, node: Node) -> None:
        """Remove what was unpacked."""
        overlay.unstage(self._state.node(node.name))

    def restore(self, node: Node, name: str) -> None:
        """Exchange the layers."""
        overlay.exchange(self._state.node(node.name))

    def clean_up(self, node: Node) -> None:
        """Remove the layer the node had before."""
        overlay.discard(self._state.node(node.name))

    def delete(self, node: Node, name: str) -> None:
        """Nothing: the file is in the snapshot's directory."""


def _stop(spaces: set[str]) -> None:
    """Stop all processes that live in these PID namespaces, those they make meanwhile too."""
    stopped: set[int] = set()
    while True:
        found = set()
        for link in Path("/proc").glob("[0-9]*/ns/pid"):
            with suppress(OSError):
                if str(link.readlink()) in spaces:
                    found.add(int(link.parts[2]))
        if found <= stopped:
            return
        for pid in found - stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= found
        for pid in stopped:
            _await_stop(pid)


def _await_stop(pid: int) -> None:
    """A process in the middle of a system call stops when that is over."""

    def stopped() -> bool:
        try:
            # pid (name) state …; the name may hold anything.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state in "TtZX"

    if not stopped():
        wait_until(tr("process {pid} stops", pid=pid), stopped, deadline=20, hint="", interval=0.01)
