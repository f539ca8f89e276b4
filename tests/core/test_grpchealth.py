"""One gRPC health check as bytes. A real server answers it in tests/ops/test_appprobes.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.grpchealth import MAX_ANSWER_BYTES, GrpcFault, HealthReader, health_request, is_serving

SETTINGS, DATA, HEADERS, RST_STREAM, PING, GOAWAY = 0x4, 0x0, 0x1, 0x3, 0x6, 0x7


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def message(body: bytes, *, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(body).to_bytes(4, "big") + body


def data(body: bytes, **more: int) -> bytes:
    return frame(DATA, message(body), stream=1, **more)


HELLO = frame(SETTINGS, b"\x00\x03\x00\x00\x00\x64") + frame(SETTINGS, flags=1)
FIELDS = frame(HEADERS, b"\x88", flags=4, stream=1)
SERVING = HELLO + FIELDS + data(b"\x08\x01")


def read(answer: bytes) -> str | None:
    return HealthReader().feed(answer)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\x08\x01", "SERVING"),
        (b"\x08\x02", "NOT_SERVING"),
        (b"\x08\x03", "SERVICE_UNKNOWN"),
        (b"", "UNKNOWN"),
        (b"\x08\x09", "status 9"),
        (b"\x12\x02hi\x08\x01\x18\x05", "SERVING"),  # fields that a later version may add
    ],
)
def test_the_status_is_read_from_the_message(body: bytes, status: str) -> None:
    assert status == read(HELLO + FIELDS + data(body))


def test_only_serving_is_healthy() -> None:
    words = [read(HELLO + data(bytes((8, number)))) for number in range(8)]
    assert [word for word in words if word is not None and is_serving(word)] == ["SERVING"]


@pytest.mark.parametrize("at", range(len(SERVING)))
def test_any_split_into_two_pieces_reads_the_same(at: int) -> None:
    reader = HealthReader()
    first = reader.feed(SERVING[:at]) if at else None
    assert (first, reader.feed(SERVING[at:])) == (None, "SERVING")


@pytest.mark.parametrize("at", range(1, len(SERVING)))
def test_an_end_before_the_message_is_a_fault(at: int) -> None:
    reader = HealthReader()
    assert reader.feed(SERVING[:at]) is None
    with pytest.raises(GrpcFault, match="ended before"):
        reader.feed(b"")


def test_settings_and_pings_are_acknowledged() -> None:
    reader = HealthReader()
    reader.feed(frame(SETTINGS) + frame(PING, b"12345678") + frame(PING, b"87654321", flags=1))
    assert frame(SETTINGS, flags=1) + frame(PING, b"12345678", flags=1) == bytes(reader.reply)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"),
        (HELLO + frame(HEADERS, b"\x88", flags=5, stream=1), "failed without a status"),
        (HELLO + frame(RST_STREAM, b"\0\0\0\2", stream=1), "reset"),
        (HELLO + frame(GOAWAY, b"\0" * 8), "GOAWAY"),
        (HELLO + frame(DATA, message(b"\x08\x01", compressed=1), stream=1), "compressed"),
        (HELLO + frame(DATA, b"", flags=1, stream=1), "failed without a status"),
        (HELLO + data(b"\x08"), "no HealthCheckResponse"),
        (HELLO + data(b"\x0d\0\0\0\0"), "no HealthCheckResponse"),
        (HELLO + data(b"\x12\x7f"), "no HealthCheckResponse"),
        (HELLO + data(b"\x08" + b"\xff" * 12), "no HealthCheckResponse"),
        (HELLO + b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", "longer than HTTP/2 allows"),
        (HELLO + frame(DATA, b"\x09abc", flags=8, stream=1), "padding"),
        (HELLO + frame(0xFF, bytes(16_384)) * 5, f"longer than {MAX_ANSWER_BYTES}"),
    ],
)
def test_what_gives_no_status_is_a_fault_that_says_why(answer: bytes, why: str) -> None:
    with pytest.raises(GrpcFault, match=why):
        read(answer)


def test_padding_other_streams_and_unknown_frames_are_read_over() -> None:
    padded = frame(DATA, b"\x03" + message(b"\x08\x01") + b"\0\0\0", flags=8, stream=1)
    assert read(HELLO + frame(0xFA, b"?") + frame(DATA, message(b"\x08\x02"), stream=3) + padded) == "SERVING"


@given(st.binary(max_size=400))
def test_junk_gives_a_status_a_fault_or_nothing_yet(junk: bytes) -> None:
    for answer in (junk or b"\0", HELLO + junk, HELLO + FIELDS + junk):
        try:
            status = read(answer)
        except GrpcFault:
            continue
        assert (
            status is None
            or status in {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
            or status.startswith("status ")
        )


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=0, max_size=255))
def test_the_request_holds_the_service_with_its_lengths(service: str) -> None:
    request = health_request("127.0.0.1:50051", service, 1.0)
    name = service.encode()
    size = len(name).to_bytes(1, "big") if len(name) < 128 else bytes((len(name) & 0x7F | 0x80, len(name) >> 7))
    body = message(b"\x0a" + size + name if name else b"")
    assert request.endswith(frame(DATA, body, flags=1, stream=1))
    assert request.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
