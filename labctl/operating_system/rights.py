"""Users, and what they may do with a file."""

import getpass
import os
import sys
from pathlib import Path


def is_root() -> bool:
    """Whether this process may do everything; never on Windows, where nothing of ours needs it."""
    if sys.platform == "win32":
        return False
    return os.geteuid() == 0


def user_id() -> int:
    """ID of this process's user, as in the `st_uid` of their files. On Windows both are 0."""
    if sys.platform == "win32":
        return 0
    return os.geteuid()


def group_id() -> int:
    """ID of this process's group; on Windows 0."""
    if sys.platform == "win32":
        return 0
    return os.getegid()


def login_name(user: int) -> str:
    """The login name of a user; the number if there is none."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def home_of(user: int) -> Path:
    """The home directory of a user; "/" if there is none. Of this process's user: as HOME says."""
    if sys.platform == "win32" or user == os.geteuid():
        return Path.home()
    import pwd

    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError:
        return Path("/")


def groups_of(user: int, group: int) -> list[int]:
    """IDs of all groups that a user is in; `group` is the first of them."""
    if sys.platform == "win32":
        return [group]
    import pwd

    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return [group]


def set_owner(target: int | Path, user: int, group: int) -> None:
    """Give an open file, or a path that is not followed, to a user. Raises OSError."""
    if sys.platform == "win32":
        return
    if isinstance(target, int):
        os.fchown(target, user, group)
    else:
        os.chown(target, user, group, follow_symlinks=False)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permissions of an open file. Windows has none: its directory's ACL holds."""
    if sys.platform != "win32":
        os.fchmod(descriptor, mode)
