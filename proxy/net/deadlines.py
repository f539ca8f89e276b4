"""
Deadlines of many connections on one timer of the loop.

A timer of the loop costs a connection several microseconds to make and to take back, and nearly all of these are taken
back: who waits an hour for an idle time-out closes after a second. Here a deadline is an entry in the bucket of its
moment, a set, so that adding and taking back are one step each and nothing of a closed connection is left behind but
an empty set, which goes when its moment comes. The price is precision: a deadline is noticed up to GRAIN_S late, never
early; and whoever enters one that is hours away lets the empty sets of all those hours gather.
"""

import asyncio
import heapq
from collections.abc import Callable

GRAIN_S = 0.0625  # a power of two, so that bucket times are exact

Due = Callable[[], None]  # called when the deadline has come, and is then no longer entered; a bound method will do


class Deadlines:
    """The deadlines of one worker. Times are those of loop.time()."""

    __slots__ = ("_armed_for", "_buckets", "_loop", "_order", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Due]] = {}
        self._order: list[int] = []  # a heap of the bucket numbers, each once
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def add(self, due: Due, at: float) -> int:
        """Enter a deadline. Returns: its bucket, for `discard`."""
        number = int(at / GRAIN_S) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {due}
            heapq.heappush(self._order, number)
            if self._timer is None or number < self._armed_for:
                self._arm(number)
        else:
            bucket.add(due)
        return number

    def discard(self, due: Due, number: int) -> None:
        """Take a deadline back; harmless when it has come already."""
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.discard(due)

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = number
        self._timer = self._loop.call_at(number * GRAIN_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = int(self._loop.time() / GRAIN_S)
        try:
            while self._order and self._order[0] <= now:
                bucket = self._buckets[self._order[0]]
                while bucket:
                    bucket.pop()()
                del self._buckets[heapq.heappop(self._order)]
            # Empty buckets on the way need no visit; the heap forgets them here.
            while self._order and not self._buckets[self._order[0]]:
                del self._buckets[heapq.heappop(self._order)]
        finally:  # also where one of them raised: the others have not gone with it
            if self._order and self._timer is None:
                self._arm(self._order[0])
