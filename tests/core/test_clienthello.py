"""
The ClientHello parser against real hellos (OpenSSL through pyOpenSSL, and the stdlib's ssl) and built ones.
"""

import ssl
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.core.clienthello import (
    MAX_HELLO_BYTES,
    ClientHello,
    NeedMore,
    Plaintext,
    detect,
    looks_like_tls,
    parse_client_hello,
)
from proxy.core.reasons import Reason, Rejected

NAME = "payments.shop.svc.cluster.local"


def openssl_hello(
    *, sni: str | None = NAME, alpn: tuple[bytes, ...] = (), low: int = SSL.TLS1_2_VERSION, high: int = 0
) -> bytes:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(low)
    context.set_max_proto_version(high)
    if alpn:
        context.set_alpn_protos(list(alpn))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if sni is not None:
        client.set_tlsext_host_name(sni.encode())
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


def stdlib_hello() -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="Example.ORG")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


REAL = {
    "default": openssl_hello(alpn=(b"h2", b"http/1.1")),
    "1.2": openssl_hello(high=SSL.TLS1_2_VERSION, alpn=(b"h2",)),
    "1.3": openssl_hello(low=SSL.TLS1_3_VERSION),
    "anonymous": openssl_hello(sni=None),
    "stdlib": stdlib_hello(),
}
ASKED = {
    "default": ClientHello(sni=NAME, alpn=("h2", "http/1.1"), versions=("TLSv1.3", "TLSv1.2")),
    "1.2": ClientHello(sni=NAME, alpn=("h2",), versions=("TLSv1.2",)),
    "1.3": ClientHello(sni=NAME, versions=("TLSv1.3",)),
    "anonymous": ClientHello(versions=("TLSv1.3", "TLSv1.2")),
    "stdlib": ClientHello(sni="example.org", alpn=("h2", "http/1.1"), versions=("TLSv1.3", "TLSv1.2")),
}
EXPECTED = {name: msgspec.structs.replace(seen, body=REAL[name][9:]) for name, seen in ASKED.items()}
real_hellos = st.sampled_from(sorted(REAL))


def vector(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(number: int, content: bytes) -> bytes:
    return number.to_bytes(2, "big") + vector(content, 2)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(b"".join(bytes([kind]) + vector(name, 2) for name in names), 2))


def body(*extensions: bytes, version: bytes = b"\3\3", session_id: bytes = b"", suites: bytes = b"\x13\1") -> bytes:
    start = version + bytes(32) + vector(session_id, 1) + vector(suites, 2) + vector(b"\0", 1)
    return start + (vector(b"".join(extensions), 2) if extensions else b"")


def message(content: bytes) -> bytes:
    return b"\1" + vector(content, 3)


def records(stream: bytes, sizes: Iterator[int] | None = None) -> bytes:
    """Cut a handshake stream into records of these sizes (the last repeats); one record when there are none."""
    out, size, at = b"", 16384, 0
    while at < len(stream):
        size = next(sizes, size) if sizes else size
        out += b"\x16\3\1" + vector(stream[at : at + size], 2)
        at += size
    return out


def hello(*extensions: bytes, **fields: bytes) -> bytes:
    return records(message(body(*extensions, **fields)))


def message_of(wire: bytes) -> bytes:
    return wire[5 : 5 + int.from_bytes(wire[3:5], "big")]


def read(data: bytes) -> ClientHello:
    seen = parse_client_hello(data)
    assert isinstance(seen, ClientHello)
    return seen


