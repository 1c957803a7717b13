"""Snapshots of the files of virtual machines that are down: Vagrant's own snapshots."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.providers.vagrant.command import VagrantCommand
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.state import LabState
from labctl.topology import Machine

_SNAPSHOT = 900
"""Seconds that Vagrant may take to save, restore or delete one snapshot of one machine."""


class Machines(Protocol):
    """What snapshots need of the provider whose machines they keep."""

    vagrant: VagrantCommand
    one_at_a_time: AbstractContextManager[Any]
    """Held while Vagrant changes a machine: it locks them itself, and gives up at once."""

    @property
    def timeout_factor(self) -> int: ...

    def made(self, node: Machine) -> bool: ...

    def status(self, *, fresh: bool = False) -> Mapping[str, str]: ...

    def stop(self, node: Machine, *, deadline: float) -> None: ...


class VagrantSnapshots:
    """Snapshots of the machines of one lab."""

    def __init__(self, machines: Machines, state: LabState, hypervisor: Hypervisor) -> None:
        self._machines = machines
        self._state = state
        self._hypervisor = hypervisor

    def frozen(self) -> AbstractContextManager[None]:
        """Always raises LabError: hypervisors cannot stop all machines at the same moment."""
        raise LabError(tr("virtual machines must be down for a snapshot of their files"))

    def _names(self, node: Machine) -> set[str]:
        if not self._machines.made(node):
            return set()
        output = self._machines.vagrant.run(
            "snapshot", "list", node.name, timeout=60 * self._machines.timeout_factor
        )
        # One line of style `detail` per name. If there are no snapshots, the only such line is a
        # sentence; it has spaces, so it is equal to no name.
        return {
            line.data[1].strip()
            for line in output
            if line.kind == "ui" and len(line.data) >= 2 and line.data[0] == "detail"
        }

    def save(self, node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        """`vagrant snapshot save`; it has worked only if the snapshot is in the list afterwards."""
        with self._machines.one_at_a_time:
            if not self._machines.made(node):
                raise LabError(
                    tr("{node} was never made", node=node.name), hint=tr("run `labctl create`")
                )
            # Left by an interrupted attempt: Vagrant would refuse to save under the same name.
            if name in self._names(node):
                self._machines.vagrant.run("snapshot", "delete", node.name, name, timeout=_SNAPSHOT)
            self._machines.vagrant.run("snapshot", "save", node.name, name, timeout=_SNAPSHOT)
            # If Vagrant does not find the machine, it prints "Skipping" and exits with 0.
            if name not in self._names(node):
                raise LabError(
                    tr("Vagrant made no snapshot {name} of {node}", name=name, node=node.name),
                    hint=tr("see {log}", log=self._machines.vagrant.log),
                )
            machine = self._state.machine_id(node.name, self._hypervisor.name).read_text(
                encoding="utf-8"
            )
        return {"machine": machine.strip()}

    def trouble(self, node: Machine, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """Why the snapshot cannot be restored: it or its machine is gone; "" if both are there."""
        with self._machines.one_at_a_time:
            if not self._machines.made(node):
                return tr("the machine {node} is gone", node=node.name)
            machine = self._state.machine_id(node.name, self._hypervisor.name).read_text(
                encoding="utf-8"
            )
            if machine.strip() != proof.get("machine"):
                return tr("{node} was made anew after the snapshot", node=node.name)
            if name not in self._names(node):
                return tr("{node} has no snapshot {name}", node=node.name, name=name)
        return ""

    def stage(self, node: Machine, name: str, directory: Path) -> None:
        """Nothing to do: no part of a restore is possible while the machine runs."""

    def unstage(self, node: Machine) -> None:
        """Nothing to undo: see `stage`."""

    def restore(self, node: Machine, name: str) -> None:
        """`vagrant snapshot restore`; the machine stays down."""
        with self._machines.one_at_a_time:
            self._machines.vagrant.run(
                "snapshot", "restore", node.name, name, "--no-start", "--no-provision",
                timeout=_SNAPSHOT,
            )  # fmt: skip
            if self._machines.status(fresh=True).get(node.name) == "running":
                self._machines.stop(node, deadline=0)

    def clean_up(self, node: Machine) -> None:
        """Nothing to delete: Vagrant does not keep the files from before a restore."""

    def delete(self, node: Machine, name: str) -> None:
        """`vagrant snapshot delete`, if the machine has it."""
        with self._machines.one_at_a_time:
            if name not in self._names(node):
                return
            try:
                self._machines.vagrant.run("snapshot", "delete", node.name, name, timeout=_SNAPSHOT)
            except LabError as error:
                # VirtualBox does not delete a snapshot on which both the machine's present disk and
                # other snapshots are based.
                error.hint = tr(
                    "the hypervisor may not delete a snapshot that newer ones are based on:"
                    " delete those first; see {log}",
                    log=self._machines.vagrant.log,
                )
                raise
