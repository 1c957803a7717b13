"""A Vagrant box as a file: its name and version, what is in it, and the catalogue beside it."""

import hashlib
import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO, Any, BinaryIO

from labctl.errors import Cancelled, cannot_write
from labctl.i18n import tr
from labctl.images.box_format import DISK_GIB, BoxFormat
from labctl.operating_system.architecture import ARCHITECTURES
from labctl.spec.fields import OWN_BOX

CATALOGUE = "labctl-lab.json"
"""The file, in the directory of the boxes, that tells Vagrant their versions and checksums."""


@dataclass(frozen=True)
class BuiltBox:
    """A finished box."""

    provider: str
    file: Path
    size: int
    """Bytes."""
    sha256: str
    architecture: str


def text_files(
    format: BoxFormat,
    source: Path,
    *,
    version: str,
    key: str,
    disk_size: int,
    architecture: str,
    disk_uuid: str = "",
) -> dict[str, str]:
    """{name: text} of all that is in a box besides its disk.

    `source` is provision/image/box/files, `key` the hash of the recipe, `disk_size` the size of the
    disk's file in bytes, `disk_uuid` that of the disk itself (default: made from the key).
    """
    hardware = ARCHITECTURES[architecture]
    metadata: dict[str, Any] = {
        "provider": format.provider, "architecture": architecture,
        "labctl": {"version": version, "recipe": key},
        **format.metadata,
    }  # fmt: skip
    names = {
        "version": version,
        "mac": f"080027{key[:6].upper()}",
        "capacity": str(DISK_GIB * 2**30),
        "disk_size": str(disk_size),
        "disk_uuid": disk_uuid or str(uuid.uuid5(uuid.UUID(root_uuid(key)), "virtualbox")),
        "os_type": hardware.os_type,
        "controller": hardware.disk_controller,
    }  # fmt: skip
    names["machine_uuid"] = str(uuid.uuid5(uuid.UUID(names["disk_uuid"]), "machine"))

    def fill(name: str) -> str:
        return Template((source / name).read_text(encoding="utf-8")).substitute(names)

    # By the standard's part of an OVF VirtualBox 7.2 sets up a PC, and fails for Arm with
    # VBOX_E_PLATFORM_ARCH_NOT_SUPPORTED. It imports such a machine by its own part.
    own_part = f"machine.{architecture}.xml"
    names["machine"] = fill(own_part) if (source / own_part).is_file() else ""
    files = {"metadata.json": json.dumps(metadata, indent=1) + "\n",
             "Vagrantfile": fill(f"Vagrantfile.{format.provider}")}  # fmt: skip
    return files | {name: fill(name) for name in format.templates}


def version_of(key: str, now: time.struct_time) -> str:
    """The version of a box: 20261123.704.9831204 was made on 23 November 2026, 7:04 UTC.

    The last number is made from the recipe's hash: equal recipes have equal numbers.
    """
    minutes = now.tm_hour * 100 + now.tm_min
    return f"{now.tm_year}{now.tm_mon:02}{now.tm_mday:02}.{minutes}.{int(key[:6], 16)}"


def root_uuid(key: str) -> str:
    """The UUID of the root file system, made from the recipe's hash: builds are repeatable."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"labctl-box-{key}"))


def box_name(version: str, provider: str, architecture: str) -> str:
    """The file name of a box."""
    return f"labctl-lab-{version}-{provider}-{architecture}.box"


def other_versions(file: Path, architecture: str) -> list[dict[str, Any]]:
    """What a catalogue says of boxes for other architectures that are beside it."""
    try:
        versions = json.loads(file.read_text(encoding="utf-8"))["versions"]
        return [
            version
            for version in versions
            if all(
                entry["architecture"] != architecture and (file.parent / entry["url"]).is_file()
                for entry in version["providers"]
            )
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def catalogue(
    version: str, boxes: Sequence[BuiltBox], others: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The content of the catalogue; `others` are versions that are in it, too.

    The URLs are file names: without a scheme Vagrant looks for a file in its current directory.
    """
    return {
        "name": OWN_BOX,
        "description": "Debian 13 with OpenStack, OVN and the tools of labctl's lessons",
        "versions": [
            {
                "version": version,
                "providers": [
                    {
                        "name": box.provider, "url": box.file.name,
                        "checksum": box.sha256, "checksum_type": "sha256",
                        "architecture": box.architecture, "default_architecture": True,
                    }
                    for box in boxes
                ],
            },
            *others,
        ],
    }  # fmt: skip


def pack(
    stream: BinaryIO,
    target: Path,
    files: Mapping[str, str],
    disks: Sequence[Path],
    cancelled: Callable[[], bool],
) -> None:
    """Write a box: an uncompressed tar, for the disks in it are compressed already.

    It goes to `stream`; `target` is for messages. The same files give the same bytes. Raises
    LabError, Cancelled.
    """
    try:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, text in files.items():
                data = text.encode()
                archive.addfile(_member(name, len(data)), io.BytesIO(data))
            for disk in disks:
                with disk.open("rb") as content:
                    archive.addfile(
                        _member(disk.name, disk.stat().st_size), _Interruptible(content, cancelled)
                    )
    except OSError as error:
        hint = tr("free some disk space, or choose another directory with --output")
        raise cannot_write(target, error, hint=hint) from error


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


class _Interruptible:
    """A file whose `read` raises Cancelled once the work was cancelled."""

    def __init__(self, file: IO[bytes], cancelled: Callable[[], bool]) -> None:
        self._file, self._cancelled = file, cancelled

    def read(self, size: int = -1) -> bytes:
        if self._cancelled():
            raise Cancelled("box")
        return self._file.read(size)


def sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