def refusal(data: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        parse_client_hello(data)
    assert caught.value.detail
    return caught.value.reason


def verdict(data: bytes, last: NeedMore | None = None) -> ClientHello | NeedMore | Reason:
    try:
        return parse_client_hello(data, last)
    except Rejected as refused:
        return refused.reason


def looks(data: bytes) -> tuple[list[int], ClientHello | NeedMore | Reason]:
    """Look as the caller does, only when at_least bytes are there; the lengths that were looked at, the verdict."""
    lengths, size, last = [], 1, None
    while True:
        lengths.append(size)
        seen = verdict(data[:size], last)
        assert seen == verdict(data[:size])  # what a look remembers never changes the verdict of the next
        if not isinstance(seen, NeedMore) or seen.at_least > len(data):
            return lengths, seen
        last, size = seen, seen.at_least


@pytest.mark.parametrize("name", REAL)
def test_a_real_hello_says_what_the_client_asked_for(name: str) -> None:
    assert EXPECTED[name] == parse_client_hello(REAL[name])
    assert EXPECTED[name] == parse_client_hello(memoryview(REAL[name]))


def test_a_post_quantum_hello_is_longer_than_one_segment() -> None:
    assert len(REAL["1.3"]) > 1400


@pytest.mark.parametrize("name", REAL)
def test_every_prefix_of_a_hello_needs_more_and_never_more_than_the_hello(name: str) -> None:
    wire = REAL[name]
    for size in range(len(wire)):
        seen = parse_client_hello(wire[:size])
        assert isinstance(seen, NeedMore)
        assert size < seen.at_least <= len(wire)


@pytest.mark.parametrize("name", REAL)
def test_a_client_that_sends_one_byte_at_a_time_is_looked_at_four_times(name: str) -> None:
    assert ([1, 6, 11, len(REAL[name])], EXPECTED[name]) == looks(REAL[name])


@given(real_hellos, st.lists(st.integers(1, 700), min_size=1, max_size=30))
def test_any_cut_into_records_gives_the_same_hello(name: str, sizes: list[int]) -> None:
    wire = records(message_of(REAL[name]), iter(sizes))
    assert EXPECTED[name] == parse_client_hello(wire)
    for size in {*range(0, 30), *range(0, len(wire), 97), len(wire) - 1}:
        seen = parse_client_hello(wire[:size])
        assert isinstance(seen, NeedMore)
        assert size < seen.at_least <= len(wire)


def test_a_hello_in_records_of_one_byte_each_is_read() -> None:
    wire = records(message_of(REAL["1.3"]), iter([1]))
    lengths, seen = looks(wire)
    assert EXPECTED["1.3"] == seen
    assert len(lengths) < 60


def test_no_look_walks_the_records_of_the_look_before() -> None:
    wire = records(message(body(extension(21, bytes(2600)))), iter([1]))
    assert MAX_HELLO_BYTES - 600 < len(wire) <= MAX_HELLO_BYTES
    seen: ClientHello | NeedMore = NeedMore(1)
    count = 0
    while isinstance(seen, NeedMore):
        looked_at = seen.at_least
        seen = parse_client_hello(wire[:looked_at], seen)
        count += 1
        assert isinstance(seen, ClientHello) or looked_at - seen.glued_to <= 6  # one record of one byte
    assert count < 60


@given(real_hellos, st.binary(max_size=300))
def test_what_follows_a_hello_is_not_looked_at(name: str, junk: bytes) -> None:
    assert EXPECTED[name] == parse_client_hello(REAL[name] + junk)


@given(real_hellos, st.binary(max_size=100))
def test_what_follows_a_hello_in_its_own_record_is_not_looked_at(name: str, junk: bytes) -> None:
    assert EXPECTED[name] == parse_client_hello(records(message_of(REAL[name]) + junk))


@given(real_hellos, st.integers(0, 2000), st.binary(max_size=300))
def test_a_prefix_and_junk_end_in_a_verdict_and_a_refused_prefix_stays_refused(
    name: str, size: int, junk: bytes
) -> None:
    wire = REAL[name][:size] + junk
    whole = verdict(wire)
    patient = looks(wire)[1]  # may still wait where an earlier look would have refused, never the other way round
    assert patient == whole or (isinstance(patient, NeedMore) and patient.at_least > len(wire))
    for end in range(max(0, size - 5), len(wire)):
        early = verdict(wire[:end])
        assert isinstance(early, NeedMore) or early == whole
        if isinstance(early, NeedMore) and isinstance(whole, NeedMore):
            assert early.at_least <= whole.at_least


@given(real_hellos, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8))
def test_a_mutated_hello_ends_in_a_verdict(name: str, changes: list[tuple[int, int]]) -> None:
    wire = bytearray(REAL[name])
    for at, value in changes:
        wire[at % len(wire)] = value
    seen = verdict(bytes(wire))
    if isinstance(seen, NeedMore):
        assert len(wire) < seen.at_least <= MAX_HELLO_BYTES


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x16", b"\x16\3\1", b"\x16\3\1\2\0\1\0\1\xfc\3\3"]))
def test_random_bytes_end_in_a_verdict(junk: bytes, start: bytes) -> None:
    seen = verdict(start + junk)
    if isinstance(seen, NeedMore):
        assert len(start + junk) < seen.at_least <= MAX_HELLO_BYTES


