"""What a Vagrant box looks like for one provider."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DISK_GIB = 20
"""Size of the virtual disk; the file of it is only as large as its content."""


@dataclass(frozen=True)
class BoxFormat:
    """A provider's box; its Vagrantfile is provision/image/box/files/Vagrantfile.PROVIDER."""

    provider: str
    """The provider's name in Vagrant."""
    kind: str
    """Format of the disk: an argument of provision/image/box/disk.sh."""
    disk: str
    """File name of the disk in the box."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Additional entries of metadata.json."""
    templates: tuple[str, ...] = ()
    """Additional files, made from templates in provision/image/box/files."""
