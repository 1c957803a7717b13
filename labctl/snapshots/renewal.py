"""What a node's disk holds of the lab that it is of, and how a copy of it gets its own.

A fork is made of the disks of a snapshot. Before one of them boots, everything by which somebody
who knows the first lab could get into the second is replaced: passwords, keys, cookies. What only
names things inside the lab (IDs in OpenStack's databases, names of chassis) stays. The databases'
own copies of the passwords are replaced by MariaDB when it starts, before it lets anybody in.
"""

import base64
import hashlib
import os
import re
import secrets
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from labctl.access import keys
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system import files, rights
from labctl.provisioning.stages import DONE
from labctl.run import run
from labctl.state import Secrets

INIT_FILE = "/etc/mysql/labctl-fork.sql"
"""On the controller: the statements that MariaDB runs at its start (its option init-file)."""
INIT_OPTION = "/etc/mysql/mariadb.conf.d/99-labctl-fork.cnf"
"""On the controller: the configuration that names that file."""
_ENV = "etc/labctl/lab.env"
_NETWORK_ENV = "etc/labctl/network.env"
_INPUTS = "etc/labctl/inputs"
_MACHINE_ID = "etc/machine-id"
_INITIATOR = "etc/iscsi/initiatorname.iscsi"
_COOKIE = "var/lib/rabbitmq/.erlang.cookie"
_BROKER = "var/lib/rabbitmq/mnesia"
_KEYSTONE_KEYS = ("etc/keystone/fernet-keys", "etc/keystone/credential-keys")
_KEYPAIR = "root/.ssh/id_ed25519"
_MYSQL = "var/lib/mysql"
_DATABASES = (_MYSQL, "var/lib/openvswitch", "var/lib/ovn", "etc/openvswitch", "etc/ovn")
"""Their files have checksums: nothing can be replaced in them from outside."""
_RANDOM = ("var/lib/systemd/random-seed", "var/lib/systemd/credential.secret")
_LIVE_SNAPSHOTS = "var/lib/labctl/snapshots"
"""Of provision/warm/: what restores a node while it runs."""
_DATABASE_USERS = ("keystone", "glance", "placement", "neutron", "nova")  # provision/30-mariadb.sh
_SERVICE_USERS = ("glance", "placement", "neutron", "nova")  # provision/identity.py
_BCRYPT_ROUNDS = 4  # [identity] password_hash_rounds in provision/files/keystone.conf


@dataclass(frozen=True)
class NodeIdentity:
    """What the disk of one node holds of its lab."""

    secrets: Secrets
    macs: tuple[str, ...]
    """Of its cards, in the order of the topology."""
    env: str
    """Content of /etc/labctl/lab.env."""
    inputs: str
    """Hash in the marks of the scripts that have run."""


@dataclass(frozen=True)
class KeyPair:
    """The public half of a key, before and after it was replaced: base64, without type and name."""

    old: str
    new: str


def renew(disk: Path, old: NodeIdentity, new: NodeIdentity) -> None:
    """Make the unpacked disk of a node that of a node of another lab. The node has not booted.

    Raises LabError when a secret of the first lab is where it cannot be replaced.
    """
    _remove(disk, _BROKER)  # a new broker takes its user from definitions.json
    for name in _RANDOM:
        _remove(disk, name)
    for host_key in _files(disk, "etc/ssh", "ssh_host_*"):
        host_key.unlink()  # the provider writes the new one before the boot
    _replace_secrets(disk, old.secrets, new.secrets)
    for path in (*_files(disk, DONE[1:], "*.sh"), *_files(disk, _INPUTS)):
        _substitute(path, {old.inputs.encode(): new.inputs.encode()})
    for path in _files(disk, _NETWORK_ENV):
        macs = zip(old.macs, new.macs, strict=True)
        _substitute(path, {before.encode(): after.encode() for before, after in macs})
    for path in _files(disk, _ENV):
        path.write_text(new.env, encoding="utf-8")
    for path in _files(disk, _MACHINE_ID):
        path.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
    for path in _files(disk, _INITIATOR):
        name = re.sub(r"[0-9a-f]+\s*$", secrets.token_hex(6), path.read_text(encoding="ascii"))
        path.write_text(name + "\n", encoding="ascii")
    for path in _files(disk, _COOKIE):
        _overwrite(path, secrets.token_hex(32).encode())
    for directory in _KEYSTONE_KEYS:
        for path in _files(disk, directory, "[0-9]*"):
            _overwrite(path, base64.urlsafe_b64encode(os.urandom(32)))
    keypair = _renew_keypair(disk)
    if _inside(disk, _MYSQL).is_dir():
        _write_statements(disk, statements(new.secrets, keypair))


def forget_live_snapshots(disk: Path) -> None:
    """Remove from a node's disk what restores it while it runs: it holds the passwords of then."""
    _remove(disk, _LIVE_SNAPSHOTS)


