"""STRICT is safe when nobody spoke plaintext and somebody looked all the while."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.plaintext import NO_MODE, UNNAMED, Evidence, Grouping, Kind, Listener, Sidecar, Speaks
from proxy.core.strictness import ListenerVerdict, Verdict, covered_s, judge, overall

NOW = 1_800_000_000.0
DAY_S = 86400.0


class World:
    """One listener `http`, and what is known of it; all is well until a test says otherwise."""

    def __init__(self, kind: Kind = Kind.LOG, *, hours: float = 48, ended: float = NOW) -> None:
        self.evidence = Evidence(Grouping())
        self.sidecar = self.add_sidecar(kind, "a", hours=hours, ended=ended)
        self.listener.count(self.listener.relayed, kind, "mutual_tls", 100)

    @property
    def listener(self) -> Listener:
        return self.evidence.listeners["http"]

    def add_sidecar(self, kind: Kind, name: str, *, hours: float, ended: float = NOW) -> Sidecar:
        sidecar = self.evidence.sidecar(kind, name)
        sidecar.first, sidecar.last, sidecar.hides = ended - hours * 3600, ended, False
        self.evidence.listener("http", sidecar)
        return sidecar

    def client(self, hours_ago: float, speaks: Speaks = Speaks.PLAINTEXT, *, is_open: bool = False) -> None:
        at = NOW - hours_ago * 3600
        self.evidence.add_client(self.listener, "10.0.0.1:1", 8080, speaks, at, at, is_open)

    def verdict(self) -> ListenerVerdict:
        (verdict,) = judge(self.evidence, now=NOW, window_s=DAY_S)
        return verdict


@pytest.mark.parametrize("kind", Kind)
def test_nobody_in_the_window_is_safe(kind: Kind) -> None:
    verdict = World(kind).verdict()
    assert verdict.verdict is Verdict.SAFE
    assert verdict.reasons == ["nobody spoke plaintext in the 1 d before 2027-01-15T08:00:00Z"]


@pytest.mark.parametrize("speaks", Speaks)
def test_who_would_be_refused_makes_it_not_safe(speaks: Speaks) -> None:
    world = World()
    world.client(1, speaks)
    verdict = world.verdict()
    assert verdict.verdict is Verdict.NOT_SAFE
    assert [client.client for client in verdict.clients] == ["10.0.0.1"]
    assert verdict.reasons[0].startswith("1 client speaks")


def test_who_was_last_seen_before_the_window_has_moved() -> None:
    world = World()
    world.client(25)
    verdict = world.verdict()
    assert verdict.verdict is Verdict.SAFE
    assert [client.client for client in verdict.quiet] == ["10.0.0.1"]


def test_a_connection_that_is_open_since_long_still_counts() -> None:
    world = World()
    world.client(40, is_open=True)
    assert world.verdict().verdict is Verdict.NOT_SAFE


def test_a_window_that_was_not_observed_proves_nothing() -> None:
    verdict = World(hours=3).verdict()
    assert verdict.verdict is Verdict.UNKNOWN
    assert verdict.reasons == ["only 3 h of the window of 1 d were observed"]


def test_logs_of_pods_that_followed_each_other_cover_a_window_together() -> None:
    world = World(hours=13)
    world.add_sidecar(Kind.LOG, "its predecessor", hours=13, ended=NOW - 12 * 3600)
    assert world.verdict().verdict is Verdict.SAFE


def test_a_gap_between_two_logs_is_not_covered() -> None:
    world = World(hours=6)
    world.add_sidecar(Kind.LOG, "its predecessor", hours=40, ended=NOW - 12 * 3600)
    assert world.verdict().verdict is Verdict.UNKNOWN
    assert world.verdict().observed_s == 18 * 3600


def test_counters_that_began_within_the_window_prove_nothing_beside_older_ones() -> None:
    world = World(Kind.METRICS)
    world.add_sidecar(Kind.METRICS, "orders-2", hours=1)
    verdict = world.verdict()
    assert verdict.verdict is Verdict.UNKNOWN
    assert verdict.reasons == ["the counters of orders-2 (1 h) began within the window: what came before is lost"]


def test_a_log_of_the_whole_window_makes_up_for_young_counters() -> None:
    world = World(Kind.LOG)
    world.add_sidecar(Kind.METRICS, "orders-2", hours=1)
    assert world.verdict().verdict is Verdict.SAFE


def test_a_listener_that_nobody_came_to_says_nothing() -> None:
    world = World()
    world.listener.relayed.clear()
    world.listener.count(world.listener.refused, Kind.LOG, "NOT_ALLOWED", 4)
    verdict = world.verdict()
    assert verdict.verdict is Verdict.UNKNOWN
    assert verdict.refused == {"NOT_ALLOWED": 4}


@pytest.mark.parametrize("hides", [None, True])
def test_a_log_without_lines_of_level_info_hides_who_was_let_in(hides: bool | None) -> None:
    world = World()
    world.sidecar.hides = hides
    assert world.verdict().verdict is Verdict.UNKNOWN


def test_dropped_lines_may_have_been_the_ones_that_matter() -> None:
    world = World()
    world.sidecar.dropped = 2
    assert world.verdict().reasons == ["2 log lines were dropped by the sidecar itself"]


@pytest.mark.parametrize(("hides", "dropped"), [(None, 0), (True, 0), (False, 3)])
def test_counters_of_the_whole_window_make_up_for_what_a_log_lacks(hides: bool | None, dropped: int) -> None:
    world = World()
    world.sidecar.hides, world.sidecar.dropped = hides, dropped
    world.add_sidecar(Kind.METRICS, "a", hours=48)
    assert world.verdict().verdict is Verdict.SAFE
    world.listener.count(world.listener.relayed, Kind.METRICS, "app_tls", 1)  # the log may have lost that line
    assert world.verdict().verdict is Verdict.NOT_SAFE


def test_evidence_that_ended_long_ago_is_none() -> None:
    verdict = World(ended=NOW - 2 * DAY_S).verdict()
    assert verdict.verdict is Verdict.UNKNOWN
    assert verdict.reasons == ["the evidence ends 2 d ago, at 2027-01-13T08:00:00Z"]


def test_a_clock_that_is_ahead_does_not_move_the_window() -> None:
    world = World()
    world.sidecar.last = NOW + 365 * DAY_S
    world.client(1)
    assert world.verdict().verdict is Verdict.NOT_SAFE


def test_too_many_clients_are_never_safe() -> None:
    world = World()
    world.evidence.overflowed = True
    assert world.verdict().verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("modes", [{"STRICT"}, {NO_MODE}, {"STRICT", NO_MODE}])
def test_strict_already_needs_no_evidence_but_refusals(modes: set[str]) -> None:
    world = World(hours=1)
    world.listener.modes.update(modes)
    assert world.verdict().verdict is Verdict.SAFE
    world.client(0.5, Speaks.REFUSED)
    assert world.verdict().verdict is Verdict.NOT_SAFE


def test_disable_says_why_everything_is_plaintext() -> None:
    world = World()
    world.listener.modes.add("DISABLE")
    world.client(1)
    assert "PERMISSIVE tells them apart" in world.verdict().reasons[1]


class TestMetricsAlone:
    """They say that somebody speaks plaintext and when, and never who."""

    def world(self, *, last_hours_ago: float | None, is_open: int = 0, hours: float = 48) -> World:
        world = World(Kind.METRICS, hours=hours)
        world.listener.count(world.listener.relayed, Kind.METRICS, "plaintext", 7)
        world.listener.open_plaintext = is_open
        world.listener.last_plaintext = 0.0 if last_hours_ago is None else NOW - last_hours_ago * 3600
        return world

    @pytest.mark.parametrize(("hours_ago", "is_open"), [(1, 0), (30, 1), (None, 0)])
    def test_somebody_unnamed(self, hours_ago: float | None, is_open: int) -> None:
        verdict = self.world(last_hours_ago=hours_ago, is_open=is_open).verdict()
        assert verdict.verdict is Verdict.NOT_SAFE
        assert [client.client for client in verdict.clients] == [UNNAMED]
        assert verdict.reasons == ["somebody speaks plaintext"]
        assert "metrics do not say who" in verdict.notes[0]

    def test_who_is_open_is_listed_beside_those_that_are_named(self) -> None:
        world = self.world(last_hours_ago=1, is_open=2)
        world.client(1)
        world.client(0, is_open=True)
        assert [(client.client, client.open) for client in world.verdict().clients] == [(UNNAMED, 1), ("10.0.0.1", 1)]

    def test_open_connections_of_ignored_clients_are_known(self) -> None:
        world = self.world(last_hours_ago=30, is_open=1)
        world.listener.ignored_open = 1
        assert world.verdict().verdict is Verdict.SAFE
        world.listener.open_plaintext = 2
        assert world.verdict().verdict is Verdict.NOT_SAFE

    def test_somebody_before_the_window_has_moved(self) -> None:
        assert self.world(last_hours_ago=30).verdict().verdict is Verdict.SAFE

    def test_whom_the_log_names_is_not_listed_twice(self) -> None:
        world = self.world(last_hours_ago=1)
        world.client(1)
        assert [client.client for client in world.verdict().clients] == ["10.0.0.1"]

    def test_a_time_without_a_name_counts_beside_an_older_name(self) -> None:
        world = self.world(last_hours_ago=1)
        world.client(40)
        assert world.verdict().verdict is Verdict.NOT_SAFE

    @pytest.mark.parametrize(("table", "word"), [("relayed", "app_tls"), ("refused", "PLAINTEXT_REFUSED")])
    def test_what_has_no_time_may_be_now(self, table: str, word: str) -> None:
        world = World(Kind.METRICS)
        world.listener.count(getattr(world.listener, table), Kind.METRICS, word, 3)
        assert world.verdict().verdict is Verdict.NOT_SAFE
        world.add_sidecar(Kind.LOG, "a", hours=48)  # and its log names nobody
        assert world.verdict().verdict is Verdict.SAFE


def test_the_worst_listener_decides() -> None:
    def verdicts(*words: Verdict) -> list[ListenerVerdict]:
        one = World().verdict()
        return [msgspec.structs.replace(one, verdict=word) for word in words]

    assert overall(verdicts(Verdict.SAFE, Verdict.SAFE)) is Verdict.SAFE
    assert overall(verdicts(Verdict.SAFE, Verdict.UNKNOWN)) is Verdict.UNKNOWN
    assert overall(verdicts(Verdict.UNKNOWN, Verdict.NOT_SAFE)) is Verdict.NOT_SAFE
    assert overall([]) is Verdict.UNKNOWN


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8), st.integers(0, 40), st.integers(0, 20))
def test_what_intervals_cover_is_what_a_count_of_seconds_says(
    intervals: list[tuple[int, int]], begin: int, length: int
) -> None:
    ordered = [(min(pair), max(pair)) for pair in intervals]
    seconds = sum(any(first <= at < last for first, last in ordered) for at in range(begin, begin + length))
    assert covered_s([(float(a), float(b)) for a, b in ordered], begin, begin + length) == seconds
