"""Directories that are labctl's alone: a lab's `.labctl/`, the cache of images.

Root meets such a directory in places where others may write. It is used only if it belongs to the
user that labctl runs as, and holds nothing but regular files and directories; others may not even
read it, for the file systems of nodes in it have setuid programs.
"""

import os
import stat
from pathlib import Path
from typing import Literal, TextIO

from labctl.caller import caller
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system import closing, files, rights

_OF_OTHERS = {"nodes": 3, "vagrant": 2}
"""Top directory -> level from which on its content is not labctl's: a node's file system, what
Vagrant keeps."""


def owner(directory: Path) -> int | None:
    """ID of the user whom `.labctl` belongs to; None if there is none. Raises LabError.

    Needs no right on the directory itself.
    """
    try:
        info = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=directory, error=error.strerror)
        ) from error
    if not stat.S_ISDIR(info.st_mode):
        raise _strange(directory)
    return info.st_uid


def vet(directory: Path, mark: str) -> bool:
    """Whether `.labctl` is there and may be used; `mark` is the file by which it holds a lab.

    Its mode becomes 0700. Raises LabError if it is another user's, or holds what labctl does not
    make there. What an ordinary user's `labctl render` left becomes root's together with the lab.
    """
    user = owner(directory)
    if user is None:
        return False
    if user != rights.user_id():
        who = caller()
        if who is None or user != who.user or os.path.lexists(directory / mark):
            raise of_another_user(directory, user)
    try:
        if user != rights.user_id():
            rights.set_owner(directory, rights.user_id(), rights.group_id())
        closing.close_directory_to_others(directory)
        _inspect(directory)
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=error.filename or directory,
               error=error.strerror)
        ) from error  # fmt: skip
    return True


def _inspect(top: Path) -> None:
    """Raise LabError for a link, a FIFO or a device: opened, it would be something else."""
    found: list[tuple[Path, int]] = [(top, 0)]
    while found:
        directory, level = found.pop()
        try:
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            continue  # another labctl deletes it just now
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                room = path.relative_to(top).parts[0]
                if level + 1 < _OF_OTHERS.get(room, 99):
                    found.append((path, level + 1))
                    _take(entry)
            elif entry.is_file(follow_symlinks=False):
                _take(entry)
            elif os.path.lexists(path):
                raise _strange(path)


def _take(entry: "os.DirEntry[str]") -> None:
    """What lay in a directory that has become root's becomes root's, too."""
    if rights.is_root() and entry.stat(follow_symlinks=False).st_uid != 0:
        rights.set_owner(Path(entry.path), 0, 0)


def open_text(path: Path, mode: Literal["a", "a+"] = "a+") -> TextIO:
    """Open a file of ours to append ("a", "a+"): made if missing, never reached by a link.

    Raises OSError.
    """
    reading = os.O_RDWR if "+" in mode else os.O_WRONLY
    flags = reading | os.O_APPEND | os.O_CREAT | files.NOFOLLOW | files.CLOEXEC | files.NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _strange(path)
    return os.fdopen(descriptor, mode, encoding="utf-8", newline="\n")


def of_another_user(path: Path, user: int) -> LabError:
    """The error for a directory that belongs to somebody else."""
    return LabError(
        tr("{path} belongs to another user: {user}", path=path, user=rights.login_name(user)),
        hint=tr("run labctl as {user}, who made the lab: with sudo for root, without it for"
                " anybody else", user=rights.login_name(user)),
    )  # fmt: skip


def _strange(path: Path) -> LabError:
    return LabError(
        tr("{path} is a link, or something else that labctl does not make there", path=path),
        hint=tr("look at it, then delete it: {command}", command=f"rm {path}"),
    )
