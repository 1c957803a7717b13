"""Upper layers of nodes: packed into one file, and restored in two steps.

A node's upper layer has all files that differ from the baked image. To restore one, it is first
unpacked beside the node's own, while the node may run. Then the two are exchanged by renaming, so
that a killed labctl leaves either the old layer or the new one.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.errors import DiskFullError, LabError, cannot_write, says_disk_full
from labctl.i18n import tr
from labctl.run import KILLED_WITH_LABCTL, run
from labctl.state import NodeFiles

# Overlayfs marks deleted, replaced and moved directories by extended attributes.
_ALL_ATTRIBUTES = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]
_LIVE_SNAPSHOTS = "var/lib/labctl/snapshots"
"""Where a node has what restores it while it runs (provision/warm/). It belongs to the node and is
not part of a copy of its files."""


def pack(upper: Path, file: Path) -> dict[str, Any]:
    """Pack a layer into a file, by the fastest compression that this host has.

    Returns what `trouble` later compares. Raises LabError, also for a full disk.
    """
    compression = ["-I", "zstd -1 -T0"] if shutil.which("zstd") else ["-I", "gzip -1"]
    try:
        run(
            [*KILLED_WITH_LABCTL, "tar", "--create", "--file", file, *compression, *_ALL_ATTRIBUTES,
             "--sparse", "--one-file-system", "--warning=no-file-ignored",
             f"--exclude=./{_LIVE_SNAPSHOTS}", "--directory", upper, "."],
            timeout=900,
        )  # fmt: skip
    except LabError as error:
        raise _disk_full_or(error, file) from error
    return {"file": file.name, "size": file.stat().st_size, "sha256": _digest(file)}


def trouble(file: Path, proof: Mapping[str, Any]) -> str:
    """Why the file is not the one that `pack` made; "" if it is."""
    if not file.is_file():
        return tr("{file} is missing", file=file.name)
    if file.stat().st_size != proof.get("size"):
        return tr("{file} is truncated", file=file.name)
    if _digest(file) != proof.get("sha256"):
        return tr("{file} was altered", file=file.name)
    return ""


def stage(file: Path, directory: Path) -> None:
    """Unpack a layer beside the node's own. Raises LabError; then the node is as it was."""
    unstage(directory)
    new = NodeFiles(directory).unpacking
    try:
        new.mkdir()
        run(
            [*KILLED_WITH_LABCTL, "tar", "--extract", "--file", file, *_ALL_ATTRIBUTES,
             "--same-permissions", "--directory", new],
            timeout=900,
        )  # fmt: skip
        new.rename(NodeFiles(directory).staged)
    except OSError as error:
        raise cannot_write(new, error) from error
    except LabError as error:
        failure = _disk_full_or(error, file)
        unstage(directory)
        raise failure from error


def unstage(directory: Path) -> None:
    """Remove the layer that `stage` unpacked, also a half unpacked one."""
    files = NodeFiles(directory)
    for layer in (files.staged, files.unpacking):
        _remove(layer)


def exchange(directory: Path) -> None:
    """Make the unpacked layer the node's own. The node is down. Safe to run again."""
    files = NodeFiles(directory)
    staged, upper, old = files.staged, files.upper, files.replaced
    if not staged.is_dir():
        return
    if upper.is_dir():
        _remove(old)
        upper.rename(old)
    _move_live_snapshots(old, staged)
    staged.rename(upper)


def discard(directory: Path) -> None:
    """Remove the layer that `exchange` has replaced."""
    _remove(NodeFiles(directory).replaced)


def _move_live_snapshots(old: Path, new: Path) -> None:
    """The node's live snapshots stay usable after its files were restored."""
    live = Path(_LIVE_SNAPSHOTS)
    if (old / live).is_dir() and (new / live.parent).is_dir():
        _remove(new / live)
        (old / live).rename(new / live)


def _remove(path: Path) -> None:
    # Twice: a tar that is just being killed may make one more file during the first time.
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


def _disk_full_or(error: LabError, file: Path) -> LabError:
    """The error to raise: a full disk if that is the cause, else `error`."""
    free = shutil.disk_usage(file.parent).free
    if says_disk_full(error.message) or free < 16 * 2**20:
        return DiskFullError(
            file.parent,
            hint=tr("free some space, then run the same command again; nothing was lost"),
        )
    return error
