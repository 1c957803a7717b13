"""The Debian that the nodes are made of, and the keys that its packages are checked with. Pure."""

from pathlib import Path

from labctl.i18n import tr

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def keyring_fix() -> str:
    """How to get the keys of the suite, on a host whose keyring ends before them."""
    return tr(
        "install debian-archive-keyring 2023.3 or newer: where apt offers an older one (Ubuntu"
        " 22.04), take the package from Debian and install the file with apt"
    )