def statements(new: Secrets, keypair: KeyPair | None) -> list[str]:
    """The SQL by which the databases get the new passwords and the new key. No password is in it.

    An init-file of MariaDB: one statement a line; it may run more than once.
    """
    # mysql_native_password: SHA1 of the SHA1 of the password.
    twice = hashlib.sha1(hashlib.sha1(new.database.encode()).digest()).hexdigest().upper()
    lines = [
        f"ALTER USER '{user}'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING '*{twice}';"
        for user in _DATABASE_USERS
    ]
    passwords = {"admin": new.admin, **dict.fromkeys(_SERVICE_USERS, new.service)}
    lines += [
        "UPDATE keystone.password AS p JOIN keystone.local_user AS u ON u.id = p.local_user_id"
        f" SET p.password_hash = '{_bcrypt(password)}'"
        f" WHERE u.name = '{user}' AND u.domain_id = 'default';"
        for user, password in passwords.items()
    ]
    if keypair is not None:
        before, after = _fingerprint(keypair.old), _fingerprint(keypair.new)
        columns = (("nova_api.key_pairs", "public_key"), ("nova.instances", "key_data"),
                   ("nova.instance_extra", "keypairs"))  # fmt: skip
        lines += [
            f"UPDATE {table} SET {column} = REPLACE({column}, '{keypair.old}', '{keypair.new}');"
            for table, column in columns
        ]
        lines += [
            f"UPDATE {table} SET {column} = REPLACE({column}, '{before}', '{after}');"
            for table, column in (("nova_api.key_pairs", "fingerprint"), columns[2])
        ]
    return lines


def _bcrypt(password: str) -> str:
    import bcrypt

    salt = bcrypt.gensalt(rounds=_BCRYPT_ROUNDS)
    return bcrypt.hashpw(password.encode(), salt).decode("ascii")


def _fingerprint(blob: str) -> str:
    """As Nova stores it: MD5 of the key, in pairs of digits."""
    digest = hashlib.md5(base64.b64decode(blob), usedforsecurity=False).hexdigest()
    return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))


def _write_statements(disk: Path, lines: list[str]) -> None:
    server = _inside(disk, _MYSQL).stat()
    path = _inside(disk, INIT_FILE[1:])
    _write_new(path, "".join(line + "\n" for line in lines))
    rights.set_owner(path, server.st_uid, server.st_gid)
    _write_new(_inside(disk, INIT_OPTION[1:]), f"[mysqld]\ninit-file = {INIT_FILE}\n", 0o644)


def _write_new(path: Path, text: str, mode: int = 0o400) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        rights.set_mode(stream.fileno(), mode)
        stream.write(text.encode())


def _renew_keypair(disk: Path) -> KeyPair | None:
    """A new key for the way from the controller to instances; None where there is none."""
    found = list(_files(disk, _KEYPAIR))
    if not found:
        return None
    path = found[0]
    try:
        kind, before, *comment = (
            keys.public(path).split()
            + path.with_suffix(".pub").read_text(encoding="utf-8", errors="replace").split()[2:]
        )
    except (OSError, ValueError):  # the learner's own, with a passphrase or of another kind
        return None
    path.unlink()
    keys.ensure(path)
    after = keys.public(path).split()[1]
    public = path.with_suffix(".pub")
    public.unlink(missing_ok=True)
    _write_new(public, " ".join([kind, after, *comment]) + "\n", 0o644)
    return KeyPair(before, after)


def _replace_secrets(disk: Path, old: Secrets, new: Secrets) -> None:
    """Replace every password of the first lab, in whatever file it is."""
    before, after = asdict(old), asdict(new)
    words = {before[name].encode(): after[name].encode() for name in before}
    for path in files_with(disk, list(before.values())):
        place = path.relative_to(disk)
        if any(place.is_relative_to(database) for database in _DATABASES):
            raise LabError(
                tr("{file} in the snapshot holds a password of this lab, and a fork cannot replace"
                   " it there", file=f"/{place}"),
                hint=tr("take it out of the database and save another snapshot, or take an earlier"
                        " one: --snapshot NAME"),
            )  # fmt: skip
        _substitute(path, words)


def files_with(directory: Path, words: list[str]) -> list[Path]:
    """The regular files below the directory in which one of the words is. Raises LabError."""
    # By standard input: a command line can be read by every user of the machine.
    found = run(
        ["grep", "-rlaZF", "--devices=skip", "-f", "-", "--", directory],
        input="".join(word + "\n" for word in words),
        check=False,
        timeout=300,
    )
    if found.returncode > 1:  # grep(1): 0 found, 1 not found
        raise LabError(
            tr("{path} cannot be read: {error}", path=directory, error=found.stderr.strip()[-200:])
        )
    return [Path(name) for name in found.stdout.split("\0") if name]


def _substitute(path: Path, words: Mapping[bytes, bytes]) -> None:
    """Replace the words in a file; each is as long as what replaces it."""
    content = path.read_bytes()
    for before, after in words.items():
        content = content.replace(before, after)
    _overwrite(path, content)


def _overwrite(path: Path, content: bytes) -> None:
    """Give a file another content, and leave its owner, mode and links as they are."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_TRUNC | files.NOFOLLOW), "wb") as stream:
        stream.write(content)


def _inside(disk: Path, name: str) -> Path:
    """The path of a name on the disk. Raises LabError if a link leads away from there.

    Root of a node may have made one, and it would lead to files of this machine.
    """
    path = disk / name
    if path.parent.exists() and path.parent.resolve() != disk.resolve() / Path(name).parent:
        raise LabError(tr("/{name} in the snapshot is behind a link, and a fork follows none",
                          name=name))  # fmt: skip
    return path


def _files(disk: Path, name: str, pattern: str = "") -> Iterator[Path]:
    """The regular files of that name; with a pattern those in the directory of that name."""
    paths = sorted(_inside(disk, f"{name}/x").parent.glob(pattern)) if pattern else [
        _inside(disk, name)
    ]  # fmt: skip
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _remove(disk: Path, name: str) -> None:
    path = _inside(disk, name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
