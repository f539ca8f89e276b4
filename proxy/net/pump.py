"""
One direction of a relay: bytes from a source to a sink, and then the end of the stream.

Its life is one state, and what the loop watches follows from it, so that nothing else has to remember that:

    FLOWING     the source is read (reader)                 -> STALLED, FINISHING, FINISHED, ABANDONED
    STALLED     `_pending` waits for the sink (writer)      -> FLOWING, FINISHING, FINISHED, ABANDONED
    FINISHING   the source has ended, the sink is not told yet (writer) -> FINISHED, ABANDONED
    FINISHED    every byte and the end itself were handed on
    ABANDONED   this direction was cut

When a *write* fails, the peer may have said why just before (a TLS alert, the rest of an answer), and that still lies
in the receive buffer. So a broken sink ends only its own direction: the opposite pump reads on to the end that is
there. An error behind bytes is announced once at most (tls/channel.py), so whoever sees one looks again by itself.

What the loop calls here has no task to fail: an exception of ours is handed to the relay, which ends by it.
"""

from enum import Enum, auto
from typing import TYPE_CHECKING

import msgspec

from proxy.net.readiness import Readiness
from proxy.tls.channel import Channel, End

if TYPE_CHECKING:
    from proxy.net.relay import Relay


class State(Enum):
    """Where a pump is in its life (table above)."""

    FLOWING = auto()
    STALLED = auto()
    FINISHING = auto()
    FINISHED = auto()
    ABANDONED = auto()


_OVER = (State.FINISHED, State.ABANDONED)


class Pump(msgspec.Struct, eq=False):
    """One direction. sender: who feeds it, for details; count: bytes taken from the source so far."""

    _relay: "Relay"
    sender: str
    source: Channel
    sink: Channel
    _pending: bytes
    _readiness: Readiness
    count: int = 0
    state: State = State.FLOWING

    def start(self) -> None:
        """Begin, with the pending bytes first."""
        if self._pending:
            self._readiness.rest_readable(self.source.fd)  # that of the handshake
            self._stall(self._pending)
            return
        look = self.on_readable
        if self is self._relay.down and self._relay.answered is not None:
            look = self.on_first_readable
        self._readiness.watch_readable(self.source.fd, look)

    def look_inside(self) -> None:
        """Move the bytes that came with the handshake's last flight, once both pumps have begun: no readiness tells."""
        if self.source.buffered and self.state is State.FLOWING:
            first = self is self._relay.down and self._relay.answered is not None
            self.on_first_readable() if first else self.on_readable()

    def on_readable(self) -> None:
        """Move what is there. The hot path: every line here is paid for with every message."""
        relay, source = self._relay, self.source
        try:
            scratch = relay.scratch
            n = source.receive(scratch)
            if n:
                self.count += n
                relay.active_at = relay.time()
                if not relay.looks_for_errors:
                    relay.look_for_errors()
                taken = self.sink.send(scratch, n)
                if taken != n:
                    self._readiness.rest_readable(source.fd)
                    if taken < 0:
                        self._sink_broke()
                        return
                    self._stall(bytes(scratch.view[taken:n]))
            if source.ending and self.state is State.FLOWING:
                if source.end is not None:
                    self._readiness.rest_readable(source.fd)
                    self._source_ended()
                else:
                    self.read_on()
        except Exception as bug:  # costs nothing while there is none; the loop would call again and again
            relay.crash(bug)

    def read_on(self) -> None:
        """Look again without being told to: the source has failed behind what was read, and that is told only once."""
        self._relay.loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        if self.state is State.FLOWING and self.source.fd >= 0:
            self.on_readable()

    def on_first_readable(self) -> None:
        """As on_readable, until `answered` has heard enough of the upstream: then the hot path takes over."""
        relay = self._relay
        self.on_readable()
        try:
            heard_enough = relay.answered is None or relay.answered(self.count)
        except Exception as bug:
            relay.crash(bug)
            return
        if heard_enough and self.state is State.FLOWING and self.source.end is None:
            self._readiness.watch_readable(self.source.fd, self.on_readable)

    def on_writable(self) -> None:
        """Offer the pending bytes again, and then the end of the stream if it has been reached."""
        relay = self._relay
        try:
            self._offer()
        except Exception as bug:
            relay.crash(bug)

    def _offer(self) -> None:
        if self._pending:
            taken = self.sink.send_bytes(self._pending)
            if taken < 0:
                self._readiness.rest_writable(self.sink.fd)
                self._sink_broke()
                return
            if taken:
                self._relay.active_at = self._relay.time()
                self._pending = self._pending[taken:]
            if self._pending:
                return
        self._readiness.rest_writable(self.sink.fd)
        if self.source.end is not None:
            self._source_ended()
        else:
            self.state = State.FLOWING
            self._readiness.watch_readable(self.source.fd, self.on_readable)
            if self.source.failed or self.source.buffered:
                self.read_on()

    def _stall(self, pending: bytes) -> None:
        self.state = State.STALLED
        self._pending = pending
        self._readiness.watch_writable(self.sink.fd, self.on_writable)

    def _source_ended(self) -> None:
        if self.source.end is not End.CLEAN:
            self.state = State.ABANDONED
            self._relay.broke(self.source, self.sender)
        elif self.sink.finish(last=self._relay.opposite(self).state is State.FINISHED):
            self.state = State.FINISHED
            self._relay.pump_ended()
        else:
            self.state = State.FINISHING
            self._readiness.watch_writable(self.sink.fd, self.on_writable)

    def rest(self) -> None:
        """Watch nothing any more."""
        if self.state is State.FLOWING:
            self._readiness.rest_readable(self.source.fd)
        elif self.state not in _OVER:
            self._readiness.rest_writable(self.sink.fd)
        else:
            return
        self.state = State.ABANDONED

    def close(self) -> None:
        """Close the sink, and let go of the relay: the two would else wait for the garbage collector."""
        if self.state is State.FINISHED:
            self.sink.close()
        else:
            self.sink.reset()
        del self._relay

    def _sink_broke(self) -> None:
        self.state = State.ABANDONED
        self._pending = b""
        opposite = self._relay.opposite(self)
        if opposite.state in _OVER:
            self.sink.give_up()
            self._relay.broke(self.sink, opposite.sender)
        else:
            opposite.read_on()
