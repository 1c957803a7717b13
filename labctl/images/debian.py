"""The Debian that the nodes are made of. Pure."""

from labctl.i18n import tr

SUITE = "trixie"
PYTHON = "3.13"
"""Of its package python3."""
GLIBC = 41
"""Its C library is 2.GLIBC, and runs what was built for an older one."""


def unknown_key_fix() -> str:
    """What to do about a mirror's key that neither labctl nor the host's apt has."""
    return tr(
        "the mirror signs with a key that labctl does not bring along: install a newer labctl; if"
        " LABCTL_MIRROR names a mirror with a key of its own, put that key into"
        " /etc/apt/trusted.gpg.d"
    )
