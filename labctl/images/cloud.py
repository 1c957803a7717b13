"""Debian's official cloud image: where it is, whether it is whole, and the disk in it.

https://cloud.debian.org/images/cloud/: `generic` is the one with Debian's usual kernel, which has
the drivers of VirtualBox's boards; that of `genericcloud` has not. The `.tar.xz` holds the disk as
`disk.raw`, which Python unpacks on every host; the checksums of a directory are in SHA512SUMS.
"""

import hashlib
import platform
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.errors import Cancelled, LabError
from labctl.i18n import tr, tr_list
from labctl.images.download import download
from labctl.images.vmdk import Readable
from labctl.operating_system.architecture import ARCHITECTURES, architecture_of

SITE = "https://cloud.debian.org/images/cloud/trixie/latest"
SUMS = "SHA512SUMS"
_BLOCK = 1 << 20


def architecture(machine: str | None = None) -> str:
    """Debian's name for this host's architecture; `machine` stands in for what the host says.

    Raises LabError where virtual machines of labctl cannot run.
    """
    machine = platform.machine() if machine is None else machine
    if (known := architecture_of(machine)) is None:
        raise LabError(
            tr("there is no box for the processor of this machine, {name}", name=machine or "?"),
            hint=tr("labctl knows {names}", names=tr_list(sorted(ARCHITECTURES))),
        )
    return known.name


def image_name(architecture: str) -> str:
    """The file of Debian's image, on their site."""
    return f"debian-13-generic-{architecture}.tar.xz"


def fetch(
    architecture: str,
    directory: Path,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
    site: str = SITE,
) -> Path:
    """Debian's image of today, downloaded into `directory` and compared with Debian's checksum.

    An image that is there already is taken if it is today's still. Raises LabError, Cancelled.
    """
    name = image_name(architecture)
    sums = download(f"{site}/{SUMS}", directory, progress, cancelled, keep=False)
    expected = checksum_in(sums.read_text(encoding="utf-8", errors="replace"), name)
    sums.unlink()
    if not expected:
        raise LabError(
            tr("{url} names no {name}", url=f"{site}/{SUMS}", name=name),
            hint=tr("download the image yourself and name it with --from"),
        )
    file = download(f"{site}/{name}", directory, progress, cancelled)
    if _sum_of(file, cancelled) != expected:  # of an earlier day: `latest` has moved on
        file = download(f"{site}/{name}", directory, progress, cancelled, keep=False)
        _require_sum(file, expected, cancelled)
    return file


def check_beside(file: Path, cancelled: Callable[[], bool]) -> bool:
    """Compare a file with the SHA512SUMS beside it; False if there is none that names it.

    Raises LabError when they differ, Cancelled.
    """
    try:
        sums = (file.parent / SUMS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if not (expected := checksum_in(sums, file.name)):
        return False
    _require_sum(file, expected, cancelled)
    return True


def checksum_in(sums: str, name: str) -> str:
    """A file's checksum in a text like that of `sha512sum`; "" if it does not name the file."""
    for line in sums.splitlines():
        checksum, _, rest = line.partition(" ")
        if rest.lstrip(" *") == name:
            return checksum.lower()
    return ""


def _require_sum(file: Path, expected: str, cancelled: Callable[[], bool]) -> None:
    if (found := _sum_of(file, cancelled)) != expected:
        raise LabError(
            tr("{path} is not what its checksum says: SHA-512 is {found}…, {expected}… is wanted",
               path=file, found=found[:16], expected=expected[:16]),
            hint=tr("delete the file and download it again"),
        )  # fmt: skip


def _sum_of(file: Path, cancelled: Callable[[], bool]) -> str:
    digest = hashlib.sha512()
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            if cancelled():
                raise Cancelled(str(file))
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_disk(file: Path) -> Iterator[tuple[Readable, int]]:
    """The raw disk in a cloud image, to be read once, and its size in bytes.

    The image is a tar archive (compressed or not) that holds a file *.raw, or is the raw disk
    itself. Raises LabError for anything else, OSError.
    """
    with file.open("rb") as source:
        start = source.read(512)
        if start[:4] in (b"QFI\xfb", b"KDMV"):
            kind = "QCOW2" if start[:4] == b"QFI\xfb" else "VMDK"
            raise LabError(
                tr("{path} is a disk in the format {kind}; a raw one is wanted",
                   path=file, kind=kind),
                hint=tr("take {name} of {site}", name=image_name("ARCHITECTURE"), site=SITE),
            )  # fmt: skip
        if start[510:512] == b"\x55\xaa":  # the mark of a boot record
            source.seek(0)
            yield source, file.stat().st_size
            return
    try:
        # One pass: seeking in a compressed archive would read it from its start each time.
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".raw"):
                    content = archive.extractfile(member)
                    assert content is not None  # a regular file has one
                    yield content, member.size
                    return
    except (tarfile.TarError, EOFError) as error:
        raise _no_disk(file, str(error)) from error
    raise _no_disk(file, tr("there is no file *.raw in it"))


def _no_disk(file: Path, why: str) -> LabError:
    return LabError(
        tr("{path} is no cloud image: {why}", path=file, why=why),
        hint=tr("take {name} of {site}", name=image_name("ARCHITECTURE"), site=SITE),
    )
