"""What VBoxManage says went wrong, read from its own output or from Vagrant's around it. Pure."""

import re

_ERROR = re.compile(r"^.*?VBoxManage(?:\.exe)?: error: (?P<text>.*?)>?$")
_NO_REASON = ("Details: ", "Context: ")
"""Lines that name places in VirtualBox's source, after those that say what is wrong."""
_COMMAND = re.compile(r'^Command: \["(?P<verb>[^"]+)"')
_PASSING = (
    "VirtualBox COM server is not running",
    "Failed to create the VirtualBox object",
    "is already locked by a session (or being locked or unlocked)",
)
"""VBoxSVC was starting or ending, or has not yet noticed that a machine's process is gone."""
_MOST = 4
"""Reasons kept: the last say what is wrong, those before only what failed because of it."""


def last_words(text: str) -> str:
    """The reasons in an error of VBoxManage, the last of them, on one line; "" if there are none.

    Vagrant puts a paragraph, the command and the progress before them; VBoxManage itself puts
    places in its source after them. Both, and errors that are said twice, are left out.
    """
    lines = [match["text"].strip() for line in text.splitlines() if (match := _ERROR.match(line))]
    reasons = dict.fromkeys(
        line for line in lines if line and not line.startswith(_NO_REASON)
    )  # in order, each once
    return " / ".join(list(reasons)[-_MOST:])


def failed_verb(text: str) -> str:
    """`startvm` of an error that Vagrant tells of `VBoxManage startvm …`; "" if it names none."""
    for line in text.splitlines():
        if match := _COMMAND.match(line):
            return match["verb"]
    return ""


def passes(text: str) -> bool:
    """Whether an error of VBoxManage, or Vagrant's of it, is one that a second try may not meet.

    It was raised before anything was changed.
    """
    words = " ".join(text.split())  # Vagrant breaks lines
    return any(sign in words for sign in _PASSING)
