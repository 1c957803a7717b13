"""What makes nodes exist. Callers ask `provider.features`, never for the provider's name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labctl.guest import Guest
from labctl.topology import Node


@dataclass(frozen=True)
class Features:
    """What a provider can do that another cannot."""

    needs_root: bool
    baked_image: bool
    """Nodes start from the cached image, with all packages in place."""
    simulated_internet: bool
    """The far side of eth0 can be played on this machine."""


class Provider(Protocol):
    """Makes, starts, stops and removes the nodes of one lab."""

    features: Features

    def prepare(self, progress: Callable[[str], None], cancel: Callable[[], bool]) -> None:
        """What all nodes share and nothing of it runs: the image."""
        ...

    def prepared(self) -> bool:
        """Whether `prepare` has nothing to do."""
        ...

    def create_network(self) -> None:
        """Private network, NAT networks, and what plays the Internet. Safe to run again."""
        ...

    def network_ready(self) -> bool:
        """Whether `create_network` has nothing to do."""
        ...

    def start(self, node: Node) -> None:
        """Boot a node (making it first, if it is new) and return when it has been started."""
        ...

    def running(self, node: Node) -> bool:
        """Whether the node's init runs."""
        ...

    def stop(self, node: Node, *, deadline: float) -> None:
        """Shut a node down; after `deadline` seconds its power is cut."""
        ...

    def guest(self, node: Node) -> Guest:
        """The handle on a node."""
        ...

    def ssh_argv(self, node: Node) -> list[str]:
        """argv that opens an interactive SSH session; a remote command may be appended."""
        ...

    def image_file(self, path: str) -> Path | None:
        """A file of the baked image on the host, if it can be read without a node."""
        ...

    def destroy(self, progress: Callable[[str], None]) -> None:
        """Remove all nodes and networks, whatever state they are in."""
        ...

    def leftovers(self) -> list[str]:
        """What of this lab still exists outside its directory; empty after `destroy`."""
        ...
