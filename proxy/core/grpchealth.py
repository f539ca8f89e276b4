"""
One gRPC health check as bytes: the request that asks, and a reader that finds the status in what comes back.

A health check is the smallest possible conversation over HTTP/2, and both halves of it are nearly constant: one unary
call `/grpc.health.v1.Health/Check` on stream 1 with a message of a few bytes, and an answer whose message is `status`,
one number. So this is no HTTP/2 client. It writes a fixed preface, one HEADERS frame (literal fields without indexing
or Huffman, which every decoder takes) and one DATA frame, and of the answer it reads frames: SETTINGS and PING are
acknowledged, the DATA of stream 1 is collected, and everything else is skipped by its length.

It never decodes header fields, since nothing in them can make a check good: SERVING comes in a message or not at all. A
server that does not know the service or the method answers with fields alone (a trailers-only response), so a stream
that ends without a message is a no; which one, this file refuses to know.
"""

from dataclasses import dataclass, field

MAX_ANSWER_BYTES = 64 * 1024  # all frames together; a good answer is below 300

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
_MAX_FRAME_BYTES = 16_384  # SETTINGS_MAX_FRAME_SIZE, which we leave at its initial value (RFC 9113 6.5.2)
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_STREAM = 1
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}  # grpc.health.v1, ServingStatus
_SERVING = 1


class GrpcFault(Exception):  # noqa: N818  # the application's fault, told as the result of its probe
    """Why there is no status; str() is a clause for a person."""


def health_request(authority: str, service: str, timeout_s: float) -> bytes:
    """
    All that the client has to say, from the preface to the end of its stream.

    service: empty asks for the server as a whole
    Source:  gRPC over HTTP/2, Requests; RFC 7541 6.2.2; grpc.health.v1
    """
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", f"{max(1, round(timeout_s * 1000))}m"),
        ("user-agent", "mtls-sidecar"),
    )
    headers = b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
        + _frame(_DATA, _END_STREAM, _STREAM, body)
    )


@dataclass(slots=True)
class HealthReader:
    """Bytes from the server in any pieces to a verdict. reply: what is to be written back to it."""

    reply: bytearray = field(default_factory=bytearray)
    _buffer: bytearray = field(default_factory=bytearray)
    _message: bytearray = field(default_factory=bytearray)
    _received: int = 0
    _greeted: bool = False

    def feed(self, data: bytes) -> str | None:
        """
        Take more bytes; empty is the end of the stream.

        Returns: the status's word, or None while there is none yet
        Raises:  GrpcFault
        """
        if not data:
            raise GrpcFault("the connection ended before the answer was whole")
        self._received += len(data)
        if self._received > MAX_ANSWER_BYTES:
            raise GrpcFault(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        self._buffer += data
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFF_FFFF
            if not self._greeted and kind != _SETTINGS:
                raise GrpcFault("it does not speak HTTP/2 in plaintext")
            if length > _MAX_FRAME_BYTES:
                raise GrpcFault("it sent a frame that is longer than HTTP/2 allows")
            if len(self._buffer) < 9 + length:
                return None
            payload = bytes(self._buffer[9 : 9 + length])
            del self._buffer[: 9 + length]
            status = self._frame(kind, flags, stream, payload)
            if status is not None:
                return status
        return None

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> str | None:
        self._greeted = True
        if kind == _SETTINGS and not flags & _ACK:
            self.reply += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self.reply += _frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            raise GrpcFault("the server closes the connection (GOAWAY)")
        elif stream == _STREAM and kind == _RST_STREAM:
            raise GrpcFault("the server reset the call")
        elif stream == _STREAM and kind == _DATA:
            self._message += _unpadded(payload) if flags & _PADDED else payload
        if stream != _STREAM or kind not in (_DATA, _HEADERS):
            return None
        if len(self._message) >= 5 and len(self._message) >= 5 + int.from_bytes(self._message[1:5], "big"):
            return _status(bytes(self._message))
        if flags & _END_STREAM:
            raise GrpcFault("the call failed without a status: the health service, or this name in it, is not there")
        return None


def is_serving(status: str) -> bool:
    """Whether the word is the one that means healthy."""
    return status == _STATUS[_SERVING]


def _status(body: bytes) -> str:
    """The status in a length-prefixed message; a field that is left out is 0, and unknown fields are skipped."""
    if body[0]:
        raise GrpcFault("the answer is compressed, which nobody asked for")
    message, at, status = body[5 : 5 + int.from_bytes(body[1:5], "big")], 0, 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7 == 0:
            value, at = _read_varint(message, at)
            status = value if tag >> 3 == 1 else status
        elif tag & 7 == 2:
            length, at = _read_varint(message, at)
            at += length
        else:
            raise GrpcFault("the answer is no HealthCheckResponse")
    if at != len(message):
        raise GrpcFault("the answer is no HealthCheckResponse")
    return _STATUS.get(status, f"status {status}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise GrpcFault("the answer is no HealthCheckResponse")


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise GrpcFault("it sent a frame whose padding is longer than itself")
    return payload[1 : len(payload) - payload[0]]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def _string(text: str) -> bytes:
    """A string literal without Huffman (RFC 7541 5.2), its length in an integer with a 7-bit prefix (5.1)."""
    data = text.encode("ascii")
    if len(data) < 127:
        return bytes((len(data),)) + data
    return b"\x7f" + _varint(len(data) - 127) + data
