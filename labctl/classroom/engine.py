"""What a class asks of an engine: a few verbs, and machines found again by their labels.

The engine knows where a machine fits, which quota there is and what a network is; labctl only says
how many machines it wants. An engine keeps nothing on the teacher's laptop: whatever it makes
carries the name of the class, and is found by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from labctl.i18n import mark

State = Literal["building", "running", "stopped", "failed", "absent"]
STATES: Mapping[State, str] = {
    "building": mark("being built"),
    "running": mark("runs"),
    "stopped": mark("does not run"),
    "failed": mark("failed"),
    "absent": mark("there is none"),
}
"""{state: what people read}."""


@dataclass(frozen=True)
class Machine:
    """A learner's machine as the engine tells of it."""

    id: str
    learner: str
    state: State
    address: str = ""
    """Where SSH is answered; empty while it has none."""
    reason: str = ""
    """Why it failed or does not answer, in the engine's words."""
    port: int = 22
    """Of its SSH server."""
    user: str = ""
    """Who logs in there; empty: the class's user."""
    ends: datetime | None = None
    """When the class ends, by the machine's label; None: the label says nothing of it."""


class Engine(Protocol):
    """The machines of one class. Every verb may raise LabError."""

    @property
    def calls(self) -> int:
        """Requests that were sent to the engine's API."""

    def require_room(self, machines: int) -> None:
        """Raises LabError with figures if so many machines more exceed a quota."""

    def image(self) -> None:
        """Have the image that machines boot from: find it, or upload it."""

    def prepare(self, public_key: str) -> None:
        """Have what the machines share: network, rules of who may reach them, the teacher's key.

        `public_key` is a line of authorized_keys. What is there already is used.
        """

    def machines(self) -> list[Machine]:
        """All machines of the class, found by their labels: the calls do not grow with them."""

    def launch(self, learner: str, authorized: str, ends: datetime | None) -> None:
        """Order a learner's machine; `authorized` is the line of authorized_keys that lets the
        learner in, `ends` goes into the label."""

    def extend(self, machine: Machine, ends: datetime) -> None:
        """Put another end of the class into a machine's label."""

    def address(self, machine: Machine) -> str:
        """Have an address at which the machine is reached; a learner keeps theirs over a reset."""

    def console_log(self, machine: Machine) -> str:
        """The end of what its console printed."""

    def delete(self, machine: Machine) -> None:
        """Order the end of a machine; one that is gone is no error."""

    def clear(self) -> int:
        """Remove everything else that carries the label of the class; how much that was.

        No machine may be left.
        """
