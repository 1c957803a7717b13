"""The keys that apt checks the packages of the nodes with, in a directory for mmdebstrap."""

import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.errors import cannot_write, space_or_permissions

KEYS = "keys/debian-13.asc"
"""Below provision/: the keys that sign the suite."""
_DEBIANS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APTS = (Path("/etc/apt/trusted.gpg"), Path("/etc/apt/trusted.gpg.d"))


@contextmanager
def archive_keys(provision: Path) -> Iterator[Path]:
    """A directory with our own copy of Debian's keys, and all that the host's apt knows.

    Ours, because the host's keyring may end before the suite (Ubuntu 22.04 and 24.04), or be none
    at all. Apt's, for a mirror (LABCTL_MIRROR) with a key of its own. Debian's keyring of the host,
    because mmdebstrap trusts that file alone as soon as it holds a key that this directory lacks
    (before 1.3.0 with no option against it). Raises LabError.
    """
    # In /tmp, whatever TMPDIR says, and open to all: apt reads keys as its user _apt, for whom
    # root's and other users' directories are closed.
    with tempfile.TemporaryDirectory(prefix="labctl-keys-", dir="/tmp") as name:
        directory = Path(name)
        try:
            directory.chmod(0o755)
            ours = directory / "00-labctl.gpg"
            ours.write_bytes(without_armor((provision / KEYS).read_text(encoding="ascii")))
            for number, file in enumerate(_of_the_host(), 1):
                shutil.copyfile(file, directory / f"{number:02}-{file.name}")
            for file in directory.iterdir():
                file.chmod(0o644)
        except OSError as error:
            raise cannot_write(directory, error, hint=space_or_permissions()) from error
        yield directory


def without_armor(text: str) -> bytes:
    """The binary form of an ASCII-armored block (RFC 9580, 6.2). mmdebstrap 0.7 reads no other."""
    body = text.split("-----")[2].partition("\n\n")[2]
    return base64.b64decode(body.partition("\n=")[0])  # what follows is a checksum


def _of_the_host() -> list[Path]:
    found = [_DEBIANS]
    for path in _APTS:
        found += sorted(path.iterdir()) if path.is_dir() else [path]
    # apt knows a file of keys by these endings, and gpg stumbles over an empty one.
    return [
        file
        for file in found
        if file.suffix in (".gpg", ".asc") and file.is_file() and file.stat().st_size
    ]
