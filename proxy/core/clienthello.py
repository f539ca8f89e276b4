"""
The first bytes of a connection -> ClientHello, "need more", or a rejection.

Decides whether a client opens TLS and what it asks for (SNI, ALPN, versions), from bytes that were peeked and never
consumed. Refuses to know sockets, modes' policies, certificates and whether the TLS engine will like the hello: what
is accepted here can still fail the handshake, what is refused here cannot succeed.

Theory. TLS is a stream of records (5 bytes: type, version, length; then at most 2^14 bytes), and the ClientHello is one
handshake message (4 bytes: type, length; then the body) cut into as many records as the client likes, down to one byte
each. So there are two layers: `_reassemble` walks records and glues the message, `_parse_body` reads the glued message.

The caller peeks, so every look sees the same bytes again from the first on, with more behind them. Two things keep the
whole affair cheap. First, one look is linear in the bytes there are. Second, NeedMore names the least total at which a
look can decide anything new, and the caller does not look before (SO_RCVLOWAT; a socket that has no such mark compares
lengths). Those totals are 1 (TLS or not), 6 (the record header and the message's type), 11 (its length and version),
then the whole hello as if what is missing came in the fewest records. A client that sends one byte at a time gets four
looks; one that also cuts its records as small as it can makes each estimate fall short, but every look still takes in
at least as many bytes as were missing, so the number of looks is logarithmic in the hello's length. And since NeedMore
remembers the records that it has walked, the worst that 16 KiB can be made to cost is their 2730 records once.

Every byte is judged in the order of the wire, so a prefix that was refused stays refused for the same reason however
the stream goes on. The estimate is a lower bound: it never asks for a byte that a valid hello might not send.
"""

import re
import struct
from enum import IntEnum

import msgspec

from proxy.core.reasons import Reason, Rejected

MAX_HELLO_BYTES = 16384  # of the wire, record headers included: where the peeking ends. Real hellos are 0.2 to 2 KiB

HANDSHAKE_RECORD = 0x16
CLIENT_HELLO = 0x01
RECORD_HEADER_BYTES = 5
MESSAGE_HEADER_BYTES = 4
SESSION_ID_AT = 34  # in the message's body, behind the version and the random

_MAJOR_VERSION = 3
_HEADERS_BYTES = RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES
_OPENING = struct.Struct("!BBxHBBH")  # record type, version, length; message type and length, of three bytes
_MAX_RECORD_BYTES = 16384  # RFC 8446 5.1; the allowance above it is for encrypted records, which no hello is
_MIN_BODY_BYTES = 41  # version 2, random 32, session id 1, cipher suites 2 + 2, compression methods 1 + 1
_JUDGED_EARLY_BYTES = 6  # message type, message length, major and minor version: what tells a hello from noise

_RECORD_STARTS = frozenset({b"", b"\x16", b"\x16\3", b"\x16\3\1", b"\x16\3\2", b"\x16\3\3"})  # as far as they are there

_VERSIONS = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}

_HOST_NAME = 0
_MAX_NAME_BYTES = 255
_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # `_` is no host name by RFC 1123, and yet in real ones
_DNS_NAME = re.compile(_LABEL + rb"(?:\." + _LABEL + rb")*")
_NUMERIC_LABEL = re.compile(rb"[0-9]+|0[xX][0-9A-Fa-f]*")

_SPOKEN = (
    (b"PRI * HTTP/2", "HTTP/2 in plaintext"),
    (b"SSH-", "SSH"),
    (b"PROXY ", "a PROXY protocol header"),
    (b"\r\n\r\n\0\r\nQUIT\n", "a PROXY protocol header"),
    *(
        (verb + b" ", "HTTP in plaintext")
        for verb in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
    ),
)  # a guess for the operator, who knows the client by what it speaks; nothing is decided by it


class _Extension(IntEnum):
    """The extensions that are read. All others, GREASE among them, are skipped unread."""

    SERVER_NAME = 0
    ALPN = 16
    SUPPORTED_VERSIONS = 43


