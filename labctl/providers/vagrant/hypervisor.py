"""In what VirtualBox and libvirt differ; provider.py does the rest, through Vagrant."""

from pathlib import Path
from typing import Protocol

from labctl.providers.provider import Features
from labctl.topology import Machine, Topology

EMULATION_SLOWDOWN = 10
"""Emulated processors are some ten times slower (measured: 10-16 times, Python's imports 3-7)."""


class Hypervisor(Protocol):
    """One hypervisor, as the Vagrant provider uses it."""

    name: str
    """Vagrant's name for it."""
    features: Features
    boots_together: bool
    """One `vagrant up` boots several machines at the same time."""

    @property
    def emulated(self) -> bool:
        """Whether the machines' processors are emulated."""
        ...

    @property
    def timeout_factor(self) -> int:
        """How many times longer things may take than in a container."""
        ...

    def resolver(self, topology: Topology) -> str:
        """Address of the DNS server on eth0."""
        ...

    def environment(self) -> dict[str, str]:
        """Environment variables that the Vagrantfile reads."""
        ...

    def require_answer(self) -> None:
        """Raise LabError if the hypervisor does not answer: Vagrant would wait for it for ever."""
        ...

    def network_ready(self, topology: Topology) -> bool:
        """Whether `create_network` has nothing to do."""
        ...

    def create_network(self, topology: Topology) -> None:
        """Make the networks that Vagrant does not make itself."""
        ...

    def destroy_network(self, topology: Topology) -> None:
        """Remove what `create_network` made."""
        ...

    def power_off(self, topology: Topology, node: Machine) -> bool:
        """Power a running machine off by force; False (nothing done) if Vagrant must do it."""
        ...

    def address(self, node: Machine, host: str, port: int) -> tuple[str, int]:
        """Host and port of the node's SSH server, from those that `vagrant ssh-config` gives."""
        ...

    def clean_up(self, topology: Topology, node: Machine) -> None:
        """Remove what a killed Vagrant has left of a machine that does not exist."""
        ...

    def unknown(self) -> str:
        """Why the hypervisor cannot tell which machines it has; "" if it can, or asks elsewhere."""
        ...

    def leftovers(self, topology: Topology) -> list[str]:
        """Machines, networks and disks of the lab that still exist, in words for the user."""
        ...

    def cached(self, home: Path, box: str) -> list[str]:
        """What is kept of the box for the next lab, in words; `home` is Vagrant's directory."""
        ...

    def purge(self, home: Path, box: str) -> None:
        """Remove what is cached. Raises LabError while another lab uses it."""
        ...
