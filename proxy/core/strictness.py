"""
The verdict on STRICT, from evidence about plaintext (core/plaintext.py says what makes it safe, and what too thin).

Listeners are judged one by one, since the mode is theirs. Every sentence is for the person who is about to change it.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from proxy.core.clockwords import rfc3339, span
from proxy.core.plaintext import NO_MODE, UNNAMED, Client, Evidence, Kind, Listener, Sidecar, Speaks

_REFUSED = "PLAINTEXT_REFUSED"


class Verdict(StrEnum):
    """Whether STRICT is safe. UNKNOWN: nobody was seen, but too little was looked at."""

    SAFE = "safe"
    NOT_SAFE = "not_safe"
    UNKNOWN = "unknown"


class ListenerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """
    The judgement of one listener.

    observed_s: how much of the window is covered; until: where the evidence ends, epoch seconds
    reasons:    why this verdict; notes: what to know besides
    """

    listener: str
    verdict: Verdict
    reasons: list[str]
    notes: list[str]
    modes: list[str]
    listen: list[str]
    sidecars: int
    observed_s: int
    until: float
    connections: dict[str, int]
    refused: dict[str, int]
    clients: list[Client]  # who must move, most recent first
    quiet: list[Client]  # who spoke plaintext before the window, and not within it


def judge(evidence: Evidence, *, now: float, window_s: float) -> list[ListenerVerdict]:
    """
    Judge every listener that the evidence knows, by name.

    now:      our clock, epoch seconds
    window_s: how long nobody may have spoken plaintext
    """
    return [_judge(evidence, evidence.listeners[name], now, window_s) for name in sorted(evidence.listeners)]


def overall(verdicts: Iterable[ListenerVerdict]) -> Verdict:
    """The worst of all; of none, UNKNOWN."""
    found = {one.verdict for one in verdicts}
    if Verdict.NOT_SAFE in found:
        return Verdict.NOT_SAFE
    return Verdict.SAFE if found == {Verdict.SAFE} else Verdict.UNKNOWN


def _judge(evidence: Evidence, listener: Listener, now: float, window_s: float) -> ListenerVerdict:
    sidecars = list(listener.sidecars.values())
    until = min(now, max((sidecar.last for sidecar in sidecars), default=0.0))  # a clock that is ahead proves nothing
    begin = until - window_s
    seen = [client for client in evidence.clients.values() if client.listener == listener.name]
    log_covers = covered_s(((one.first, one.last) for one in sidecars if one.sees_who), begin, until) >= window_s
    seen += _unnamed(listener, seen, until, window_s, log_covers=log_covers)
    seen.sort(key=lambda client: (-client.last_seen, client.client))
    movers: list[Client] = []
    quiet: list[Client] = []
    for client in seen:
        within = client.open or client.last_seen >= begin or not client.last_seen  # no time: it may be now
        (movers if within else quiet).append(client)
    observed_s = covered_s(((one.first, one.last) for one in sidecars), begin, until)
    thin = _thin(listener, observed_s, until, now, window_s, log_covers=log_covers)
    if evidence.overflowed:
        thin.append("more clients than this report can hold: group them with --group-by prefix")
    if movers:
        verdict, reasons = Verdict.NOT_SAFE, _who_must_move(listener, movers)
    elif listener.modes and listener.modes <= {"STRICT", NO_MODE}:
        verdict, reasons = Verdict.SAFE, ["STRICT is in force already, and refused nobody for speaking plaintext"]
    elif thin:
        verdict, reasons = Verdict.UNKNOWN, thin
    else:
        verdict = Verdict.SAFE
        reasons = [f"nobody spoke plaintext in the {span(window_s)} before {rfc3339(until)}"]
    return ListenerVerdict(
        listener=listener.name,
        verdict=verdict,
        reasons=reasons,
        notes=_notes(sidecars, movers, thin if movers else []),
        modes=sorted(listener.modes),
        listen=sorted(listener.addresses),
        sidecars=max(sum(one.kind is kind for one in sidecars) for kind in Kind),
        observed_s=int(observed_s),
        until=until,
        connections=listener.words(listener.relayed),
        refused=listener.words(listener.refused),
        clients=movers,
        quiet=quiet,
    )


def covered_s(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """How much of begin..end lies in any of the intervals."""
    total, reached = 0.0, begin
    for first, last in sorted(intervals):
        total += max(0.0, min(last, end) - max(first, reached))
        reached = max(reached, min(last, end))
    return total


def _unnamed(
    listener: Listener, seen: list[Client], until: float, window_s: float, *, log_covers: bool
) -> list[Client]:
    """What metrics alone tell: that somebody speaks plaintext, and not who; of the two other kinds, not even when."""
    counted = listener.relayed.get(Kind.METRICS, {})
    refused = listener.refused.get(Kind.METRICS, {}).get(_REFUSED, 0)
    known_open = listener.ignored_open + sum(one.open for one in seen if one.speaks is Speaks.PLAINTEXT)
    unknown_open = max(0, listener.open_plaintext - known_open)
    plaintext = max(counted.get(Speaks.PLAINTEXT, 0), unknown_open)
    rows: list[Client] = []
    for speaks, count in (
        (Speaks.PLAINTEXT, plaintext),
        (Speaks.APP_TLS, counted.get(Speaks.APP_TLS, 0)),
        (Speaks.REFUSED, refused),
    ):
        last = 0.0  # not known: of a worker that crashed, of an older sidecar, of what has no such metric
        if speaks is Speaks.PLAINTEXT:
            last = until if unknown_open else listener.last_plaintext
        named = max(listener.ignored.get(speaks, 0.0), *(one.last_seen for one in seen if one.speaks is speaks), 0.0)
        # A metric's time is the log's but for the rounding. Without one: whom a log of the whole window does not name
        # was not there.
        is_named = named >= last - 1 if last else log_covers or named >= until - window_s
        is_open = unknown_open if speaks is Speaks.PLAINTEXT else 0
        if count and (is_open or not is_named):
            row = Client(client=UNNAMED, listener=listener.name, port=None, speaks=speaks, connections=count)
            row.open, row.last_seen = is_open, last
            rows.append(row)
    return rows


def _who_must_move(listener: Listener, movers: list[Client]) -> list[str]:
    sentences = []
    for speaks, words in (
        (Speaks.PLAINTEXT, "plaintext"),
        (Speaks.APP_TLS, "TLS of the app's own, which STRICT refuses"),
        (Speaks.REFUSED, "plaintext where STRICT is in force already, in vain"),
    ):
        clients = {client.client for client in movers if client.speaks is speaks}
        if clients:
            who = "somebody speaks" if clients == {UNNAMED} else "1 client speaks"
            sentences.append(f"{who if len(clients) == 1 else f'{len(clients)} clients speak'} {words}")
    if "DISABLE" in listener.modes:
        sentences.append("DISABLE looks at no bytes, so TLS counts as plaintext: PERMISSIVE tells them apart")
    return sentences


def _thin(
    listener: Listener, observed_s: float, until: float, now: float, window_s: float, *, log_covers: bool
) -> list[str]:
    """Every reason why silence proves nothing here."""
    sidecars = list(listener.sidecars.values())
    logs = [one for one in sidecars if one.kind is Kind.LOG]
    counters = [one for one in sidecars if one.kind is Kind.METRICS]
    young = [one for one in counters if one.first > until - window_s]
    sentences = []
    if now - until > window_s:
        sentences.append(f"the evidence ends {span(now - until)} ago, at {rfc3339(until)}")
    if observed_s < window_s:
        sentences.append(f"only {span(observed_s)} of the window of {span(window_s)} were observed")
    elif young and not log_covers:
        # A log can hold what a predecessor saw; metrics of a sidecar begin with itself.
        names = ", ".join(f"{one.name} ({span(one.last - one.first)})" for one in young[:3])
        more = f" and {len(young) - 3} more" if len(young) > 3 else ""
        sentences.append(f"the counters of {names}{more} began within the window: what came before is lost")
    if not any(listener.total(listener.relayed, word) for word in ("mutual_tls", *Speaks)):
        sentences.append("nobody was let in at all, so nothing is known of its clients")
    if counters and not young:
        return sentences  # they have counted everybody, whatever a log may lack
    hiding = [one.name for one in logs if one.hides is not False]
    if hiding:
        sentences.append(f"no line of level info in the log of {hiding[0]}: set log.level to info, or read /metrics")
    dropped = sum(one.dropped for one in logs)
    if dropped:
        sentences.append(f"{dropped} log lines were dropped by the sidecar itself")
    return sentences


def _notes(sidecars: list[Sidecar], movers: list[Client], thin: list[str]) -> list[str]:
    notes = list(thin)
    if any(client.client == UNNAMED for client in movers):
        notes.append(
            "metrics do not say who it is: read the log of its sidecars, or /connections for those that are open"
        )
    if not any(one.kind is Kind.METRICS for one in sidecars):
        notes.append("a log has a connection when it ends: add the admin endpoint to see those that are open")
    return notes
