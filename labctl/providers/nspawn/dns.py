"""The name server of the simulated Internet: one DNS query -> its answer (RFC 1035). Pure.

That Internet has one host, so every name of it is that host's: `A` of a name with a dot is its
address. Names that nobody on the real Internet has are nobody's here (NXDOMAIN): those without a
dot, and those of the special-use domains.
"""

import struct
from ipaddress import IPv4Address

A, PTR, ANY = 1, 12, 255
_IN = 1
"""Class of the Internet; no other is in use."""
_NO_ERROR, _FORMAT_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 0, 1, 3, 4
_ANSWER, _OPCODE, _AUTHORITATIVE, _WANTS_RECURSION, _RECURSES = 0x8000, 0x7800, 0x400, 0x100, 0x80
_HEADER = struct.Struct("!6H")
_NAME_IN_QUESTION = b"\xc0\x0c"
"""A compressed name: "as at offset 12", where the name of the question is."""
TTL = 60
"""Seconds that an answer may be kept."""
SPECIAL_DOMAINS = ("invalid", "localhost", "local", "test", "onion", "internal", "alt", "home.arpa")
"""Domains that the real DNS does not have: IANA's registry of special-use names (RFC 6761)."""
HOST_NAME = "dns.google"
"""The name of 8.8.8.8 on the real Internet; here of the one host."""


def answer(query: bytes, address: IPv4Address) -> bytes | None:
    """The answer to a query; None to what is no query. Never raises: anybody may send anything.

    `address` is that of the host. The answer has at most 60 bytes more than the question.
    """
    if len(query) < _HEADER.size:
        return None
    identifier, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _ANSWER:
        return None
    kept = flags & (_OPCODE | _WANTS_RECURSION)

    def reply(code: int, question: bytes = b"", data: bytes = b"", type: int = A) -> bytes:
        state = _ANSWER | kept | _RECURSES | (_AUTHORITATIVE if question else 0) | code
        record = b""
        if data:
            record = _NAME_IN_QUESTION + struct.pack("!HHIH", type, _IN, TTL, len(data)) + data
        header = _HEADER.pack(identifier, state, bool(question), bool(record), 0, 0)
        return header + question + record

    if flags & _OPCODE:
        return reply(_NOT_IMPLEMENTED)
    read = _question(query) if questions == 1 else None
    if read is None:
        return reply(_FORMAT_ERROR)
    name, type, klass, question = read
    if klass not in (_IN, ANY):
        return reply(_NOT_IMPLEMENTED, question)
    if name == address.reverse_pointer:
        asked = type in (PTR, ANY)
        return reply(_NO_ERROR, question, _encoded(HOST_NAME) if asked else b"", PTR)
    if not _is_known(name):
        return reply(_NO_SUCH_NAME, question)
    return reply(_NO_ERROR, question, address.packed if type in (A, ANY) else b"")


def _is_known(name: str) -> bool:
    """Whether the simulated Internet has a host or domain of that name (in small letters)."""
    domains = (*SPECIAL_DOMAINS, "in-addr.arpa", "ip6.arpa")
    return "." in name and not f".{name}".endswith(tuple(f".{domain}" for domain in domains))


def _question(query: bytes) -> tuple[str, int, int, bytes] | None:
    """(name in small letters without the last dot, type, class, its bytes); None if malformed.

    A question's name is not compressed: there is nothing before it to refer to.
    """
    labels = []
    at = _HEADER.size
    while at < len(query) and (length := query[at]):
        if length > 63 or at + 1 + length > len(query):
            return None
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    end = at + 5  # the empty label, type, class
    if len(query) < end or at - _HEADER.size > 254:
        return None
    type, klass = struct.unpack_from("!HH", query, at + 1)
    name = b".".join(labels).decode("ascii", "replace").lower()
    return name, type, klass, query[_HEADER.size : end]


def _encoded(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
