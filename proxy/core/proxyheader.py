"""
A PROXY header read: bytes -> Header, "need more", or ProxyHeaderError. Versions 1 and 2.

Decides what a header says. Refuses to know whether its sender may be believed: a header is as true as the network that
it came over, and a listener takes one only where it is told to, never by guessing (2.2 and 5 of the specification).

Framing is strict (lengths add up, a known TLV comes once, a CRC32C that is there must fit), because a header that can
be read in two ways is a way around somebody's access rules. Text is not: the specification says UTF-8, peers put into
a common name what they like, and what does not decode comes out with replacement characters.

Source: the PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt), 2.1 and 2.2.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address

import msgspec

from proxy.core.clienthello import NeedMore
from proxy.core.proxyprotocol import (
    ADDRESS_BYTES,
    FIXED,
    MAX_HEADER_BYTES,
    SIGNATURE,
    SSL_FIXED,
    TLV_HEADER,
    ClientFlags,
    Command,
    Endpoint,
    Family,
    IpEndpoint,
    TlsDetails,
    Tlv,
    Transport,
    UnixEndpoint,
    crc32c,
    normalized,
)

_V1_START = b"PROXY "
_V1_MIN_BYTES = 15  # "PROXY UNKNOWN\r\n"
_V1_MAX_BYTES = 107  # two full IPv6 addresses and ports, CR LF included (2.1)
_V1_PORT = re.compile("0|[1-9][0-9]{0,4}")
_READ = frozenset(Tlv) - {Tlv.NOOP}


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """
    A decoded header; what the connection carries begins `length` bytes after its own first byte.

    source, destination: the client and what it connected to; None when not told (LOCAL, UNKNOWN, UNSPEC): then the
                         real ends of the connection are the truth
    tls:                 None when there was no SSL TLV
    tlvs:                every TLV of the outer level as it came, also those that `tls` was read from
    """

    version: int
    length: int
    command: Command = Command.PROXY
    transport: Transport = Transport.UNSPEC
    source: Endpoint | None = None
    destination: Endpoint | None = None
    tls: TlsDetails | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


class ProxyHeaderError(Exception):
    """These bytes are no PROXY header. No listener takes one yet; the one that will gives this its Reason."""


def decode(data: bytes | memoryview) -> Header | NeedMore:
    """
    Read the PROXY header of either version that a stream begins with; what follows it is not looked at.

    data:    the stream's bytes so far, from its first on
    Returns: Header once it is all there (Header.length bytes of data are its), NeedMore(at_least) before; at_least is
             more than len(data) and never more than the header needs
    Raises:  ProxyHeaderError: not a PROXY header, cut short inside, or with a wrong CRC32C
    """
    view = memoryview(data)[:MAX_HEADER_BYTES]
    if not len(view):
        return NeedMore(_V1_MIN_BYTES)
    if SIGNATURE.startswith(bytes(view[: len(SIGNATURE)])):
        return _decode_v2(view)
    if _V1_START.startswith(bytes(view[: len(_V1_START)])):
        return _decode_v1(bytes(view[:_V1_MAX_BYTES]))
    raise ProxyHeaderError("the stream begins with neither signature of the PROXY protocol")


def _decode_v1(data: bytes) -> Header | NeedMore:
    """Read "PROXY TCP4 SOURCE DESTINATION PORT PORT CR LF" (2.1)."""
    end = data.find(b"\r\n")
    if end < 0:
        at_least = max(_V1_MIN_BYTES, len(data) + (1 if data.endswith(b"\r") else 2))
        if at_least > _V1_MAX_BYTES:
            raise ProxyHeaderError(f"no end of line within {_V1_MAX_BYTES} bytes")
        return NeedMore(at_least)
    length = end + 2
    match data[:end].decode("ascii", "replace").split(" "):
        case ["PROXY", "UNKNOWN", *_]:
            return Header(version=1, length=length)
        case ["PROXY", "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
            return Header(
                version=1,
                length=length,
                transport=Transport.STREAM,
                source=_v1_endpoint(family, source, source_port),
                destination=_v1_endpoint(family, destination, destination_port),
            )
    raise ProxyHeaderError("the line is not PROXY, TCP4 or TCP6, two addresses and two ports, each after one space")


def _v1_endpoint(family: str, host: str, port: str) -> IpEndpoint:
    """Read one address and its port, both in their canonical digits."""
    if not _V1_PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise ProxyHeaderError("a port is not 0 to 65535 in plain digits")
    try:
        if family == "TCP4":
            return IpEndpoint(IPv4Address(host), int(port))
        address = IPv6Address(host)
    except ValueError:
        raise ProxyHeaderError(f"an address is not one of {family}") from None
    if address.scope_id is not None:  # Python reads zones, the protocol has none
        raise ProxyHeaderError("an address has a zone")
    return normalized(IpEndpoint(address, int(port)))


def _decode_v2(data: memoryview) -> Header | NeedMore:
    """Read the 16 bytes, the addresses and the TLVs (2.2)."""
    if len(data) < FIXED.size:
        return NeedMore(FIXED.size)
    _, version_command, family_transport, rest = FIXED.unpack_from(data)
    if version_command not in (0x20 | Command.LOCAL, 0x20 | Command.PROXY):
        raise ProxyHeaderError(f"version and command are 0x{version_command:02x}, not 0x20 or 0x21")
    try:
        family, transport = Family(family_transport >> 4), Transport(family_transport & 0x0F)
    except ValueError:
        raise ProxyHeaderError(f"family and transport are 0x{family_transport:02x}, which nothing is") from None
    length = FIXED.size + rest
    if len(data) < length:
        return NeedMore(length)
    if version_command == 0x20 | Command.LOCAL:  # whatever such a header holds is to be skipped unread
        return Header(version=2, length=length, command=Command.LOCAL)
    block = bytes(data[FIXED.size : length])
    if len(block) < ADDRESS_BYTES[family]:
        raise ProxyHeaderError(f"{len(block)} bytes are too few for the addresses of {family.name}")
    tlvs = _read_tlvs(block[ADDRESS_BYTES[family] :])
    _check_crc(bytes(data[:length]), ADDRESS_BYTES[family], tlvs)
    source, destination = _decode_addresses(family, block) if transport is not Transport.UNSPEC else (None, None)
    return Header(
        version=2,
        length=length,
        transport=transport,
        source=source,
        destination=destination,
        tls=_decode_tls(_known(tlvs)),
        tlvs=tlvs,
    )


def _decode_addresses(family: Family, block: bytes) -> tuple[Endpoint | None, Endpoint | None]:
    """Read both endpoints from a block that is long enough."""
    match family:
        case Family.INET:
            one, other, one_port, other_port = struct.unpack_from("!4s4sHH", block)
            return IpEndpoint(IPv4Address(one), one_port), IpEndpoint(IPv4Address(other), other_port)
        case Family.INET6:
            one, other, one_port, other_port = struct.unpack_from("!16s16sHH", block)
            return (
                normalized(IpEndpoint(IPv6Address(one), one_port)),
                normalized(IpEndpoint(IPv6Address(other), other_port)),
            )
        case Family.UNIX:
            one, other = struct.unpack_from("!108s108s", block)
            return UnixEndpoint(one.rstrip(b"\0")), UnixEndpoint(other.rstrip(b"\0"))
    return None, None


def _read_tlvs(block: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read TLVs that fill the block exactly."""
    tlvs = []
    at = 0
    while at < len(block):
        start = at + TLV_HEADER.size
        if start > len(block):
            raise ProxyHeaderError("a TLV is cut short")
        kind, length = TLV_HEADER.unpack_from(block, at)
        at = start + length
        if at > len(block):
            raise ProxyHeaderError(f"TLV 0x{kind:02x} reaches beyond its end")
        tlvs.append((kind, block[start:at]))
    return tuple(tlvs)


