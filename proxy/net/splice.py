"""
A pump between two plain sockets whose bytes the kernel moves by itself, over a pipe (splice(2)).

Bytes that need no TLS need not be copied into this process and back out. Measured on bulk, that is 0.58 of the CPU of
the ordinary pump, and for short messages the same: docs/decisions/0009-passthrough.md. So it relays what
`intercept.outbound` passes through, and nothing else.

All connections of a worker share one pipe, as they share one scratch, and under the same rule: between two calls it is
empty. What the sink does not take at once is read out of it and pends, as it does in the ordinary pump. A pipe whose
emptiness is in doubt (a bug of ours in mid-move) is closed and never used again, since its bytes would come out in
another connection.
"""

import fcntl
import os
from typing import TYPE_CHECKING

from proxy.net.pump import Pump, State
from proxy.net.readiness import Readiness
from proxy.tls.channel import Channel, PlainChannel

if TYPE_CHECKING:
    from proxy.net.relay import Relay

PIPE_BYTES = 1 << 20  # what one turn moves at most, and what a direction buffers; more needs a privilege, pipe(7)
_F_SETPIPE_SZ = 1031  # linux/fcntl.h
_CLOSED = -1


class Pipe:
    """The pipe of one worker, opened when it is first needed."""

    __slots__ = ("inlet", "most", "outlet")

    def __init__(self) -> None:
        self.inlet = self.outlet = _CLOSED
        self.most = PIPE_BYTES

    def pump(
        self, relay: "Relay", sender: str, source: Channel, sink: Channel, pending: bytes, readiness: Readiness
    ) -> Pump:
        """A pump over this pipe; an ordinary one where there is none to be had (descriptors, another system)."""
        if isinstance(source, PlainChannel) and isinstance(sink, PlainChannel) and self._is_open():
            return SplicePump(
                relay, sender, source, sink, pending, readiness, _pipe=self, _plain_source=source, _plain_sink=sink
            )
        return Pump(relay, sender, source, sink, pending, readiness)

    def _is_open(self) -> bool:
        if self.inlet == _CLOSED and hasattr(os, "splice"):
            try:
                self.outlet, self.inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
            self.most = _resize(self.inlet)
        return self.inlet != _CLOSED

    def drain(self, length: int) -> bytes:
        """Take out what was not taken: all that is in the pipe, `length` bytes."""
        parts = []
        while length:
            parts.append(os.read(self.outlet, length))
            length -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close both ends; again is harmless."""
        if self.inlet != _CLOSED:
            inlet, outlet = self.inlet, self.outlet
            self.inlet = self.outlet = _CLOSED
            os.close(inlet)
            os.close(outlet)


def _resize(pipe: int) -> int:
    """Make a pipe as large as it may be, up to PIPE_BYTES. Returns: its size"""
    try:
        return min(PIPE_BYTES, fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES))
    except OSError:  # pipe-user-pages-soft, pipe(7): this user has many pipes
        return 65536


class SplicePump(Pump, kw_only=True):
    """One direction. The states and ends are Pump's; how a turn moves its bytes is here."""

    _pipe: Pipe
    _plain_source: PlainChannel
    _plain_sink: PlainChannel

    def on_readable(self) -> None:
        """Move what is there, as Pump.on_readable does."""
        relay, source, pipe = self._relay, self._plain_source, self._pipe
        if pipe.inlet == _CLOSED:  # it broke in another connection
            super().on_readable()
            return
        try:
            n = source.splice_in(pipe.inlet, pipe.most)
            if n:
                self.count += n
                relay.active_at = relay.time()
                if not relay.looks_for_errors:
                    relay.look_for_errors()
                rest, is_broken = self._hand_on(n)
                if rest or is_broken:
                    self._readiness.rest_readable(source.fd)
                    if is_broken:
                        self._sink_broke()
                        return
                    self._stall(rest)
            if source.ending and self.state is State.FLOWING:
                if source.end is not None:
                    self._readiness.rest_readable(source.fd)
                    self._source_ended()
                else:
                    self.read_on()
        except Exception as bug:
            relay.crash(bug)

    def _hand_on(self, left: int) -> tuple[bytes, bool]:
        """Empty the pipe. Returns: what the sink did not take, and whether it is broken"""
        pipe, taken = self._pipe, 0
        try:
            while left and (taken := self._plain_sink.splice_out(pipe.outlet, left)) > 0:
                left -= taken
            return pipe.drain(left), taken < 0
        except BaseException:
            pipe.close()
            raise
