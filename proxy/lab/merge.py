"""
The results of many generators that loaded one target at the same time, added up into one document, exactly.

Counts, bytes and histograms are sums; nothing is averaged, so no percentile of percentiles can arise. The order does
not matter, and merging in steps gives what merging at once gives. What is added only means something if the generators
did the same at the same time: those that did not are refused with a sentence.

* Seconds are the longest of a round: a rate is then, if anything, too low.
* What is in flight and what is offered add up: four generators with 64 in flight each are 256 in flight.
* The server's CPU and memory, where a target was loaded, were read from the one target by whoever could read them: the
  largest reading counts, for a sum would count the target twice. Where every generator started servers of its own, they
  add up.
* What one of them did not measure is unknown for all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from proxy.core.reasons import Reason
from proxy.lab.latencies import Latencies
from proxy.lab.results import Result, Round, Row, Scenario, Source, latencies
from proxy.lab.words import labels

MOST_APART_S = 10.0  # between the starts of two generators: from there on their rates did not exist at the same time
_OF_EACH = frozenset({"fleet", "pid", "cgroup"})  # options in which generators may differ

_Number = TypeVar("_Number", int, float)


class Unmergeable(Exception):  # noqa: N818  # the files' fault, not ours
    """The documents do not fit together; str() is a whole sentence."""


def merge(results: Sequence[Result], names: Sequence[str]) -> Result:
    """
    Add up the documents.

    results: at least one
    names:   what to call each in a complaint, usually its path
    Raises:  Unmergeable
    """
    first = results[0]
    sources = [source for result in results for source in _sources(result)]
    _check(results, names, sources)
    tables = [_by_scenario(result) for result in results]
    rows = []
    for scenario, label in zip(tables[0], labels(list(tables[0])), strict=True):
        rows.append(_merge_rows([table[scenario] for table in tables], label, names, shared=first.target is not None))
    ordered = sorted(sources, key=lambda source: (source.started_at, source.run))
    return msgspec.structs.replace(
        first,
        started_at=ordered[0].started_at,
        environment=ordered[0].environment,
        rows=tuple(rows),
        certificates=tuple(dict.fromkeys(kind for result in results for kind in result.certificates)),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes))[:100],
        merged_from=tuple(ordered),
    )


def _sources(result: Result) -> tuple[Source, ...]:
    alone = Source(run=result.run, started_at=result.started_at, seed=result.seed, environment=result.environment)
    return result.merged_from or (alone,)


def _by_scenario(result: Result) -> dict[Scenario, Row]:
    """The rows by what one generator was asked to do, which is the same whether they were merged before or not."""
    generators = len(_sources(result))

    def of_one(scenario: Scenario) -> Scenario:
        concurrency = None if scenario.concurrency is None else scenario.concurrency // generators
        rate = None if scenario.rate is None else round(scenario.rate / generators, 6)
        return msgspec.structs.replace(scenario, concurrency=concurrency, rate=rate)

    return {of_one(row.scenario): row for row in result.rows}


def _check(results: Sequence[Result], names: Sequence[str], sources: Sequence[Source]) -> None:
    first = results[0]
    for number, (result, name) in enumerate(zip(results, names, strict=True)):
        for earlier, other in zip(results[:number], names, strict=False):
            if {source.run for source in _sources(result)} & {source.run for source in _sources(earlier)}:
                raise Unmergeable(f"{name} and {other} hold the same run: it would be counted twice")
        _require(name, names[0], "the command", f"bench {result.kind}", f"bench {first.kind}")
        _require(name, names[0], "mtls-sidecar", result.environment.package, first.environment.package)
        # Rows take turns in an order drawn from the seed: with another one, others would have run at the same time.
        _require(name, names[0], "the seed", result.seed, first.seed)
        _require(name, names[0], "the target", result.target or "none", first.target or "none")
        for option in sorted({*result.configuration, *first.configuration} - _OF_EACH):
            theirs, ours = result.configuration.get(option), first.configuration.get(option)
            _require(name, names[0], f"the option {option}", theirs, ours)
        for side in sorted({*result.sides, *first.sides}):
            _require(name, names[0], side, result.sides.get(side), first.sides.get(side))
        if result.maxima:
            raise Unmergeable(f"{name} searched for the knee by itself, so nothing can be added to what it found")
        here, there = _by_scenario(result), _by_scenario(first)
        for scenario in dict.fromkeys([*there, *here]):
            if scenario not in here or scenario not in there:
                lacking = name if scenario not in here else names[0]
                raise Unmergeable(f"{lacking} does not have the row {labels([scenario])[0]!r} that others have")
    starts = sorted(_instant(source.started_at) for source in sources)
    if (apart_s := (starts[-1] - starts[0]).total_seconds()) > MOST_APART_S:
        raise Unmergeable(
            f"the generators started {apart_s:.0f} s apart, so their rates cannot be added: "
            "start them together, with one --start-at"
        )


def _require(name: str, reference: str, what: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise Unmergeable(f"{name} does not fit: {what} is {theirs} there, and {ours} in {reference}")


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise Unmergeable(f"{text[:40]!r} is no time at which a generator can have started") from error


def _merge_rows(rows: Sequence[Row], label: str, names: Sequence[str], *, shared: bool) -> Row:
    faults = dict.fromkeys(row.fault for row in rows if row.fault is not None)
    lengths = {len(row.rounds) for row in rows}
    if len(lengths) > 1 and not faults:
        odd = next(name for name, row in zip(names, rows, strict=True) if len(row.rounds) != len(rows[0].rounds))
        raise Unmergeable(f"{odd} does not fit: it has another number of rounds of {label!r} than {names[0]}")
    scenario = rows[0].scenario
    return Row(
        scenario=msgspec.structs.replace(
            scenario,
            concurrency=_total(row.scenario.concurrency for row in rows),
            rate=_total(row.scenario.rate for row in rows),
        ),
        rounds=tuple(
            _merge_rounds(rounds, shared=shared) for rounds in zip(*(row.rounds for row in rows), strict=False)
        ),
        negotiated_group=_common(row.negotiated_group for row in rows),
        negotiated_cipher=_common(row.negotiated_cipher for row in rows),
        fault="; ".join(faults)[:4000] if faults else None,
    )


def _merge_rounds(rounds: Sequence[Round], *, shared: bool) -> Round:
    failures: Counter[Reason] = Counter()
    for round_ in rounds:
        failures.update(round_.failures)
    held = [latencies(round_) for round_ in rounds]
    known = [one for one in held if one is not None]
    limited = [round_.client_limited for round_ in rounds]
    return Round(
        count=sum(round_.count for round_ in rounds),
        seconds=max(round_.seconds for round_ in rounds),
        server_cpu_s=_of_server((round_.server_cpu_s for round_ in rounds), shared=shared),
        client_cpu_s=_total(round_.client_cpu_s for round_ in rounds),
        failures=dict(sorted(failures.items())),
        bytes_sent=_total(round_.bytes_sent for round_ in rounds),
        bytes_received=_total(round_.bytes_received for round_ in rounds),
        payload_bytes=_total(round_.payload_bytes for round_ in rounds),
        round_trips=_total(round_.round_trips for round_ in rounds),
        memory_bytes=_of_server((round_.memory_bytes for round_ in rounds), shared=shared),
        latency=Latencies.sum(known).encode() if len(known) == len(held) else None,
        client_limited=True if True in limited else None if None in limited else False,  # one is enough
        client_processes=sum(round_.client_processes for round_ in rounds),
    )


def _total(parts: Iterable[_Number | None]) -> _Number | None:
    """The sum; None where one is unknown."""
    numbers = list(parts)
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(numbers) else None


def _of_server(parts: Iterable[_Number | None], *, shared: bool) -> _Number | None:
    """What was read from the servers: of the one that all shared, the largest reading."""
    return max((number for number in parts if number is not None), default=None) if shared else _total(parts)


def _common(parts: Iterable[str | None]) -> str | None:
    """What all agree on; None where they do not."""
    words = set(parts)
    return words.pop() if len(words) == 1 else None
