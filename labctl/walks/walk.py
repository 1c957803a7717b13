"""What became of a packet that was sent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from labctl.walks.endpoints import Labels
from labctl.walks.explain import Loss, Traced
from labctl.walks.model import Answer, Direction, Point
from labctl.walks.model import Path as Way
from labctl.walks.plan import End, Protocol


@dataclass(frozen=True)
class Attempt:
    """One probe that was sent."""

    command: str
    """As a person would type it on the source."""
    output: str
    seconds: float
    outcome: str
    """Why there was another one after it, or what came of the last; for people."""


@dataclass(frozen=True)
class Walk:
    """One packet's way there and its answer's way back."""

    lab: str
    protocol: Protocol
    port: int | None
    source: End
    target: End
    began: float
    """Seconds since the epoch."""
    seconds: float
    attempts: tuple[Attempt, ...]
    way: tuple[Point, ...]
    """Where the request was expected to pass."""
    listened: tuple[Point, ...]
    request: Way
    reply: Way | None
    answer: Answer | None
    answered: bool
    """Whether an answer of the target came back to the source."""
    lost: Loss | None
    skews: Mapping[str, float]
    traced: Mapping[Direction, Traced]
    labels: Labels
    notes: tuple[str, ...]
    """What could not be had; for people."""
    pcaps: Mapping[str, str]
    """File of each kept capture, by "node interface"."""

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return asdict(self)
