"""Read-only looks at the lab: a name, a few arguments, and rows as the answer.

A probe never changes anything, and takes another route than the command whose effect it looks at:
openstacksdk, OVN's databases, captured packets. Lessons name probes; `PROBES` finds them.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.access.packets import Frame


class Answers:
    """What was asked within one look at the lab: each question once, also by several at a time."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._lock = threading.Lock()
        self._asked: dict[Hashable, Future[Any]] = {}

    def once(self, question: Hashable, ask: Callable[[], Any]) -> Any:
        """The answer. Who asks what is being asked already waits for it.

        Raises what `ask` raises; then the next one asks anew.
        """
        with self._lock:
            answer = self._asked.get(question)
            mine = answer is None
            if answer is None:
                answer = self._asked[question] = Future()
        if mine:
            try:
                answer.set_result(ask())
            except BaseException as error:
                with self._lock:
                    if self._asked.get(question) is answer:
                        del self._asked[question]
                answer.set_exception(error)
        return answer.result()

    def forget(self) -> None:
        """Everything is asked anew."""
        with self._lock:
            self._asked.clear()


def _each_time(_: Hashable, ask: Callable[[], Any]) -> Any:
    return ask()


@dataclass
class Sight:
    """What probes look at."""

    topology: Topology
    cloud: "Callable[[], Connection]"
    guest: Callable[[str], Guest]
    """By the name of a node, or by `controller`, `gateway`, `hypervisor`."""
    frames: "Sequence[Frame]" = field(default_factory=tuple)
    """What the captures of the checkpoint saw."""
    once: Callable[[Hashable, Callable[[], Any]], Any] = _each_time
    """Asks what several probes need, within one look only once: see Answers.once."""


Probe = Callable[[Sight, Mapping[str, str]], Rows]
