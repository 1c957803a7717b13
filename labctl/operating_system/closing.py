"""Directories that nobody else may look into."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

from labctl.operating_system.files import CLOEXEC, DIRECTORY, NOFOLLOW
from labctl.operating_system.programs import command_line, decoded


def close_directory_to_others(directory: Path) -> None:
    """Let nobody but its owner (on Windows also administrators) into a directory. Raises OSError.

    What is made in it later is as closed as itself: on Windows by inheritance.
    """
    if sys.platform == "win32":
        _icacls(directory)
        return
    descriptor = os.open(directory, os.O_RDONLY | DIRECTORY | NOFOLLOW | CLOEXEC)
    try:
        if os.fstat(descriptor).st_mode & 0o7777 != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _icacls(directory: Path) -> None:
    """Three may enter: the user, SYSTEM and the group of administrators.

    Those are whom Windows' OpenSSH lets read a private key (its sshkey_perm_ok).
    """
    user = "\\".join(filter(None, (os.environ.get("USERDOMAIN"), getpass.getuser())))
    full = ":(OI)(CI)F"
    done = subprocess.run(
        command_line(
            ["icacls", str(directory), "/inheritance:r", "/grant:r", user + full,
             "/grant:r", "*S-1-5-18" + full, "/grant:r", "*S-1-5-32-544" + full, "/q"]
        ),
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        said = decoded(done.stderr or done.stdout).strip()
        raise OSError(0, f"icacls: {said}", str(directory))