@given(st.binary(max_size=400))
def test_random_extensions_end_in_a_verdict(junk: bytes) -> None:
    assert not isinstance(verdict(hello(junk)), NeedMore)


@given(st.sampled_from([0, 16, 43]), st.binary(max_size=60))
def test_random_contents_of_an_extension_end_in_a_verdict(number: int, junk: bytes) -> None:
    assert not isinstance(verdict(hello(extension(number, junk))), NeedMore)


def test_only_0x16_looks_like_tls() -> None:
    assert [first for first in range(256) if looks_like_tls(first)] == [0x16]
    for first in range(256):
        assert (Reason.NOT_TLS if first != 0x16 else NeedMore(6)) == verdict(bytes([first]))


def test_nothing_needs_one_byte() -> None:
    assert NeedMore(1) == parse_client_hello(b"")


def test_an_sslv2_hello_is_not_tls() -> None:
    assert refusal(b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(40)) == Reason.NOT_TLS


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\2",
        b"\x16\3\0",
        b"\x16\3\4",
        b"\x16\3\1\x40\1",  # 16385 bytes in a record
        b"\x16\3\1\0\0",  # an empty record
        b"\x16\3\1\0\1\2",  # a ServerHello
        b"\x16\3\1\0\4\1\0\0\x28",  # one byte shorter than the shortest
        b"\x16\3\1\0\6\1\0\1\0\2",  # major version 2
        b"\x16\3\1\0\1\1\x15",  # an alert in the middle of the hello
        b"\x16\3\1\0\1\1\x16\3\1\0\0",  # an empty record in the middle of the hello
    ],
)
def test_what_cannot_become_a_hello_is_refused_at_the_byte_that_shows_it(wire: bytes) -> None:
    assert isinstance(parse_client_hello(wire[:-1]), NeedMore)
    assert refusal(wire) == Reason.NOT_TLS


@pytest.mark.parametrize("version", [b"\3\1", b"\3\2", b"\3\3"])
def test_the_version_of_the_record_says_nothing(version: bytes) -> None:
    assert ClientHello(versions=("TLSv1.2",), body=body()) == parse_client_hello(b"\x16" + version + hello()[3:])


def test_a_hello_that_fills_the_bound_is_read_and_one_byte_more_is_refused() -> None:
    fill = MAX_HELLO_BYTES - len(hello(extension(21, b"")))
    longest = hello(extension(21, bytes(fill)))
    assert len(longest) == MAX_HELLO_BYTES
    assert isinstance(parse_client_hello(longest), ClientHello)
    too_long = hello(extension(21, bytes(fill + 1)))
    assert refusal(too_long) == Reason.HELLO_TOO_LONG
    assert refusal(too_long[:11]) == Reason.HELLO_TOO_LONG


def test_a_hello_that_its_record_headers_make_too_long_is_refused_before_it_is_all_there() -> None:
    wire = records(message(body(extension(21, bytes(4000)))), iter([1]))
    lengths, seen = looks(wire)
    assert Reason.HELLO_TOO_LONG == seen == refusal(wire)
    assert lengths[-1] < MAX_HELLO_BYTES


