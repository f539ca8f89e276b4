"""
The instants at which an open loop begins connections: fixed before the first one begins, whatever the server does.

That is what makes its latencies honest. A client that waits for an answer before it sends the next request asks less of
a server exactly while the server is slow, and then reports few slow answers (coordinated omission).
"""

import random
from collections.abc import Iterator

from proxy.lab.plan import Arrivals, OpenLoop


def arrivals(pace: OpenLoop, seconds: float, *, share: int = 0, shares: int = 1) -> Iterator[float]:
    """
    The instants in seconds from the start, ascending, all below `seconds`.

    share: which of `shares` processes asks; each gets every shares-th arrival of one common sequence
    """
    number, at = 0, 0.0
    draw = random.Random(pace.seed)  # noqa: S311  # spacing, no secret
    while True:
        at = number / pace.rate if pace.arrivals is Arrivals.CONSTANT else at + draw.expovariate(pace.rate)
        if at >= seconds:
            return
        if number % shares == share:
            yield at
        number += 1
