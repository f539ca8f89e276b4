"""Interleaved rounds on real servers: every contender in each, and one that fails keeps its sentence."""

from collections.abc import Iterator

import pytest

from proxy.lab.delayline import DelayLines
from proxy.lab.findmax import parse_slo
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.handshakes import Asked, Target, target_contenders, with_rate
from proxy.lab.knee import search
from proxy.lab.matrix import parse_matrix
from proxy.lab.plan import Arrivals, ClosedLoop, OpenLoop
from proxy.lab.results import Mode
from proxy.lab.rounds import Contender, measure_rounds
from tests.lab.tlsserver import Ends, make_ends, server_context, tls_server

ASKED = Asked(seconds=0.15, warm_up_s=0.0, timeout_s=5.0)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"))


@pytest.fixture(scope="module")
def generators() -> Iterator[Generators]:
    with Generators(processes=1) as running:
        yield running


class Clock:
    """A server's CPU that grows by a second at each reading."""

    def __init__(self) -> None:
        self.reading = 0.0

    def used_s(self) -> float:
        self.reading += 1.0
        return self.reading


class Unreadable:
    """A server that ends while it is measured."""

    def used_s(self) -> float:
        raise LoadFault("there is no process 1")


def contenders(address: tuple[str, int], ends: Ends, *words: str, **asked: object) -> list[Contender]:
    target = Target(address=address, credentials=ends.credentials(), request=b"P")
    cells = parse_matrix(list(words), target=True).cells
    fields = {name: getattr(ASKED, name) for name in ("seconds", "warm_up_s", "timeout_s")}
    return target_contenders(cells, Asked(**(fields | asked)), target, DelayLines())  # type: ignore[arg-type]


def test_each_contender_has_a_round_in_each_and_the_other_one_its_sentence(generators: Generators, ends: Ends) -> None:
    steps: list[str] = []
    with tls_server(server_context(ends, "1.3")) as address:
        rows = measure_rounds(
            contenders(address, ends, "mode=full", "concurrency=2"), generators, rounds=2, seed=1, progress=steps.append
        )
    assert [(row.scenario.version, len(row.rounds)) for row in rows] == [("1.2", 0), ("1.3", 2)]
    assert rows[0].fault == "the server does not take TLS 1.2: leave it out with --matrix version=1.3"
    assert rows[1].fault is None
    assert rows[1].negotiated_cipher is not None
    assert all(round_.count > 0 and round_.round_trips == 3 * round_.count for round_ in rows[1].rounds)
    assert all(round_.server_cpu_s is None for round_ in rows[1].rounds)  # unknown, and not zero
    assert steps == ["round 1"] * 2 + ["round 2"] * 2


def test_the_servers_cpu_is_read_around_each_measurement(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        (plain,) = contenders(address, ends, "mode=full", "version=1.3", "concurrency=1")
        clocked = Contender(plain.scenario, plain.plan, Clock())
        gone = Contender(plain.scenario, plain.plan, Unreadable())
        rows = measure_rounds([clocked, gone], generators, rounds=1, seed=1, progress=lambda _: None)
    (round_,) = rows[0].rounds
    assert round_.server_cpu_s is not None
    assert round_.server_cpu_s > 0
    assert (rows[1].rounds, rows[1].fault) == ((), "there is no process 1")


def test_a_row_whose_server_does_not_resume_or_chooses_another_group_is_none(
    generators: Generators, ends: Ends
) -> None:
    with tls_server(server_context(ends, "1.3", tickets=False)) as address:
        resumed, full = contenders(address, ends, "version=1.3", "mode=resumed,full", "group=x25519")
        rows = measure_rounds(
            [resumed, Contender(full.scenario, full.plan, None, "P-256")],
            generators,
            rounds=1,
            seed=1,
            progress=lambda _: None,
        )
    assert rows[0].fault == (
        "the server made a full handshake where a session was offered: it does not resume sessions"
    )
    assert rows[1].fault == "the server chose the group X25519 where P-256 was to be measured"


def test_cells_times_rates_are_contenders_of_an_open_loop(ends: Ends) -> None:
    found = contenders(
        ("127.0.0.1", 1), ends, "mode=full", "version=1.2,1.3", rates=(10.0, 20.0), arrivals=Arrivals.POISSON, seed=5
    )
    assert [(each.scenario.version, each.scenario.rate, each.scenario.concurrency) for each in found] == [
        ("1.2", 10.0, None),
        ("1.2", 20.0, None),
        ("1.3", 10.0, None),
        ("1.3", 20.0, None),
    ]
    assert [each.plan.pace for each in found[:2]] == [
        OpenLoop(rate=10.0, arrivals=Arrivals.POISSON, seed=5),
        OpenLoop(rate=20.0, arrivals=Arrivals.POISSON, seed=5),
    ]


def test_without_rates_they_are_closed_loops(ends: Ends) -> None:
    resumed = contenders(("127.0.0.1", 1), ends, "mode=resumed", "version=1.3", "concurrency=3,5")
    assert [each.plan.pace for each in resumed] == [ClosedLoop(in_flight=3), ClosedLoop(in_flight=5)]
    assert {(each.plan.resumed, each.scenario.mode) for each in resumed} == {(True, Mode.RESUMED)}
    assert with_rate(resumed[0], 7.0).plan.pace == OpenLoop(rate=7.0)


def test_the_knee_of_a_slow_server_lies_below_what_it_can_do(generators: Generators, ends: Ends) -> None:
    """A promise that no network keeps breaks at the first rate already, and a lower one does not help."""
    with tls_server(server_context(ends)) as address:
        (contender,) = contenders(address, ends, "mode=full", "version=1.3", seconds=0.1)
        found = search(contender, generators, parse_slo("p50=1us"), lambda _: None)
    assert found.maximum.rate is None
    assert [row.scenario.rate for row in found.rows] == sorted(row.scenario.rate or 0 for row in found.rows)
    assert all(len(row.rounds) == 2 for row in found.rows)  # each broken promise was tried twice


def test_a_search_on_a_target_that_refuses_is_a_row_with_its_sentence(generators: Generators, ends: Ends) -> None:
    with tls_server(None) as address:
        pass
    (contender,) = contenders(address, ends, "mode=full", "version=1.3")
    found = search(contender, generators, parse_slo("p99=1s"), lambda _: None)
    (row,) = found.rows
    assert row.fault is not None
    assert "cannot be reached" in row.fault
