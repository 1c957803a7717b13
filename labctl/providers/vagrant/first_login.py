"""The first login to a new Vagrant machine: replaces Vagrant's public key by the lab's own.

Every Vagrant box lets the user `vagrant` log in with a key pair that is published, so anybody could
use it. It is used once: to install the lab's key for root and for `vagrant`.
"""

import shlex
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from labctl.access import keys
from labctl.access.paramiko_alone import paramiko
from labctl.errors import LabError
from labctl.i18n import tr

_SCRIPT = """set -eu
umask 077
# allow USER: from now on this user can log in with the key, and with no other.
allow() {
    home=$(eval echo "~$1")
    mkdir -p "$home/.ssh"
    printf '%s\\n' "$key" >"$home/.ssh/authorized_keys.new"
    chown "$1" "$home/.ssh" "$home/.ssh/authorized_keys.new"
    mv "$home/.ssh/authorized_keys.new" "$home/.ssh/authorized_keys"
}
key=$1
allow root
allow "$2"
if [ -d /etc/ssh/sshd_config.d ]; then
    umask 022
    printf '%s' "$3" >/etc/ssh/sshd_config.d/00-labctl.conf
    systemctl reload ssh 2>/dev/null || systemctl reload sshd
fi
"""


def install_lab_key(
    connect: Callable[[], socket.socket],
    *,
    node: str,
    key: Path,
    insecure: Sequence[Path],
    user: str = "vagrant",
) -> str:
    """Let only the lab's key in to a machine; returns its host key as `TYPE BASE64`.

    `connect` opens a connection to its SSH server, `key` is the file of the lab's private key,
    `insecure` are those of Vagrant's published keys, of which a new box knows one. Safe to run
    again. Raises LabError when no key is accepted or the script fails, OSError or
    paramiko.SSHException when the server does not answer properly.
    """
    transport = paramiko.Transport(connect())
    try:
        transport.banner_timeout = 60
        transport.start_client(timeout=60)
        host_key = transport.get_remote_server_key()
        _log_in(transport, node, user, [key, *insecure])
        authorized = keys.public(key).strip()
        channel = transport.open_session(timeout=60)
        channel.settimeout(120)
        # The script goes to stdin, so that it needs no quoting for the login shell.
        channel.exec_command(_command(authorized, user))
        channel.sendall(_SCRIPT.encode())
        channel.shutdown_write()
        output = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        if channel.recv_exit_status() != 0:
            raise LabError(
                tr(
                    "{node}: the box could not be prepared: {said}",
                    node=node,
                    said=output or tr("no reason given"),
                ),
                hint=tr("the user {user} of a Vagrant box needs passwordless sudo", user=user),
            )
    finally:
        transport.close()
    return f"{host_key.get_name()} {host_key.get_base64()}"


def _command(authorized: str, user: str) -> str:
    words = ["sudo", "-n", "sh", "-s", "--", authorized, user, keys.SSHD]
    return shlex.join(words)


def _log_in(transport: paramiko.Transport, node: str, user: str, files: Sequence[Path]) -> None:
    for file in files:
        try:
            private = paramiko.PKey.from_path(file)
        except (OSError, paramiko.SSHException, paramiko.pkey.UnknownKeyType, ValueError):
            continue  # missing, or of a type that paramiko cannot read
        try:
            transport.auth_publickey(user, private)
        except paramiko.AuthenticationException:
            continue
        return
    raise LabError(
        tr(
            "{node}: the box lets {user} in neither with the lab's key nor with Vagrant's",
            node=node,
            user=user,
        ),
        hint=tr("is it a box for Vagrant? `labctl box get` makes one that fits"),
    )
