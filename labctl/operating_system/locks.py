"""Locks between processes: the system releases them when their process ends, however it ends."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


class HeldError(Exception):
    """Another process holds the lock; the text is what that process said of itself."""


class GoneError(Exception):
    """The file of the lock was deleted after we had opened it: our lock means nothing."""


def beside(directory: Path) -> Path:
    """Where the lock of a directory lies, by which it may be deleted as a whole.

    On Windows an open file cannot be deleted, and so its directory cannot.
    """
    if sys.platform == "win32":
        return directory.with_name(f"{directory.name}.lock")
    return directory / "lock"


@contextmanager
def holding(path: Path, who: str, open_text: Callable[[Path], TextIO]) -> Iterator[None]:
    """Hold the lock of that file; `who` is what others are told about us.

    `open_text` opens it to read and append, and makes it if need be. Raises HeldError, GoneError,
    and what `open_text` raises.
    """
    with _by_filelock(path, who) if sys.platform == "win32" else _by_flock(path, who, open_text):
        yield


@contextmanager
def _by_flock(path: Path, who: str, open_text: Callable[[Path], TextIO]) -> Iterator[None]:
    if sys.platform == "win32":
        raise NotImplementedError
    import fcntl

    with open_text(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise HeldError(stream.read().strip() or "?") from None
        if os.fstat(stream.fileno()).st_nlink == 0:
            raise GoneError
        stream.truncate(0)
        stream.write(who)
        stream.flush()
        yield


@contextmanager
def _by_filelock(path: Path, who: str) -> Iterator[None]:
    """A locked file cannot be read on Windows: who holds it is told by a second one."""
    from filelock import FileLock, Timeout

    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        said = ""
        with suppress(OSError):
            said = holder.read_text(encoding="utf-8").strip()
        raise HeldError(said or "?") from None
    try:
        holder.write_text(who, encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()
        with suppress(OSError):  # another process holds it by now
            path.unlink()
