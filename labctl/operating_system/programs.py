"""Programs: where they are, on PATH or where Windows' installers put them; what they print."""

import errno
import locale
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


def command_line(argv: list[str]) -> list[str]:
    """argv with the program's path, where the system would look for it in the current directory.

    That is Windows, which also finds no script (.bat, .cmd) by its name alone. Raises
    FileNotFoundError.
    """
    if sys.platform == "win32":
        program = find(argv[0])
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
        return [program, *argv[1:]]
    return argv


def decoded(output: bytes) -> str:
    """What a program printed, as text with plain line ends.

    Not every program prints UTF-8: on Windows some take the user's code page, in Taiwan cp950.
    Text of that which is no ASCII is not valid UTF-8, but for rare accidents.
    """
    try:
        text = output.decode()
    except UnicodeDecodeError:
        text = output.decode(locale.getencoding(), errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
