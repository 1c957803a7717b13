"""The result of a walk, as `labctl walk --json` has it and as it is stored for the report."""

from collections.abc import Mapping
from dataclasses import dataclass

from labctl.walks.arp import ArpQuestion
from labctl.walks.causes import Cause
from labctl.walks.endpoints import Labels
from labctl.walks.explain import Loss, Traced
from labctl.walks.model import Answer, Direction, PacketPath, Point
from labctl.walks.plan import Endpoint, Protocol


@dataclass(frozen=True)
class Attempt:
    """One packet that was sent, and its outcome."""

    command: str
    """As a person would type it on the source."""
    output: str
    seconds: float
    outcome: str
    """How it ended; for people."""


@dataclass(frozen=True)
class Walk:
    """The path of one packet, and that of its answer; `walk --json` prints its fields."""

    lab: str
    protocol: Protocol
    port: int | None
    source: Endpoint
    target: Endpoint
    began: float
    """Seconds since the epoch."""
    seconds: float
    attempts: tuple[Attempt, ...]
    way: tuple[Point, ...]
    """The points where the request was expected, in order."""
    listened: tuple[Point, ...]
    """All points where packets were captured."""
    request: PacketPath
    """Without hops if it did not leave its sender: then `arp` and `causes` say why."""
    reply: PacketPath | None
    answer: Answer | None
    answered: bool
    """Whether the target's answer came back to the source."""
    lost: Loss | None
    skews: Mapping[str, float]
    traced: Mapping[Direction, Traced]
    labels: Labels
    notes: tuple[str, ...]
    """What could not be read; for people."""
    pcaps: Mapping[str, str]
    """File of each kept capture, by "node interface"."""
    arp: tuple[ArpQuestion, ...] = ()
    """Who asked for which address meanwhile, and who answered."""
    causes: tuple[Cause, ...] = ()
    """What is not as it must be for this packet to pass."""
