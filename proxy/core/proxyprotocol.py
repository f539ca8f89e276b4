"""
The PROXY protocol: who the client is, said to the app in front of the first byte. Its words, and version 2 written.

Decides which bytes stand for which endpoints and TLS details. Refuses to know sockets and where the details come from.
Reading is core/proxyheader.py's; it uses the words of this file.

Version 2 is 16 bytes (signature, version and command, family and transport, length of the rest), the addresses, then
TLVs: type, 16-bit length, value. The TLV `SSL` holds TLVs of its own behind a bit field and a verify result. The
length field bounds a header at 16 + 65535 bytes, which is why encoding has a budget. It spends the budget on the most
telling values first, SPIFFE_ID above all and the certificate last, and leaves out whole what does not fit: an app gets
a value or misses it, it never gets half of one, and no connection fails for the length of a name.

Source: the PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt), 2.1 and 2.2.
"""

import struct
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

MAX_HEADER_BYTES = 16 + 65535

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
UNIX_PATH_BYTES = 108
FIXED = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length of the rest
TLV_HEADER = struct.Struct("!BH")
SSL_FIXED = struct.Struct("!BI")  # the bit field and the verify result in front of the TLVs inside


class Tlv(IntEnum):
    """The TLV types that are written or read here; others are kept by number. 0xE0 to 0xEF are for applications."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SSL_KEY_ALG = 0x25
    SSL_GROUP = 0x26
    SSL_CLIENT_CERT = 0x28
    SPIFFE_ID = 0xE1  # ours: the verified SPIFFE ID of the client as ASCII; the specification has no type for it


class ClientFlags(IntFlag):
    """The bit field of the SSL TLV (2.2.6)."""

    SSL = 0x01
    CERT_CONN = 0x02  # the client showed a certificate on this connection: not set when the session was resumed
    CERT_SESS = 0x04  # the client showed a certificate at least once in this TLS session


class Command(IntEnum):
    """LOCAL: the proxy speaks for itself (a health check); PROXY: for a client."""

    LOCAL = 0
    PROXY = 1


class Transport(IntEnum):
    """What the client's connection was."""

    UNSPEC = 0
    STREAM = 1
    DGRAM = 2


class Family(IntEnum):
    """What kind of addresses a header holds."""

    UNSPEC = 0
    INET = 1
    INET6 = 2
    UNIX = 3


ADDRESS_BYTES = {Family.UNSPEC: 0, Family.INET: 12, Family.INET6: 36, Family.UNIX: 2 * UNIX_PATH_BYTES}


class IpEndpoint(msgspec.Struct, frozen=True):
    """An IP address and a port (0 to 65535). IPv4-mapped IPv6 is written as IPv4, zones are not written."""

    address: IPv4Address | IPv6Address
    port: int


class UnixEndpoint(msgspec.Struct, frozen=True):
    """The path of a unix socket, at most 108 bytes; empty when unnamed, with a leading NUL when abstract."""

    path: bytes


Endpoint = IpEndpoint | UnixEndpoint


