"""
Rounds: every contender once in each, in an order drawn from the seed, so that what the machine does meanwhile is borne
by all of them alike. A figure is the median over the rounds, and only figures of one run are compared.

A contender that cannot be measured (the server refuses it, it does not resume, this machine ran out of something) keeps
its row, with the sentence that says why; the others go on.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.lab.generator import Generators, LoadFault, Measured
from proxy.lab.observe import Observed, observe
from proxy.lab.plan import Plan
from proxy.lab.results import Round, Row, Scenario
from proxy.lab.servercpu import ServerCpu, settled_s
from proxy.lab.turns import Turns


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One row to be.

    server: where the server's CPU is read; None: it is unknown
    group:  the group that has to come out of the handshake; None: whatever the server chooses
    """

    scenario: Scenario
    plan: Plan
    server: ServerCpu | None = None
    group: str | None = None


@dataclass(slots=True)
class _Standing:
    """What is known of a contender so far."""

    contender: Contender
    rounds: list[Round] = field(default_factory=list)
    observed: Observed | None = None
    fault: str | None = None

    def row(self) -> Row:
        negotiated = self.observed.negotiated if self.observed else None
        return Row(
            scenario=self.contender.scenario,
            rounds=tuple(self.rounds),
            negotiated_group=negotiated.group if negotiated else None,
            negotiated_cipher=negotiated.cipher if negotiated else None,
            fault=self.fault,
        )


Progress = Callable[[str], None]


def measure_rounds(
    contenders: Sequence[Contender],
    generators: Generators,
    *,
    rounds: int,
    seed: int,
    progress: Progress,
    timetable: Callable[[], Turns | None] = lambda: None,
) -> list[Row]:
    """
    Measure all contenders `rounds` times, in turn.

    timetable: asked once, when all is ready, for when each measurement begins; None: as soon as it can
    progress:  called after each measurement with the round that it belongs to
    Returns:   the rows in the order of the contenders
    """
    standings = [_Standing(contender) for contender in contenders]
    for standing in standings:
        _look(standing)
    draw = random.Random(seed)  # noqa: S311  # an order, no secret
    order = [(number, standing) for number in range(rounds) for standing in draw.sample(standings, len(standings))]
    turns = timetable()
    for turn, (number, standing) in enumerate(order):
        if standing.fault is None:
            _measure(standing, generators, turns, turn)
        progress(f"round {number + 1}")
    return [standing.row() for standing in standings]


def measure_once(
    contender: Contender,
    generators: Generators,
    round_trips: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> tuple[Round, Measured]:
    """
    One measurement with the server's CPU around it; whether it is one, `Measured.fault` says.

    ready:  called when all is prepared, to wait for others
    Raises: LoadFault when the plan could not even be prepared
    """
    generators.prepare(contender.plan)
    before = None if contender.server is None else settled_s(contender.server)
    ready()
    measured = generators.measure()
    after = None if contender.server is None else settled_s(contender.server)
    cpu_s = None if before is None or after is None else max(0.0, after - before)
    return measured.as_round(server_cpu_s=cpu_s, round_trips=round_trips), measured


def _look(standing: _Standing) -> None:
    contender = standing.contender
    try:
        standing.observed = observed = observe(contender.plan)
    except LoadFault as fault:
        standing.fault = str(fault)
        return
    chosen = observed.negotiated.group
    if contender.group is not None and chosen not in (None, contender.group):
        standing.fault = f"the server chose the group {chosen} where {contender.group} was to be measured"
    elif contender.plan.resumed and not observed.resumed:
        standing.fault = "the server made a full handshake where a session was offered: it does not resume sessions"


def _measure(standing: _Standing, generators: Generators, turns: Turns | None, turn: int) -> None:
    round_trips = standing.observed.round_trips if standing.observed else None
    try:
        if turns is None:
            round_, measured = measure_once(standing.contender, generators, round_trips)
        else:
            turns.prepare(turn)
            round_, measured = measure_once(standing.contender, generators, round_trips, lambda: turns.measure(turn))
    except LoadFault as fault:
        standing.fault = str(fault)
        return
    standing.fault = measured.fault
    if measured.count:
        standing.rounds.append(round_)
