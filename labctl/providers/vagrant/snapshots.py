"""The files of virtual machines, kept and put back: Vagrant's own snapshots, machines down."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.state import LabState
from labctl.topology import Node

if TYPE_CHECKING:
    from labctl.providers.vagrant.provider import VagrantProvider

_SNAPSHOT = 900
"""Seconds that Vagrant may take for one snapshot of one machine."""


class VagrantSnapshots:
    """Snapshots of the machines of one lab."""

    def __init__(
        self, machines: "VagrantProvider", state: LabState, hypervisor: Hypervisor
    ) -> None:
        """`machines` runs Vagrant, one command at a time."""
        self._machines = machines
        self._state = state
        self._hypervisor = hypervisor

    def frozen(self) -> AbstractContextManager[None]:
        """Hypervisors stop one machine after the other: their files are never of one moment."""
        raise LabError(tr("virtual machines must be down for a snapshot of their files"))

    def _names(self, node: Node) -> set[str]:
        if not self._machines.made(node):
            return set()
        said = self._machines.vagrant.run(
            "snapshot", "list", node.name, timeout=60 * self._machines.timeout_factor
        )
        # One `detail` per name; where there are none, one of several words.
        return {
            one.data[1].strip()
            for one in said
            if one.kind == "ui" and len(one.data) >= 2 and one.data[0] == "detail"
        }

    def save(self, node: Node, name: str, directory: Path) -> Mapping[str, Any]:
        """`vagrant snapshot save`; believed only when the list has it."""
        with self._machines.one_at_a_time:
            if not self._machines.made(node):
                raise LabError(
                    tr("{node} was never made", node=node.name), hint=tr("run `labctl create`")
                )
            # What an attempt that was interrupted left would be in the way.
            if name in self._names(node):
                self._machines.vagrant.run("snapshot", "delete", node.name, name, timeout=_SNAPSHOT)
            self._machines.vagrant.run("snapshot", "save", node.name, name, timeout=_SNAPSHOT)
            # It says "Skipping" and exits 0 for a machine that it does not find.
            if name not in self._names(node):
                raise LabError(
                    tr("Vagrant made no snapshot {name} of {node}", name=name, node=node.name),
                    hint=tr("see {log}", log=self._machines.vagrant.log),
                )
            machine = self._state.machine_id(node.name, self._hypervisor.name).read_text()
        return {"machine": machine.strip()}

    def trouble(self, node: Node, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """Whether the same machine still has that snapshot."""
        with self._machines.one_at_a_time:
            if not self._machines.made(node):
                return tr("the machine {node} is gone", node=node.name)
            machine = self._state.machine_id(node.name, self._hypervisor.name).read_text()
            if machine.strip() != proof.get("machine"):
                return tr("{node} is another machine now", node=node.name)
            if name not in self._names(node):
                return tr("{node} has no snapshot {name}", node=node.name, name=name)
        return ""

    def stage(self, node: Node, name: str, directory: Path) -> None:
        """Nothing: the machine must be down for all of it."""

    def unstage(self, node: Node) -> None:
        """Nothing."""

    def restore(self, node: Node, name: str) -> None:
        """`vagrant snapshot restore`; the machine stays down."""
        with self._machines.one_at_a_time:
            self._machines.vagrant.run(
                "snapshot", "restore", node.name, name, "--no-start", "--no-provision",
                timeout=_SNAPSHOT,
            )  # fmt: skip
            if self._machines.status(fresh=True).get(node.name) == "running":
                self._machines.stop(node, deadline=0)

    def clean_up(self, node: Node) -> None:
        """Nothing."""

    def delete(self, node: Node, name: str) -> None:
        """`vagrant snapshot delete`, if the machine has it."""
        with self._machines.one_at_a_time:
            if name not in self._names(node):
                return
            try:
                self._machines.vagrant.run("snapshot", "delete", node.name, name, timeout=_SNAPSHOT)
            except LabError as error:
                # VirtualBox: the one the machine stands on, with others on top of it.
                error.hint = tr(
                    "a snapshot that others stand on may have to stay until they are deleted;"
                    " see {log}",
                    log=self._machines.vagrant.log,
                )
                raise
