"""The lab's SSH keys: made once, private, and such that OpenSSH takes them."""

import base64
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from labctl.access import keys


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "id"
    keys.ensure(path)
    made = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.ensure(path)
    assert path.read_bytes() == made
    keys.ensure(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() != made


def test_openssh_refuses_a_key_that_others_can_read_so_its_mode_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "id"
    keys.ensure(path)
    path.chmod(0o777)
    keys.client(path, tmp_path / "known_hosts", "n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.client(tmp_path / "none", tmp_path / "known_hosts", "n")  # is OpenSSH's to report


def test_paramiko_and_we_read_the_same_public_half(tmp_path: Path) -> None:
    keys.ensure(tmp_path / "id")
    line = keys.public(tmp_path / "id")
    private = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "id"))
    assert line == f"ssh-ed25519 {private.get_base64()}\n"


def test_openssh_reads_it(tmp_path: Path, require: Callable[..., None]) -> None:
    require("ssh-keygen")
    keys.ensure(tmp_path / "id")
    program = shutil.which("ssh-keygen")
    assert program is not None
    said = subprocess.run(
        [program, "-y", "-f", tmp_path / "id"], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[:2] == keys.public(tmp_path / "id").split()


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ssh-rsa"])
def test_public_halves_of_other_kinds(tmp_path: Path, kind: str) -> None:
    """A lab's key may have been put there by its user."""
    private = (
        ec.generate_private_key(ec.SECP256R1())
        if kind.startswith("ecdsa")
        else rsa.generate_private_key(65537, 2048)
    )
    (tmp_path / "id").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    words = keys.public(tmp_path / "id").split()
    assert words[0] == kind
    parsed = paramiko.PKey.from_type_string(kind, base64.b64decode(words[1]))
    assert parsed == paramiko.PKey.from_path(tmp_path / "id")


def test_the_client_asks_nobody_else(tmp_path: Path, require: Callable[..., None]) -> None:
    """Neither the user's configuration nor the user's known hosts; odd directories are fine."""
    require("ssh")
    odd = tmp_path / "a lab, 100%done"
    keys.ensure(odd / "id")
    argv = keys.client(odd / "id", odd / "known hosts", "compute-01")
    said = subprocess.run(
        [*argv, "-G", "root@127.0.0.1"], capture_output=True, text=True, check=True
    ).stdout
    options = [line.split(" ", 1) for line in said.splitlines() if " " in line]
    assert [value for name, value in options if name == "identityfile"] == [
        f"{odd}/id".replace("%", "%%")  # expanded when it is used
    ]
    told = dict(options)
    assert told["stricthostkeychecking"] in ("true", "yes")
    assert told["hostkeyalias"] == "compute-01"
    assert told["identitiesonly"] == "yes"
    assert told["userknownhostsfile"].strip('"') == f"{odd}/known hosts"


def test_what_sshd_is_told() -> None:
    """Room for eight steps and a capture at once, and no passwords."""
    options = dict(line.split() for line in keys.SSHD.splitlines() if not line.startswith("#"))
    assert options["PasswordAuthentication"] == "no"
    assert options["PermitRootLogin"] == "prohibit-password"
    assert int(options["MaxSessions"]) >= 32
