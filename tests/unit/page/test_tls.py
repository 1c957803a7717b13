"""The certificate of `labctl open --listen`: the lab's own, or one that is given."""

import hashlib
import ssl
from pathlib import Path

import pytest

from labctl.errors import EXIT_USAGE, LabError
from labctl.page.serve import listen
from labctl.page.tls import tls_for
from labctl.state import LabState
from tests.unit.page.certificates import given


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")


@pytest.fixture
def state(tmp_path: Path) -> LabState:
    state = LabState(tmp_path)
    state.make_root()
    return state


def test_the_labs_own_certificate_is_kept_and_is_its_owners_alone(state: LabState) -> None:
    first = tls_for("127.0.0.2", state)
    assert state.page_certificate.stat().st_mode & 0o777 == 0o600
    assert tls_for("127.0.0.2", state).fingerprint == first.fingerprint
    pem = state.page_certificate.read_text()
    content = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])
    assert first.fingerprint.replace(":", "").lower() == hashlib.sha256(content).hexdigest()
    assert first.names == ["127.0.0.2"]


def test_another_address_gets_a_certificate_of_its_own(state: LabState) -> None:
    first = tls_for("127.0.0.2", state)
    second = tls_for("::1", state)
    assert second.names == ["[::1]"]
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\x00"])
def test_a_damaged_certificate_of_the_labs_own_is_made_anew(
    state: LabState, content: bytes
) -> None:
    first = tls_for("127.0.0.2", state)
    state.page_certificate.write_bytes(content)
    assert tls_for("127.0.0.2", state).fingerprint != first.fingerprint


def test_a_given_certificate_says_at_which_names_the_page_is(
    state: LabState, tmp_path: Path
) -> None:
    certificate, key = given(tmp_path, names=("Lab.example", "www.lab.example"))
    tls = tls_for("127.0.0.2", state, certificate, key)
    assert tls.names == ["127.0.0.2", "lab.example", "www.lab.example"]
    assert not state.page_certificate.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("0.0.0.0", "--listen 0.0.0.0: this is every address of this machine"),
        ("::", "--listen ::: this is every address of this machine"),
        ("lab.example", "--listen lab.example: this is no IP address"),
        ("", "--listen : this is no IP address"),
        ("127.0.0.1:80", "--listen 127.0.0.1:80: this is no IP address"),
    ],
)
def test_an_address_that_is_none(state: LabState, address: str, message: str) -> None:
    with pytest.raises(LabError) as refused:
        tls_for(address, state)
    assert (refused.value.message, refused.value.code) == (message, EXIT_USAGE)
    assert refused.value.hint


def test_an_address_of_another_machine(state: LabState) -> None:
    with pytest.raises(LabError) as refused:
        listen(0, "203.0.113.7")
    assert refused.value.message == "--listen 203.0.113.7: this machine has no such address"
    assert refused.value.code == EXIT_USAGE


def test_certificates_that_cannot_be_used(state: LabState, tmp_path: Path) -> None:
    for name in ("good", "other", "expired", "locked"):
        (tmp_path / name).mkdir()
    certificate, key = given(tmp_path / "good")
    _, other_key = given(tmp_path / "other")
    expired, expired_key = given(tmp_path / "expired", days=-5)
    locked, locked_key = given(tmp_path / "locked", password=b"secret")
    nothing, nonsense = tmp_path / "nothing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    wrong = {
        (certificate, None): "--cert and --key belong together",
        (None, key): "--cert and --key belong together",
        (nothing, key): f"--cert {nothing}: No such file or directory",
        (nonsense, key): f"--cert {nonsense}: ",
        (certificate, nothing): f"--key {nothing}: No such file or directory",
        (certificate, nonsense): f"--key {nonsense}: it does not fit the certificate, or",
        (certificate, other_key): f"--key {other_key}: it does not fit the certificate, or",
        (locked, locked_key): f"--key {locked_key}: it does not fit the certificate, or",
        (expired, expired_key): f"--cert {expired}: it is valid from ",
    }
    for (given_certificate, given_key), message in wrong.items():
        with pytest.raises(LabError) as refused:
            tls_for("127.0.0.2", state, given_certificate, given_key)
        assert refused.value.message.startswith(message)
        assert (refused.value.code, bool(refused.value.hint)) == (EXIT_USAGE, True)
