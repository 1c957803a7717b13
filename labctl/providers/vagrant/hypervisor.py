"""What VirtualBox and libvirt do each in its own way; all the rest is Vagrant's (vagrant.py)."""

from pathlib import Path
from typing import Protocol

from labctl.providers.provider import Features
from labctl.topology import Node, Topology

EMULATION_SLOWDOWN = 10
"""Emulated processors are some ten times slower (measured: 10-16 times, Python's imports 3-7)."""


class Hypervisor(Protocol):
    """What a provider of Vagrant needs from its surroundings."""

    name: str
    """As Vagrant calls it."""
    features: Features
    boots_together: bool
    """`vagrant up` boots several machines at once."""

    @property
    def timeout_factor(self) -> int:
        """How many times longer things may take than in a container."""
        ...

    def resolver(self, topology: Topology) -> str:
        """Address of the DNS server on eth0."""
        ...

    def environment(self) -> dict[str, str]:
        """What the Vagrantfile asks of the host: environment variables."""
        ...

    def network_ready(self, topology: Topology) -> bool:
        """Whether `create_network` has nothing to do."""
        ...

    def create_network(self, topology: Topology) -> None:
        """Networks that Vagrant expects to find."""
        ...

    def destroy_network(self, topology: Topology) -> None:
        """Remove what `create_network` made."""
        ...

    def power_off(self, topology: Topology, node: Node) -> bool:
        """Cut a running machine's power; False if that is to be left to Vagrant."""
        ...

    def address(self, node: Node, host: str, port: int) -> tuple[str, int]:
        """Where the node's SSH server is; `host` and `port` are what `vagrant ssh-config` says."""
        ...

    def clean_up(self, topology: Topology, node: Node) -> None:
        """Remove what a killed Vagrant left of a machine that does not exist."""
        ...

    def leftovers(self, topology: Topology) -> list[str]:
        """Machines and networks of the lab that are still there, as a person would read them."""
        ...

    def cached(self, home: Path, box: str) -> list[str]:
        """What Vagrant keeps of the box for the next lab; `home` is Vagrant's."""
        ...

    def purge(self, home: Path, box: str) -> None:
        """Remove that."""
        ...
