"""
The latest refusals and reloads, a few KiB of them: for somebody who looks after it happened and has no log at hand.

Refusals are kept by reason, listener and peer, so that a client that tries again every second is one line with a count
and does not push the others out. A stranger that changes its address each time does, which is why nothing depends on
this: the log has every line and the metrics every count. Times are those of the log.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from proxy.core.clockwords import rfc3339
from proxy.core.events import Closed, Direction, Reloaded, ReloadResult
from proxy.core.reasons import EXPLANATIONS, Kind, Reason

MAX_REFUSALS = 24
MAX_RELOADS = 12
_MAX_DETAIL = 400  # characters; a configuration with many faults has a long one

# A client that leaves by itself was not refused, and a health check does it all day.
_REFUSALS = frozenset(reason for reason, words in EXPLANATIONS.items() if words.kind is Kind.REJECTED) - {
    Reason.CLIENT_LEFT
}


class _Refusal(msgspec.Struct):
    """The last of its kind, and how many there were while it was remembered."""

    event: Closed
    count: int


class Recent:
    """A renderer of facts (ops/observers.py). clock: epoch seconds, for reloads, which carry no time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refusals: dict[tuple[Reason, str, str, str], _Refusal] = {}  # in the order of their last
        self._reloads: list[tuple[float, Reloaded]] = []

    @property
    def handlers(self) -> Mapping[type, Callable[[Any], None]]:
        """The facts that are kept."""
        return {Closed: self._on_closed, Reloaded: self.on_reloaded}

    def _on_closed(self, event: Closed) -> None:
        if event.reason not in _REFUSALS:
            return
        event = msgspec.structs.replace(event, detail=event.detail[:_MAX_DETAIL])
        key = event.reason, event.listener.direction, event.listener.name, _who(event)
        known = self._refusals.pop(key, None)
        if known is None and len(self._refusals) >= MAX_REFUSALS:
            self._refusals.pop(next(iter(self._refusals)))
        self._refusals[key] = _Refusal(event, 1 if known is None else known.count + 1)

    def on_reloaded(self, event: Reloaded) -> None:
        """Keep a reload; one that changed nothing is none."""
        if event.result is not ReloadResult.UNCHANGED:
            short = msgspec.structs.replace(event, detail=event.detail[:_MAX_DETAIL])
            self._reloads = [*self._reloads[1 - MAX_RELOADS :], (self._clock(), short)]

    def view(self) -> dict[str, list[dict[str, object]]]:
        """`refusals` and `reloads`, the latest first, as the admin endpoint shows them."""
        return {
            "refusals": [_refusal_row(kept) for kept in reversed(self._refusals.values())],
            "reloads": [_reload_row(time, event) for time, event in reversed(self._reloads)],
        }


def merge(views: Sequence[Mapping[str, Sequence[Mapping[str, object]]]]) -> dict[str, list[Mapping[str, object]]]:
    """The views of several processes as one, the latest first, no longer than that of one."""
    bounds = {"refusals": MAX_REFUSALS, "reloads": MAX_RELOADS}
    return {
        name: sorted(
            (row for view in views for row in view.get(name, ())), key=lambda row: str(row["time"]), reverse=True
        )[:bound]
        for name, bound in bounds.items()
    }


def _who(event: Closed) -> str:
    """The peer's SPIFFE ID where its certificate was seen, else its address; a client's without the port of the day."""
    if event.tls is not None and event.tls.peer_spiffe_id is not None:
        return event.tls.peer_spiffe_id
    if event.listener.direction is Direction.OUTBOUND:  # the peer is the upstream, and who came is our own app
        return event.upstream_address or "the upstream"
    return event.downstream_remote_address.rpartition(":")[0] or event.downstream_remote_address


def _refusal_row(kept: _Refusal) -> dict[str, object]:
    event = kept.event
    return {
        "time": rfc3339(event.start_time + event.duration_s, milliseconds=True),
        "count": kept.count,
        "reason": event.reason,
        "direction": event.listener.direction,
        "listener": event.listener.name,
        "who": _who(event),
        "downstream_remote_address": event.downstream_remote_address,
        "detail": event.detail,
        "advice": EXPLANATIONS[event.reason].advice,
    }


def _reload_row(time: float, event: Reloaded) -> dict[str, object]:
    return {
        "time": rfc3339(time, milliseconds=True),
        "what": event.what,
        "result": event.result,
        "reason": event.reason,
        "generation": event.generation,
        "detail": event.detail,
    }
