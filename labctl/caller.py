"""Who called labctl: under sudo, the user for whom root works.

What is done in that user's directories is done with their rights, so that root follows no link
and overwrites no file that they could not.
"""

import ctypes
import os
import platform
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.operating_system import rights

_SETGROUPS = {"x86_64": 116, "aarch64": 159}
"""Number of the system call setgroups(2), by machine: <asm/unistd.h>. glibc's function of that
name changes all threads, the call only the one that makes it."""
_LARGEST_ID = 2**32 - 2
"""User and group IDs have 32 bits; the largest number means "unchanged" (chown(2))."""


@dataclass(frozen=True)
class Caller:
    """The user who called sudo."""

    user: int
    group: int

    @property
    def name(self) -> str:
        """The login name; the number of a user that has none."""
        return rights.login_name(self.user)

    @property
    def groups(self) -> list[int]:
        """IDs of all groups the user is in."""
        return rights.groups_of(self.user, self.group)


def caller() -> Caller | None:
    """Who called sudo; None if this process is not root, or was not called by sudo.

    Raises LabError when sudo's variables do not hold the numbers of a user.
    """
    told = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not rights.is_root() or not any(told):
        return None
    numbers = []
    for name, text in zip(("SUDO_UID", "SUDO_GID"), told, strict=True):
        if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_ID):
            raise LabError(
                tr("{name}={text} is not the number of a user or a group", name=name, text=text),
                hint=tr("sudo sets this variable; unset it, or call labctl by sudo"),
                code=EXIT_USAGE,
            )
        numbers.append(int(text))
    return Caller(*numbers) if numbers[0] else None


def user_at_work() -> int:
    """ID of the user whose files labctl writes: who called sudo, or else this process's user."""
    who = caller()
    return rights.user_id() if who is None else who.user


@contextmanager
def acting_as_caller() -> Iterator[None]:
    """This thread has only the rights of who called sudo on files; the other threads stay root.

    Without sudo, and on other systems than Linux, nothing changes.
    """
    who = caller()
    if who is None or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    own_groups, own_group, own_user = os.getgroups(), os.getegid(), os.geteuid()
    _set_groups(libc, who.groups)
    libc.setfsgid(who.group)
    # Leaving 0 takes root's capabilities on files away, going back restores them
    # (capabilities(7), "Effect of user ID changes on capabilities").
    libc.setfsuid(who.user)
    try:
        if libc.setfsuid(-1) != who.user:  # an invalid ID changes nothing and tells the present one
            raise LabError(tr("cannot work with the rights of {user}", user=who.name))
        yield
    finally:
        libc.setfsuid(own_user)
        libc.setfsgid(own_group)
        _set_groups(libc, own_groups)


def _set_groups(libc: ctypes.CDLL, groups: list[int]) -> None:
    number = _SETGROUPS.get(platform.machine())
    if number is not None:
        libc.syscall(number, len(groups), (ctypes.c_uint32 * len(groups))(*groups))


def give_to_caller(descriptor: int) -> None:
    """Make who called sudo the owner of an open file that root made for them."""
    who = caller()
    if who is not None and os.fstat(descriptor).st_uid != who.user:
        rights.set_owner(descriptor, who.user, who.group)


def refuse_strangers_links(directory: Path) -> None:
    """Raise LabError if the path leads through a link that neither root nor the caller made."""
    trusted = {0, user_at_work()}
    absolute = directory.absolute()
    for path in (absolute, *absolute.parents):
        try:
            info = path.lstat()
        except OSError:
            return  # what opens the file reports it
        if stat.S_ISLNK(info.st_mode) and info.st_uid not in trusted:
            raise LabError(
                tr("{path} is a link made by {user}: labctl does not follow it",
                   path=path, user=rights.login_name(info.st_uid)),
                hint=tr("name the place that it leads to"),
                code=EXIT_USAGE,
            )  # fmt: skip
