"""Peers that block: what stands at both ends of a worker in the tests of the net floor. None of them waits for ever."""

import fcntl
import random
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import TypeVar

from OpenSSL import SSL

from proxy.tls.authority import Svid
from proxy.tls.channel import End

PATIENCE_S = 15.0  # far beyond what anything here takes; a hang must still end
RESET = struct.pack("ii", 1, 0)

Address = tuple[str, int] | str
Answer = TypeVar("Answer")


def dial(address: Address, *, receive_buffer: int | None = None) -> socket.socket:
    """A connected, blocking socket; address: as getsockname() has it."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # Python's own time-out polls after connect, and would then find the reset of a worker that was quicker.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(PATIENCE_S), 0))
        sock.connect(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
        sock.settimeout(PATIENCE_S)
    except BaseException:
        sock.close()
        raise
    return sock


def receive_exactly(sock: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = sock.recv(length - len(data))
        assert part, f"the stream ended after {len(data)} of {length} bytes"
        data += part
    return bytes(data)


def receive_to_end(sock: socket.socket) -> tuple[bytes, End]:
    """Everything until the end, and how it ended: CLEAN is a FIN, RESET a reset."""
    data = bytearray()
    try:
        while part := sock.recv(1 << 20):
            data += part
    except ConnectionError:
        return bytes(data), End.RESET
    return bytes(data), End.CLEAN


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def unsent(sock: socket.socket) -> int:
    """How many bytes the other kernel has not acknowledged yet (SIOCOUTQ)."""
    (queued,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(queued)


def is_one_byte_there(sock: socket.socket) -> bool:
    """Whether something can be read within a moment: for asserting that nothing can."""
    return bool(select.select([sock], [], [], 0)[0])


_METHODS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


def tls_context(svid: Svid | None, *, server: bool, version: str | None = None, accept: bool = True) -> SSL.Context:
    """A context for TlsPeer. version: that one alone; accept: whether it likes any certificate or none."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(_METHODS[version])
        context.set_max_proto_version(_METHODS[version])
    if svid is not None:
        context.use_certificate(svid.chain[0])
        for intermediate in svid.chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(svid.key)
    context.set_session_id(b"test")
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: accept)
    return context


class TlsPeer:
    """
    One end of a TLS connection that can do what Python's ssl cannot: end its own direction and read on.

    It stands on pyOpenSSL alone and not on proxy.tls, whose calls are made for one thread. `end` says how the other
    end's stream ended, `alert` what it said when that was an alert.
    """

    def __init__(self, context: SSL.Context, sock: socket.socket, *, accepting: bool, server_name: str | None = None):
        sock.setblocking(False)
        self.sock = sock
        self.ssl = SSL.Connection(context, sock)
        self.end: End | None = None
        self.alert = ""
        self._kept = bytearray()  # read, and not asked for yet
        if accepting:
            self.ssl.set_accept_state()
        else:
            self.ssl.set_connect_state()
            if server_name:
                self.ssl.set_tlsext_host_name(server_name.encode())

    def shake(self) -> "TlsPeer":
        """Raises: SSL.Error with the alert that came."""
        self._do(self.ssl.do_handshake)
        return self

    def send(self, data: bytes) -> None:
        """Raises: ConnectionError when the connection broke."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._do(self.ssl.send, bytes(view[:262144])) :]
            except (SSL.Error, OSError) as error:
                raise ConnectionError(str(error)) from None

    def receive(self, length: int = 262144) -> bytes:
        """The next bytes; b"" at the end."""
        try:
            return self._do(self.ssl.recv, length)
        except SSL.ZeroReturnError:
            self.end = End.CLEAN
        except SSL.SysCallError as error:
            self.end = End.TRUNCATED if error.args[0] == -1 else End.RESET
        except SSL.Error as error:
            self.alert = " ".join(entry[2] for entry in error.args[0])
            self.end = End.TRUNCATED if "unexpected eof" in self.alert else End.ALERT if self.alert else End.RESET
        return b""

    def receive_exactly(self, length: int) -> bytes:
        while len(self._kept) < length:
            part = self.receive()
            assert part, f"{self.end} after {len(self._kept)} of {length} bytes: {self.alert}"
            self._kept += part
        data = bytes(self._kept[:length])
        del self._kept[:length]
        return data

    def receive_to_end(self) -> tuple[bytes, End | None]:
        while self.end is None:
            self._kept += self.receive()
        data, self._kept = bytes(self._kept), bytearray()
        return data, self.end

    def exchange(self, data: bytes, seed: int) -> bytes:
        """Send all of it in pieces, and read as many bytes meanwhile."""
        got, at, piece, rng = bytearray(), 0, b"", random.Random(seed)
        while at < len(data) or len(got) < len(data):
            sending = at < len(data)
            self._wait(select.POLLIN | (select.POLLOUT if sending else 0))
            try:
                got += self.ssl.recv(262144)
            except SSL.WantReadError:
                pass
            if sending:
                piece = piece or data[at : at + rng.choice((1, 100, 16384, 16385, 200_000))]
                try:
                    taken = self.ssl.send(piece)
                except SSL.WantWriteError:
                    continue  # the same piece again
                at, piece = at + taken, piece[taken:]
        return bytes(got)

    def finish(self) -> None:
        """Send close_notify, and read on."""
        try:
            self._do(self.ssl.shutdown)
        except (SSL.Error, OSError):
            pass  # gone already

    def cut(self) -> None:
        """Send a FIN without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        if self.sock.fileno() >= 0:
            reset(self.sock)

    def close(self) -> None:
        """close_notify and FIN."""
        self.finish()
        self.sock.close()

    def _do(self, call: Callable[..., Answer], *arguments: object) -> Answer:
        while True:
            try:
                return call(*arguments)
            except SSL.WantReadError:
                self._wait(select.POLLIN)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self.sock.fileno(), event)
        if not poll.poll(PATIENCE_S * 1000):
            raise TimeoutError(f"the peer did nothing for {PATIENCE_S:g} s")
