"""The directory of keys that mmdebstrap is given."""

import hashlib
import re
import shutil
import stat
from pathlib import Path

import pytest

import labctl.images.keys
from labctl.errors import LabError
from labctl.images.keys import KEYS, archive_keys, without_armor

PROVISION = Path(__file__).parents[3] / "provision"
# Of Debian 13: archive, security archive, stable release. As debian-archive-keyring 2025.1 has them
# (trixie-automatic, -security-automatic, -stable), and as Debian publishes them.
FINGERPRINTS = {
    "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
    "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
    "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
}


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, body) of the packets of an OpenPGP file in the old format (RFC 4880, 4.2.1)."""
    found = []
    while data:
        assert data[0] & 0xC0 == 0x80
        octets = 1 << (data[0] & 3)
        size = int.from_bytes(data[1 : 1 + octets], "big")
        found.append((data[0] >> 2 & 15, data[1 + octets : 1 + octets + size]))
        data = data[1 + octets + size :]
    return found


def test_the_keys_are_debians_and_no_others() -> None:
    data = without_armor((PROVISION / KEYS).read_text(encoding="ascii"))
    # The fingerprint of a version 4 key (RFC 4880, 12.2).
    keys = [body for tag, body in packets(data) if tag == 6]
    assert {key[0] for key in keys} == {4}
    found = [hashlib.sha1(b"\x99" + len(key).to_bytes(2, "big") + key).hexdigest() for key in keys]
    assert {one.upper() for one in found} == FINGERPRINTS
    assert len(found) == 3


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of apt's keys on a host that has nothing else."""
    directory = tmp_path / "trusted.gpg.d"
    directory.mkdir()
    monkeypatch.setattr(labctl.images.keys, "_DEBIANS", tmp_path / "debians.gpg")
    monkeypatch.setattr(labctl.images.keys, "_APTS", (tmp_path / "trusted.gpg", directory))
    return directory


def test_a_host_without_any_key_has_ours(apt: Path) -> None:
    with archive_keys(PROVISION) as directory:
        assert [file.name for file in directory.iterdir()] == ["00-labctl.gpg"]
    assert not directory.exists()


def test_what_the_host_trusts_stays_trusted(apt: Path, tmp_path: Path) -> None:
    """A mirror with a key of its own, and a keyring of Debian's that ends long ago."""
    for name in ("mine.asc", "mine.gpg", "notes.txt"):
        (apt / name).write_text(name)
        (apt / name).chmod(0o600)
    (apt / "empty.gpg").touch()
    (tmp_path / "debians.gpg").write_text("old")
    with archive_keys(PROVISION) as directory:
        found = {re.sub(r"^\d\d-", "", file.name): file for file in directory.iterdir()}
        assert set(found) == {"labctl.gpg", "debians.gpg", "mine.asc", "mine.gpg"}
        assert found["mine.asc"].read_text() == "mine.asc"
        # apt reads them as its user _apt.
        modes = {stat.S_IMODE(file.stat().st_mode) for file in found.values()}
        assert (modes, stat.S_IMODE(directory.stat().st_mode)) == ({0o644}, 0o755)


def test_two_files_of_one_name_are_both_there(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "trusted.gpg").write_text("one")
    (apt / "trusted.gpg").write_text("two")
    with archive_keys(PROVISION) as directory:
        texts = {file.read_bytes() for file in directory.iterdir()}
        assert texts >= {b"one", b"two"}


def test_a_full_disk_is_told(apt: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    (apt / "mine.gpg").write_text("x")
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(LabError, match="No space left"), archive_keys(PROVISION):
        pass
