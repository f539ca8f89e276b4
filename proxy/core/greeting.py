"""
What answers where a ServerHello was expected: bytes in, the name of a protocol and a safe quotation out.

Nothing is judged here, and a wrong guess costs a word in a sentence. Some of these speak first (SSH, MySQL, mail), the
others answer a ClientHello with a complaint in their own protocol, HTTP servers mostly.
"""

from typing import NamedTuple

from proxy.core.spiffe import quote

QUOTED_BYTES = 60

_OPENINGS = (
    (b"HTTP/", "HTTP"),
    (b"<!doctype html", "HTTP"),
    (b"<html", "HTTP"),
    (b"SSH-", "SSH"),
    (b"+OK", "POP3"),
    (b"* OK", "IMAP"),
    (b"-ERR", "Redis"),
    (b"+PONG", "Redis"),
    (b"RFB ", "VNC"),
    (b"AMQP", "AMQP"),
    (b"ERROR", "a text protocol (memcached answers so)"),
    (b"220 ", "SMTP or FTP"),
    (b"220-", "SMTP or FTP"),
)
_MYSQL_GREETING, _MYSQL_ERROR = 0x0A, 0xFF
_TLS_CONTENT_TYPES = (0x15, 0x16)  # alert and handshake: what can open a server's side


class Greeting(NamedTuple):
    """protocol: the guess, None when there is none; quotation: how it began, safe for a terminal."""

    protocol: str | None
    quotation: str


def is_tls(data: bytes) -> bool:
    """Whether the first bytes of a server can be those of TLS; two of them are enough."""
    return bool(data) and data[0] in _TLS_CONTENT_TYPES and data[1:2] in (b"", b"\x03")


def read_greeting(data: bytes) -> Greeting:
    """Say what the first bytes of a server that does not speak TLS look like."""
    line = data.partition(b"\n")[0].rstrip(b"\r")[:QUOTED_BYTES]
    return Greeting(_protocol(data), quote(line.decode("latin-1")))


def _protocol(data: bytes) -> str | None:
    start = data[:16].lstrip().lower()
    for opening, name in _OPENINGS:
        if start.startswith(opening.lower()):
            return name
    if data.startswith(b"\x00\x00") and data[3:5] == b"\x04\x00":
        return "HTTP/2 without TLS"  # a SETTINGS frame of any length, RFC 9113 3.4
    # A MySQL packet: three bytes of length, its number (0: the first), then the version of the protocol or an error.
    if len(data) >= 5 and data[3] == 0 and data[2] == 0 and data[4] in (_MYSQL_GREETING, _MYSQL_ERROR):
        return "MySQL or MariaDB"
    return None
