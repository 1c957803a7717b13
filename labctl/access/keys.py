"""SSH keys of a lab: makes and reads them, and passes them to OpenSSH's client."""

from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.state import write_atomic

SSHD = """# Keys only, and room for all of labctl's sessions.
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxSessions 64
MaxStartups 64
"""


def ensure(path: Path) -> None:
    """Make a private Ed25519 key in that file, mode 0600, unless it exists."""
    if path.exists():
        return
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_atomic(path, text, 0o600)


def close(path: Path) -> None:
    """Make the mode of a private key 0600 if it is there: OpenSSH refuses one that others can read.

    Nobody else could read it: `.labctl` is 0700. A copy or an archive may have opened the mode.
    """
    with suppress(OSError):  # not ours, or not there: OpenSSH says so
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def public(path: Path) -> str:
    """The public half of a private key file, as one line of authorized_keys."""
    private = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    encoded = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded.decode() + "\n"


def client(key: Path, known_hosts: Path, node: str) -> list[str]:
    """argv of OpenSSH's client up to the destination. It uses only this key and these host keys."""
    close(key)
    return [
        "ssh", "-F", "none", "-o", f"IdentityFile={_word(key)}", "-o", "IdentitiesOnly=yes",
        "-o", f"UserKnownHostsFile={_word(known_hosts)}", "-o", f"HostKeyAlias={node}",
        "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
    ]  # fmt: skip


def _word(path: Path) -> str:
    """A path quoted for ssh_config(5): spaces stay, and % is not a token."""
    # With / on Windows, too: between quotes ssh takes \\ for one backslash.
    return '"' + path.as_posix().replace("%", "%%") + '"'
