"""Files outside `.labctl/`: what a user asked for, written into a directory of theirs.

The one place that writes such files. It writes with the rights of who called sudo
(labctl/caller.py); it writes through no link; it replaces nothing but regular files; it makes no
missing parents. A device, a FIFO, or a link to labctl's own output such as /dev/stdout is written
into and stays what it is.
"""

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from labctl.caller import acting_as_caller, caller, give_to_caller, refuse_strangers_links
from labctl.errors import EXIT_USAGE, LabError, cannot_write, space_or_permissions
from labctl.i18n import tr
from labctl.operating_system import files, rights

_umask = 0o022
"""Permissions that files for the user are made without."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | files.NOFOLLOW | files.CLOEXEC | files.BINARY


def keep_umask(mask: int) -> None:
    """The caller's umask, for the files that are theirs. (labctl itself works with 022.)"""
    global _umask
    _umask = mask


def write_for_user(path: Path, content: str | bytes) -> None:
    """Write a file that the user asked for; they are its owner. Raises LabError.

    A regular file is replaced in one step: it has its old content or its new one.
    """
    with replacing_for_user(path) as stream, _reported(path):
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()


@contextmanager
def replacing_for_user(path: Path) -> Iterator[BinaryIO]:
    """A stream to write such a file with. The file takes its place at the end of the context.

    If the context raises, a regular file keeps its old content. Raises LabError.
    """
    path = path.absolute()
    refuse_strangers_links(path.parent)
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        with _flushed(_special(path, mode), path) as stream:
            yield stream
        return
    with _reported(path), acting_as_caller():
        directory = files.open_directory(path.parent)
    try:
        with _replacing(path, directory) as stream:
            yield stream
    finally:
        if directory is not None:
            os.close(directory)


def new_for_user(path: Path, text: str, *, secret: bool = False) -> None:
    """Write a file that must not exist yet; a secret one is its owner's alone to read.

    Raises FileExistsError, other OSError, LabError.
    """
    path = path.absolute()
    refuse_strangers_links(path.parent)
    with acting_as_caller():
        descriptor = os.open(path, _NEW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
        rights.set_mode(descriptor, 0o600 if secret else 0o666 & ~_umask)
        give_to_caller(descriptor)
        stream.write(text)


def directory_for_user(path: Path) -> None:
    """Make a directory of the user's unless it exists; its parent must. Raises LabError."""
    path = path.absolute()
    refuse_strangers_links(path)
    with _reported(path), acting_as_caller():
        try:
            os.mkdir(path, 0o777 & ~_umask)  # noqa: PTH102
        except FileExistsError:
            if not path.is_dir():
                raise LabError(
                    tr("{path} is not a directory", path=path), code=EXIT_USAGE
                ) from None
            return
        descriptor = files.open_directory(path, follow=False)
    if descriptor is not None:
        try:
            give_to_caller(descriptor)
        finally:
            os.close(descriptor)


def delete_for_user(path: Path) -> None:
    """Delete a file of the user's, with their rights, if it exists. Raises OSError."""
    with acting_as_caller():
        path.unlink(missing_ok=True)


# -- the kinds of a file ---------------------------------------------------------------------------
def _mode(path: Path) -> int | None:
    """Type and permissions of the file, of a link its own; None if there is none."""
    with _reported(path), acting_as_caller():
        try:
            return os.lstat(path).st_mode
        except FileNotFoundError:
            return None


def _special(path: Path, mode: int) -> BinaryIO:
    """What is no regular file, open for writing. Raises LabError for what cannot be written."""
    if stat.S_ISDIR(mode):
        raise LabError(
            tr("{path} is a directory", path=path),
            hint=tr("name a file: {example}", example=str(path / "FILE")),
            code=EXIT_USAGE,
        )
    if stat.S_ISLNK(mode):
        return _own_output(path)
    if stat.S_ISBLK(mode):
        raise LabError(
            tr("{path} is a disk: labctl does not write there", path=path), code=EXIT_USAGE
        )
    with _reported(path), acting_as_caller():
        # Neither made nor emptied; a terminal does not become ours.
        flags = os.O_WRONLY | files.NOFOLLOW | files.NOCTTY | files.CLOEXEC | files.BINARY
        return os.fdopen(os.open(path, flags), "wb")


def _own_output(path: Path) -> BinaryIO:
    """Where a link such as /dev/stdout leads to, if that is our own output. Raises LabError."""
    with suppress(OSError):
        target = os.stat(path)
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            if os.path.samestat(target, os.fstat(descriptor)):
                stream.flush()
                return os.fdopen(os.dup(descriptor), "wb")
    raise LabError(
        tr("{path} is a link, and labctl does not write through links", path=path),
        hint=tr("name the file that it leads to"),
        code=EXIT_USAGE,
    )


@contextmanager
def _replacing(path: Path, directory: int | None) -> Iterator[BinaryIO]:
    """A new file beside a regular one, or none, that takes its name at the end."""
    beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
    temporary, name = files.within(directory, beside), files.within(directory, path)
    try:
        with _reported(path), acting_as_caller():
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=directory)
        with _flushed(os.fdopen(descriptor, "wb"), path, to_disk=True) as stream:
            with _reported(path):
                rights.set_mode(descriptor, 0o666 & ~_umask)
                give_to_caller(descriptor)
            yield stream
        with _reported(path), acting_as_caller():
            with suppress(FileNotFoundError):
                mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
                if not stat.S_ISREG(mode):
                    raise LabError(tr("{path} was replaced meanwhile", path=path))
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        with acting_as_caller(), suppress(OSError):
            os.unlink(temporary, dir_fd=directory)


@contextmanager
def _flushed(stream: BinaryIO, path: Path, *, to_disk: bool = False) -> Iterator[BinaryIO]:
    """The stream, with everything written at the end, or the error reported, and closed."""
    try:
        yield stream
        with _reported(path):
            stream.flush()
            if to_disk:
                os.fsync(stream.fileno())
    finally:
        with suppress(OSError):  # it is for what was not written, which was reported already
            stream.close()


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """An error of the system about this file, as one message."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of the output has gone: not an error of the file
    except FileNotFoundError as error:
        raise LabError(
            tr("there is no directory {path}", path=path.parent),
            hint=tr("make it first, or name another file"),
            code=EXIT_USAGE,
        ) from error
    except OSError as error:
        who = caller()
        hint = (
            tr("labctl writes it with the rights of {user}, who called sudo; name a place of"
               " theirs, or free some disk space", user=who.name)
            if who is not None
            else space_or_permissions()
        )  # fmt: skip
        raise cannot_write(path, error, hint=hint) from error
