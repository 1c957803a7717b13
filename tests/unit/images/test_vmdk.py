"""VMDKs: every byte of the disk is in them, zeros cost nothing.

tests/integration asks VirtualBox.
"""

import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import Cancelled
from labctl.images.vmdk import write_vmdk

GRAIN = 64 * 1024
UUID = "8f9d5e1c-0b1f-4a5e-9d7e-3f2a1b0c9d8e"


def vmdk(data: bytes, capacity: int) -> bytes:
    target = io.BytesIO()
    write_vmdk(io.BytesIO(data), target, capacity=capacity, uuid=UUID, name="d.vmdk")
    return target.getvalue()


def read(file: bytes) -> bytes:
    """The disk, found by the footer's directory as the specification says."""
    assert len(file) % 512 == 0
    footer = file[-1024:-512]
    assert footer[:4] == b"KDMV" == file[:4]
    sectors, grain = struct.unpack_from("<QQ", footer, 12)
    (directory,) = struct.unpack_from("<Q", footer, 56)
    disk = bytearray(sectors * 512)
    tables = -(-sectors // (grain * 512))
    for table in struct.unpack_from(f"<{tables}I", file, directory * 512):
        if not table:
            continue
        for place in struct.unpack_from("<512I", file, table * 512):
            if place:
                lba, size = struct.unpack_from("<QI", file, place * 512)
                data = zlib.decompress(file[place * 512 + 12 : place * 512 + 12 + size])
                assert len(data) == GRAIN
                disk[lba * 512 : lba * 512 + GRAIN] = data
    return bytes(disk)


@given(
    pieces=st.dictionaries(st.integers(0, 40), st.binary(min_size=1, max_size=50), max_size=5),
    tail=st.integers(0, GRAIN - 1),
)
def test_what_is_written_is_read_again(pieces: dict[int, bytes], tail: int) -> None:
    data = bytearray((max(pieces, default=0)) * GRAIN + tail)
    for grain, piece in pieces.items():
        data[grain * GRAIN : grain * GRAIN + len(piece)] = piece
    capacity = 64 * GRAIN
    assert read(vmdk(bytes(data), capacity)) == bytes(data).ljust(capacity, b"\0")


def test_more_than_one_table_and_a_hole_of_a_whole_one() -> None:
    noise = random.Random(1).randbytes(GRAIN + 17)
    data = noise + bytes(1100 * GRAIN - len(noise)) + noise
    file = vmdk(data, 1200 * GRAIN)
    assert read(file) == data.ljust(1200 * GRAIN, b"\0")
    assert len(file) < 6 * GRAIN, "zeros are not in the file"


def test_a_source_that_gives_a_little_at_a_time() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 1000))

    data = random.Random(2).randbytes(3 * GRAIN)
    target = io.BytesIO()
    write_vmdk(Slow(data), target, capacity=4 * GRAIN, uuid=UUID, name="d")
    assert read(target.getvalue()) == data.ljust(4 * GRAIN, b"\0")


def test_the_descriptor_names_the_disk_for_virtualbox() -> None:
    descriptor = vmdk(b"x", GRAIN)[512 : 512 * 21].rstrip(b"\0").decode()
    assert f'ddb.uuid.image = "{UUID}"' in descriptor
    assert 'RDONLY 128 SPARSE "d.vmdk"' in descriptor


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        vmdk(b"", GRAIN - 512)
    with pytest.raises(ValueError, match="more than"):
        vmdk(bytes(2 * GRAIN + 1), 2 * GRAIN)
    with pytest.raises(Cancelled):
        write_vmdk(io.BytesIO(b"x"), io.BytesIO(), capacity=GRAIN, uuid=UUID, name="d",
                   cancelled=lambda: True)  # fmt: skip
