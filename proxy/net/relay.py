"""
Bytes from one channel to the other, both ways, until both have ended: the hardest room, where the time goes.

Theory of operation. A Relay owns two pumps. A pump reads its source when the loop says so, into the worker's one
scratch buffer, and offers the bytes to its sink at once. In the ordinary case that is all: two calls into Python per
message, no copy kept, no task switched. What the sink did not take is copied into the pump's own `_pending`, and from
then on the pump waits for its sink to become writable and does not read: that is the whole of backpressure, and bounds
what a connection can hold to one scratch per direction.

How a stream ended is passed on as it was (RFC 8446 6.1). CLEAN becomes a half-close of the other side, and the other
direction goes on for as long as bytes flow. Anything else becomes a reset of the other side, because a FIN would say
"this was all there is". A reset makes our kernel forget what it has not sent yet, so after TRUNCATED, where every byte
that came is to arrive, the other kernel's acknowledgement is waited for first (`_settle`); so it is where a reply was
complete but its reader is still sending, since closing a socket with unread bytes resets it too.

Time is looked at when the next deadline is due (`on_due`), which is computed from the last activity, so that a byte
costs no timer: idle, half-close, lifetime, and the instant at which the peer's chain lapses. Most connections are over
before the first deadline is even computed: that is left to the first look for errors, a moment after the start.

`stop()` ends the relay from outside (drain, policy, trust) and for a deadline, the idle one included. It resets both
sides, because nobody knows whether a stream that fell silent was complete: an attacker who stops forwarding looks the
same as a client that keeps its connection for later.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from proxy.core.clockwords import rfc3339
from proxy.core.config import Timeouts
from proxy.core.reasons import Reason
from proxy.net.deadlines import Deadlines
from proxy.net.pump import Pump, State
from proxy.net.readiness import Readiness
from proxy.tls.channel import Channel, End, Scratch
from proxy.tls.verify import PeerIdentity

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1  # between asking the kernel whether the peer has acknowledged everything
SETTLE_S = 5.0  # how long at most: a peer that does not read has had its chance
_TCP_CLOSE = 7  # tcpi_state of a socket that has no connection (any more), tcp(7)
LOOK_AGAIN_S = 0.05  # how long an error behind bytes may stay unseen: a call for each message would cost more
NEVER_S = 1e9  # a deadline that is turned off
# How long a relay sleeps at most. The wall clock may be set meanwhile, and a lapse is to be noticed all the same; and a
# deadline that is hours away would leave its empty bucket behind for as long (net/deadlines.py).
CLOCK_CHECK_S = 60.0


MakePump = Callable[["Relay", str, Channel, Channel, bytes, Readiness], Pump]
_UNMADE: Any = None  # the pumps know their relay, which has to be there first


class Outcome(NamedTuple):
    """Why a relay ended."""

    reason: Reason
    detail: str


class Relay(msgspec.Struct, eq=False):
    """
    Both directions of one connection; made by `relay_between`.

    peer:        whose chain may lapse meanwhile
    answered:    told how many bytes came from the upstream after each look at it, until it says True
    half_closed: whether one side has finished sending while the other goes on
    """

    readiness: Readiness
    scratch: Scratch
    _deadlines: Deadlines
    _timeouts: Timeouts
    _clock: Callable[[], float]
    _peer: PeerIdentity | None
    answered: Callable[[int], bool] | None
    loop: asyncio.AbstractEventLoop
    time: Callable[[], float]
    _ended: "asyncio.Future[Outcome]"
    started_at: float
    active_at: float
    up: Pump = _UNMADE
    down: Pump = _UNMADE
    half_closed: bool = False
    _bucket: int = 0  # of `on_due`; none yet
    looks_for_errors: bool = True  # from `run` on
    first_to_finish: Pump | None = None

    async def run(self) -> Outcome:
        """Relay to the end. Both channels are closed or reset when it returns, also when it is cancelled."""
        outcome: Outcome | None = None
        try:
            self.up.start()
            self.down.start()
            self._deadlines.add(self._on_look, self.started_at + LOOK_AGAIN_S)
            self.up.look_inside()
            self.down.look_inside()
            outcome = await self._ended
            if outcome.reason is Reason.TRUNCATED or outcome.reason is Reason.RESET:
                self._rest()
                await self._settle(outcome)
        finally:
            self._rest()
            self.up.close()
            self.down.close()
        return outcome

    def stop(self, reason: Reason, detail: str) -> None:
        """End it from outside, for this reason; does nothing when it has ended."""
        if not self._ended.done():
            self._ended.set_result(Outcome(reason, detail))

    def crash(self, bug: BaseException) -> None:
        """End it because of an exception of ours, which `run` then raises."""
        if not self._ended.done():
            self._ended.set_exception(bug)
        self._rest()

    def retime(self, timeouts: Timeouts, peer: PeerIdentity | None) -> None:
        """Apply the deadlines of a new generation: its time-outs, and when the peer's path lapses now."""
        self._timeouts, self._peer = timeouts, peer
        self._retime()

    def _retime(self) -> None:
        if self._bucket:
            self._deadlines.discard(self.on_due, self._bucket)
            self.on_due()

    def look_for_errors(self) -> None:
        """Some bytes were read: see in a moment whether an error lay behind them. Once for all that come until then."""
        self.looks_for_errors = True
        self._deadlines.add(self._on_look, self.active_at + LOOK_AGAIN_S)

    def _on_look(self) -> None:
        if self._ended.done():
            return
        self.looks_for_errors = False
        for pump in (self.up, self.down):
            if pump.source.look_for_error() and pump.source.end is None:
                pump.read_on()
        if not self._bucket:
            self.on_due()

    def opposite(self, pump: Pump) -> Pump:
        """The other direction."""
        return self.down if pump is self.up else self.up

    def pump_ended(self) -> None:
        """A direction is finished: the connection is half-closed, or over when it was the second."""
        up, down = self.up, self.down
        if up.state is down.state:
            self.stop(Reason.COMPLETED, "")
            return
        self.first_to_finish, other = (up, down) if up.state is State.FINISHED else (down, up)
        if other.state is State.ABANDONED:
            # Its sink broke before, and the end that was still readable turned out to be a clean one.
            other.sink.give_up()
            self.broke(other.sink, self.opposite(other).sender)
            return
        self.half_closed = True
        self.active_at = self.time()
        self._retime()

    def broke(self, channel: Channel, who: str) -> None:
        """A channel ended otherwise than CLEAN: the connection is over."""
        if channel.end is End.TRUNCATED:
            self.stop(Reason.TRUNCATED, f"{who}: {channel.end_detail}")
        elif channel.end is End.RESET or channel.end is None:
            self.stop(Reason.RESET, f"{who} reset the connection")
        elif channel.end is End.CLEAN:
            self.stop(Reason.RESET, f"{who} closed while bytes for it were still coming")
        else:
            self.stop(Reason.RESET, f"{who}: {channel.end_detail}")

    def on_due(self) -> None:
        """End the connection if a deadline has passed, otherwise come back at the next one."""
        if self._ended.done():
            return
        timeouts, now = self._timeouts, self.time()
        silence_s, why = timeouts.idle_s or NEVER_S, Reason.IDLE_TIMEOUT
        if self.half_closed and 0 < timeouts.half_close_s <= silence_s:
            silence_s, why = timeouts.half_close_s, Reason.HALF_CLOSE_TIMEOUT
        left_s = self.active_at + silence_s - now
        if left_s <= 0:
            words = "idle for" if why is Reason.IDLE_TIMEOUT else "half-closed, and nothing came for"
            self.stop(why, f"{words} {silence_s:g} s")
            return
        if timeouts.max_lifetime_s:
            life_s = timeouts.max_lifetime_s - (now - self.started_at)
            if life_s <= 0:
                self.stop(Reason.LIFETIME_ENDED, f"open for {timeouts.max_lifetime_s:g} s")
                return
            left_s = min(left_s, life_s)
        if self._peer is not None:
            lapse_s = self._peer.lapses_at - self._clock()
            if lapse_s <= 0:
                self.stop(Reason.CERTIFICATE_LAPSED, describe_lapse(self._peer, self._clock()))
                return
            left_s = min(left_s, lapse_s)
        self._bucket = self._deadlines.add(self.on_due, now + min(left_s, CLOCK_CHECK_S))

    async def _settle(self, outcome: Outcome) -> None:
        """Wait until the peers' kernels hold what ours still has for them, as far as it is to arrive."""
        waiting = [pump.sink for pump in (self.up, self.down) if pump.state is State.FINISHED]
        if outcome.reason is Reason.TRUNCATED:
            waiting = [self.up.sink, self.down.sink]
        give_up_at = self.time() + SETTLE_S
        pause_s = FIRST_PAUSE_S
        while any(_unacknowledged(channel) for channel in waiting) and self.time() < give_up_at:
            await asyncio.sleep(pause_s)  # no event tells that the queue is empty
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _rest(self) -> None:
        if self._bucket:
            self._deadlines.discard(self.on_due, self._bucket)
        self.up.rest()
        self.down.rest()
        self.half_closed = False


