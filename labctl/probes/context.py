"""What a probe gets to read the lab with, and a cache for what several probes read."""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labctl.access.guest import Guest
from labctl.access.ovsdb import Rows, Tool, list_command, parse_table
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.access.capture import Window
    from labctl.access.neighbors import NeighborMessage
    from labctl.access.packets import ArpMessage, Frame


class ReadCache:
    """Answers of one round of probes: each question is asked once, even by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, Future[Any]] = {}

    def get_or_ask(self, question: Hashable, ask: Callable[[], Any]) -> Any:
        """The cached answer, or that of `ask()`.

        While one thread asks, others with the same question wait for its answer. What `ask` raises
        is raised here in all of them and is not cached: the next caller asks again.
        """
        with self._lock:
            answer = self._answers.get(question)
            is_first = answer is None
            if answer is None:
                answer = self._answers[question] = Future()
        if is_first:
            try:
                answer.set_result(ask())
            except BaseException as error:
                with self._lock:
                    if self._answers.get(question) is answer:
                        del self._answers[question]
                answer.set_exception(error)
        return answer.result()

    def forget(self) -> None:
        """Empty the cache: every question is asked again."""
        with self._lock:
            self._answers.clear()


def _ask_each_time(_: Hashable, ask: Callable[[], Any]) -> Any:
    return ask()


@dataclass
class ProbeContext:
    """What probes read the lab with."""

    topology: Topology
    cloud: "Callable[[], Connection]"
    guest: Callable[[str], Guest]
    """By the name of a node, or by `controller`, `gateway`, `hypervisor`."""
    frames: "Sequence[Frame]" = field(default_factory=tuple)
    """What the captures of the checkpoint saw."""
    arp: "Sequence[ArpMessage]" = field(default_factory=tuple)
    """The ARP messages among it."""
    neighbors: "Sequence[NeighborMessage]" = field(default_factory=tuple)
    """The messages of IPv6's neighbor discovery among it."""
    windows: "Mapping[tuple[str, str], Window]" = field(default_factory=dict)
    """When the captures surely listened, by node and interface; empty: not known."""
    commands: Rows = field(default_factory=list)
    """What the checkpoint ran meanwhile, as the probe run.commands shows it."""
    get_or_ask: Callable[[Hashable, Callable[[], Any]], Any] = _ask_each_time
    """For what several probes need: see ReadCache.get_or_ask. By default nothing is cached."""

    def table(self, tool: Tool, table: str, columns: str, node: str = "controller") -> Rows:
        """The rows of a table of a database on a node: see `list_command`."""
        command = list_command(tool, table, columns)
        return parse_table(self.guest(node).run(command, timeout=15).stdout)


Probe = Callable[[ProbeContext, Mapping[str, str]], Rows]
"""A probe gets the context and the arguments that a lesson wrote under `with:`."""


def entering(arguments: Mapping[str, str]) -> list[str]:
    """The command that runs another one in the namespace that a lesson names, if it names one."""
    return ["ip", "netns", "exec", arguments["namespace"]] if "namespace" in arguments else []
