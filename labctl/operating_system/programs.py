"""Where programs are: in the directories of PATH, and where Windows' installers put them."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

_INSTALLED = (
    # VirtualBox's installer leaves PATH alone and sets these; Vagrant finds VBoxManage by them.
    ("VBOX_INSTALL_PATH", ""),
    ("VBOX_MSI_INSTALL_PATH", ""),
    ("PROGRAMW6432", r"Oracle\VirtualBox"),
    ("PROGRAMFILES", r"Oracle\VirtualBox"),
    # Vagrant's extends PATH, which a terminal learns that is opened afterwards.
    ("PROGRAMW6432", r"Vagrant\bin"),
    ("PROGRAMFILES", r"Vagrant\bin"),
    # OpenSSH's client is a feature of Windows that can be missing; Git brings another.
    ("SYSTEMROOT", r"System32\OpenSSH"),
    ("SYSTEMROOT", r"Sysnative\OpenSSH"),  # what a 32-bit Python calls the same
    ("PROGRAMW6432", r"Git\usr\bin"),
    ("PROGRAMFILES", r"Git\usr\bin"),
)
"""(variable of Windows, directory below its value) where programs of ours may be."""
_EXTENSIONS = ".COM;.EXE;.BAT;.CMD"
"""What a program's name ends in when PATHEXT is not set: the first four of Windows' default."""


def find(name: str, path: str | None = None) -> str | None:
    """The path of a program in the directories of `path` (default: PATH); None if there is none.

    On Windows never in the current directory, where cmd.exe, CreateProcess and shutil.which look
    first: it may be a stranger's.
    """
    if sys.platform != "win32":
        return shutil.which(name, path=path)
    if os.path.dirname(name):  # noqa: PTH120 - Path would drop "./"
        return name if Path(name).is_file() else None
    extensions = [one for one in os.environ.get("PATHEXT", _EXTENSIONS).split(";") if one]
    names = [name, *(name + extension.lower() for extension in extensions)]
    if not any(name.upper().endswith(extension.upper()) for extension in extensions):
        del names[0]  # a script of another system, beside the program
    directories = os.environ.get("PATH", "") if path is None else path
    for directory in directories.split(os.pathsep):
        place = Path(directory.strip('"'))
        if not place.is_absolute():
            continue
        with suppress(OSError):
            # To look once is quicker than to ask for each name.
            there = {entry.upper(): entry for entry in os.listdir(place)}  # noqa: PTH208
            for entry in (there.get(each.upper()) for each in names):
                if entry is not None and (place / entry).is_file():
                    return str(place / entry)
    return None


def complete_path() -> None:
    """Add to this process's PATH where installers put what labctl calls; on Windows only."""
    if sys.platform != "win32":
        return
    told = [(os.environ.get(name), below) for name, below in _INSTALLED]
    places = [str(Path(value, below)) for value, below in told if value]
    path = os.environ.get("PATH", "").split(os.pathsep)
    known = {directory.rstrip("\\").upper() for directory in path}
    for place in dict.fromkeys(places):
        if place.rstrip("\\").upper() not in known and Path(place).is_dir():
            path.append(place)
    os.environ["PATH"] = os.pathsep.join(directory for directory in path if directory)
