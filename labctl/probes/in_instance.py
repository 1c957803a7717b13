"""A command inside the first instance, for lessons and probes: by the quickest way that is open.

A floating IP that lets SSH in is the quickest. Else there is the serial console, which needs no
network at all: before the lesson has made one, and after the learner has broken it.
"""

import re
import shlex
from collections.abc import Callable

from labctl.access.guest import GuestResult
from labctl.access.instance import instance_guest
from labctl.errors import LabError
from labctl.probes import Sight

_SSH_FAILED = re.compile(r"^(ssh: |Connection |kex_|Permission denied|Host key)|port 22: ", re.M)


def run_inside(
    sight: Sight,
    command: str,
    *,
    timeout: float = 60,
    cancelled: Callable[[], bool] | None = None,
) -> GuestResult:
    """Run a command for a shell in the first instance; its exit code may be anything.

    `timeout` is in seconds. Raises LabError when there is no way into the instance, Cancelled.
    """
    instance, user = sight.topology.instances[0], sight.topology.image.user
    for ip in sight.cloud().network.ips(fixed_ip_address=str(instance.address)):
        done = sight.guest("controller").run(
            _ssh(f"{user}@{ip.floating_ip_address}", command),
            timeout=timeout,
            check=False,
            cancelled=cancelled,
        )
        # 255 is ssh's own exit code, or the command's: its words tell which.
        if done.returncode != 255 or not _SSH_FAILED.search(done.stderr):
            return done
    try:
        inside = instance_guest(instance.name, sight.topology, sight.cloud, sight.guest)
    except LabError as error:
        # Nobody's wrong use: the learner has renamed or removed it.
        raise LabError(error.message, hint=error.hint) from error
    return inside.run(command, timeout=timeout, check=False, cancelled=cancelled)


def _ssh(target: str, command: str) -> str:
    return shlex.join(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", target, command])
