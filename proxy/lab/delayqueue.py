"""
One direction of a network with delay, as a value: bytes go in at one time and come out, in order, no earlier than due.

It decides when bytes are due and how many may be under way. It refuses to know sockets and clocks: `now_s` is an
argument, so every rule here is a line in a test. What it models is a path without loss, jitter or a rate: each byte
takes the same time. `opens_at_s` is when the first byte can leave at all, for a TCP client cannot send before its SYN
was answered.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple


class End(Enum):
    """How a direction can end; it travels like a byte, behind all that was sent before it."""

    FIN = "in order: what came before is whole, and the other direction may go on"
    RESET = "torn: the connection is gone in both directions"


class _Parcel(NamedTuple):
    due_s: float
    load: bytes | End


class DelayQueue:
    """
    Bytes under way in one direction.

    delay_s:      how long each of them takes
    window_bytes: how many may be under way; where none fit any more the reader has to wait (`room_bytes`)
    opens_at_s:   what is put in before this time counts as sent at this time
    """

    __slots__ = ("_delay_s", "_held_bytes", "_opens_at_s", "_parcels", "_window_bytes")

    def __init__(self, delay_s: float, window_bytes: int, opens_at_s: float) -> None:
        self._delay_s = delay_s
        self._window_bytes = window_bytes
        self._opens_at_s = opens_at_s
        self._parcels: deque[_Parcel] = deque()
        self._held_bytes = 0

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be put in."""
        return max(self._window_bytes - self._held_bytes, 0)

    @property
    def next_due_s(self) -> float | None:
        """When the first parcel is due; None: nothing is under way."""
        return self._parcels[0].due_s if self._parcels else None

    def put(self, load: bytes | End, now_s: float) -> None:
        """Send bytes or an end on their way. now_s: never before that of an earlier call."""
        self._parcels.append(_Parcel(max(now_s, self._opens_at_s) + self._delay_s, load))
        if isinstance(load, bytes):
            self._held_bytes += len(load)

    def take(self, now_s: float) -> tuple[bytes | End, float] | None:
        """Take the first parcel if it is due. Returns: (what it is, when it was due), or None."""
        if not self._parcels or self._parcels[0].due_s > now_s:
            return None
        due_s, load = self._parcels.popleft()
        if isinstance(load, bytes):
            self._held_bytes -= len(load)
        return load, due_s

    def put_back(self, rest: bytes, due_s: float) -> None:
        """Put what the receiver had no room for in front again."""
        self._parcels.appendleft(_Parcel(due_s, rest))
        self._held_bytes += len(rest)
