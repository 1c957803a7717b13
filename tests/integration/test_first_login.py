"""The first login into a Vagrant box, against a real OpenSSH server in namespaces of its own.

The server sees a machine of its own making: /root, /home/vagrant and /etc/ssh are directories of
the test, and `systemctl` and `sudo` are scripts beside it. Nothing of this machine is written.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from labctl.access import keys
from labctl.access.ssh import SSHGuest
from labctl.errors import LabError
from labctl.providers.vagrant.first_login import install_lab_key
from tests.integration.own_sshd import start_sshd

# What the mount namespace sees in the place of this machine's own.
_INSIDE = """set -e
mount --make-rprivate /
mount --bind "$1/etc/passwd" /etc/passwd
mount --bind "$1/etc/group" /etc/group
mount --bind "$1/etc/ssh" /etc/ssh
mount --bind "$1/root" /root
mount --bind "$1/home" /home
mkdir -p /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""
_UID = 54321


class Box:
    """A machine as a Vagrant box makes it: the user `vagrant`, a known key, and sudo."""

    def __init__(self, directory: Path, sshd: str) -> None:
        self.directory = directory
        for name in ("etc/ssh/sshd_config.d", "root", "home/vagrant/.ssh", "bin"):
            (directory / name).mkdir(parents=True)
        directory.chmod(0o755)
        self.well_known = directory / "insecure"
        keys.ensure(self.well_known)
        self.authorized = directory / "home/vagrant/.ssh/authorized_keys"
        self.authorized.write_text(keys.public(self.well_known))
        for path in (directory / "home/vagrant").rglob("*"):
            os.chown(path, _UID, _UID)
        os.chown(directory / "home/vagrant", _UID, _UID)
        self._users()
        self.sudo('shift; exec setpriv --reuid 0 --regid 0 --clear-groups "$@"')
        self.script("systemctl", f'echo "$*" >>{directory}/systemctl')
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._sshd = sshd
        self._process: subprocess.Popen[bytes] | None = None

    def _users(self) -> None:
        shell = "/bin/bash"
        passwd = Path("/etc/passwd").read_text().splitlines()
        kept = [line for line in passwd if line.split(":")[0] not in ("vagrant", "root")]
        # The user is root by number: it stands for what sudo makes of it.
        kept += [f"root:x:0:0::/root:{shell}", f"vagrant:x:{_UID}:{_UID}::/home/vagrant:{shell}"]
        (self.directory / "etc/passwd").write_text("\n".join(kept) + "\n")
        group = Path("/etc/group").read_text()
        (self.directory / "etc/group").write_text(f"{group}vagrant:x:{_UID}:\n")

    def script(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def sudo(self, text: str) -> None:
        """What the box's sudo does; it is set-user-ID by way of a copy of a shell."""
        self.script("sudo.sh", text)
        program = self.directory / "bin" / "sudo"
        bash = shutil.which("bash")
        assert bash is not None
        root_bash = self.directory / "bin" / "rootbash"
        shutil.copy(bash, root_bash)
        root_bash.chmod(0o4755)
        program.write_text(f'#!/bin/sh\nexec {root_bash} -p {self.directory}/bin/sudo.sh "$@"\n')
        program.chmod(0o755)

    def host_key(self, kind: str) -> str:
        """A host key of that kind; its public half as labctl keeps it."""
        path = self.directory / f"host_{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])

    def start(self, *kinds: str) -> None:
        (self.directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\n"
            + "".join(f"HostKey {self.directory}/host_{kind}\n" for kind in kinds)
            + f"PidFile {self.directory}/pid\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nStrictModes yes\n"
            f"SetEnv PATH={self.directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )
        self._process = start_sshd(
            _INSIDE, ["box", self.directory, self._sshd], self.directory / "log", self.port,
            lambda: self.log,
        )  # fmt: skip

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)


@pytest.fixture
def box(require: Callable[..., None]) -> Iterator[Box]:
    require("sshd", "ssh-keygen", "unshare", "setpriv", root=True)
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    assert sshd is not None
    # sshd is strict about every directory above a key file: not pytest's, which are 0700.
    with tempfile.TemporaryDirectory(prefix="labctl-box-", dir="/var/tmp") as directory:
        made = Box(Path(directory), sshd)
        yield made
        made.stop()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "the lab's key"
    keys.ensure(path)
    return path


def enter(box: Box, key: Path, *more: Path) -> str:
    return install_lab_key(box.connect, node="node-1", key=key, insecure=[*more, box.well_known])


def root_guest(box: Box, key: Path, host_key: str, tmp_path: Path) -> SSHGuest:
    public = tmp_path / "node-1.pub"
    public.write_text(host_key + "\n")
    return SSHGuest("node-1", None, key, public, connect=box.connect)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_root_is_let_in_with_the_labs_key(box: Box, key: Path, tmp_path: Path, kind: str) -> None:
    public = box.host_key(kind)
    box.start(kind)
    assert enter(box, key) == public
    guest = root_guest(box, key, public, tmp_path)
    assert guest.run("id -u; echo $HOME").stdout == "0\n/root\n"
    guest.close()


def test_the_key_all_the_world_has_opens_nothing_any_more(
    box: Box, key: Path, tmp_path: Path
) -> None:
    public = box.host_key("ed25519")
    box.start("ed25519")
    enter(box, key)
    for name in ("root", "vagrant"):
        for file, lets_in in ((box.well_known, False), (key, True)):
            transport = paramiko.Transport(box.connect())
            try:
                transport.start_client(timeout=60)
                private = paramiko.PKey.from_path(file)
                if lets_in:
                    assert transport.auth_publickey(name, private) == []
                else:
                    with pytest.raises(paramiko.AuthenticationException):
                        transport.auth_publickey(name, private)
            finally:
                transport.close()
    files = (box.directory / "root/.ssh/authorized_keys", box.authorized)
    assert [path.read_text() for path in files] == [keys.public(key)] * 2
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 2
    assert [path.stat().st_uid for path in files] == [0, _UID]
    drop_in = box.directory / "etc/ssh/sshd_config.d/00-labctl.conf"
    assert drop_in.read_text() == keys.SSHD
    assert (box.directory / "systemctl").read_text() == "reload ssh\n"
    assert public


def test_a_box_that_knows_another_of_vagrants_keys(box: Box, key: Path, tmp_path: Path) -> None:
    """Since Vagrant 2.4 there are two; a box may let in one only."""
    rsa = tmp_path / "vagrant.key.rsa"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(rsa))
    public = box.host_key("ed25519")
    box.start("ed25519")
    assert enter(box, key, tmp_path / "missing", rsa) == public
    assert box.authorized.read_text() == keys.public(key)


