"""The name server of the simulated Internet, asked as a resolver asks it."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR

from labctl.providers.nspawn.dns import answer
from labctl.providers.nspawn.internet import serve_names

HOST = IPv4Address("8.8.8.8")


def query(name: str, type: str = "A", **fields: Any) -> bytes:
    return bytes(DNS(**{"id": 4711, "rd": 1, "qd": DNSQR(qname=name, qtype=type), **fields}))


def asked(data: bytes) -> DNS:
    reply = answer(data, HOST)
    assert reply is not None
    return DNS(reply)


@pytest.mark.parametrize("name", ["example.com", "WWW.OpenStack.org.", "a.b.c.d.e.f", "dns.google"])
def test_every_name_of_that_internet_is_its_one_host(name: str) -> None:
    reply = asked(query(name))
    assert (reply.id, reply.qr, reply.ra, reply.rd, reply.rcode) == (4711, 1, 1, 1, 0)
    assert reply.qd[0].qname.decode().rstrip(".") == name.rstrip("."), "as it was written"
    (record,) = reply.an
    assert (record.type, record.rdata, record.ttl) == (1, "8.8.8.8", 60)


@pytest.mark.parametrize(
    "name",
    ["vm_1", "network-controller", "nobody.invalid", "invalid", "printer.local", "x.home.arpa",
     "5.0.0.10.in-addr.arpa", "1.ip6.arpa"],
)  # fmt: skip
def test_names_that_nobody_has(name: str) -> None:
    reply = asked(query(name))
    assert (reply.rcode, reply.ancount) == (3, 0)


@pytest.mark.parametrize("type", ["AAAA", "MX", "TXT", "NS", "SOA", "PTR"])
def test_other_kinds_of_records_are_none(type: str) -> None:
    """Not NXDOMAIN: a resolver would then not ask for the A record that is there."""
    reply = asked(query("example.com", type))
    assert (reply.rcode, reply.ancount) == (0, 0)


def test_the_name_of_its_address() -> None:
    (record,) = asked(query("8.8.8.8.in-addr.arpa", "PTR")).an
    assert (record.type, record.rdata) == (12, b"dns.google.")


@pytest.mark.parametrize(
    ("data", "code"),
    [(query("example.com", opcode=2), 4), (query("example.com")[:-1], 1),
     (query("example.com", qd=[]), 1), (query("example.com")[:12] + b"\xc0\x0c\0\1\0\1", 1)],
)  # fmt: skip
def test_what_it_does_not_understand_is_told(data: bytes, code: int) -> None:
    reply = asked(data)
    assert (reply.id, reply.qr, reply.rcode, reply.ancount) == (4711, 1, code, 0)


def test_an_answer_is_never_answered() -> None:
    """Two servers would answer each other without end."""
    reply = answer(query("example.com"), HOST)
    assert reply is not None
    assert answer(reply, HOST) is None


@given(st.binary(max_size=300))
def test_anything_may_be_sent(data: bytes) -> None:
    reply = answer(data, HOST)
    assert reply is None or len(reply) <= max(len(data), 12) + 60


# -- as it is served -------------------------------------------------------------------------------
@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number: int = taken.getsockname()[1]
    servers = serve_names("127.0.0.1", number)
    yield number
    for server in servers:
        server.shutdown()
        server.server_close()


def test_over_udp_and_tcp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"rubbish", ("127.0.0.1", port))
        client.sendto(query("example.com"), ("127.0.0.1", port))
        assert DNS(client.recv(512)).an[0].rdata == "127.0.0.1"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        data = query("example.org")
        client.sendall(struct.pack("!H", len(data)) + data)
        with client.makefile("rb") as stream:
            (length,) = struct.unpack("!H", stream.read(2))
            assert DNS(stream.read(length)).an[0].rdata == "127.0.0.1"
