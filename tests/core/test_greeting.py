"""What answers where TLS was expected gets a name where it has one, and is quoted safely."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.greeting import QUOTED_BYTES, is_tls, read_greeting


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", "HTTP"),
        (b"<!DOCTYPE HTML>\n<html>", "HTTP"),
        (b"<html><head>", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"220 mail.example.org ESMTP\r\n", "SMTP or FTP"),
        (b"+OK ready\r\n", "POP3"),
        (b"* OK IMAP4rev1\r\n", "IMAP"),
        (b"-ERR unknown command\r\n", "Redis"),
        (b"\x4a\x00\x00\x00\x0a8.0.36\x00", "MySQL or MariaDB"),
        (b"\x45\x00\x00\x00\xffj\x04Host is not allowed", "MySQL or MariaDB"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "HTTP/2 without TLS"),
        (b"hello\n", None),
        (b"", None),
    ],
)
def test_a_protocol_is_known_by_how_it_begins(first: bytes, protocol: str | None) -> None:
    assert read_greeting(first).protocol == protocol


def test_only_the_first_line_is_quoted_and_not_all_of_a_long_one() -> None:
    assert read_greeting(b"SSH-2.0-x\r\nsecret").quotation == "'SSH-2.0-x'"
    assert read_greeting(b"x" * 1000).quotation == repr("x" * QUOTED_BYTES)


@given(st.binary(max_size=300))
def test_any_bytes_are_quoted_without_controls(data: bytes) -> None:
    quotation = read_greeting(data).quotation
    assert quotation.isascii()
    assert quotation.isprintable()
    assert len(quotation) <= 4 * QUOTED_BYTES + 2


@pytest.mark.parametrize("byte", range(256))
def test_tls_begins_with_a_handshake_or_an_alert(byte: int) -> None:
    assert is_tls(bytes([byte])) == (byte in (0x15, 0x16))
    assert is_tls(bytes([byte, 3])) == (byte in (0x15, 0x16))
    assert not is_tls(bytes([byte, ord("x")]))


def test_nothing_is_no_tls() -> None:
    assert not is_tls(b"")
