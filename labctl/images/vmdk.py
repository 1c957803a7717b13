"""Disk images for VirtualBox: streamOptimized VMDK, written in plain Python on any host.

The format is VMware's: "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and
"Stream-Optimized Compressed Sparse Extents". The file is a header, a descriptor (text), the grains
of 64 KiB, each compressed and with its address before it, and after each 512 grains a table of
where they are; at the end a directory of the tables and the header once more, as a footer that
knows where the directory is. A grain of zeros is left out.

VirtualBox wants one thing that the specification does not know: the disk's UUID in the descriptor,
`ddb.uuid.image`. Without it `VBoxManage import` fails with VERR_VD_VMDK_INVALID_STATE.
"""

import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from labctl.errors import Cancelled

_SECTOR = 512
_GRAIN = 128
"""Sectors; streamOptimized has no other."""
_TABLE = 512
"""Entries of a grain table; the format has no other."""
_DESCRIPTOR = 20
"""Sectors for the descriptor, right after the header."""
_OVERHEAD = 128
"""Sectors before the first grain."""
_AT_END = 0xFFFFFFFFFFFFFFFF
"""In the header, as the directory's place: look into the footer."""
_END_OF_STREAM, _GRAIN_TABLE, _GRAIN_DIRECTORY, _FOOTER = range(4)
"""Types of a marker."""
_LEVEL = 1
"""Of zlib: a third of the time of 6. The file lives only until Vagrant has imported it."""


class Readable(Protocol):
    """A file opened for reading."""

    def read(self, size: int = -1, /) -> bytes: ...


def write_vmdk(
    source: Readable,
    target: BinaryIO,
    *,
    capacity: int,
    uuid: str,
    name: str,
    progress: Callable[[int], None] = lambda done: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Write what `source` holds (a raw disk, read once from its beginning) as a VMDK.

    `capacity` is the size of the virtual disk in bytes, a multiple of 64 KiB and not less than what
    `source` holds; what comes after that reads as zeros. `name` is the file's name, for its
    descriptor. `progress` is told how many bytes of the source were read. Raises ValueError when
    the capacity does not fit, OSError, Cancelled.
    """
    size = _GRAIN * _SECTOR
    if capacity <= 0 or capacity % size:
        raise ValueError(f"{capacity} is no multiple of {size}")
    grains = capacity // size
    tables = -(-grains // _TABLE)
    directory = [0] * tables
    target.write(_header(capacity // _SECTOR, _AT_END))
    descriptor = _describe(capacity // _SECTOR, uuid, name)
    target.write(descriptor.ljust((_OVERHEAD - 1) * _SECTOR, b"\0"))
    at = _OVERHEAD * _SECTOR
    zeros = bytes(size)
    ended = False
    for number in range(tables):
        table = [0] * _TABLE
        for entry in range(min(_TABLE, grains - number * _TABLE)):
            if ended:
                break
            if cancelled():
                raise Cancelled("vmdk")
            data = _read(source, size)
            ended = len(data) < size
            if not data.strip(b"\0"):
                continue
            grain = number * _TABLE + entry
            packed = zlib.compress(data if not ended else data + zeros[len(data) :], _LEVEL)
            block = _padded(struct.pack("<QI", grain * _GRAIN, len(packed)) + packed)
            table[entry] = at // _SECTOR
            target.write(block)
            at += len(block)
            progress(grain * size + len(data))
        if any(table):
            entries = struct.pack(f"<{_TABLE}I", *table)
            directory[number] = at // _SECTOR + 1  # after its marker
            at += target.write(_marker(len(entries) // _SECTOR, _GRAIN_TABLE) + entries)
    if not ended and source.read(1):
        raise ValueError(f"there is more than {capacity} bytes")
    packed_directory = _padded(struct.pack(f"<{tables}I", *directory))
    at += target.write(_marker(len(packed_directory) // _SECTOR, _GRAIN_DIRECTORY))
    place = at // _SECTOR
    target.write(packed_directory)
    target.write(_marker(1, _FOOTER) + _header(capacity // _SECTOR, place))
    target.write(_marker(0, _END_OF_STREAM))


def _read(source: Readable, size: int) -> bytes:
    """`size` bytes, or what is left: a stream may give fewer at a time."""
    data = source.read(size)
    while data and len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // _SECTOR) * _SECTOR, b"\0")


def _header(sectors: int, directory: int) -> bytes:
    """SparseExtentHeader: magic, version 3, flags, and where everything is, in sectors."""
    # Flags: newline detection is valid; grains are compressed; there are markers.
    fields = struct.pack(
        "<4sIIQQQQIQQQB4sH", b"KDMV", 3, 0x30001, sectors, _GRAIN, 1, _DESCRIPTOR, _TABLE,
        0, directory, _OVERHEAD, 0, b"\n \r\n", 1,
    )  # fmt: skip
    return _padded(fields)


def _marker(sectors: int, kind: int) -> bytes:
    return _padded(struct.pack("<QII", sectors, 0, kind))


def _describe(sectors: int, uuid: str, name: str) -> bytes:
    heads, per_track = 16, 63  # an IDE disk's, which systems since 1995 ignore
    cylinders = max(1, min(16383, sectors // (heads * per_track)))
    text = f"""\
# Disk DescriptorFile
version=1
CID={zlib.crc32(uuid.encode()):08x}
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY {sectors} SPARSE "{name}"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "{per_track}"
ddb.uuid.image = "{uuid}"
ddb.comment = ""
"""
    encoded = text.encode()
    if len(encoded) > _DESCRIPTOR * _SECTOR:
        raise ValueError(name)
    return encoded
