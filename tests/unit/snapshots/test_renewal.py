"""A copied disk gets passwords, keys and names of its own; what stays is as it was."""

import hashlib
import os
import stat
from dataclasses import asdict
from pathlib import Path

import bcrypt
import pytest

from labctl.access import keys
from labctl.errors import LabError
from labctl.snapshots.renewal import INIT_FILE, KeyPair, NodeIdentity, files_with, renew, statements
from labctl.state import Secrets

OLD, NEW = Secrets.generate(), Secrets.generate()
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02"), ("52:54:00:00:00:03", "52:54:00:00:00:04")
OLD_HASH, NEW_HASH = "0123456789abcdef", "fedcba9876543210"
BEFORE = NodeIdentity(OLD, MACS[0], "LAB_NAME=old\n", OLD_HASH)
AFTER = NodeIdentity(NEW, MACS[1], "LAB_NAME=new\n", NEW_HASH)


def write(path: Path, content: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """What a controller's disk holds, as far as it is of one lab."""
    disk = tmp_path / "disk"
    write(disk / "etc/labctl/lab.env", f"LAB_NAME=old\nSECRET_ADMIN={OLD.admin}\n", 0o600)
    write(disk / "etc/labctl/inputs", OLD_HASH + "\n")
    write(disk / "etc/labctl/network.env", f"ETH0_MAC={MACS[0][0]}\nETH1_MAC={MACS[0][1]}\n")
    write(disk / "var/lib/labctl/done/20-node.sh", OLD_HASH + "\n")
    write(disk / "var/lib/labctl/done/30-mariadb.sh", "of an older labctl\n")
    write(disk / "etc/nova/nova.conf", f"password = {OLD.service}\nurl = x:{OLD.rabbit}@h\n", 0o640)
    write(disk / "etc/machine-id", "a" * 32 + "\n", 0o444)
    write(disk / "etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.x:01:0123456789ab\n", 0o600)
    write(disk / "var/lib/rabbitmq/.erlang.cookie", "c" * 64, 0o400)
    write(disk / "var/lib/rabbitmq/mnesia/rabbit/queue", "content")
    for name in ("fernet-keys/0", "fernet-keys/1", "credential-keys/0"):
        write(disk / "etc/keystone" / name, "k" * 44, 0o600)
    write(disk / "var/lib/mysql/ibdata1", b"\0pages\0")
    write(disk / "etc/mysql/mariadb.conf.d/99-labctl.cnf", "[mysqld]\n")
    write(disk / "etc/ssh/ssh_host_ed25519_key", "host key", 0o600)
    keys.ensure(disk / "root/.ssh/id_ed25519")
    public = keys.public(disk / "root/.ssh/id_ed25519").strip()
    write(disk / "root/.ssh/id_ed25519.pub", f"{public} labctl old\n")
    write(disk / "root/notes.txt", "a learner's own\n")
    return disk


def contents(disk: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(disk)): path.read_bytes()
        for path in disk.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_nothing_that_opens_the_first_lab_is_left(disk: Path) -> None:
    before = contents(disk)
    renew(disk, BEFORE, AFTER)
    after = contents(disk)
    whole = b"\n".join(after.values())
    for name, password in asdict(OLD).items():
        assert password.encode() not in whole, name
    renewed = [
        "etc/machine-id", "etc/iscsi/initiatorname.iscsi", "var/lib/rabbitmq/.erlang.cookie",
        "etc/keystone/fernet-keys/0", "etc/keystone/fernet-keys/1",
        "etc/keystone/credential-keys/0", "root/.ssh/id_ed25519", "root/.ssh/id_ed25519.pub",
    ]  # fmt: skip
    assert [name for name in renewed if before[name] in whole] == []
    assert "etc/ssh/ssh_host_ed25519_key" not in after
    assert not [name for name in after if "mnesia" in name]
    assert after["root/notes.txt"] == before["root/notes.txt"]


def test_each_file_has_what_its_reader_expects(disk: Path) -> None:
    renew(disk, BEFORE, AFTER)
    assert (disk / "etc/nova/nova.conf").read_text() == (
        f"password = {NEW.service}\nurl = x:{NEW.rabbit}@h\n"
    )
    assert (disk / "etc/labctl/lab.env").read_text() == AFTER.env
    assert (disk / "etc/labctl/inputs").read_text().strip() == NEW_HASH
    assert (disk / "var/lib/labctl/done/20-node.sh").read_text().strip() == NEW_HASH
    assert (disk / "var/lib/labctl/done/30-mariadb.sh").read_text() == "of an older labctl\n"
    assert (disk / "etc/labctl/network.env").read_text() == (
        f"ETH0_MAC={MACS[1][0]}\nETH1_MAC={MACS[1][1]}\n"
    )
    int((disk / "etc/machine-id").read_text().strip(), 16)
    assert (
        (disk / "etc/iscsi/initiatorname.iscsi").read_text().startswith("InitiatorName=iqn.x:01:")
    )
    assert len((disk / "etc/iscsi/initiatorname.iscsi").read_text().strip()) == 35
    assert len((disk / "var/lib/rabbitmq/.erlang.cookie").read_bytes()) == 64
    assert len((disk / "etc/keystone/fernet-keys/0").read_bytes()) == 44
    kind, blob, *comment = (disk / "root/.ssh/id_ed25519.pub").read_text().split()
    assert f"{kind} {blob}" == keys.public(disk / "root/.ssh/id_ed25519").strip()
    assert comment == ["labctl", "old"]


def test_owner_mode_and_links_of_a_file_stay(disk: Path) -> None:
    names = ["etc/nova/nova.conf", "var/lib/rabbitmq/.erlang.cookie", "etc/machine-id"]
    before = {name: (disk / name).stat() for name in names}
    renew(disk, BEFORE, AFTER)
    for name in names:
        after = (disk / name).stat()
        assert (after.st_ino, after.st_mode) == (before[name].st_ino, before[name].st_mode), name
    statements_file = (disk / INIT_FILE[1:]).stat()
    assert stat.S_IMODE(statements_file.st_mode) == 0o400
    assert statements_file.st_uid == (disk / "var/lib/mysql").stat().st_uid


def test_a_password_inside_a_database_is_refused(disk: Path) -> None:
    write(disk / "var/lib/mysql/ibdata1", b"\0page " + OLD.admin.encode() + b"\0")
    with pytest.raises(LabError, match="ibdata1"):
        renew(disk, BEFORE, AFTER)


@pytest.mark.parametrize("name", ["etc/labctl", "root/.ssh", "etc/keystone/fernet-keys"])
def test_a_link_out_of_the_disk_is_not_followed(disk: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (disk / name).rename(outside)
    (disk / name).symlink_to(outside)
    before = contents(outside)
    with pytest.raises(LabError, match="behind a link"):
        renew(disk, BEFORE, AFTER)
    assert contents(outside) == before


def test_a_file_that_is_a_link_is_left_alone(disk: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", OLD.admin)
    for name in ("etc/machine-id", "etc/nova/link"):
        (disk / name).unlink(missing_ok=True)
        (disk / name).symlink_to(outside)
    renew(disk, BEFORE, AFTER)
    assert outside.read_text() == OLD.admin


def test_a_disk_without_openstack_needs_none_of_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    write(disk / "etc/labctl/lab.env", "LAB_NAME=old\n")
    renew(disk, BEFORE, AFTER)
    assert contents(disk) == {"etc/labctl/lab.env": b"LAB_NAME=new\n"}


def test_the_statements_set_every_password_and_show_none() -> None:
    lines = statements(NEW, None)
    text = "\n".join(lines)
    assert not [value for value in asdict(NEW).values() if value in text]
    inner = hashlib.sha1(NEW.database.encode()).digest()
    assert text.count("'*" + hashlib.sha1(inner).hexdigest().upper() + "'") == 5
    hashes = {
        line.split("u.name = '")[1].split("'")[0]: line.split("password_hash = '")[1].split("'")[0]
        for line in lines
        if "password_hash" in line
    }
    wanted = {
        "admin": NEW.admin,
        **dict.fromkeys(("glance", "placement", "neutron", "nova"), NEW.service),
    }
    assert {
        user: bcrypt.checkpw(wanted[user].encode(), hashed.encode())
        for user, hashed in hashes.items()
    } == dict.fromkeys(wanted, True)


def test_the_statements_give_instances_the_new_key() -> None:
    # What Nova made of this key: `openstack keypair show lab -c fingerprint`.
    old = "AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
    new = "AAAAC3NzaC1lZDI1NTE5AAAAIJvQ9PSVwJ3OSTcDWYrZ3BNnpAqUIKp4HUqxYCX3sZ8S"
    lines = [
        line for line in statements(NEW, KeyPair(old, new)) if "nova" in line and "REPL" in line
    ]
    tables = ["nova_api.key_pairs", "nova.instances", "nova.instance_extra",
              "nova_api.key_pairs", "nova.instance_extra"]  # fmt: skip
    assert [line.split()[1] for line in lines] == tables
    assert all(old in line and new in line for line in lines[:3])
    assert all(line.count(":") == 30 for line in lines[3:])


def test_words_are_found_in_text_and_binary_files_and_through_no_link(tmp_path: Path) -> None:
    text = write(tmp_path / "d/a", "xx secret-1 xx")
    binary = write(tmp_path / "d/b\nwith a line break", b"\0\xff secret-2\0")
    write(tmp_path / "d/c", "nothing")
    outside = write(tmp_path / "outside", "secret-1")
    (tmp_path / "d/link").symlink_to(outside)
    os.mkfifo(tmp_path / "d/pipe")
    found = files_with(tmp_path / "d", ["secret-1", "secret-2"])
    assert sorted(found) == sorted([text, binary])
