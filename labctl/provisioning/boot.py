"""The steps of `halt` and `up`."""

from labctl.assets import assets
from labctl.engine.steps import Step
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.seed import Seed
from labctl.provisioning.stages import Provisioner
from labctl.state import Secrets

HALT_SECONDS = 30
"""How long a node may take to shut down before it is powered off by force."""


def halt_steps(
    lab: Lab, needs: tuple[str, ...] = (), *, deadline: float = HALT_SECONDS
) -> list[Step]:
    """Steps that shut all nodes down; one still running after `deadline` seconds is powered off."""
    provider = lab.provider
    return [
        Step(
            f"halt:{node.name}",
            tr("shut down"),
            lambda context, node=node: provider.stop(node, deadline=deadline),  # type: ignore[misc]
            needs,
            done=lambda node=node: provider.stopped(node),  # type: ignore[misc]
            node=node.name,
        )
        for node in lab.topology.machines
    ]


def provisioner(lab: Lab, secrets: Secrets | None = None) -> Provisioner:
    """The stages of `create` for this lab; `secrets` stand in for its own passwords."""
    known = lab.state.secrets() if secrets is None else secrets
    return Provisioner(lab.topology, lab.provider, lab.state, known, assets() / "provision")


def start_steps(lab: Lab) -> list[Step]:
    """Steps that start a halted lab and wait until it works, instances included."""
    return [*provisioner(lab).host_steps(), *Seed(lab).ready_steps()]
