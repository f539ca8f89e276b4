"""
PROXY headers as they are read: round trips, every prefix, junk, and the ways in which a header can lie about lengths.
"""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clienthello import NeedMore
from proxy.core.proxyheader import Header, ProxyHeaderError, decode
from proxy.core.proxyprotocol import (
    MAX_HEADER_BYTES,
    ClientFlags,
    Command,
    Endpoint,
    IpEndpoint,
    TlsDetails,
    Transport,
    UnixEndpoint,
    encode_v2,
    normalized,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\n"

ports = st.integers(0, 65535)
ipv4 = st.builds(IpEndpoint, st.ip_addresses(v=4), ports)
ipv6 = st.builds(IpEndpoint, st.ip_addresses(v=6), ports).map(normalized).filter(lambda ip: ip.address.version == 6)
unix = st.builds(UnixEndpoint, st.binary(max_size=108).map(lambda path: path.rstrip(b"\0")))
pairs = st.one_of(st.tuples(ipv4, ipv4), st.tuples(ipv6, ipv6), st.tuples(unix, unix))
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
details = st.builds(
    TlsDetails,
    client=st.integers(0, 255).map(ClientFlags),
    verify=st.integers(0, 0xFFFFFFFF),
    version=texts,
    cipher=texts,
    group=texts,
    key_alg=texts,
    common_name=texts,
    client_certificate_der=st.none() | st.binary(max_size=3000),
    alpn=st.none() | st.text(st.characters(max_codepoint=255), max_size=255),
    authority=texts,
    spiffe_id=texts,
)


def v2(version_command: int, family_transport: int, block: bytes) -> bytes:
    return struct.pack("!12sBBH", SIGNATURE, version_command, family_transport, len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def verdict(data: bytes) -> Header | NeedMore | None:
    try:
        return decode(data)
    except ProxyHeaderError:
        return None


def check_every_prefix(header: bytes) -> None:
    for size in range(len(header)):
        seen = decode(header[:size])
        assert isinstance(seen, NeedMore)
        assert size < seen.at_least <= len(header)


FULL = TlsDetails(client=ClientFlags(7), verify=0, version="TLSv1.3", alpn="h2", client_certificate_der=bytes(90))
SAMPLES = [
    V1,
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n",
    encode_v2(None, None),
    encode_v2(UnixEndpoint(b""), UnixEndpoint(b"/a")),
    encode_v2(IpEndpoint(ip_address("192.0.2.1"), 1), IpEndpoint(ip_address("192.0.2.2"), 2), FULL, checksum=True),
]


@given(pairs, st.none() | details, st.booleans(), st.binary(max_size=40))
def test_what_was_written_is_read(
    pair: tuple[Endpoint, Endpoint], tls: TlsDetails | None, checksum: bool, payload: bytes
) -> None:
    header = encode_v2(*pair, tls, checksum=checksum)
    seen = decode(header + payload)
    assert isinstance(seen, Header)
    assert (seen.version, seen.length, seen.command) == (2, len(header), Command.PROXY)
    assert (seen.transport, seen.source, seen.destination, seen.tls) == (Transport.STREAM, *pair, tls)


@given(details)
def test_tls_details_are_read_without_addresses_too(tls: TlsDetails) -> None:
    seen = decode(encode_v2(None, None, tls))
    assert isinstance(seen, Header)
    assert (seen.source, seen.destination, seen.tls) == (None, None, tls)


@pytest.mark.parametrize("header", SAMPLES)
def test_every_prefix_needs_more_and_never_more_than_the_header(header: bytes) -> None:
    check_every_prefix(header)
    assert isinstance(decode(memoryview(header)), Header)


@given(st.sampled_from(SAMPLES), st.integers(0, 200), st.binary(max_size=200))
def test_a_prefix_and_junk_end_in_a_verdict(header: bytes, size: int, junk: bytes) -> None:
    data = header[:size] + junk
    seen = verdict(data)
    if isinstance(seen, NeedMore):
        assert len(data) < seen.at_least <= MAX_HEADER_BYTES
    if isinstance(seen, Header):
        assert seen.length <= len(data)


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_a_mutated_header_ends_in_a_verdict(header: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(header)
    for at, value in changes:
        data[at % len(data)] = value
    verdict(bytes(data))


@given(st.sampled_from([0x11, 0x12, 0x21, 0x31, 0x00]), st.binary(max_size=300))
def test_random_blocks_end_in_a_verdict(family_transport: int, block: bytes) -> None:
    assert not isinstance(verdict(v2(0x21, family_transport, block)), NeedMore)


@given(st.binary(max_size=100))
def test_random_ssl_values_end_in_a_verdict(value: bytes) -> None:
    assert not isinstance(verdict(v2(0x21, 0, tlv(0x20, value))), NeedMore)


@given(st.text("0123456789abcdef:.%/ TCPUNKOW\r", max_size=100))
def test_random_lines_end_in_a_verdict(line: str) -> None:
    assert not isinstance(verdict(b"PROXY " + line.encode() + b"\r\n"), NeedMore)


def test_a_version_1_line_is_read() -> None:
    seen = decode(V1 + b"GET /")
    expected = Header(
        version=1,
        length=len(V1),
        transport=Transport.STREAM,
        source=IpEndpoint(ip_address("192.0.2.1"), 56324),
        destination=IpEndpoint(ip_address("192.0.2.11"), 443),
    )
    assert seen == expected


def test_the_longest_version_1_line_is_read_and_one_byte_more_is_refused() -> None:
    address = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff"
    line = b"PROXY UNKNOWN " + address + b"f " + address + b"f 65535 65535\r\n"
    assert len(line) == 107
    assert isinstance(decode(line), Header)
    assert verdict(line[:-2] + b"0\r\n") is None
    assert verdict(line[:-2] + b"0") is None
    assert verdict(b"PROXY " + b"x" * 99) == NeedMore(107)
    assert verdict(b"PROXY " + b"x" * 100) is None


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.11 56324\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.11 56324 443 \r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.11 56324 443\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.11 56324 443\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.11 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.11 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.11 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.11 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.11 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.11 1 \xb2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.11 56324 443\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.11 56324 443\r\n",
        b"PROXYTCP4 192.0.2.1 192.0.2.11 56324 443\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.11 56324 443\r\n",
    ],
)
def test_a_line_that_is_not_exactly_the_grammar_is_refused(line: bytes) -> None:
    assert verdict(line) is None


def test_ipv4_mapped_addresses_are_read_as_ipv4() -> None:
    mapped = ip_address("::ffff:192.0.2.1").packed
    for header in (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.1 5 6\r\n",
        v2(0x21, 0x21, mapped + mapped + b"\0\5\0\6"),
    ):
        seen = decode(header)
        assert isinstance(seen, Header)
        assert seen.source == IpEndpoint(ip_address("192.0.2.1"), 5)


def test_only_version_2_with_local_or_proxy_is_read() -> None:
    read = [value for value in range(256) if verdict(v2(value, 0, b"")) is not None]
    assert read == [0x20, 0x21]


def test_only_known_families_and_transports_are_read() -> None:
    read = [value for value in range(256) if verdict(v2(0x21, value, bytes(216))) is not None]
    known = [family << 4 | transport for family in range(4) for transport in range(3)]
    # 216 zero bytes behind an IPv4, an IPv6 or no address: zero-length TLVs of type 0, which nobody reads.
    assert read == known


def test_addresses_of_an_unspecified_transport_are_not_told() -> None:
    seen = decode(v2(0x21, 0x10, bytes(12)))
    assert isinstance(seen, Header)
    assert (seen.transport, seen.source) == (Transport.UNSPEC, None)


def test_a_datagram_header_says_so() -> None:
    seen = decode(v2(0x21, 0x12, bytes(12)))
    assert isinstance(seen, Header)
    assert (seen.transport, seen.source) == (Transport.DGRAM, IpEndpoint(ip_address("0.0.0.0"), 0))


def test_a_local_header_is_skipped_whatever_it_holds() -> None:
    seen = decode(v2(0x20, 0x11, b"\xff" * 7) + b"payload")
    assert seen == Header(version=2, length=23, command=Command.LOCAL)


@pytest.mark.parametrize(
    "header",
    [
        v2(0x21, 0x11, bytes(11)),
        v2(0x21, 0x21, bytes(35)),
        v2(0x21, 0x31, bytes(215)),
        v2(0x21, 0x11, bytes(12) + b"\1"),
        v2(0x21, 0x11, bytes(12) + b"\1\0"),
        v2(0x21, 0x11, bytes(12) + b"\1\0\1"),
        v2(0x21, 0, tlv(0x20, bytes(4))),
        v2(0x21, 0, tlv(0x20, bytes(5) + b"\x21\0\1")),
        v2(0x21, 0, tlv(0x20, bytes(5) + tlv(0x22, b"a") + tlv(0x22, b"b"))),
        v2(0x21, 0, tlv(0x20, bytes(5)) + tlv(0x20, bytes(5))),
        v2(0x21, 0, tlv(0xE1, b"spiffe://a.b/c") + tlv(0xE1, b"spiffe://a.b/d")),
    ],
)
def test_lengths_that_do_not_add_up_and_values_that_come_twice_are_refused(header: bytes) -> None:
    assert verdict(header) is None


def test_padding_and_unknown_values_may_come_twice_and_are_kept() -> None:
    tlvs = ((4, b""), (0xEA, b"a"), (4, b"\0"), (0xEA, b"b"))
    seen = decode(v2(0x21, 0, b"".join(tlv(kind, value) for kind, value in tlvs)))
    assert isinstance(seen, Header)
    assert seen.tlvs == tlvs


@pytest.mark.parametrize("at", [12 + 16 - 1, 12 + 16 + 3, 12 + 16 + 6, -1])
def test_a_checksum_that_does_not_fit_is_refused(at: int) -> None:
    header = bytearray(SAMPLES[-1])
    header[at] ^= 1
    assert verdict(bytes(header)) is None


@pytest.mark.parametrize("value", [b"", bytes(3), bytes(5)])
def test_a_checksum_of_another_size_is_refused(value: bytes) -> None:
    assert verdict(v2(0x21, 0, tlv(3, value))) is None


def test_text_that_is_not_utf8_is_read_with_replacement_characters() -> None:
    seen = decode(v2(0x21, 0, tlv(0x20, bytes(5) + tlv(0x22, b"b\xfccher"))))
    assert isinstance(seen, Header)
    assert seen.tls is not None
    assert seen.tls.common_name == "b\ufffdcher"
