"""
What a table of handshakes cannot show by itself, as notes of the result: how many round trips, and who set the pace.

The differences between its rows are in lab/summary.py. What was not measured is not said.
"""

from collections.abc import Callable, Iterator, Sequence

from proxy.lab.measures import BY_KEY
from proxy.lab.results import Environment, Round, Row

BUSY = 0.9  # of a core
DISTURBED = 0.15
_TRIPS = BY_KEY["round_trips"]


def notes(rows: Sequence[Row], waited: float | None = None) -> list[str]:
    """
    Sentences about the rows that were measured whole; none where nothing can be said.

    waited: of the time in which the servers had something to do, the share for which others had their core
    """
    whole = [row for row in rows if row.fault is None and row.rounds]
    disturbed = disturbance(waited)
    return [*_round_trips(whole), *(disturbed or _pace(whole))]


def of_python(environment: Environment) -> list[str]:
    """What it means for the servers that were started here how their Python was built; nothing where nobody knows."""
    if environment.python_optimised is not False:
        return []
    return [
        "The Python here was built without profile-guided optimisation (--enable-optimizations): a handshake costs the "
        "sidecar 5 to 10 % more CPU than on one that was built with it, such as Debian's."
    ]


def disturbance(waited: float | None) -> list[str]:
    """What it means that the servers had to wait for their core; nothing where they hardly did, or nobody knows."""
    if waited is None or waited <= DISTURBED:
        return []
    return [
        f"This machine had other work: the servers waited for their core {waited * 100:.0f} % of the time in which "
        "they had something to do. Rates and latencies are worse than this machine can do, and vary; CPU time grows "
        "less, but it grows: compare it within this run alone."
    ]


def _round_trips(rows: Sequence[Row]) -> Iterator[str]:
    found: dict[str, set[float]] = {}
    for row in rows:
        figure = _TRIPS.figure(row)
        if figure is not None:
            mode = row.scenario.mode.value if row.scenario.mode else ""
            found.setdefault(f"TLS {row.scenario.version} {mode}".strip(), set()).add(figure.value)
    if len(found) > 1:
        words = ", ".join(f"{name} {_span(trips)}" for name, trips in found.items())
        yield (
            f"Network round trips from connect to the server's first answer: {words}. Between zones or over the "
            "Internet each of them takes longer than all CPU of a handshake; --rtt shows it."
        )


def _pace(rows: Sequence[Row]) -> Iterator[str]:
    if not rows or any(row.scenario.rate is not None for row in rows):
        return  # in an open loop the arrivals set it
    if all(_mostly(row, _is_server_busy) for row in rows):
        yield "The server kept at least one core busy in every row, so the rates are its own limit, not the client's."
    elif all(_mostly(row, _is_nobody_busy) for row in rows):
        yield (
            "Neither side was busy: the rates are the clients in flight divided by what a connection takes, its end "
            "and what stands behind the server included. More of them (--concurrency) may raise the rates."
        )


def _is_server_busy(round_: Round) -> bool:
    return round_.server_cpu_s is not None and round_.server_cpu_s >= BUSY * round_.seconds


def _is_nobody_busy(round_: Round) -> bool:
    return round_.server_cpu_s is not None and round_.server_cpu_s < BUSY * round_.seconds and not round_.client_limited


def _mostly(row: Row, judge: Callable[[Round], bool]) -> bool:
    return sum(judge(round_) for round_ in row.rounds) * 2 > len(row.rounds)


def _span(values: set[float]) -> str:
    least, most = min(values), max(values)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
