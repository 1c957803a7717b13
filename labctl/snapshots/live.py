"""Live snapshots: a running lab is put back, and only what has to restart is restarted.

The saved state lies on the nodes. The scripts that save and restore it (provision/warm/) run there
too, on all nodes at once, and need only SSH; Nova then restarts the instances they name.
"""

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.access.guest import Guest
from labctl.assets import assets
from labctl.engine.steps import StepContext
from labctl.engine.wait import wait_until
from labctl.i18n import tr, tr_list, tr_n
from labctl.lab import Lab, each_node
from labctl.provisioning.services import units_of
from labctl.snapshots.store import Proof
from labctl.topology import Machine, Node, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

_SECONDS = 120
"""How long one node may take, times its timeout factor."""


class LiveSnapshots:
    """Saves and restores the state of the running nodes of one lab."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[Machine], Guest],
        cloud: "Callable[[], Connection]",
        scripts: Path,
    ) -> None:
        """`scripts` is the directory provision/warm."""
        self._topology = topology
        self._guest = guest
        self._cloud = cloud
        self._scripts = scripts

    def save(self, name: str, known: Sequence[str], context: StepContext) -> Mapping[str, Proof]:
        """Save the state on every node; return {node: proof of its part}. Raises GuestError.

        `known` are the names of all snapshots; the nodes delete what they keep under other names.
        """

        def work(node: Machine) -> Proof:
            answer = self._run(node, "save", name, _roles(node, self._topology), self._units(node),
                               ",".join(known))  # fmt: skip
            context.progress(f"{node.name}: {_durations(answer)}")
            return {"size": answer["size"], "sha256": answer["sha256"]}

        return self._each(work)

    def trouble(self, name: str, proofs: Mapping[str, Proof]) -> str:
        """Why the state saved on the nodes cannot be used; "" when it can."""
        answers = self._each(
            lambda node: self._run(node, "check", name, str(proofs[node.name]["sha256"]))
        )
        return tr("; ").join(
            node + tr(": ") + str(answer["trouble"])
            for node, answer in answers.items()
            if answer["trouble"]
        )

    def restore(self, name: str, context: StepContext) -> None:
        """Restore the state on every node, then have Nova restart the instances that need it.

        Raises LabError when a node reports that it cannot.
        """

        def work(node: Machine) -> dict[str, Any]:
            roles, units = _roles(node, self._topology), self._units(node)
            answer = self._run(node, "restore", name, roles, units)
            context.output(f"{node.name}: {json.dumps(answer)}")
            context.progress(f"{node.name}: {_durations(answer)}")
            return answer

        reboot = [uuid for answer in self._each(work).values() for uuid in answer["reboot"]]
        if reboot:
            context.progress(
                tr_n("{n} instance starts again", "{n} instances start again", n=len(reboot))
            )
            self._reboot(reboot, context)

    def silent(self, name: str) -> list[str]:
        """The addresses that answered when the state was saved and do not answer now.

        Each node asks those that it asked then. Raises GuestError.
        """
        answers = self._each(lambda node: self._run(node, "silent", name))
        return [address for answer in answers.values() for address in answer["silent"]]

    def _reboot(self, instances: Sequence[str], context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        for uuid in instances:

            def request_reboot(uuid: str = uuid) -> bool:
                self._cloud().compute.reboot_server(uuid, "HARD")
                return True

            wait_until(
                tr("Nova starts {name}", name=uuid),
                request_reboot,
                deadline=30 * self._guest(self._topology.controller).timeout_factor,
                hint="`labctl logs NODE nova-api`",
                transient=API_ERRORS,
                cancelled=context.cancelled,
            )

    def forget(self, name: str) -> None:
        """Delete the state that the nodes saved under that name."""
        self._each(lambda node: self._run(node, "forget", name))

    # -- running scripts on the nodes --------------------------------------------------------------
    @cached_property
    def _archive(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(self._scripts.glob("*.py")):
                info = tarfile.TarInfo(path.name)
                content = path.read_bytes()
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    def _run(self, node: Machine, *words: str) -> dict[str, Any]:
        # The directory is named after the scripts' content, so that a node never runs the scripts
        # of another version of labctl.
        directory = f"/run/labctl-warm-{hashlib.sha256(self._archive).hexdigest()[:16]}"
        command = (
            f"umask 077; [ -d {directory} ] || {{ rm -rf {directory}.new && mkdir {directory}.new"
            f" && tar -xf - -C {directory}.new && mv -T {directory}.new {directory}; }}"
            f" && exec 9>/run/labctl-warm.lock && flock 9"
            f" && exec python3 {directory}/main.py {shlex.join(words)}"
        )
        output = self._guest(node).run(command, input=self._archive, timeout=_SECONDS).stdout
        answer = json.loads(output)
        assert isinstance(answer, dict)
        return answer

    def _each(self, work: Callable[[Machine], Any]) -> dict[str, Any]:
        return each_node(self._topology.machines, work)

    def _units(self, node: Machine) -> str:
        return ",".join(units_of(node, self._topology.stack))


def live_snapshots(lab: Lab) -> LiveSnapshots:
    """The `LiveSnapshots` of this lab."""
    scripts = assets() / "provision" / "warm"
    return LiveSnapshots(lab.topology, lab.provider.guest, lab.cloud, scripts)


def _roles(node: Machine, topology: Topology) -> str:
    """The roles of a machine as provision/warm/main.py names them, joined by commas."""
    openstack = topology.stack == "openstack"
    if not isinstance(node, Node):
        return ",".join(node.roles)
    roles = []
    if "controller" in node.roles:
        roles += ["controller", *(["database"] if openstack else [])]
    if "compute" in node.roles and openstack:
        roles.append("instances")
    if not openstack:
        roles.append("workloads")
    return ",".join(roles)


def _durations(answer: Mapping[str, Any]) -> str:
    return tr_list(f"{name} {seconds:.1f} s" for name, seconds in answer["seconds"].items())