class ClientHello(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a client asks for before anything is encrypted or proven.

    sni:      the host name, lower case, a DNS name of at most 255 bytes; None when there was none or it was not one
    alpn:     protocol names in the client's order, each byte as one character (Latin-1); GREASE included
    versions: the known ones of supported_versions in the client's order (GREASE and unknown ones left out), e.g.
              ("TLSv1.3", "TLSv1.2"); without that extension the highest that the client speaks, alone
    body:     the message without its header, for what else is in it (core/clientoffer.py)
    """

    sni: str | None = None
    alpn: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    body: bytes = b""


class NeedMore(msgspec.Struct, frozen=True):
    """
    No verdict yet.

    at_least: the total number of bytes, from the first on, below which another look is in vain
    glued:    what this look has done, for the next one to go on from: the message in the whole records before the byte
              `glued_to`. Only this file reads them.
    """

    at_least: int
    glued: bytes = b""
    glued_to: int = 0


class Plaintext(msgspec.Struct, frozen=True):
    """The client does not open TLS. detail: what was seen instead; of its bytes only those that gave it away."""

    detail: str


def looks_like_tls(first: int) -> bool:
    """Whether a stream that begins with this byte (0 to 255) can be TLS: 0x16, a handshake record (RFC 8446 5.1)."""
    return first == HANDSHAKE_RECORD


def detect(
    data: bytes | memoryview, *, plaintext_allowed: bool, last: NeedMore | None = None
) -> ClientHello | NeedMore | Plaintext:
    """
    Judge the first bytes of a client on a port whose mode is STRICT or PERMISSIVE: the whole table in one place.

    | the bytes                               | plaintext_allowed=False (STRICT) | True (PERMISSIVE)        |
    |-----------------------------------------|----------------------------------|--------------------------|
    | the first is not 0x16                   | Rejected(PLAINTEXT_REFUSED)      | Plaintext                |
    | 0x16, then what cannot be a ClientHello | Rejected(NOT_TLS)                | Plaintext                |
    | a ClientHello that is too long          | Rejected(HELLO_TOO_LONG)         | Rejected(HELLO_TOO_LONG) |
    | a ClientHello                           | ClientHello                      | ClientHello              |
    | not enough to tell                      | NeedMore                         | NeedMore                 |

    data:    what was peeked so far, from the first byte of the connection on
    last:    what the look before at the same connection returned (see parse_client_hello)
    Raises:  Rejected(PLAINTEXT_REFUSED, NOT_TLS or HELLO_TOO_LONG)
    """
    if len(data) and not looks_like_tls(data[0]):
        seen = _describe(data)
        if plaintext_allowed:
            return Plaintext(seen)
        raise Rejected(Reason.PLAINTEXT_REFUSED, f"expected a TLS ClientHello, but {seen}")
    try:
        return parse_client_hello(data, last)
    except Rejected as refusal:
        if plaintext_allowed and refusal.reason is Reason.NOT_TLS:
            return Plaintext(refusal.detail)
        raise


def begins_client_hello(data: bytes) -> bool:
    """
    Whether the first record begins a ClientHello of a size that is taken: enough to let OpenSSL read the rest.

    For STRICT ports, where nothing but the reason's name depends on the hello's contents: a tenth of the cost of
    parsing it. False says nothing; parse_client_hello then tells what it is. Source: RFC 8446 4 and 5.1
    """
    if len(data) < _HEADERS_BYTES:
        return False
    record, major, record_bytes, message, high, low = _OPENING.unpack_from(data)
    return bool(
        record == HANDSHAKE_RECORD
        and major == _MAJOR_VERSION
        and message == CLIENT_HELLO
        and (high << 16 | low) < MAX_HELLO_BYTES - _HEADERS_BYTES
        and MESSAGE_HEADER_BYTES <= record_bytes <= _MAX_RECORD_BYTES
    )


def parse_client_hello(data: bytes | memoryview, last: NeedMore | None = None) -> ClientHello | NeedMore:
    """
    Parse the ClientHello that a stream begins with; what follows it is not looked at.

    data:    the stream's bytes so far, from its first on (see NeedMore for when to call again)
    last:    what the look before at the same stream returned: its records are then not walked again. It changes the
             cost and never the verdict.
    Returns: ClientHello once it is all there, NeedMore(at_least) before; at_least is more than len(data), at most what
             the shortest valid hello with this beginning needs, and at most MAX_HELLO_BYTES
    Raises:  Rejected(NOT_TLS) when no continuation can make it a ClientHello (an SSLv2 hello, an empty record, a record
             of another type between, broken framing, an extension that is read here and comes twice);
             Rejected(HELLO_TOO_LONG) when it would end after MAX_HELLO_BYTES
    Source:  RFC 8446 4.1.2, 4.2, 4.2.1, 5.1; RFC 5246 7.4.1.2, E.1; RFC 6066 3 (SNI); RFC 7301 3.1 (ALPN)
    """
    if not len(data):
        return NeedMore(1)  # the first byte alone tells most other protocols apart, so it is looked at alone
    message = _reassemble(memoryview(data)[:MAX_HELLO_BYTES], last or NeedMore(1))
    return message if isinstance(message, NeedMore) else _parse_body(message)


# The record layer: which bytes belong to the message, and how many more it takes.


def _reassemble(data: memoryview, last: NeedMore) -> bytes | NeedMore:
    """Glue the body of the handshake message (its 4-byte header left out) from as many records as there are."""
    have = len(data)
    message = bytearray(last.glued)
    wanted = 1  # of the message, to decide the next thing
    at = last.glued_to  # where the current record begins
    while True:
        glued = len(message)
        length = _record_length(data, at)
        end = at + RECORD_HEADER_BYTES + length if length else at  # a header that is not whole counts as not begun
        message += data[at + RECORD_HEADER_BYTES : end]  # Python cuts the slice where the data ends
        if wanted <= _JUDGED_EARLY_BYTES:
            wanted = _wanted(message)
        missing = wanted - len(message)
        if missing <= 0:
            return bytes(message[MESSAGE_HEADER_BYTES:wanted])
        in_later_records = missing - min(missing, max(end - have, 0))
        headers = RECORD_HEADER_BYTES * -(-in_later_records // _MAX_RECORD_BYTES)
        at_least = min(have, end) + missing + headers
        if at_least > MAX_HELLO_BYTES:
            raise Rejected(Reason.HELLO_TOO_LONG, f"the ClientHello takes more than {MAX_HELLO_BYTES} bytes")
        if not length or end > have:
            return NeedMore(at_least, bytes(message[:glued]), at)
        at = end


def _record_length(data: memoryview, at: int) -> int:
    """Judge as much as is there of the record header at `at`; its length field, or 0 while it is not whole."""
    header = bytes(data[at : at + RECORD_HEADER_BYTES])
    if header[:3] not in _RECORD_STARTS:
        raise _not_tls(_describe_record(header, at))
    if len(header) < RECORD_HEADER_BYTES:
        return 0
    length = header[3] << 8 | header[4]
    if length == 0:  # forbidden for handshake records, and an endless row of them would never get on
        raise _not_tls(f"the record at byte {at} is empty")
    if length > _MAX_RECORD_BYTES:
        raise _not_tls(f"the record at byte {at} claims {length} bytes, more than {_MAX_RECORD_BYTES}")
    return length


def _describe_record(header: bytes, at: int) -> str:
    """Say what is wrong with a record header whose type or version is."""
    if header[0] == HANDSHAKE_RECORD:
        return f"the record at byte {at} has version 0x{header[1:3].hex()}, not 0x0301 to 0x0303"
    where = f"the record at byte {at} has type" if at else "the first byte is"
    return f"{where} 0x{header[0]:02x}, not 0x16 (a handshake record)"


def _wanted(message: bytearray) -> int:
    """Judge the first bytes of the message; how long it must be for the next verdict, in the end its full length."""
    size = len(message)
    if size == 0:
        return 1
    if message[0] != CLIENT_HELLO:
        raise _not_tls(f"the first handshake message has type {message[0]}, not ClientHello (1)")
    if size < MESSAGE_HEADER_BYTES:
        return _JUDGED_EARLY_BYTES
    length = int.from_bytes(message[1:MESSAGE_HEADER_BYTES], "big")
    if length < _MIN_BODY_BYTES:
        raise _not_tls(f"a ClientHello of {length} bytes cannot be: the shortest has {_MIN_BODY_BYTES}")
    if MESSAGE_HEADER_BYTES + length > MAX_HELLO_BYTES:  # said at once, before the version: nothing can shorten it
        raise Rejected(Reason.HELLO_TOO_LONG, f"the ClientHello claims {length} bytes, more than {MAX_HELLO_BYTES}")
    if size > MESSAGE_HEADER_BYTES and message[MESSAGE_HEADER_BYTES] != 3:
        raise _not_tls(f"the ClientHello has major version {message[MESSAGE_HEADER_BYTES]}, not 3")
    return _JUDGED_EARLY_BYTES if size < _JUDGED_EARLY_BYTES else MESSAGE_HEADER_BYTES + length


# The message: vectors with a length before them, each of which must fill exactly what holds it.


def _parse_body(body: bytes) -> ClientHello:
    """Read a whole ClientHello body."""
    legacy_version = body[0] << 8 | body[1]
    session_id, at = _vector(body, SESSION_ID_AT, 1)
    suites, at = _vector(body, at, 2)
    compressions, at = _vector(body, at, 1)
    if len(session_id) > 32 or not suites or len(suites) % 2 or not compressions:
        raise _not_tls("the ClientHello's session id, cipher suites or compression methods have an impossible length")
    known = _read_extensions(body, at)
    name = known.get(_Extension.SERVER_NAME)
    alpn = known.get(_Extension.ALPN)
    versions = known.get(_Extension.SUPPORTED_VERSIONS)
    return ClientHello(
        sni=None if name is None else _read_server_name(name),
        alpn=() if alpn is None else _read_alpn(alpn),
        # A client of the future without supported_versions is answered as TLS 1.2 (RFC 8446 4.2.1).
        versions=(_VERSIONS[min(legacy_version, 0x0303)],) if versions is None else _read_versions(versions),
        body=body,
    )


def _read_extensions(body: bytes, at: int) -> dict[int, bytes]:
    """Return the extensions that are read here, by type; an old client may have none at all."""
    known: dict[int, bytes] = {}
    if at == len(body):
        return known
    block, at = _vector(body, at, 2)
    if at != len(body):
        raise _not_tls("bytes follow the ClientHello's extensions")
    at = 0
    while at < len(block):
        number = int.from_bytes(block[at : at + 2], "big")  # a lone last byte gives a number, then _vector refuses
        content, at = _vector(block, at + 2, 2)
        if number in known:  # two readers could each take another one, and be played off against each other
            raise _not_tls(f"the ClientHello has extension {number} twice")
        if number in _READ:
            known[number] = content
    return known


_READ = frozenset(_Extension)


def _read_server_name(content: bytes) -> str | None:
    """
    Read the host name of the server_name extension.

    Broken framing and a second host name are no ClientHello. A name that is well framed but no DNS name (empty labels,
    a trailing dot, other characters, more than 255 bytes, an IP address) is as good as no name: the hello stays valid,
    nothing is routed by it, and nothing that a log or a person could misread is kept.
    """
    names, end = _vector(content, 0, 2)
    if end != len(content) or not names:
        raise _not_tls("the server_name extension has an impossible length")
    host: bytes | None = None
    at = 0
    while at < len(names):
        kind = names[at]
        name, at = _vector(names, at + 1, 2)  # every kind of name begins with its length (RFC 6066 3)
        if kind == _HOST_NAME:
            if host is not None or not name:
                raise _not_tls("the server_name extension holds an empty or a second host name")
            host = name
    if host is None or len(host) > _MAX_NAME_BYTES or not _DNS_NAME.fullmatch(host):
        return None
    if _NUMERIC_LABEL.fullmatch(host[host.rfind(b".") + 1 :]):  # 10.0.0.1, 0x7f000001: inet_aton would take it
        return None
    return host.decode("ascii").lower()


def _read_alpn(content: bytes) -> tuple[str, ...]:
    """Read the protocol names; each has 1 to 255 bytes."""
    block, end = _vector(content, 0, 2)
    if end != len(content) or not block:
        raise _not_tls("the ALPN extension has an impossible length")
    names = []
    at = 0
    while at < len(block):
        name, at = _vector(block, at, 1)
        if not name:
            raise _not_tls("the ALPN extension holds an empty protocol name")
        names.append(name.decode("latin-1"))
    return tuple(names)


def _read_versions(content: bytes) -> tuple[str, ...]:
    """Read supported_versions; an offer of unknown versions alone gives an empty tuple."""
    block, end = _vector(content, 0, 1)
    if end != len(content) or not block or len(block) % 2:
        raise _not_tls("the supported_versions extension has an impossible length")
    numbers = (block[at] << 8 | block[at + 1] for at in range(0, len(block), 2))
    return tuple(_VERSIONS[number] for number in numbers if number in _VERSIONS)


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Read a vector whose length stands in `width` bytes at `at`; its bytes, and where it ends."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise _not_tls("a field of the ClientHello reaches beyond its end")
    return data[start:end], end


def _not_tls(detail: str) -> Rejected:
    """The refusal of what cannot be a ClientHello."""
    return Rejected(Reason.NOT_TLS, detail)


def _describe(data: bytes | memoryview) -> str:
    """Say what a plaintext client seems to speak; never more than its first byte: the next ones may be a password."""
    start = bytes(data[:16])
    for opening, name in _SPOKEN:
        if start.startswith(opening):
            return f"the client speaks {name}"
    return f"the first byte is 0x{start[0]:02x}, not 0x16"
