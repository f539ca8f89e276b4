"""
PROXY version 2 as it is written: golden bytes, the budget, and which addresses become which family.
"""

import struct
from ipaddress import ip_address

import pytest

from proxy.core.proxyheader import decode
from proxy.core.proxyprotocol import (
    MAX_HEADER_BYTES,
    ClientFlags,
    Command,
    Endpoint,
    IpEndpoint,
    TlsDetails,
    Tlv,
    UnixEndpoint,
    crc32c,
    encode_v2,
    endpoint,
)

VERIFIED = ClientFlags.SSL | ClientFlags.CERT_CONN | ClientFlags.CERT_SESS
SIGNATURE = "0d0a0d0a000d0a515549540a"
CLIENT = IpEndpoint(ip_address("192.0.2.1"), 56324)
SERVER = IpEndpoint(ip_address("192.0.2.11"), 443)


def decoded_tls(header: bytes) -> TlsDetails:
    seen = decode(header)
    assert not hasattr(seen, "at_least")
    assert seen.length == len(header) <= MAX_HEADER_BYTES
    assert seen.tls is not None
    return seen.tls


def test_golden_v2_over_ipv4() -> None:
    golden = SIGNATURE + "21 11 000c  c0000201 c000020b  dc04 01bb"
    assert encode_v2(CLIENT, SERVER) == bytes.fromhex(golden)


def test_golden_v2_over_ipv6() -> None:
    source, destination = IpEndpoint(ip_address("2001:db8::1"), 1), IpEndpoint(ip_address("2001:db8::2"), 65535)
    golden = "21 21 0024  20010db8000000000000000000000001 20010db8000000000000000000000002  0001 ffff"
    assert encode_v2(source, destination) == bytes.fromhex(SIGNATURE + golden)


def test_golden_v2_over_unix() -> None:
    golden = bytes.fromhex(SIGNATURE + "21 31 00d8") + bytes(108) + b"/run/app.sock".ljust(108, b"\0")
    assert encode_v2(UnixEndpoint(b""), UnixEndpoint(b"/run/app.sock")) == golden


def test_golden_v2_tls() -> None:
    details = TlsDetails(
        client=VERIFIED,
        verify=0,
        version="TLSv1.3",
        cipher="TLS_AES_128_GCM_SHA256",
        group="X25519",
        key_alg="EC256",
        common_name="cart",
        client_certificate_der=b"\x30\x01\x00",
        alpn="h2",
        authority="shop.svc",
        spiffe_id="spiffe://a.b/c",
    )
    inside = (
        bytes.fromhex("07 00000000")
        + b"\x21\x00\x07TLSv1.3"
        + b"\x22\x00\x04cart"
        + b"\x23\x00\x16TLS_AES_128_GCM_SHA256"
        + b"\x25\x00\x05EC256"
        + b"\x26\x00\x06X25519"
        + b"\x28\x00\x03\x30\x01\x00"
    )
    tlvs = b"\x01\x00\x02h2" + b"\x02\x00\x08shop.svc" + b"\x20\x00\x46" + inside + b"\xe1\x00\x0espiffe://a.b/c"
    fixed = bytes.fromhex(SIGNATURE + "21 11 0076") + bytes.fromhex("c0000201 c000020b dc04 01bb")
    assert encode_v2(CLIENT, SERVER, details) == fixed + tlvs


def test_a_verify_result_is_32_bits_big_endian_and_what_is_unknown_is_not_sent() -> None:
    header = encode_v2(CLIENT, SERVER, TlsDetails(client=ClientFlags.SSL, verify=0x01020304))
    assert header[28:] == bytes.fromhex("20 0005 01 01020304")


def test_a_local_header_holds_nothing() -> None:
    details = TlsDetails(client=VERIFIED, verify=0, version="TLSv1.3")
    assert encode_v2(CLIENT, SERVER, details, command=Command.LOCAL) == bytes.fromhex(SIGNATURE + "20 00 0000")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (CLIENT, IpEndpoint(ip_address("2001:db8::2"), 443)),
        (CLIENT, UnixEndpoint(b"/run/app.sock")),
        (None, SERVER),
        (None, None),
        (UnixEndpoint(b""), UnixEndpoint(b"x" * 109)),
    ],
)
def test_endpoints_of_no_common_family_are_unspecified(source: Endpoint | None, destination: Endpoint | None) -> None:
    assert encode_v2(source, destination) == bytes.fromhex(SIGNATURE + "21 00 0000")


