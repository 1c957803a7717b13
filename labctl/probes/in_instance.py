"""Run a command inside an instance, for lessons and probes.

The guest agent of the built-in image is the quickest, and needs no network: it works before a
lesson has made one and after a learner has broken it. Other images are asked by SSH to a floating
IP, or else as InstanceGuest does it.
"""

import re
import shlex
from collections.abc import Callable

from labctl.access.guest import GuestResult
from labctl.access.instance import instance_guest
from labctl.errors import LabError
from labctl.probes.context import ProbeContext
from labctl.topology import Instance

_SSH_FAILED = re.compile(r"^(ssh: |Connection |kex_|Permission denied|Host key)|port 22: ", re.M)


def instance_of(context: ProbeContext, name: str) -> Instance | None:
    """The instance that `from` names: `instance` is the first; None if it names a node."""
    if name == "instance":
        return context.topology.instances[0]
    if context.topology.stack != "openstack":
        return None
    return next((each for each in context.topology.instances if each.name == name), None)


def run_in_instance(
    context: ProbeContext,
    command: str,
    *,
    timeout: float = 60,
    cancelled: Callable[[], bool] | None = None,
    instance: Instance | None = None,
) -> GuestResult:
    """Run a command for a shell in an instance (the first); its exit code may be anything.

    `timeout` is in seconds. Raises LabError when no way into it works, Cancelled.
    """
    instance = instance or context.topology.instances[0]
    user = instance.image.user
    missing: LabError | None = None
    try:
        inside = instance_guest(instance.name, context.topology, context.cloud, context.guest)
    except LabError as error:
        # Without its exit code for wrong use: the learner has renamed or removed the instance.
        missing = LabError(error.message, hint=error.hint)
    else:
        by_agent = inside.run_by_agent(command, timeout, cancelled)
        if by_agent is not None:
            return by_agent
    for ip in context.cloud().network.ips(fixed_ip_address=str(instance.address)):
        done = context.guest("controller").run(
            _ssh(f"{user}@{ip.floating_ip_address}", command),
            timeout=timeout,
            check=False,
            cancelled=cancelled,
        )
        # ssh exits 255 when it cannot connect; the command may exit 255 too. stderr tells which.
        if done.returncode != 255 or not _SSH_FAILED.search(done.stderr):
            return done
    if missing is not None:
        raise missing
    return inside.run(command, timeout=timeout, check=False, cancelled=cancelled)


def _ssh(target: str, command: str) -> str:
    return shlex.join(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", target, command])
