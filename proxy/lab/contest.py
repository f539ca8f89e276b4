"""
Sides measured in turn: in every round each entry once, entries that are compared with each other one after the other,
in an order drawn from the seed. Whatever slows the machine down for a while slows all sides.

An entry that cannot be measured keeps its row, with the sentence that says why; the others go on.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.lab.generator import LoadFault
from proxy.lab.results import Round, Row, Scenario, Workload
from proxy.tls.loadclient import Negotiated

Measurement = tuple[Round, Negotiated | None]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One row to be.

    measure:     a round of it, with what was negotiated. Raises: LoadFault
    most_rounds: fewer than the others have, where a round is long and varies little
    """

    scenario: Scenario
    measure: Callable[[], Measurement]
    most_rounds: int = 1_000_000


@dataclass(slots=True)
class _Standing:
    entry: Entry
    rounds: list[Round] = field(default_factory=list)
    negotiated: Negotiated | None = None
    fault: str | None = None

    def row(self) -> Row:
        return Row(
            scenario=self.entry.scenario,
            rounds=tuple(self.rounds),
            negotiated_group=self.negotiated.group if self.negotiated else None,
            negotiated_cipher=self.negotiated.cipher if self.negotiated else None,
            fault=self.fault,
        )


def steps(entries: Sequence[Entry], rounds: int) -> int:
    """How often `contest` calls `progress`."""
    return sum(min(rounds, entry.most_rounds) for entry in entries)


def contest(entries: Sequence[Entry], *, rounds: int, seed: int, progress: Progress) -> list[Row]:
    """Measure all entries in turn; progress is called before each measurement with what it is."""
    standings = [_Standing(entry) for entry in entries]
    comparable: dict[str, list[_Standing]] = {}
    for standing in standings:
        comparable.setdefault(kind_of(standing.entry.scenario), []).append(standing)
    draw = random.Random(seed)  # noqa: S311  # an order, no secret
    for number in range(rounds):
        for kind, group in comparable.items():
            for standing in draw.sample(group, len(group)):
                if number >= standing.entry.most_rounds:
                    continue
                progress(f"round {number + 1}: {kind}, {standing.entry.scenario.side}")
                if standing.fault is None:
                    _measure(standing)
    return [standing.row() for standing in standings]


def _measure(standing: _Standing) -> None:
    try:
        round_, negotiated = standing.entry.measure()
    except LoadFault as fault:
        standing.fault = str(fault)  # the rounds before it stay: they were whole
        return
    standing.rounds.append(round_)
    standing.negotiated = standing.negotiated or negotiated


def by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each kind, in their order."""
    kinds = dict[str, list[Row]]()
    for row in rows:
        kinds.setdefault(kind_of(row.scenario), []).append(row)
    return kinds


def kind_of(scenario: Scenario) -> str:
    """What a row measures, whoever serves: rows of one kind are compared, and stand in one column of a table."""
    match scenario.workload:
        case Workload.HANDSHAKE if scenario.mode is not None:
            return f"{scenario.mode} handshake over TLS {scenario.version}"
        case Workload.HANDSHAKE:
            return "new connection" if scenario.concurrency == 1 else "new connections"
        case Workload.REQUEST:
            return "request, one connection" if scenario.concurrency == 1 else "requests"
        case Workload.IDLE:
            return "idle connections"
        case workload:
            return str(workload)