def test_a_hello_that_claims_megabytes_is_refused_at_once() -> None:
    assert refusal(b"\x16\3\1\1\0\1\xff\xff\xff") == Reason.HELLO_TOO_LONG


@pytest.mark.parametrize(
    "content",
    [
        body(session_id=bytes(33)),
        body(suites=b""),
        body(suites=b"\x13\1\x13"),
        b"\3\3" + bytes(32) + b"\0\0\2\x13\1\0\0\0",  # no compression method
        b"\3\3" + bytes(32) + b"\xff\0\2\x13\1\1\0",  # a session id beyond the end
        body() + b"\0",
        body() + b"\0\5\0\0",
        body(extension(1, b"x")) + b"\0",
        body(b"\0"),
        body(b"\0\1\0"),
        body(b"\0\1\0\2x"),
    ],
)
def test_a_message_whose_lengths_do_not_add_up_is_not_tls(content: bytes) -> None:
    assert refusal(records(message(content))) == Reason.NOT_TLS


@pytest.mark.parametrize("twice", [server_name(b"a.b"), extension(16, b"\0\3\2h2"), extension(43, b"\2\3\4")])
def test_an_extension_that_is_read_must_not_come_twice(twice: bytes) -> None:
    assert isinstance(parse_client_hello(hello(twice)), ClientHello)
    assert refusal(hello(twice, extension(5, b""), twice)) == Reason.NOT_TLS


def test_grease_and_unknown_extensions_are_skipped() -> None:
    grease = extension(0x0A0A, b"") + extension(0xFAFA, b"\0") + extension(65281, b"\0") + extension(0x0A0A, b"")
    wire = hello(grease, server_name(b"a.b"), extension(43, b"\6\x3a\x3a\3\4\3\3"), suites=b"\x1a\x1a\x13\1")
    assert ClientHello(sni="a.b", versions=("TLSv1.3", "TLSv1.2"), body=wire[9:]) == parse_client_hello(wire)


@pytest.mark.parametrize(
    ("legacy", "expected"),
    [
        (b"\3\0", "SSLv3"),
        (b"\3\1", "TLSv1"),
        (b"\3\2", "TLSv1.1"),
        (b"\3\3", "TLSv1.2"),
        (b"\3\4", "TLSv1.2"),
        (b"\3\xff", "TLSv1.2"),
    ],
)
def test_without_supported_versions_the_legacy_version_is_the_highest(legacy: bytes, expected: str) -> None:
    assert (expected,) == read(hello(version=legacy)).versions


def test_supported_versions_win_over_the_legacy_version() -> None:
    assert read(hello(extension(43, b"\2\3\2"))).versions == ("TLSv1.1",)
    assert read(hello(extension(43, b"\2\x7f\x1c"))).versions == ()


@pytest.mark.parametrize("content", [b"", b"\0", b"\1\3", b"\3\3\4\3", b"\2\3\4\0"])
def test_supported_versions_of_an_impossible_length_are_not_tls(content: bytes) -> None:
    assert refusal(hello(extension(43, content))) == Reason.NOT_TLS


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\1\0", b"\0\3\3h2", b"\0\3\2h2x", b"\0\4\2h2\0"])
def test_alpn_of_an_impossible_length_is_not_tls(content: bytes) -> None:
    assert refusal(hello(extension(16, content))) == Reason.NOT_TLS


@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=8))
def test_alpn_names_keep_their_bytes_and_their_order(names: list[bytes]) -> None:
    content = vector(b"".join(vector(name, 1) for name in names), 2)
    seen = read(hello(extension(16, content)))
    assert names == [name.encode("latin-1") for name in seen.alpn]


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0", b"\0\1\0", b"\0\3\0\0\0", b"\0\5\0\0\3a.b", b"\0\4\0\0\1aa"])
def test_a_server_name_extension_whose_lengths_do_not_add_up_is_not_tls(content: bytes) -> None:
    assert refusal(hello(extension(0, content))) == Reason.NOT_TLS