def test_ipv4_mapped_addresses_are_written_as_ipv4() -> None:
    mapped = IpEndpoint(ip_address("::ffff:192.0.2.1"), 56324)
    assert encode_v2(mapped, SERVER) == encode_v2(CLIENT, SERVER)


@pytest.mark.parametrize(
    ("sockaddr", "expected"),
    [
        (("192.0.2.1", 56324), CLIENT),
        (("::ffff:192.0.2.1", 56324, 0, 0), CLIENT),
        (("2001:db8::1", 1, 0, 0), IpEndpoint(ip_address("2001:db8::1"), 1)),
        ("", UnixEndpoint(b"")),
        ("/run/\udcff", UnixEndpoint(b"/run/\xff")),
        (b"\0abstract", UnixEndpoint(b"\0abstract")),
        (("localhost", 1), None),
        (("192.0.2.1", 65536), None),
        (None, None),
        (7, None),
    ],
)
def test_socket_addresses_become_endpoints(sockaddr: object, expected: Endpoint | None) -> None:
    assert endpoint(sockaddr) == expected


def test_a_zone_is_not_written() -> None:
    zoned = endpoint(("fe80::1%eth0", 5, 0, 2))
    assert encode_v2(zoned, zoned) == encode_v2(endpoint(("fe80::1", 5)), endpoint(("fe80::1", 5)))


def test_a_certificate_that_does_not_fit_is_left_out_and_everything_else_stays() -> None:
    kept = TlsDetails(client=VERIFIED, verify=0, version="TLSv1.3", common_name="cart", spiffe_id="spiffe://a.b/c")
    huge = TlsDetails(
        client=VERIFIED,
        verify=0,
        version="TLSv1.3",
        common_name="cart",
        spiffe_id="spiffe://a.b/c",
        client_certificate_der=bytes(65500),
    )
    assert encode_v2(CLIENT, SERVER, huge) == encode_v2(CLIENT, SERVER, kept)


def test_a_certificate_that_just_fits_fills_the_header() -> None:
    room = 0xFFFF - 12 - (3 + 5) - 3
    for size, sent in [(room, True), (room + 1, False)]:
        details = TlsDetails(client=VERIFIED, verify=0, client_certificate_der=bytes(size))
        header = encode_v2(CLIENT, SERVER, details)
        assert (decoded_tls(header).client_certificate_der is not None) == sent
        assert (len(header) == MAX_HEADER_BYTES) == sent


def test_when_room_is_short_the_identity_wins_over_names() -> None:
    details = TlsDetails(
        client=VERIFIED, verify=0, spiffe_id="s" * 40000, common_name="c" * 30000, authority="a" * 20000, alpn="h2"
    )
    seen = decoded_tls(encode_v2(CLIENT, SERVER, details))
    assert (seen.spiffe_id, seen.authority, seen.alpn) == (details.spiffe_id, details.authority, "h2")
    assert seen.common_name is None


@pytest.mark.parametrize(
    "field", ["version", "cipher", "group", "key_alg", "common_name", "authority", "alpn", "spiffe_id"]
)
def test_no_text_fails_the_encoding(field: str) -> None:
    for text in ("\ud800", "x" * 70000, "\0", "名"):
        encode_v2(CLIENT, SERVER, TlsDetails(client=VERIFIED, verify=0, **{field: text}))


def test_crc32c_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of every catalogue
    assert crc32c(bytes(32)) == int.from_bytes(bytes.fromhex("aa36918a"), "little")  # RFC 3720 B.4


def test_a_checksum_covers_the_header_with_its_own_field_zero() -> None:
    header = encode_v2(CLIENT, SERVER, checksum=True)
    at = 16 + 12 + 3
    assert header[at - 3 : at] == struct.pack("!BH", Tlv.CRC32C, 4)
    assert int.from_bytes(header[at:], "big") == crc32c(header[:at] + bytes(4))
