"""What labctl inherits from its caller, put right before anything else is done.

The umask, closed streams, a current directory that is gone, and variables that make the programs
of root load code: none of these may decide what becomes of a lab.
"""

import os
import sys

from labctl.caller import caller
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.operating_system.processes import write_utf8
from labctl.operating_system.programs import complete_path
from labctl.user_files import keep_umask

UMASK = 0o022
"""What a system's files are made with: programs of other users must be able to read a node's.
Whatever is secret gets its own mode where it is made."""
_LOADERS = ("LD_", "PYTHON", "PERL5", "RUBY", "BASH_FUNC_")
_LOADING = {"BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PERLLIB", "GCONV_PATH", "LOCPATH",
            "NLSPATH", "CDPATH", "IFS", "GLOBIGNORE", "PS4"}  # fmt: skip
"""Variables, and beginnings of their names, that make a program load code or a shell run other
commands. sudo deletes most of them, if nobody told it not to."""


def prepare() -> None:
    """Make this process independent of how it was started. Raises LabError."""
    _open_standard_streams()
    write_utf8()
    complete_path()
    keep_umask(os.umask(UMASK))
    if caller() is not None:  # (what root itself has set is for root to know)
        for name in [name for name in os.environ if _loads(name)]:
            del os.environ[name]
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise LabError(
            tr("the current directory was deleted"),
            hint=tr("go to the lab's directory first: cd DIRECTORY"),
            code=EXIT_USAGE,
        ) from None


def _loads(name: str) -> bool:
    return name.startswith(_LOADERS) or name in _LOADING


def _open_standard_streams() -> None:
    """Make /dev/null of standard streams that are closed.

    Otherwise the next files to be opened get their numbers, and what a program prints goes into
    the lab's lock or its event log.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
