"""The Debian that the nodes are made of. Pure."""

from labctl.i18n import tr

SUITE = "trixie"


def unknown_key_fix() -> str:
    """What to do about a mirror's key that neither labctl nor the host's apt has."""
    return tr(
        "the mirror signs with a key that labctl does not bring along: install a newer labctl; if"
        " LABCTL_MIRROR names a mirror with a key of its own, put that key into"
        " /etc/apt/trusted.gpg.d"
    )
