"""What a Vagrant box looks like for one provider."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DISK_GIB = 20
"""What the machine sees; the file holds only what is used."""


@dataclass(frozen=True)
class BoxFormat:
    """A provider's box; its Vagrantfile is provision/image/box/files/Vagrantfile.PROVIDER."""

    provider: str
    """As Vagrant calls it."""
    kind: str
    """Of the disk, as provision/image/box/disk.sh calls it."""
    disk: str
    """Name of the disk in the box."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """More of metadata.json."""
    templates: tuple[str, ...] = ()
    """More files of provision/image/box/files."""
