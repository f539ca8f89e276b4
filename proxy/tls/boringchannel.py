"""
TLS on the descriptor by BoringSSL. What a channel is, and how one ends: tls/channel.py.

The loops around SSL_read and SSL_write are on C's side (engine/src/stream.c), and so is reading ahead: one system call
takes what the kernel holds. What that leaves to be known here:

* After a handshake, application data may already be on our side of the socket (`buffered`), where no readiness tells
  of it. In a call of `receive` everything is taken out, unless it is a record's beginning.
* BoringSSL reads on after a write has failed, so no write has to ask the socket for its error first.
* In TLS 1.3 the server's ticket goes with the first bytes that it writes. It is also what tells a client that it was
  accepted, so a channel that is cut before it has written anything sends it before it goes.
* It frees its own buffers whenever they are empty, and never marks a session as spoiled: that an end in error spoils it
  is ClientContext's to know.
"""

from typing import Any

from proxy.tls import boringbinding as boring
from proxy.tls.boringbinding import bs_read, bs_write
from proxy.tls.channel import BROKEN, CUT, RESET, SCRATCH_BYTES, End, Failure, Scratch, TlsChannel, failure_of

_WANT_READ = boring.WANT_READ
_OPEN = frozenset({boring.DONE, boring.WANT_READ, boring.WANT_WRITE})


class BoringChannel(TlsChannel, kw_only=True):
    """A TlsChannel on an SSL of BoringSSL's."""

    connection: Any
    context: Any  # kept, because the connection points to it

    @property
    def buffered(self) -> bool:
        """As TlsChannel's."""
        return bool(self.connection.buffered)

    def receive(self, scratch: Scratch) -> int:
        """As TlsChannel's."""
        connection = self.connection
        n = bs_read(connection, scratch.pointer, SCRATCH_BYTES)
        if connection.stop != _WANT_READ or self.failed:
            self._stopped(connection.stop, n)
        return n

    def _stopped(self, stop: int, n: int) -> None:
        if stop in _OPEN:
            if self.failed and not n:
                self._end(self._write_failure)
        elif stop == boring.CLOSED:
            self._end((End.CLEAN, "", None))
        else:
            failure = read_failure(self.connection)
            # Behind a reset whose error was taken before, the stream looks cut.
            self._end(self._write_failure if self.failed and failure[0] is not End.ALERT else failure)

    def _write(self, pointer: Any, length: int) -> int:
        if self.failed:
            return -1
        connection = self.connection
        done = bs_write(connection, pointer, length)
        if done == length or connection.stop in _OPEN:
            return done
        return self._broke(read_failure(connection))

    def _send_close_notify(self, *, fin_follows: bool) -> bool:
        if not (self._finished or self.failed or self.end in BROKEN):
            self._finished = self._say_close_notify(fin_follows)
            return self._finished
        return True

    def _say_close_notify(self, fin_follows: bool) -> bool:
        return bool(boring.lib.bs_close_notify(self.connection, fin_follows) != boring.WANT_WRITE)

    def _drop(self) -> None:
        connection, self.connection = self.connection, boring.NOBODY
        boring.lib.bs_flush(connection)
        boring.ffi.release(connection)


def read_failure(connection: Any) -> Failure:
    """Sort why the last call stopped into an End, words, and the alert's number."""
    if connection.stop == boring.CUT:
        return CUT
    if connection.stop != boring.FAILED:
        return RESET
    return failure_of(connection.reason, words_of(connection))


def words_of(connection: Any) -> str:
    """BoringSSL's words for what went wrong, as OpenSSL spells such: "wrong version number"."""
    return (boring.text_of(connection.words) or "").replace("_", " ").lower()
