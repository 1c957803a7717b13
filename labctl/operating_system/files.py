"""Flags to open files with, directories kept open, disks."""

import errno
import os
import re
import sys
from pathlib import Path

# What a system does not have changes nothing.
BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)  # Python's descriptors are not inherited on Windows
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # making a link needs an administrator on Windows
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)  # on Windows a pipe has no place in a directory
NOCTTY: int = getattr(os, "O_NOCTTY", 0)
DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)


def open_directory(path: Path, *, follow: bool = True) -> int | None:
    """Open a directory, so that its files are found whatever becomes of its name.

    None on Windows, which has no such thing; `within` serves both. Raises OSError.
    """
    if sys.platform == "win32":
        if not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return None
    return os.open(path, os.O_RDONLY | DIRECTORY | CLOEXEC | (0 if follow else NOFOLLOW))


def within(directory: int | None, path: Path) -> Path:
    """How a file is called for what takes a `dir_fd`: by its name, or by its path without one."""
    return path if directory is None else Path(path.name)


def is_read_only(directory: Path) -> bool:
    """Whether its file system takes no changes. Raises OSError."""
    if sys.platform == "win32":
        return False
    return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)


def unfit_for_overlayfs(path: Path) -> str:
    """The first character that overlayfs takes for its own; "" if it may have the path.

    On Windows nothing is given to it, and every path has such characters.
    """
    if sys.platform == "win32":
        return ""
    # Of mount(8)'s options, in which the layers of a node are listed.
    wrong = re.search(r"[:,\\\x00-\x1f\x7f]", str(path))
    return wrong[0] if wrong else ""


def state_home(home: Path) -> Path:
    """Where programs keep what a user did, in this home directory of theirs.

    The environment is not asked: root by sudo has another one than the user.
    """
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    return home / ".local" / "state"


def cache_home() -> Path:
    """Where this user's programs keep what can be made again."""
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    # On macOS, too: ~/Library/Caches is for what may go at any time, and a lab stands on its image.
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
