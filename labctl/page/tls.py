"""TLS for `labctl open --listen`: a certificate that is given, or the lab's own, self-signed.

Whoever opens the page compares the fingerprint that labctl prints with the one that the browser
shows: a self-signed certificate proves nothing by itself.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.state import LabState, write_atomic

VALID = timedelta(days=397)
"""Of a certificate of the lab's own; browsers refuse some that are valid for longer."""
SECONDS_TO_SAY_GOODBYE = 1
"""Seconds from the server's end of a connection to the client's; asyncio would wait for 30."""
SECONDS_TO_SHAKE_HANDS = 10
"""Seconds for the TLS handshake; connections are counted only after it."""


@dataclass(frozen=True)
class Tls:
    """How the page is served with TLS."""

    address: str
    """Of this machine, to listen on."""
    names: Sequence[str]
    """What may be the host in the page's addresses: all names that the certificate is for."""
    context: ssl.SSLContext
    fingerprint: str
    """SHA-256 of the certificate, as browsers show it: AB:CD:…"""


class TlsServer(uvicorn.Server):
    """Ends connections that never finish their TLS handshake, or their TLS goodbye.

    uvicorn has no setting for either.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        create_server = partial(
            loop.create_server,
            ssl_handshake_timeout=SECONDS_TO_SHAKE_HANDS,
            ssl_shutdown_timeout=SECONDS_TO_SAY_GOODBYE,
        )
        loop.create_server = create_server  # type: ignore[method-assign]
        await super().startup(sockets)


def tls_for(
    address: str, state: LabState, certificate: Path | None = None, key: Path | None = None
) -> Tls:
    """TLS on an address of this machine, with the certificate that is given or the lab's own.

    Raises LabError when the address is none, or the certificate cannot be used.
    """
    address = _checked(address)
    if (certificate is None) is not (key is None):
        raise LabError(
            tr("--cert and --key belong together"),
            hint=tr("give both, or none: then labctl makes a certificate itself"),
            code=EXIT_USAGE,
        )
    if certificate is None or key is None:
        path = state.page_certificate
        found = _own(path, address)
        return Tls(address, _names(found, address), _context(path, path), _fingerprint(found))
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
            times = (found.not_valid_before_utc, found.not_valid_after_utc)
            start, end = (f"{time:%Y-%m-%d}" for time in times)
            raise ValueError(tr("it is valid from {start} to {end}", start=start, end=end))
    except OSError as error:
        raise _unusable("--cert", certificate, error.strerror or str(error)) from error
    except ValueError as error:
        raise _unusable("--cert", certificate, str(error).splitlines()[0]) from error
    return Tls(address, _names(found, address), _context(certificate, key), _fingerprint(found))


def _checked(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise LabError(
            tr("--listen {address}: this is no IP address", address=address),
            hint=tr("choose one of this machine's addresses"),
            code=EXIT_USAGE,
        ) from None
    if found.is_unspecified:
        raise LabError(
            tr("--listen {address}: this is every address of this machine", address=address),
            hint=tr("choose the one that the page is to be opened at"),
            code=EXIT_USAGE,
        )
    return str(found)


def _unusable(option: str, path: Path, why: str) -> LabError:
    return LabError(
        tr("{option} {file}: {why}", option=option, file=path, why=why),
        hint=tr("give a certificate and its private key as PEM, the key without a password"),
        code=EXIT_USAGE,
    )


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Else OpenSSL would ask for the key's password on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        why = tr("it does not fit the certificate, or cannot be read")
        raise _unusable("--key", key, why) from error
    except (OSError, ValueError) as error:
        raise _unusable("--key", key, getattr(error, "strerror", "") or str(error)) from error
    return context


def _names(certificate: x509.Certificate, address: str) -> Sequence[str]:
    """As they stand in a Host header; the address itself is one in any case."""
    host = f"[{address}]" if ":" in address else address
    return list(dict.fromkeys([host, *_certified(certificate)]))


def _certified(certificate: x509.Certificate) -> Sequence[str]:
    """The names that a certificate is for."""
    names: list[str] = []
    with suppress(x509.ExtensionNotFound):
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names += extension.value.get_values_for_type(x509.DNSName)
        for ip in extension.value.get_values_for_type(x509.IPAddress):
            names.append(f"[{ip}]" if ip.version == 6 else str(ip))
    return [name.lower() for name in names]


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _own(path: Path, address: str) -> x509.Certificate:
    """The lab's own certificate, made anew when it is for another address or about to expire."""
    with suppress(OSError, ValueError):
        content = path.read_bytes()
        found = x509.load_pem_x509_certificate(content)
        serialization.load_pem_private_key(content, None)
        now = datetime.now(UTC)
        is_valid = found.not_valid_before_utc <= now < found.not_valid_after_utc - timedelta(days=7)
        if is_valid and _names(found, address) == _certified(found):
            return found
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "labctl open")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clocks that are behind
        .not_valid_after(now + VALID)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomic(path, private + made.public_bytes(serialization.Encoding.PEM), 0o600)
    return made
