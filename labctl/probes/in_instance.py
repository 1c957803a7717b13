"""Run a command inside the first instance, for lessons and probes.

SSH to a floating IP is the quickest. Where that does not work, the serial console is used: it needs
no network, so it works before a lesson has made one and after a learner has broken it.
"""

import re
import shlex
from collections.abc import Callable

from labctl.access.guest import GuestResult
from labctl.access.instance import instance_guest
from labctl.errors import LabError
from labctl.probes.context import ProbeContext

_SSH_FAILED = re.compile(r"^(ssh: |Connection |kex_|Permission denied|Host key)|port 22: ", re.M)


def run_in_instance(
    context: ProbeContext,
    command: str,
    *,
    timeout: float = 60,
    cancelled: Callable[[], bool] | None = None,
) -> GuestResult:
    """Run a command for a shell in the first instance; its exit code may be anything.

    `timeout` is in seconds. Raises LabError when neither SSH nor the console works, Cancelled.
    """
    instance, user = context.topology.instances[0], context.topology.image.user
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
    try:
        console = instance_guest(instance.name, context.topology, context.cloud, context.guest)
    except LabError as error:
        # Without its exit code for wrong use: the learner has renamed or removed the instance.
        raise LabError(error.message, hint=error.hint) from error
    return console.run(command, timeout=timeout, check=False, cancelled=cancelled)


def _ssh(target: str, command: str) -> str:
    return shlex.join(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", target, command])
