"""What makes nodes exist. Callers ask `provider.features`, never for the provider's name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labctl.access.guest import Guest
from labctl.topology import Node

Progress = Callable[[str], None]
"""Says in a few words what is going on now."""
Cancel = Callable[[], bool]
"""Whether to stop as soon as possible."""


@dataclass(frozen=True)
class Features:
    """What a provider can do that another cannot."""

    needs_root: bool
    shared_nat: bool
    """All eth0 are on one network, so their addresses differ; else each has a NAT of its own."""
    own_clock: bool
    """Nodes have clocks of their own, which go wrong while they stand still."""
    image: str
    """What nodes are made from, as the title of a step."""
    network: str
    """What they share before they boot, as the title of a step."""
    live_snapshots: bool = False
    """The files of nodes that run can be kept, all at one moment; else the nodes must be down."""


@dataclass(frozen=True)
class HostEnd:
    """The other end of a node's eth0."""

    namespace: str
    device: str
    mac: str = ""


class NodeSnapshots(Protocol):
    """Keeps the files of single nodes; `directory` is where the snapshot is on this machine."""

    def frozen(self) -> AbstractContextManager[None]:
        """All nodes stand still inside it, whatever becomes of us: their files are of one moment.

        Does nothing to nodes that are down. Only where `features.live_snapshots` is true.
        """
        ...

    def save(self, node: Node, name: str, directory: Path) -> Mapping[str, Any]:
        """Keep a node's files under that name; what proves them. The node is down, or still."""
        ...

    def trouble(self, node: Node, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """ "", or why what was kept of a node cannot be put back. Changes nothing."""
        ...

    def stage(self, node: Node, name: str, directory: Path) -> None:
        """Do of `restore` what can be done while the node runs."""
        ...

    def unstage(self, node: Node) -> None:
        """Take back what `stage` did."""
        ...

    def restore(self, node: Node, name: str) -> None:
        """Put a node's files back, after `stage`. The node is down. Safe to run again."""
        ...

    def clean_up(self, node: Node) -> None:
        """Let go of what the node had before; all nodes are restored."""
        ...

    def delete(self, node: Node, name: str) -> None:
        """Delete what was kept of a node outside the snapshot's directory, if anything is."""
        ...


class Provider(Protocol):
    """Makes, starts, stops and removes the nodes of one lab."""

    features: Features

    @property
    def timeout_factor(self) -> int:
        """How many times longer things may take than in a container: emulated VMs are slow."""
        ...

    @property
    def resolver(self) -> str:
        """Address of the DNS server on eth0 for nodes to use; "": they know already."""
        ...

    def prepare(self, progress: Progress, cancel: Cancel) -> None:
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

    def start(self, node: Node, progress: Progress, cancel: Cancel) -> None:
        """Boot a node (making it first, if it is new) and return when it has been started.

        Root can log in with the lab's key as soon as its SSH server answers.
        """
        ...

    def running(self, node: Node) -> bool:
        """Whether the node runs."""
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

    def host_end(self, node: Node) -> HostEnd | None:
        """The other end of the node's eth0, if it is on this machine and can be listened to."""
        ...

    def image_file(self, path: str) -> Path | None:
        """A file of the baked image on the host, if it can be read without a node."""
        ...

    @property
    def snapshots(self) -> NodeSnapshots:
        """What keeps the files of nodes and puts them back."""
        ...

    def destroy(self, progress: Progress) -> None:
        """Remove all nodes and networks, whatever state they are in."""
        ...

    def leftovers(self) -> list[str]:
        """What of this lab still exists outside its directory; empty after `destroy`."""
        ...

    def cached(self) -> list[str]:
        """What outlives a lab on purpose, for the next one: what `purge` would remove."""
        ...

    def purge(self, progress: Progress) -> None:
        """Remove that as well. Raises LabError while another lab uses it."""
        ...