def test_a_second_host_name_is_not_tls() -> None:
    assert refusal(hello(server_name(b"a.b", b"c.d"))) == Reason.NOT_TLS


def test_a_name_of_another_kind_is_no_sni() -> None:
    assert None is read(hello(server_name(b"a.b", kind=7))).sni


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"A.Example", "a.example"),
        (b"localhost", "localhost"),
        (b"_srv.x-y.z9", "_srv.x-y.z9"),
        (b"1.2.3.4.example", "1.2.3.4.example"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b".".join([b"a" * 63] * 3 + [b"b" * 63]), ".".join(["a" * 63] * 3 + ["b" * 63])),
        (b".".join([b"a" * 63] * 4 + [b"b"]), None),  # 257 bytes
        (b"a" * 64, None),
        (b"a..b", None),
        (b".a", None),
        (b"a.", None),
        (b"-a.b", None),
        (b"a-.b", None),
        (b"*.a", None),
        (b"a\nb", None),
        (b"a.b\n", None),
        (b"a\0.b", None),
        ("bücher.example".encode(), None),
        (b"10.0.0.1", None),
        (b"2130706433", None),
        (b"0x7f000001", None),
        (b"::1", None),
        (b"[::1]", None),
    ],
)
def test_only_a_dns_name_is_an_sni(name: bytes, expected: str | None) -> None:
    wire = hello(server_name(name), extension(16, b"\0\3\2h2"))
    expected_hello = ClientHello(sni=expected, alpn=("h2",), versions=("TLSv1.2",), body=wire[9:])
    assert expected_hello == parse_client_hello(wire)


def test_only_letters_digits_hyphens_underscores_and_dots_stand_in_an_sni() -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    for value in range(256):
        seen = read(hello(server_name(b"a" + bytes([value]) + b"a.b")))
        assert (value in alphabet) == (seen.sni is not None)


def test_strict_refuses_plaintext_and_says_what_it_looked_like() -> None:
    for start, said in [
        (b"GET / HTTP/1.1\r\n", "HTTP in plaintext"),
        (b"PRI * HTTP/2.0\r\n", "HTTP/2 in plaintext"),
        (b"SSH-2.0-x", "SSH"),
        (b"PROXY TCP4 ", "a PROXY protocol header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "a PROXY protocol header"),
        (b"hunter2", "0x68"),
    ]:
        with pytest.raises(Rejected, match=said) as caught:
            detect(start, plaintext_allowed=False)
        assert Reason.PLAINTEXT_REFUSED is caught.value.reason
        assert "hunter2" not in caught.value.detail


def test_strict_calls_a_broken_hello_not_tls() -> None:
    with pytest.raises(Rejected) as caught:
        detect(b"\x16\x16", plaintext_allowed=False)
    assert Reason.NOT_TLS is caught.value.reason


def test_permissive_takes_whatever_is_no_hello_as_plaintext() -> None:
    assert isinstance(detect(b"G", plaintext_allowed=True), Plaintext)
    assert isinstance(detect(b"\x16\x16", plaintext_allowed=True), Plaintext)


@pytest.mark.parametrize("allowed", [False, True])
def test_both_modes_read_a_hello_wait_for_one_and_refuse_one_that_is_too_long(allowed: bool) -> None:
    assert NeedMore(1) == detect(b"", plaintext_allowed=allowed)
    assert NeedMore(6) == detect(b"\x16\3", plaintext_allowed=allowed)
    assert EXPECTED["1.3"] == detect(REAL["1.3"], plaintext_allowed=allowed)
    with pytest.raises(Rejected) as caught:
        detect(b"\x16\3\1\1\0\1\xff\xff\xff", plaintext_allowed=allowed)
    assert Reason.HELLO_TOO_LONG is caught.value.reason
