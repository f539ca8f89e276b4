"""
Points in time and spans of time in words, for logs and refusals. Takes every clock reading as an argument.

All times are seconds since the epoch, UTC. A refusal for a reason of time shows both clocks, the certificate's and
ours, since the operator must see which of the two is wrong.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@lru_cache(maxsize=1024)  # the notAfter of the same few peers, connection after connection
def rfc3339(epoch: float, *, milliseconds: bool = False) -> str:
    """
    Write a point in time as RFC 3339 in UTC, cut (not rounded) to the second or the millisecond.

    epoch:   from the year 1 to 9999, which is all that RFC 3339 and X.509 can say; what lies beyond becomes the nearest
    Returns: "2026-11-24T12:00:00Z" or "2026-11-24T12:00:00.250Z"
    """
    try:
        moment = _EPOCH + timedelta(seconds=epoch)
    except OverflowError:
        moment = (datetime.max if epoch > 0 else datetime.min).replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds" if milliseconds else "seconds").replace("+00:00", "Z")


def span(seconds: float) -> str:
    """Write a span of time in its two largest units: "2 h 3 min", "45 s", "less than 1 s"; the sign is dropped."""
    rest = int(abs(seconds))
    words: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}")
        elif words:
            break  # "1 d" and not "1 d 5 s": the second unit is the next smaller one or none
        if len(words) == 2:
            break
    return " ".join(words) or "less than 1 s"


def describe_period(not_before: float, not_after: float, now: float) -> str:
    """
    Say in one sentence when something is valid, what our clock says, and how far apart the two are.

    Both ends belong to the period (RFC 5280 4.1.2.5). Returns, for instance:
    "valid from 2026-11-24T10:00:00Z to 2026-11-24T11:00:00Z, our clock says 2026-11-24T13:03:00Z: expired 2 h 3 min
    ago"
    """
    if now < not_before:
        verdict = f"not valid for another {span(not_before - now)}"
    elif now > not_after:
        verdict = f"expired {span(now - not_after)} ago"
    else:
        verdict = f"expires in {span(not_after - now)}"
    return f"valid from {rfc3339(not_before)} to {rfc3339(not_after)}, our clock says {rfc3339(now)}: {verdict}"