def relay_between(
    readiness: Readiness,
    scratch: Scratch,
    deadlines: Deadlines,
    downstream: Channel,
    upstream: Channel,
    timeouts: Timeouts,
    clock: Callable[[], float],
    *,
    peer: PeerIdentity | None,
    preface: bytes = b"",
    answered: Callable[[int], bool] | None = None,
    make_pump: MakePump = Pump,
) -> Relay:
    """
    A relay between two channels that has not begun.

    scratch:   the worker's buffer, and deadlines its timer
    clock:     our wall clock, epoch seconds, for the lapse of the peer's chain
    preface:   bytes that the upstream gets first (a PROXY header)
    make_pump: another than the ordinary one, where both channels are plain (net/splice.py)
    """
    loop = readiness.loop
    time, ended, now = loop.time, loop.create_future(), loop.time()
    relay = Relay(readiness, scratch, deadlines, timeouts, clock, peer, answered, loop, time, ended, now, now)
    relay.up = make_pump(relay, "the downstream", downstream, upstream, preface, readiness)
    relay.down = make_pump(relay, "the upstream", upstream, downstream, b"", readiness)
    return relay


def describe_lapse(peer: PeerIdentity, now: float) -> str:
    """Both clocks, in one sentence."""
    return f"the chain of {peer.spiffe_id} ended at {rfc3339(peer.lapses_at)}, our clock says {rfc3339(now)}"


def _unacknowledged(channel: Channel) -> bool:
    """Whether our kernel still has bytes for this peer that its kernel has not confirmed (SIOCOUTQ, tcp(7))."""
    if channel.fd < 0 or channel.end is End.RESET or _is_dead(channel.sock):
        return False  # a connection that was reset acknowledges nothing any more
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(channel.fd, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return False
    return bool(queued > 0)


def _is_dead(sock: socket.SocketType) -> bool:
    """Whether a TCP socket has been reset meanwhile: it goes on counting what it will never send."""
    if sys.platform != "linux":
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return False  # a unix socket
