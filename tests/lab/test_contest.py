"""Sides in turn: every round each entry once, neighbours compared, and a fault costs one row."""

from proxy.core.reasons import Reason
from proxy.lab.contest import Entry, Measurement, by_kind, contest, kind_of, steps
from proxy.lab.generator import LoadFault
from proxy.lab.results import Mode, Round, Row, Scenario, Workload
from proxy.tls.loadclient import Negotiated

NEGOTIATED = Negotiated("1.3", "TLS_AES_128_GCM_SHA256", "X25519")
ROUND = Round(count=1, seconds=1.0)


def scenario(side: str, workload: Workload = Workload.UPLOAD) -> Scenario:
    return Scenario(side=side, workload=workload)


class Log:
    """Entries that note when they are measured."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def entry(self, side: str, workload: Workload = Workload.UPLOAD, *, fails_at: int = 0, most: int = 99) -> Entry:
        times = 0

        def measure() -> Measurement:
            nonlocal times
            times += 1
            self.order.append(f"{workload} {side}")
            if times == fails_at:
                raise LoadFault(f"{side} broke", Reason.RESET)
            return ROUND, NEGOTIATED

        return Entry(scenario(side, workload), measure, most)


def measure(entries: list[Entry], rounds: int, seed: int = 1) -> list[Row]:
    return contest(entries, rounds=rounds, seed=seed, progress=lambda _: None)


def test_rows_come_in_the_order_of_the_entries_with_all_their_rounds() -> None:
    log = Log()
    rows = measure([log.entry("a"), log.entry("b")], 3)
    assert [(row.scenario.side, len(row.rounds), row.fault) for row in rows] == [("a", 3, None), ("b", 3, None)]
    assert [row.negotiated_group for row in rows] == ["X25519", "X25519"]


def test_what_is_compared_is_measured_side_by_side_in_every_round() -> None:
    log = Log()
    entries = [log.entry(side, workload) for side in "ab" for workload in (Workload.UPLOAD, Workload.DOWNLOAD)]
    measure(entries, 2)
    pairs = [set(log.order[at : at + 2]) for at in range(0, 8, 2)]
    assert pairs == [{"upload a", "upload b"}, {"download a", "download b"}] * 2


def test_the_order_of_sides_changes_and_follows_from_the_seed() -> None:
    orders = []
    for seed in (7, 7, 8):
        log = Log()
        measure([log.entry(side) for side in "abcdef"], 3, seed)
        orders.append(log.order)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0][:6] != orders[0][6:12]


def test_a_fault_keeps_the_row_with_its_sentence_and_the_others_go_on() -> None:
    log = Log()
    rows = measure([log.entry("a", fails_at=2), log.entry("b")], 3)
    assert [(len(row.rounds), row.fault) for row in rows] == [(1, "a broke"), (3, None)]
    assert log.order.count("upload a") == 2


def test_some_entries_have_fewer_rounds_and_progress_is_told_as_often_as_it_was_promised() -> None:
    log, told = Log(), list[str]()
    entries = [log.entry("a"), log.entry("b", Workload.IDLE, most=2)]
    rows = contest(entries, rounds=3, seed=1, progress=told.append)
    assert [len(row.rounds) for row in rows] == [3, 2]
    assert len(told) == steps(entries, 3) == 5
    assert told[0] == "round 1: upload, a"


def test_a_kind_is_what_is_done_and_never_who_does_it() -> None:
    handshake = Scenario(side="a", workload=Workload.HANDSHAKE, version="1.2", mode=Mode.RESUMED, concurrency=16)
    assert kind_of(handshake) == "resumed handshake over TLS 1.2"
    assert kind_of(Scenario(side="a", workload=Workload.HANDSHAKE, concurrency=1)) == "new connection"
    assert kind_of(Scenario(side="a", workload=Workload.HANDSHAKE, concurrency=32)) == "new connections"
    assert kind_of(Scenario(side="a", workload=Workload.REQUEST, concurrency=1)) == "request, one connection"
    assert kind_of(Scenario(side="a", workload=Workload.REQUEST, concurrency=64)) == "requests"
    assert kind_of(Scenario(side="a", workload=Workload.IDLE, concurrency=64)) == "idle connections"
    rows = [Row(scenario=scenario(side)) for side in "ab"]
    assert by_kind(rows) == {"upload": rows}
