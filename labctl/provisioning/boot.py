"""Shutting nodes down, as steps."""

from collections.abc import Iterable

from labctl.engine.steps import Step
from labctl.i18n import tr
from labctl.providers import Provider
from labctl.topology import Node

HALT_SECONDS = 30
"""How long a node may take to shut down before its power is cut."""


def halt_steps(
    provider: Provider,
    nodes: Iterable[Node],
    needs: tuple[str, ...] = (),
    *,
    deadline: float = HALT_SECONDS,
) -> list[Step]:
    """Steps that shut the nodes down, each within `deadline` seconds or by cutting its power."""
    return [
        Step(
            f"halt:{node.name}",
            tr("shut down"),
            lambda context, node=node: provider.stop(node, deadline=deadline),  # type: ignore[misc]
            needs,
            done=lambda node=node: not provider.running(node),  # type: ignore[misc]
            node=node.name,
        )
        for node in nodes
    ]
