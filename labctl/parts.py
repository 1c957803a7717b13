"""What a lab is made of, for those who work on it and do not decide what is done: see `Lab`."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labctl.access.guest import Guest
from labctl.providers import Provider
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection


class LabParts(Protocol):
    """The parts of one lab."""

    @property
    def file(self) -> Path:
        """The lab.yaml."""
        ...

    @property
    def cache(self) -> Path:
        """What all labs of this machine share."""
        ...

    @property
    def topology(self) -> Topology:
        """What lab.yaml describes."""
        ...

    @property
    def provider(self) -> Provider:
        """What makes the nodes."""
        ...

    @property
    def controller(self) -> Guest:
        """The handle on the controller."""
        ...

    def guest(self, name: str) -> Guest:
        """The handle on a node."""
        ...

    def cloud(self) -> "Connection":
        """openstacksdk as admin, one for each thread."""
        ...
