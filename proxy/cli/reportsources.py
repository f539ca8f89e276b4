"""
The sources of `mtls-sidecar report`: URLs, files and standard input, opened and read within bounds.

A log can be longer than memory, so it goes by in pieces; a body of /metrics is taken whole, up to a bound. Every wait
has a deadline: an endpoint that does not answer, and a pipe into which nobody writes any more, are faults of that one
source, and the others are read all the same.
"""

import contextlib
import errno
import http.client
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from proxy.core.plaintext import Evidence
from proxy.ops.plaintextsources import (
    MAX_BODY_BYTES,
    MAX_LINE_BYTES,
    LogCount,
    is_connections,
    is_metrics,
    read_connections,
    read_log,
    read_metrics,
)

STDIN = "-"
UNIX = "unix:"
ANSWER_S = 5.0  # an endpoint answers in milliseconds
SILENCE_S = 60.0  # `kubectl logs` of a hundred Pods needs a while for its first line
_CHUNK_BYTES = 256 * 1024
_GZIP = b"\x1f\x8b"


class SourceFault(Exception):  # noqa: N818  # a fault of what the operator named
    """A source that cannot be taken as evidence; str() is the clause after its name."""


class Taken(msgspec.Struct, frozen=True):
    """A source that was read: what it turned out to be, and for a log how many lines of it were not a sidecar's."""

    source: str
    kind: str
    lines: int = 0
    skipped: int = 0


_Address = tuple[str, int] | str  # of TCP, or the path of a unix socket


class _Answer(NamedTuple):
    status: int
    body: bytes


class _Connection(http.client.HTTPConnection):
    """One to either kind of address."""

    def __init__(self, address: _Address) -> None:
        self._address = address
        host, port = ("localhost", 80) if isinstance(address, str) else address
        super().__init__(host, port, timeout=ANSWER_S)

    def connect(self) -> None:
        if not isinstance(self._address, str):
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        return self.sock.connect(self._address)


class Fetched(NamedTuple):
    """The bodies that an endpoint showed. name: what the sidecar is called; at: when it was asked, epoch seconds."""

    name: str
    at: float
    bodies: tuple[bytes, ...]


def is_url(source: str) -> bool:
    """Whether it is an endpoint to ask, and no file."""
    return "://" in source or source.startswith(UNIX)


def fetch(source: str, now: float) -> Fetched:
    """
    Ask an endpoint, whose answers `take` reads then. Many are asked at once, for one that is gone costs ANSWER_S.

    source: http://HOST:PORT, or a URL of one of its pages; unix:/path, as `admin.listen` has it
    Raises: SourceFault
    """
    with _clauses():
        if source.startswith(UNIX):
            return Fetched(source, now, _pages(source.removeprefix(UNIX), "localhost"))
        parts = urlsplit(source)
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
            raise SourceFault("an endpoint is written http://HOST:PORT, and speaks no TLS")
        address, name = (parts.hostname, parts.port or 80), parts.netloc
        if parts.path not in ("", "/"):
            return Fetched(name, now, (_get(address, parts.path, name),))
        return Fetched(name, now, _pages(address, name))


def take(source: str, evidence: Evidence, now: float, advance: Callable[[int], object]) -> Taken:
    """
    Read a file as evidence.

    source:  a path, or `-`
    advance: is told how many bytes were read, for a progress bar
    Raises:  SourceFault
    """
    with _clauses():
        return _take_file(source, evidence, now, advance)


def take_fetched(source: str, fetched: Fetched, evidence: Evidence) -> Taken:
    """Read what an endpoint showed as evidence. Raises: SourceFault."""
    with _clauses():
        kinds = [_take_body(body, fetched.name, evidence, fetched.at) for body in fetched.bodies]
        return Taken(source, " and ".join(kinds))


