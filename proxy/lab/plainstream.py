"""A connection without TLS, with the face of one that has it (tls/loadclient.py): the load treats both alike."""

import os
import select
import socket
from typing import Protocol

from proxy.core.reasons import Reason, Rejected
from proxy.tls.loadclient import Want


class Stream(Protocol):
    """What a connection can do; LoadConnection has it for TLS."""

    sock: socket.socket

    def handshake(self) -> Want: ...
    def read(self, size: int) -> bytes | None: ...
    def read_into(self, buffer: memoryview) -> int | None: ...
    def write(self, data: bytes | memoryview) -> int: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class PlainStream:
    """A connection without TLS."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def handshake(self) -> Want:
        """Whether it is connected. Raises: Rejected"""
        if not select.select([], [self.sock], [], 0)[1]:
            return Want.WRITE
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise Rejected(
                Reason.UPSTREAM_REFUSED, f"nothing accepts connections at this address: {os.strerror(error)}"
            )
        return Want.NOTHING

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes; None: nothing now; b"": the end. Raises: Rejected"""
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _torn(error) from None

    def read_into(self, buffer: memoryview) -> int | None:
        """As read, into the caller's buffer."""
        try:
            return self.sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _torn(error) from None

    def write(self, data: bytes | memoryview) -> int:
        """Send. Returns: how many bytes were taken. Raises: Rejected"""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _torn(error) from None

    def finish(self) -> None:
        """No more will come from us."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side was faster

    def close(self) -> None:
        """Free it."""
        self.sock.close()


def _torn(error: OSError) -> Rejected:
    return Rejected(Reason.RESET, f"the connection broke: {error.strerror or error}")
