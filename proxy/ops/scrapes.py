"""
/metrics for whoever asks, at a bounded cost: the loop that renders it is the one that relays.

To render takes milliseconds (3 for a few listeners, 30 for thirty), and the health endpoint is open to the network. So
one rendering is made at a time and shared by all who asked before it began, which makes it as fresh for each of them as
one of their own; the next one begins when nine times the time is over that this one took. A scraper that comes every
few seconds notices nothing. Only so many may wait, because who waits holds one of the endpoint's connections, and
kubelet's probe needs one as well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from proxy.ops.metricfamilies import wants_open_metrics

MOST_WAITING = 12  # of the 64 connections of the endpoint (HttpLimits), 48 of which probes may have (AppProbes)
REST = 9  # times as long as a rendering took nothing is rendered after it
MOST_REST_S = 0.25

Rendering = tuple[str, bytes]  # content type, body


class Scrapes:
    """The renderings of one endpoint. render: takes the Accept header of a scraper"""

    def __init__(self, render: Callable[[str], Awaitable[Rendering]]) -> None:
        self._render = render
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._begun = 0  # how many renderings
        self._latest: dict[bool, tuple[int, Rendering]] = {}  # by form: which one it was; kept while somebody waits
        self._rested_at = 0.0

    async def get(self, accept: str) -> Rendering | None:
        """A rendering that began after this call did; None where too many wait for one already."""
        if self._waiting >= MOST_WAITING:
            return None
        form, begun_before = wants_open_metrics(accept), self._begun
        self._waiting += 1
        try:
            async with self._lock:
                number, rendering = self._latest.get(form, (0, None))
                return rendering if rendering is not None and number > begun_before else await self._make(form, accept)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._latest.clear()

    async def _make(self, form: bool, accept: str) -> Rendering:
        await asyncio.sleep(max(0.0, self._rested_at - time.monotonic()))
        self._begun += 1
        number, began_at = self._begun, time.monotonic()
        try:
            rendering = await self._render(accept)
        finally:
            ended_at = time.monotonic()
            self._rested_at = ended_at + min(REST * (ended_at - began_at), MOST_REST_S)
        self._latest[form] = number, rendering
        return rendering
