"""The search for the knee of one contender, on real generators: every rate that was tried becomes a row."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.lab.findmax import Knee, Slo, find_max
from proxy.lab.generator import Generators, LoadFault, Measured
from proxy.lab.handshakes import with_rate
from proxy.lab.observe import observe
from proxy.lab.results import Maximum, Round, Row
from proxy.lab.rounds import Contender, measure_once


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. rows: one for each rate, ascending; limited: beyond the knee the client set the pace."""

    maximum: Maximum
    rows: tuple[Row, ...]
    limited: bool


def search(contender: Contender, generators: Generators, slo: Slo, progress: Callable[[float], None]) -> Found:
    """
    Find the highest rate at which the contender keeps its promise.

    progress: called with each rate before it is tried
    """
    rounds: dict[float, list[Round]] = {}
    knee, fault = Knee(None, (), limited=False), None
    try:
        trips = observe(contender.plan).round_trips

        def measure(rate: float) -> Measured:
            progress(rate)
            round_, measured = measure_once(with_rate(contender, rate), generators, trips)
            rounds.setdefault(rate, []).append(round_)
            return measured

        knee = find_max(measure, slo)
    except LoadFault as found:
        fault = str(found)
    rows = [
        Row(scenario=with_rate(contender, rate).scenario, rounds=tuple(each)) for rate, each in sorted(rounds.items())
    ]
    if fault is not None:
        rows.append(Row(scenario=contender.scenario, fault=fault))
    return Found(Maximum(scenario=contender.scenario, slo=slo.text, rate=knee.rate), tuple(rows), knee.limited)