def test_twice_is_once(box: Box, key: Path) -> None:
    """An attempt that was cut off after the script is done again, by the lab's own key."""
    public = box.host_key("ed25519")
    box.start("ed25519")
    assert enter(box, key) == enter(box, key) == public
    assert box.authorized.read_text() == keys.public(key)
    assert install_lab_key(box.connect, node="node-1", key=key, insecure=[]) == public


def test_a_box_without_directories_for_keys(box: Box, key: Path, tmp_path: Path) -> None:
    public = box.host_key("ed25519")
    shutil.rmtree(box.directory / "etc/ssh/sshd_config.d")  # an sshd from before 8.2
    box.start("ed25519")
    assert enter(box, key) == public
    assert not (box.directory / "systemctl").exists()
    guest = root_guest(box, key, public, tmp_path)
    assert guest.run(["true"]).ok
    guest.close()


def test_of_several_host_keys_one_is_known_and_shown_again(
    box: Box, key: Path, tmp_path: Path
) -> None:
    publics = [box.host_key(kind) for kind in ("rsa", "ecdsa", "ed25519")]
    box.start("rsa", "ecdsa", "ed25519")
    shown = enter(box, key)
    assert shown in publics
    for public in publics:  # whichever it was: the server is asked for that one
        guest = root_guest(box, key, public, tmp_path)
        assert guest.run(["true"]).ok
        guest.close()


def test_keys_that_are_missing_or_no_keys_are_passed_over(
    box: Box, key: Path, tmp_path: Path
) -> None:
    box.host_key("ed25519")
    box.start("ed25519")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\xfe no key at all")
    other = tmp_path / "other"
    keys.ensure(other)
    assert enter(box, key, tmp_path / "missing", garbage, tmp_path, other)


def test_no_key_fits(box: Box, key: Path, tmp_path: Path) -> None:
    box.host_key("ed25519")
    other = tmp_path / "other"
    keys.ensure(other)
    box.authorized.write_text(keys.public(other))
    box.start("ed25519")
    with pytest.raises(LabError, match="node-1: the box lets vagrant in neither") as error:
        enter(box, key)
    assert "labctl box get" in (error.value.hint or "")
    assert not (box.directory / "root/.ssh").exists()


def test_sudo_asks_for_a_password(box: Box, key: Path) -> None:
    box.host_key("ed25519")
    box.sudo("echo 'sudo: a password is required' >&2; exit 1")
    box.start("ed25519")
    with pytest.raises(
        LabError, match="node-1: the box could not be prepared: sudo: a password is required"
    ) as error:
        enter(box, key)
    assert "passwordless sudo" in (error.value.hint or "")
    assert box.authorized.read_text() == keys.public(box.well_known)  # as it was


def test_a_server_that_is_no_server(key: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    theirs.close()
    with pytest.raises((paramiko.SSHException, EOFError, OSError)):
        install_lab_key(lambda: ours, node="node-1", key=key, insecure=[])
