"""
TLS on the descriptor by OpenSSL. What a channel is, and how one ends: tls/channel.py.

RELEASE_BUFFERS (tls/opensslcontexts.py) takes an idle connection's buffers away: measured, see
docs/decisions/0001-engine.md. Four rules of OpenSSL shape the code:

* After a write that would block, the same bytes have to be offered again (SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER lets them
  lie elsewhere). The relay copies the rest of the scratch and offers exactly that first.
* A session whose SSL is freed without any close_notify is marked as not resumable. Connections that did not end in an
  error therefore pretend to have sent one (`SSL_set_shutdown`) when they are cut short.
* The error queue belongs to the thread. It is emptied on every error path; a stale entry would be taken for the next
  connection's.
* After a write that failed for good (the peer is gone), OpenSSL 4 reads no more, although the kernel may still hold
  what the peer had said. A plain socket does read on. So each write asks first whether the socket has an error.
"""

import socket
from typing import TYPE_CHECKING, Any

from proxy.tls import binding
from proxy.tls.binding import (
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    ERR_clear_error,
    SSL_get_error,
    SSL_read,
    SSL_write,
)
from proxy.tls.channel import CUT, RESET, SCRATCH_BYTES, End, Failure, Scratch, TlsChannel, failure_of

if TYPE_CHECKING:
    from proxy.tls.opensslcontexts import OpenSslPeers

_STOP_AT = SCRATCH_BYTES - 16384  # a whole TLS record must still fit, or OpenSSL would keep half of it
_SMALL = 4096  # a first read shorter than this is nearly always the whole message: asking again costs a system call
_TCP_CORK = getattr(socket, "TCP_CORK", -1)
_CLEAN: Failure = (End.CLEAN, "", None)
_UNEXPECTED_EOF = 294  # SSL_R_UNEXPECTED_EOF_WHILE_READING


class OpenSslChannel(TlsChannel, kw_only=True):
    """A TlsChannel on an SSL of OpenSSL's."""

    ssl: Any  # NULL once it is freed, which OpenSSL answers with an error: nothing can use it after
    peers: "OpenSslPeers"

    def receive(self, scratch: Scratch) -> int:
        """As TlsChannel's."""
        ssl, pointer = self.ssl, scratch.pointer
        total = SSL_read(ssl, pointer, SCRATCH_BYTES)
        if total <= 0:
            self._stopped(total)
            return 0
        if total >= _SMALL:
            while total < _STOP_AT:
                n = SSL_read(ssl, pointer + total, SCRATCH_BYTES - total)
                if n <= 0:
                    self._stopped(n)
                    break
                total += n
        return total

    def _write(self, pointer: Any, length: int) -> int:
        if self.look_for_error():
            return -1
        ssl = self.ssl
        done = SSL_write(ssl, pointer, length)
        if done == length:
            return done
        if done <= 0:
            return self._unwritten(done, 0)
        while done < length:
            n = SSL_write(ssl, pointer + done, length - done)
            if n <= 0:
                return self._unwritten(n, done)
            done += n
        return done

    def _say_close_notify(self, fin_follows: bool) -> bool:
        if fin_follows:
            _cork(self.sock)
        code = binding.lib.SSL_shutdown(self.ssl)
        if code < 0 and SSL_get_error(self.ssl, code) in (ERROR_WANT_READ, ERROR_WANT_WRITE):
            return False
        ERR_clear_error()
        return True

    def _drop(self) -> None:
        if self.end not in (End.ALERT, End.PROTOCOL):  # a session that the peer refused must not be resumed
            binding.lib.SSL_set_shutdown(self.ssl, binding.SHUTDOWN_SENT | binding.SHUTDOWN_RECEIVED)
        ssl, self.ssl = self.ssl, binding.ffi.NULL
        binding.free_ssl(ssl)

    def _stopped(self, code: int) -> None:
        error = SSL_get_error(self.ssl, code)
        if error in (ERROR_WANT_READ, ERROR_WANT_WRITE):
            if self.failed:
                self._end(self._write_failure)
        elif error == ERROR_ZERO_RETURN:
            flooded = self.peers.flooding == self.ssl
            self._end((End.PROTOCOL, "too many messages without application data", None) if flooded else _CLEAN)
        else:
            failure = read_failure(error)
            # Behind a reset whose error was taken before, the stream looks cut, and OpenSSL may refuse to go on.
            self._end(self._write_failure if self.failed and failure[0] is not End.ALERT else failure)

    def _unwritten(self, code: int, done: int) -> int:
        error = SSL_get_error(self.ssl, code)
        if error in (ERROR_WANT_WRITE, ERROR_WANT_READ):
            return done
        return self._broke(read_failure(error))


def read_failure(error: int) -> Failure:
    """Sort what SSL_get_error says into an End, words, and the alert's number; empties OpenSSL's error queue."""
    reason, words = binding.first_error()
    ERR_clear_error()
    if reason == _UNEXPECTED_EOF:
        return CUT
    if error != binding.ERROR_SSL or not words:
        return RESET
    return failure_of(reason, words)


def _cork(sock: socket.SocketType) -> None:
    """Let what is sent wait for the FIN (tcp(7))."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, 1)
    except OSError:
        pass  # a unix socket, or another system: two of them then
