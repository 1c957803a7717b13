"""The warm way: a running lab is put back without restarting what need not restart.

What is kept lies on the nodes, and so does the code that puts it back (provision/warm/); this asks
all nodes at once and has Nova start again what has to. It needs only SSH.
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
from labctl.i18n import tr, tr_n
from labctl.lab import Lab, each_node
from labctl.provisioning.services import units_of
from labctl.snapshots.store import Proof
from labctl.topology import Node, Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

_SECONDS = 120
"""How long one node may take, times its timeout factor."""


class LiveSnapshots:
    """Keeps and puts back the state of the running nodes of one lab."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[Node], Guest],
        cloud: "Callable[[], Connection]",
        scripts: Path,
    ) -> None:
        """`scripts` is provision/warm. Nothing is asked yet."""
        self._topology = topology
        self._guest = guest
        self._cloud = cloud
        self._scripts = scripts

    def save(self, name: str, known: Sequence[str], context: StepContext) -> Mapping[str, Proof]:
        """Keep the state on every node; by node what proves it. Raises GuestError."""

        def work(node: Node) -> Proof:
            said = self._run(node, "save", name, _roles(node, self._topology), self._units(node),
                             ",".join(known))  # fmt: skip
            context.progress(f"{node.name}: {_laps(said)}")
            return {"size": said["size"], "sha256": said["sha256"]}

        return self._each(work)

    def trouble(self, name: str, proofs: Mapping[str, Proof]) -> str:
        """ "", or why what the nodes kept cannot be used."""
        found = self._each(
            lambda node: self._run(node, "check", name, str(proofs[node.name]["sha256"]))
        )
        return "; ".join(
            f"{node}: {said['trouble']}" for node, said in found.items() if said["trouble"]
        )

    def restore(self, name: str, context: StepContext) -> None:
        """Put the state back on every node, and have Nova start what has to start again.

        Raises LabError when a node says that it cannot.
        """

        def work(node: Node) -> dict[str, Any]:
            said = self._run(node, "restore", name, _roles(node, self._topology), self._units(node))
            context.output(f"{node.name}: {json.dumps(said)}")
            context.progress(f"{node.name}: {_laps(said)}")
            return said

        reboot = [uuid for said in self._each(work).values() for uuid in said["reboot"]]
        if reboot:
            context.progress(
                tr_n("{n} instance starts again", "{n} instances start again", n=len(reboot))
            )
            self._reboot(reboot, context)

    def _reboot(self, instances: Sequence[str], context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        for uuid in instances:

            def asked(uuid: str = uuid) -> bool:
                self._cloud().compute.reboot_server(uuid, "HARD")
                return True

            wait_until(
                tr("Nova starts {name}", name=uuid),
                asked,
                deadline=30 * self._guest(self._topology.controller).timeout_factor,
                hint="`labctl logs NODE nova-api`",
                transient=API_ERRORS,
                cancelled=context.cancelled,
            )

    def forget(self, name: str) -> None:
        """Remove what the nodes kept under that name."""
        self._each(lambda node: self._run(node, "forget", name))

    # -- asking ----------------------------------------------------------------------------------
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

    def _run(self, node: Node, *words: str) -> dict[str, Any]:
        # In a directory named after the content: a node never runs the scripts of another labctl.
        place = f"/run/labctl-warm-{hashlib.sha256(self._archive).hexdigest()[:16]}"
        command = (
            f"umask 077; [ -d {place} ] || {{ rm -rf {place}.new && mkdir {place}.new"
            f" && tar -xf - -C {place}.new && mv -T {place}.new {place}; }}"
            f" && exec 9>/run/labctl-warm.lock && flock 9"
            f" && exec python3 {place}/main.py {shlex.join(words)}"
        )
        said = self._guest(node).run(command, input=self._archive, timeout=_SECONDS)
        answer = json.loads(said.stdout)
        assert isinstance(answer, dict)
        return answer

    def _each(self, work: Callable[[Node], Any]) -> dict[str, Any]:
        return each_node(self._topology.nodes, work)

    def _units(self, node: Node) -> str:
        return ",".join(units_of(node, self._topology.stack))


def live_snapshots(lab: Lab) -> LiveSnapshots:
    """Those of one lab."""
    scripts = assets() / "provision" / "warm"
    return LiveSnapshots(lab.topology, lab.provider.guest, lab.cloud, scripts)


def _roles(node: Node, topology: Topology) -> str:
    """What main.py is told that a node is."""
    openstack = topology.stack == "openstack"
    roles = []
    if "controller" in node.roles:
        roles += ["controller", *(["database"] if openstack else [])]
    if "compute" in node.roles and openstack:
        roles.append("instances")
    if not openstack:
        roles.append("workloads")
    return ",".join(roles)


def _laps(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in said["seconds"].items())
