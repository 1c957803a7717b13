"""What a fault is: an entry of the catalogue, and the mechanism that breaks and mends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from labctl.i18n import tr
from labctl.lab import Lab
from labctl.spec.model import Stack
from labctl.topology import Node, Topology

Place = Literal["controller", "gateway", "node"]
"""On which nodes a fault can be: the controller, one of the gateways, any node."""

Plan = Mapping[str, Any]
"""What takes a fault back: JSON, written to disk before anything is changed."""


class Mechanism:
    """Breaks one thing on one node, and mends it.

    A mechanism is a few lines; those that override nothing but `inject`, `undo` and `present` break
    something inside a running node that a boot of the node mends as well.
    """

    gone_at_boot = True
    """Whether nothing of the fault is left once the node was off."""
    on_host = False
    """Whether it is made outside the node, so that it can be mended while the node is down."""
    node_down = False
    """Whether the node does not run while the fault is there."""

    def refusal(self, lab: Lab, node: Node) -> str:
        """Why this lab cannot have the fault at all; "" if it can."""
        return ""

    def plan(self, lab: Lab, node: Node) -> Plan:
        """What `undo` has to know. Changes nothing.

        Raises LabError if there is nothing to break.
        """
        return {}

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Break it. Raises LabError."""
        raise NotImplementedError

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Mend it; also when it was broken in half, not at all, or mended by somebody meanwhile.

        Raises LabError.
        """
        raise NotImplementedError

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether it is broken now. Raises LabError when that cannot be found out."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fault:
    """An entry of the catalogue. Its texts are translated where they are shown."""

    id: str
    mechanism: Mechanism
    effect: str
    """What the fault does."""
    symptoms: str
    """What a learner sees."""
    remedy: str
    """How it is mended by hand; `labctl fault clear` does the same."""
    place: Place = "node"
    stack: Stack | None = None
    """The only stack that has it; None: every one."""
    exercise: bool = False
    """Whether `random` may choose it: `labctl check` tells it (docs/faults.md), hands mend it."""
    words: Mapping[str, str] = field(default_factory=dict)
    """For the placeholders of the texts."""

    def text(self, text: str) -> str:
        """One of its texts in the user's language."""
        return tr(text, **self.words)

    def nodes(self, topology: Topology) -> Sequence[Node]:
        """The nodes that can have it; the first is chosen where none is named."""
        if self.place == "controller":
            return [topology.controller]
        if self.place == "gateway":
            return topology.gateways
        # A node that only computes, if there is one: the rest of the lab goes on.
        return sorted(topology.nodes, key=lambda node: node is topology.controller)
