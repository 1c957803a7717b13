"""Becoming root by sudo, and what of the caller's environment goes along."""

import os
import sys
from collections.abc import Mapping

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system import files, rights
from labctl.run import python_module, run

PASSED_ON = frozenset(
    {
        # How and in which language, and at whose time of day, labctl speaks.
        "TERM", "COLORTERM", "NO_COLOR", "TZ",
        "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME",
        # The way to a Debian mirror and to images. curl and apt read the lower case, some programs
        # the upper case; no_proxy without its proxies, or they without it, is another way.
        *(name + "_proxy" for name in ("http", "https", "ftp", "all", "no")),
        *(name + "_PROXY" for name in ("HTTP", "HTTPS", "FTP", "ALL", "NO")),
    }
)  # fmt: skip
"""Variables that are kept across sudo, besides LABCTL_*.

Not kept, among others: PATH, HOME, TMPDIR, and everything that makes a program load code (PYTHON*,
LD_*, PERL5LIB, BASH_ENV).
"""


def passed_on(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that go along to root."""
    return sorted(name for name in environment if name in PASSED_ON or name.startswith("LABCTL_"))


def become_root() -> None:
    """Replace this process by `sudo labctl …` with the same arguments, unless we are root.

    With LABCTL_NO_SUDO set, without sudo or on Windows it does nothing: what needs root reports it.
    Raises LabError when sudo does not let this user.
    """
    if rights.is_root() or sys.platform == "win32" or os.environ.get("LABCTL_NO_SUDO"):
        return
    from shutil import which

    sudo = which("sudo")
    if sudo is None:
        return
    os.environ["LABCTL_COMMAND"] = command_name()
    sys.stderr.write(tr("labctl: this needs root; asking sudo") + "\n")
    sys.stderr.flush()
    keep = f"--preserve-env={','.join(passed_on(os.environ))}"
    argv = [sudo, keep, *python_module("labctl", *sys.argv[1:])]
    if not _has_terminal():
        # sudo cannot ask for a password. What it says then is for people who know sudo: ask it
        # first whether it would do it, and say what that means for labctl.
        asked = run([sudo, "-n", "-l", "--", *argv[2:]], check=False)
        if asked.returncode != 0:
            lines = (asked.stderr.strip() or asked.stdout.strip()).splitlines()
            raise LabError(
                tr("only root can do this, and sudo refuses: {said}",
                   said=lines[-1].removeprefix("sudo: ") if lines else asked.returncode),
                hint=tr("run it as a user who may use sudo, in a terminal if sudo asks for a"
                        " password"),
            )  # fmt: skip
    os.execv(sudo, argv)


def _has_terminal() -> bool:
    """Whether sudo can ask for a password: it does so on the terminal of this session."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | files.NOCTTY))
    except OSError:
        return False
    return True


def command_name() -> str:
    """How the user called labctl, for hints: `labctl`, or the path that was typed."""
    if name_before_sudo := os.environ.get("LABCTL_COMMAND"):  # set by `become_root`
        return name_before_sudo
    name = sys.argv[0]
    return name if "/" in name and not name.endswith("__main__.py") else "labctl"
