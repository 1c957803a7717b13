"""Upper layers of nodes: kept as one file, and put back in two steps.

A node's upper layer is all that it has of its own above the baked image. Putting one back is first
unpacked beside the node (which may run meanwhile), then exchanged: a rename, so that a kill leaves
the old layer or the new one.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.run import run
from labctl.state import NodeFiles

# Overlayfs keeps what it knows (deleted, opaque, moved) in extended attributes.
_ALL = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]
_MORTAL = ["setpriv", "--pdeathsig", "KILL"]
"""What we start to write a file must not go on writing when we are gone."""
_KEPT = "var/lib/labctl/snapshots"
"""What a node keeps itself, to be put back while it runs: not for a copy of its files."""


def pack(upper: Path, file: Path) -> dict[str, Any]:
    """Pack a layer into a file; what proves it. Raises LabError, naming a full disk as such."""
    squeeze = ["-I", "zstd -1 -T0"] if shutil.which("zstd") else ["-I", "gzip -1"]
    try:
        run(
            [*_MORTAL, "tar", "--create", "--file", file, *squeeze, *_ALL, "--sparse",
             "--one-file-system", "--warning=no-file-ignored", f"--exclude=./{_KEPT}",
             "--directory", upper, "."],
            timeout=900,
        )  # fmt: skip
    except LabError as error:
        raise _told(error, file) from error
    return {"file": file.name, "size": file.stat().st_size, "sha256": _digest(file)}


def trouble(file: Path, proof: Mapping[str, Any]) -> str:
    """ "", or why the file is not the one that `keep` made."""
    if not file.is_file():
        return tr("{file} is missing", file=file.name)
    if file.stat().st_size != proof.get("size"):
        return tr("{file} is truncated", file=file.name)
    if _digest(file) != proof.get("sha256"):
        return tr("{file} was altered", file=file.name)
    return ""


def stage(file: Path, directory: Path) -> None:
    """Unpack a kept layer beside a node's own. Raises LabError; the node is as it was."""
    unstage(directory)
    new = NodeFiles(directory).unpacking
    try:
        new.mkdir()
        run(
            [*_MORTAL, "tar", "--extract", "--file", file, *_ALL, "--same-permissions",
             "--directory", new],
            timeout=900,
        )  # fmt: skip
        new.rename(NodeFiles(directory).staged)
    except OSError as error:
        raise LabError(
            tr("cannot write {path}: {error}", path=new, error=error.strerror)
        ) from error
    except LabError as error:
        failure = _told(error, file)
        unstage(directory)
        raise failure from error


def unstage(directory: Path) -> None:
    """Remove what was unpacked and is not the node's own."""
    files = NodeFiles(directory)
    for layer in (files.staged, files.unpacking):
        _remove(layer)


def exchange(directory: Path) -> None:
    """Make the unpacked layer the node's own; nothing if that was done. The node is down."""
    files = NodeFiles(directory)
    staged, upper, old = files.staged, files.upper, files.replaced
    if not staged.is_dir():
        return
    if upper.is_dir():
        _remove(old)
        upper.rename(old)
    _carry(old, staged)
    staged.rename(upper)


def discard(directory: Path) -> None:
    """Remove the layer that was exchanged away."""
    _remove(NodeFiles(directory).replaced)


def _carry(old: Path, new: Path) -> None:
    """What nodes keep for restoring while they run outlives a restore of their files."""
    kept = Path(_KEPT)
    if (old / kept).is_dir() and (new / kept.parent).is_dir():
        _remove(new / kept)
        (old / kept).rename(new / kept)


def _remove(path: Path) -> None:
    # Twice: a tar that was killed with us may have made one more file.
    for _ in range(2):
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        raise LabError(
            tr("cannot remove {path}", path=path), hint=tr("remove it yourself, then go on")
        )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _told(error: LabError, file: Path) -> LabError:
    free = shutil.disk_usage(file.parent).free
    if "No space left" in error.message or free < 16 * 2**20:
        return LabError(
            tr("the disk is full: {path}", path=file.parent),
            hint=tr("free some space, then run the same command again; nothing was lost"),
        )
    return error
