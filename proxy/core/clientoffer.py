"""
What a client offered in its ClientHello: versions, cipher suites, groups, signature algorithms, as numbers.

For sentences alone, after a handshake has failed: nothing is decided here, so this reader never refuses. It takes what
was peeked of a hello, which may be its beginning, and from that what is there whole. A list that is cut, or that cannot
be told from one that is still to come, is None: "not known" and not "empty". The engine has read the hello by itself
and found its own faults; core/clienthello.py is the reader that judges.

At most 16 KiB come in (clienthello.MAX_HELLO_BYTES), and each byte is read once: the lists are unpacked in C, since a
stranger can have us do this as often as it likes.
"""

import struct

import msgspec

from proxy.core.clienthello import (
    CLIENT_HELLO,
    HANDSHAKE_RECORD,
    MESSAGE_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    SESSION_ID_AT,
)
from proxy.core.tlsnumbers import GREASE, SIGNALS

_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _SUPPORTED_VERSIONS = 10, 13, 43
_TLS12 = 0x0303

Numbers = tuple[int, ...]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """
    The numbers of a ClientHello, each once and in the client's order, without GREASE and signals; None: not known.

    versions:   of supported_versions; where there is none, the highest that the client speaks, alone
    at_most:    whether it is that one
    groups:     empty where the client sends no such list; so are the signature algorithms
    """

    versions: Numbers | None = None
    at_most: bool = False
    suites: Numbers | None = None
    groups: Numbers | None = None
    signatures: Numbers | None = None


def read_offer(body: bytes, *, is_whole: bool = True) -> Offer:
    """
    Read the body of a ClientHello, the four bytes of its message header left out. Never raises.

    is_whole: whether the body is all there, so that an extension that is not in it was not sent
    Source:   RFC 8446 4.1.2, 4.2.1, 4.2.3, 4.2.7; RFC 5246 7.4.1.4.1
    """
    _, at = _vector(body, SESSION_ID_AT, 1)
    suites, at = _vector(body, at, 2)
    _, at = _vector(body, at, 1)
    extensions = _extensions(body, at)
    versions = _list_in(extensions, _SUPPORTED_VERSIONS, 1)
    at_most = versions is None and is_whole and _SUPPORTED_VERSIONS not in extensions and len(body) >= 2
    if at_most:  # such a client is answered as TLS 1.2, whatever it claims (RFC 8446 4.2.1)
        versions = (min(int.from_bytes(body[:2], "big"), _TLS12),)
    groups, signatures = (
        () if is_whole and number not in extensions else _list_in(extensions, number, 2)
        for number in (_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS)
    )
    return Offer(
        versions=versions,
        at_most=at_most,
        suites=None if suites is None else _numbers(suites),
        groups=groups,
        signatures=signatures,
    )


def read_opening(data: bytes) -> Offer:
    """Read what was peeked of a stream that begins with a ClientHello, record headers included. Never raises."""
    message = bytearray()
    at = 0
    while at + RECORD_HEADER_BYTES <= len(data) and data[at] == HANDSHAKE_RECORD:
        end = at + RECORD_HEADER_BYTES + int.from_bytes(data[at + 3 : at + 5], "big")
        message += data[at + RECORD_HEADER_BYTES : end]
        at = end
    if len(message) < MESSAGE_HEADER_BYTES or message[0] != CLIENT_HELLO:
        return Offer()
    end = MESSAGE_HEADER_BYTES + int.from_bytes(message[1:MESSAGE_HEADER_BYTES], "big")
    return read_offer(bytes(message[MESSAGE_HEADER_BYTES:end]), is_whole=len(message) >= end)


def _extensions(body: bytes, at: int) -> dict[int, bytes]:
    """All extensions that are there whole, the first of each type."""
    found: dict[int, bytes] = {}
    end = min(at + 2 + int.from_bytes(body[at : at + 2], "big"), len(body))
    at += 2
    while at < end:
        number = int.from_bytes(body[at : at + 2], "big")
        content, at = _vector(body, at + 2, 2)
        if content is None:
            break
        found.setdefault(number, content)
    return found


def _list_in(extensions: dict[int, bytes], number: int, width: int) -> Numbers | None:
    """The numbers that fill an extension, behind their length of `width` bytes."""
    content = extensions.get(number)
    if content is None:
        return None
    listed, _ = _vector(content, 0, width)
    return None if listed is None else _numbers(listed)


def _numbers(content: bytes) -> Numbers:
    count = len(content) // 2
    once = dict.fromkeys(struct.unpack_from(f">{count}H", content))
    for number in GREASE | SIGNALS:
        once.pop(number, None)
    return tuple(once)


def _vector(data: bytes, at: int, width: int) -> tuple[bytes | None, int]:
    """What stands behind a length of `width` bytes at `at`, None where it is cut; and where it ends."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    return (data[start:end] if start <= len(data) and end <= len(data) else None), end