@contextlib.contextmanager
def _clauses() -> Iterator[None]:
    """What can go wrong with a source, as a SourceFault."""
    try:
        yield
    except OSError as error:
        raise SourceFault(error.strerror or str(error) or type(error).__name__) from None
    except http.client.HTTPException as error:
        raise SourceFault(f"it does not speak HTTP ({type(error).__name__})") from None
    except ValueError as error:
        raise SourceFault(str(error)) from None


def _take_body(body: bytes, name: str, evidence: Evidence, at: float) -> str:
    if is_connections(body):
        read_connections(body, name, at, evidence)
        return "connections"
    try:
        read_metrics(body.decode(), name, at, evidence)
    except (ValueError, IndexError, KeyError) as error:  # what prometheus_client says to what is no exposition
        raise SourceFault(f"it cannot be read as /metrics: {error}") from None
    return "metrics"


def _pages(address: _Address, host: str) -> tuple[bytes, ...]:
    metrics = _get(address, "/metrics", host)
    answer = _ask(address, "/connections", host)
    return (metrics, answer.body) if answer.status == http.client.OK else (metrics,)  # health has no such page


def _get(address: _Address, path: str, host: str) -> bytes:
    answer = _ask(address, path, host)
    if answer.status != http.client.OK:
        hint = ": reach it as 127.0.0.1, or take the health listener" if answer.status == http.client.FORBIDDEN else ""
        raise SourceFault(f"{path} was answered with {answer.status}{hint}")
    return answer.body


def _ask(address: _Address, path: str, host: str) -> _Answer:
    with contextlib.closing(_Connection(address)) as connection:
        connection.request("GET", path, headers={"Host": host})
        with connection.getresponse() as response:  # one that is not read to its end keeps the socket
            body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise SourceFault(f"{path} is longer than {MAX_BODY_BYTES} bytes")
    return _Answer(response.status, body)


def _take_file(source: str, evidence: Evidence, now: float, advance: Callable[[int], object]) -> Taken:
    name = "<stdin>" if source == STDIN else source
    with _opened(source) as descriptor:
        state = os.fstat(descriptor)
        chunks = _chunks(descriptor, None if stat.S_ISREG(state.st_mode) else SILENCE_S, advance)
        first = next(chunks, b"")
        if first.startswith(_GZIP):
            raise SourceFault("it is compressed: `zcat FILE | mtls-sidecar report plaintext -`")
        if not first.strip():
            raise SourceFault("it is empty")
        if is_metrics(first) or is_connections(first):
            at = min(now, state.st_mtime) if stat.S_ISREG(state.st_mode) else now
            return Taken(source, _take_body(_whole(first, chunks), name, evidence, at))
        count = LogCount()
        read_log(_lines(_chain(first, chunks)), name, evidence, count)
    if count.skipped == count.lines:
        raise SourceFault(f"none of its {count.lines} lines is a sidecar's: the log has to be JSON (log.format)")
    return Taken(source, "log", count.lines, count.skipped)


@contextlib.contextmanager
def _opened(source: str) -> Iterator[int]:
    if source == STDIN:
        yield sys.stdin.fileno()
        return
    # Not blocking: the open of a FIFO would wait for a writer, and for ever.
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _chunks(descriptor: int, patience_s: float | None, advance: Callable[[int], object]) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if patience_s is not None and not poll.poll(patience_s * 1000):
            raise OSError(errno.ETIMEDOUT, f"nothing came for {patience_s:g} s (a log that is followed has no end)")
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            return
        advance(len(chunk))
        yield chunk


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _whole(first: bytes, rest: Iterator[bytes]) -> bytes:
    parts, size = [first], len(first)
    for chunk in rest:
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise SourceFault(f"it is longer than {MAX_BODY_BYTES} bytes")
    return b"".join(parts)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut into lines; of one that is too long, as much comes as shows that it is."""
    kept = b""
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            text = kept + line
            kept = b""
            if text.strip():
                yield text[: MAX_LINE_BYTES + 1]
        kept = (kept + rest)[: MAX_LINE_BYTES + 1]
    if kept.strip():
        yield kept