class TlsDetails(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the handshake with the client settled; None is not sent.

    client:     which of the facts hold; never assumed
    verify:     0 when the client showed a certificate and it was verified, else not 0 (32 bits)
    version:    e.g. "TLSv1.3"
    cipher:     the suite's name
    key_alg:    the key of the certificate that the proxy itself showed, e.g. "EC256", "RSA2048"
    authority:  the SNI; alpn: the protocol that was agreed on, each byte as one character (Latin-1)
    spiffe_id:  the client's verified SPIFFE ID
    """

    client: ClientFlags
    verify: int
    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    key_alg: str | None = None
    common_name: str | None = None
    client_certificate_der: bytes | None = None
    alpn: str | None = None
    authority: str | None = None
    spiffe_id: str | None = None


def endpoint(sockaddr: object) -> Endpoint | None:
    """
    Turn what getpeername() and getsockname() return into an endpoint.

    sockaddr: (host, port, ...) with an IP literal for a host, or a unix path as str or bytes
    Returns:  None for any other shape (then the header says UNSPEC)
    """
    match sockaddr:
        case (str(host), int(port), *_) if 0 <= port <= 0xFFFF:
            try:
                return normalized(IpEndpoint(ip_address(host), port))
            except ValueError:
                return None
        case str(path):
            return UnixEndpoint(path.encode("utf-8", "surrogateescape"))
        case bytes(path):
            return UnixEndpoint(path)
        case _:
            return None


def encode_v2(
    source: Endpoint | None,
    destination: Endpoint | None,
    tls: TlsDetails | None = None,
    *,
    command: Command = Command.PROXY,
    checksum: bool = False,
) -> bytes:
    """
    Write a version 2 header for a stream connection; at most MAX_HEADER_BYTES, to be sent in one piece.

    source, destination: both of one family (IPv4-mapped IPv6 counts as IPv4); otherwise, with a path that is too long
                         and for LOCAL, the header says UNSPEC and holds no address
    tls:      with it the TLVs ALPN, AUTHORITY, SSL and SPIFFE_ID are written (`v2-tls`), as far as they are known. What
              does not fit is left out, tried in the order SPIFFE_ID, VERSION, CIPHER, GROUP, KEY_ALG, ALPN, AUTHORITY,
              CN, CLIENT_CERT. LOCAL never has any.
    checksum: add a CRC32C over the whole header (costs Python 0.1 us a byte)
    """
    family, addresses = _encode_addresses(source, destination) if command is Command.PROXY else (Family.UNSPEC, b"")
    transport = Transport.UNSPEC if family is Family.UNSPEC else Transport.STREAM
    block = addresses + (_tlv(Tlv.CRC32C, bytes(4)) if checksum else b"")
    if tls is not None and command is Command.PROXY:
        block += _encode_tls(tls, 0xFFFF - len(block))
    header = bytearray(FIXED.pack(SIGNATURE, 0x20 | command, family << 4 | transport, len(block)) + block)
    if checksum:
        value_at = FIXED.size + len(addresses) + TLV_HEADER.size
        header[value_at : value_at + 4] = crc32c(header).to_bytes(4, "big")
    return bytes(header)


def _encode_addresses(source: Endpoint | None, destination: Endpoint | None) -> tuple[Family, bytes]:
    """Write both endpoints, or none when they are not of one family that the protocol knows."""
    match source, destination:
        case IpEndpoint(), IpEndpoint():
            one, other = normalized(source), normalized(destination)
            if one.address.version == other.address.version:
                family = Family.INET if one.address.version == 4 else Family.INET6
                ports = struct.pack("!HH", one.port, other.port)
                return family, one.address.packed + other.address.packed + ports
        case UnixEndpoint(path=one_path), UnixEndpoint(path=other_path):
            if max(len(one_path), len(other_path)) <= UNIX_PATH_BYTES:
                return Family.UNIX, one_path.ljust(UNIX_PATH_BYTES, b"\0") + other_path.ljust(UNIX_PATH_BYTES, b"\0")
    return Family.UNSPEC, b""


def normalized(ip: IpEndpoint) -> IpEndpoint:
    """Write an IPv4 client of a dual-stack listener (::ffff:192.0.2.1) as what it is: apps compare with IPv4 rules."""
    mapped = ip.address.ipv4_mapped if isinstance(ip.address, IPv6Address) else None
    return ip if mapped is None else IpEndpoint(mapped, ip.port)


def _encode_tls(tls: TlsDetails, budget: int) -> bytes:
    """Write the TLVs of `v2-tls` into at most `budget` bytes, the most telling first (see encode_v2)."""
    outer: dict[Tlv, bytes] = {}
    inner: dict[Tlv, bytes] = {}
    budget -= TLV_HEADER.size + SSL_FIXED.size
    for level, kind, value in (
        (outer, Tlv.SPIFFE_ID, _utf8(tls.spiffe_id)),
        (inner, Tlv.SSL_VERSION, _utf8(tls.version)),
        (inner, Tlv.SSL_CIPHER, _utf8(tls.cipher)),
        (inner, Tlv.SSL_GROUP, _utf8(tls.group)),
        (inner, Tlv.SSL_KEY_ALG, _utf8(tls.key_alg)),
        (outer, Tlv.ALPN, None if tls.alpn is None else tls.alpn.encode("latin-1", "replace")),
        (outer, Tlv.AUTHORITY, _utf8(tls.authority)),
        (inner, Tlv.SSL_CN, _utf8(tls.common_name)),
        (inner, Tlv.SSL_CLIENT_CERT, tls.client_certificate_der),
    ):
        if value is not None and TLV_HEADER.size + len(value) <= budget:
            level[kind] = value
            budget -= TLV_HEADER.size + len(value)
    details = b"".join(_tlv(kind, inner[kind]) for kind in sorted(inner))
    outer[Tlv.SSL] = SSL_FIXED.pack(tls.client, tls.verify) + details
    return b"".join(_tlv(kind, outer[kind]) for kind in sorted(outer))


def _utf8(text: str | None) -> bytes | None:
    """Encode without ever failing: what has no UTF-8 becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace")


def _tlv(kind: int, value: bytes) -> bytes:
    """Write one TLV."""
    return TLV_HEADER.pack(kind, len(value)) + value


def crc32c(data: bytes | bytearray) -> int:
    """Compute the CRC32C of RFC 4960, Appendix B (Castagnoli, reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc32c_entry(byte: int) -> int:
    """Compute one entry of the table."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC32C_TABLE = tuple(_crc32c_entry(byte) for byte in range(256))
