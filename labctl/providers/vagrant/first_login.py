"""The first login into a fresh machine of Vagrant's: the lab's key in, the public one out.

Every Vagrant box lets the user `vagrant` in with a key that all the world has. It is used once: to
let root in with the lab's own key, and to replace itself.
"""

import shlex
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import paramiko

from labctl.access import keys
from labctl.errors import LabError
from labctl.i18n import tr

_SCRIPT = """set -eu
umask 077
# allow USER: the key opens the account from now on, and no other does.
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
    """Make a machine the lab's own; its host key as `TYPE BASE64`, to be known from now on.

    `connect` opens a connection to its SSH server, `key` is the lab's private key, `insecure` are
    the private keys a new box may know. Safe to run again. Raises LabError when nobody is let in,
    OSError or paramiko.SSHException when the server does not answer properly.
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
        # The script comes by stdin: no word of it passes through the login shell's quoting.
        channel.exec_command(_command(authorized, user))
        channel.sendall(_SCRIPT.encode())
        channel.shutdown_write()
        said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        if channel.recv_exit_status() != 0:
            raise LabError(
                tr(
                    "{node}: the box refuses to be prepared: {said}",
                    node=node,
                    said=said or tr("no reason given"),
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
            continue  # not there, or of a kind that this machine does not know
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
        hint=tr("is it a box for Vagrant? `labctl box build` makes one that fits"),
    )
