"""`labctl up` and `labctl halt`."""

from labctl.actions.held import held
from labctl.engine.steps import RunResult
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import halt_steps, start_steps
from labctl.snapshots.health import alive_steps


def up(lab: Lab) -> RunResult:
    """Start all nodes and wait until the lab works again, instances included."""
    with held(lab, "up"):
        lab.require_finished()
        steps = start_steps(lab)
        steps += alive_steps(lab, steps)
        result = lab.run(tr("start {lab}", lab=lab.topology.lab), steps)
        result.raise_if_failed()
    return result


def halt(lab: Lab) -> RunResult:
    """Shut all nodes down; what is on their disks stays."""
    with held(lab, "halt"):
        lab.require_created()
        steps = halt_steps(lab)
        result = lab.run(tr("halt {lab}", lab=lab.topology.lab), steps)
        result.raise_if_failed()
    return result
