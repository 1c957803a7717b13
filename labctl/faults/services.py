"""Services of a node that are killed, or frozen."""

import shlex
from collections.abc import Sequence

from labctl.faults.model import Mechanism, Plan
from labctl.lab import Lab
from labctl.provisioning.services import STOPPED_UNITS
from labctl.topology import Node

_SECONDS = 120
"""Until systemd has started a service: that of RabbitMQ takes the longest, 20 s on a busy host."""


class Kill(Mechanism):
    """SIGKILL for all processes of a unit, which systemd is told not to start again.

    Without that a unit with `Restart=` would be back before anybody has looked.
    """

    def __init__(self, unit: str, then: Sequence[str] = ()) -> None:
        """`then` are units that must be started anew after it, where the node has them."""
        self._unit = unit
        self._then = then

    @property
    def _drop_in(self) -> str:
        # systemd reads drop-ins in the order of their names: after our own labctl.conf, which sets
        # Restart=, too.
        return shlex.quote(f"/run/systemd/system/{self._unit}.service.d/zz-labctl-fault.conf")

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Kill the unit."""
        lab.provider.guest(node).run(
            f"set -e; file={self._drop_in}; mkdir -p ${{file%/*}};"
            " printf '[Service]\\nRestart=no\\n' >$file; systemctl daemon-reload;"
            f" systemctl kill --signal=KILL {self._unit};"
            f" for _ in $(seq 100); do systemctl is-active --quiet {self._unit} || exit 0;"
            " sleep 0.1; done; exit 1",
            timeout=_SECONDS,
        )

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Start the unit, and let systemd start it again as before."""
        script = (
            f"rm -f {self._drop_in}; systemctl daemon-reload;"
            f" systemctl is-active --quiet {self._unit} && exit;"
            f" systemctl reset-failed {self._unit} 2>/dev/null;"
            f" systemctl start {self._unit} || exit;"
        )
        for unit in self._then:
            script += (
                f" systemctl cat {unit} >/dev/null 2>&1 && {{ systemctl restart {unit} || exit; }};"
            )
        lab.provider.guest(node).run(script + " true", timeout=_SECONDS)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the unit is not active."""
        asked = ["systemctl", "is-active", "--quiet", self._unit]
        return not lab.provider.guest(node).run(asked, check=False, timeout=15).ok


class Freeze(Mechanism):
    """SIGSTOP for all processes of a unit: systemd, and a connection to it, take it for alive."""

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Freeze the unit."""
        lab.provider.guest(node).run(["systemctl", "kill", "--signal=STOP", self._unit])

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Let its processes go on; start it, if somebody has stopped it meanwhile."""
        lab.provider.guest(node).run(
            f"systemctl kill --signal=CONT {self._unit} 2>/dev/null;"
            f" systemctl is-active --quiet {self._unit} && exit;"
            f" systemctl reset-failed {self._unit} 2>/dev/null; systemctl start {self._unit}",
            timeout=_SECONDS,
        )

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether a process of it is stopped."""
        stopped = lab.provider.guest(node).run(STOPPED_UNITS, timeout=15).stdout
        return f"{self._unit}.service" in stopped.split()
