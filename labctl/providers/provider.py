"""What every provider does. Callers look at `provider.features`, never at the provider's name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from labctl.access.guest import Guest
from labctl.topology import Machine

Progress = Callable[[str], None]
"""Is told in a few words what is being done now."""
Cancel = Callable[[], bool]
"""Answers whether to stop as soon as possible."""


@dataclass(frozen=True)
class Features:
    """In what providers differ, for those that use them."""

    needs_root: bool
    shared_nat: bool
    """All eth0 are on one NAT network, so their addresses differ. Otherwise each eth0 has a NAT
    network of its own, and all may have the same address."""
    own_clock: bool
    """Nodes have clocks of their own, which are late after a node was suspended."""
    image: str
    """Title of the step that gets what nodes are made from."""
    network: str
    """Title of the step that makes the networks, before the nodes boot."""
    machines: bool = False
    """Nodes are virtual machines: memory, processors and cards are their own."""
    forks: bool = False
    """`stage` unpacks a node's files to `NodeFiles.staged`, those of another lab's snapshot too: so
    a second lab can be made of them."""
    live_snapshots: bool = False
    """The files of running nodes can be saved, all as of the same moment. Otherwise the nodes must
    be down."""


@dataclass(frozen=True)
class HostEnd:
    """The host's end of a node's cable."""

    namespace: str
    """Of this machine."""
    device: str
    mac: str = ""
    """"" if it is not known."""


class NodeSnapshots(Protocol):
    """Saves and restores the files of single nodes.

    `name` is the snapshot's name, `directory` its directory on this machine. The order of a restore
    is `stage`, `restore` for each node, `clean_up` for each node.
    """

    def frozen(self) -> AbstractContextManager[None]:
        """Stop all processes of all nodes while the body runs, so that their files match in time.

        The processes go on afterwards, even if labctl is killed. Nodes that are down stay as they
        are. Only where `features.live_snapshots` is true.
        """
        ...

    def save(self, node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        """Save a node's files. The node is down or frozen.

        Returns what `trouble` later compares, to find out whether they were altered.
        """
        ...

    def trouble(self, node: Machine, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        """Why the saved files of a node cannot be restored; "" if they can. Changes nothing.

        `proof` is what `save` returned.
        """
        ...

    def stage(self, node: Machine, name: str, directory: Path) -> None:
        """Do the part of a restore that can be done while the node runs."""
        ...

    def unstage(self, node: Machine) -> None:
        """Undo `stage`."""
        ...

    def restore(self, node: Machine, name: str) -> None:
        """Restore a node's files, after `stage`. The node is down. Safe to run again."""
        ...

    def clean_up(self, node: Machine) -> None:
        """Delete the files the node had before. Called after all nodes are restored."""
        ...

    def delete(self, node: Machine, name: str) -> None:
        """Delete what was saved of a node outside the snapshot's directory, if anything was."""
        ...


class Provider(Protocol):
    """Makes, starts, stops and removes the nodes of one lab."""

    features: Features

    @property
    def timeout_factor(self) -> int:
        """How many times as long as in a container things may take: emulated machines are slow."""
        ...

    @property
    def resolver(self) -> str:
        """Address of the DNS server on eth0 that nodes use; "" if they are told in another way."""
        ...

    def prepare(self, progress: Progress, cancel: Cancel) -> None:
        """Get what nodes are made from, such as the image. Starts nothing."""
        ...

    def prepared(self) -> bool:
        """Whether `prepare` has nothing to do."""
        ...

    def create_network(self) -> None:
        """Make the private network and the NAT networks with the simulated Internet, if any.

        Safe to run again.
        """
        ...

    def network_ready(self) -> bool:
        """Whether `create_network` has nothing to do."""
        ...

    def start(self, node: Machine, progress: Progress, cancel: Cancel) -> None:
        """Make a node if it is new, and boot it; returns before it has finished booting.

        As soon as its SSH server answers, root can log in with the lab's key.
        """
        ...

    def running(self, node: Machine) -> bool: ...

    def stopped(self, node: Machine) -> bool:
        """Whether `stop` has nothing to do. A node that ended by itself may not be stopped yet."""
        ...

    def stop(self, node: Machine, *, deadline: float) -> None:
        """Shut a node down; if it still runs after `deadline` seconds, power it off by force."""
        ...

    def guest(self, node: Machine) -> Guest:
        """The handle on a node."""
        ...

    def ssh_argv(self, node: Machine) -> list[str]:
        """argv that opens an interactive SSH session; a remote command may be appended.

        The last word is the destination: options of ssh(1) may be put before it.
        """
        ...

    def host_end(self, node: Machine, card: str = "eth0") -> HostEnd | None:
        """The host's end of a node's cable; None if labctl cannot reach it."""
        ...

    def image_file(self, path: str) -> Path | None:
        """A file of the baked image on the host; None if only the node can read it."""
        ...

    @property
    def snapshots(self) -> NodeSnapshots:
        """What saves and restores the files of nodes."""
        ...

    def destroy(self, progress: Progress) -> None:
        """Remove all nodes and networks, whatever state they are in."""
        ...

    def leftovers(self) -> list[str]:
        """What of this lab still exists outside its directory, in words; [] after `destroy`."""
        ...

    def cached(self) -> list[str]:
        """What stays on this machine for the next lab, in words: what `purge` would remove."""
        ...

    def purge(self, progress: Progress) -> None:
        """Remove what is cached. Raises LabError while another lab uses it."""
        ...
