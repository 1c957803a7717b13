"""Read-only looks at the lab: a name, a few arguments, and rows as the answer.

A probe never changes anything, and takes another route than the command whose effect it looks at:
openstacksdk, OVN's databases, captured packets. Lessons name probes; `PROBES` finds them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labctl.guest import Guest
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.packets import Frame

Rows = list[dict[str, Any]]


@dataclass
class Sight:
    """What probes look at."""

    topology: Topology
    cloud: "Callable[[], Connection]"
    guest: Callable[[str], Guest]
    """By the name of a node, or by `controller`, `gateway`, `hypervisor`."""
    frames: "Sequence[Frame]" = field(default_factory=tuple)
    """What the captures of the checkpoint saw."""


Probe = Callable[[Sight, Mapping[str, str]], Rows]