def _known(tlvs: tuple[tuple[int, bytes], ...]) -> dict[int, bytes]:
    """Return the TLVs that are read here by type; one that comes twice could be read in two ways, so it is refused."""
    known: dict[int, bytes] = {}
    for kind, value in tlvs:
        if kind in known:
            raise ProxyHeaderError(f"TLV 0x{kind:02x} comes twice")
        if kind in _READ:
            known[kind] = value
    return known


def _check_crc(header: bytes, address_bytes: int, tlvs: tuple[tuple[int, bytes], ...]) -> None:
    """Refuse a header whose CRC32C does not fit; one without has nothing to check."""
    at = FIXED.size + address_bytes
    for kind, value in tlvs:
        at += TLV_HEADER.size
        if kind == Tlv.CRC32C:
            blank = header[:at] + bytes(len(value)) + header[at + len(value) :]
            if value != crc32c(blank).to_bytes(4, "big"):
                raise ProxyHeaderError("the CRC32C does not fit the header")
            return  # a second one is refused with every other TLV that comes twice
        at += len(value)


def _decode_tls(outer: dict[int, bytes]) -> TlsDetails | None:
    """Read what TlsDetails holds, if there is an SSL TLV."""
    ssl = outer.get(Tlv.SSL)
    if ssl is None:
        return None
    if len(ssl) < SSL_FIXED.size:
        raise ProxyHeaderError("the SSL TLV is cut short")
    client, verify = SSL_FIXED.unpack_from(ssl)
    inner = _known(_read_tlvs(ssl[SSL_FIXED.size :]))
    alpn = outer.get(Tlv.ALPN)
    return TlsDetails(
        client=ClientFlags(client),
        verify=verify,
        version=_text(inner.get(Tlv.SSL_VERSION)),
        cipher=_text(inner.get(Tlv.SSL_CIPHER)),
        group=_text(inner.get(Tlv.SSL_GROUP)),
        key_alg=_text(inner.get(Tlv.SSL_KEY_ALG)),
        common_name=_text(inner.get(Tlv.SSL_CN)),
        client_certificate_der=inner.get(Tlv.SSL_CLIENT_CERT),
        alpn=None if alpn is None else alpn.decode("latin-1"),
        authority=_text(outer.get(Tlv.AUTHORITY)),
        spiffe_id=_text(outer.get(Tlv.SPIFFE_ID)),
    )


def _text(value: bytes | None) -> str | None:
    """Decode without ever failing."""
    return None if value is None else value.decode("utf-8", "replace")
