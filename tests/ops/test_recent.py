"""The latest refusals and reloads are kept by who and why, within bounds, and never a byte more."""

import msgspec
import pytest

from proxy.core.events import Closed, Direction, Listener, Reloaded, ReloadResult, TlsFacts
from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from proxy.ops.observers import Observers
from proxy.ops.recent import MAX_REFUSALS, MAX_RELOADS, Recent, merge

INBOUND = Listener(Direction.INBOUND, "http")
CRAWLER = "spiffe://example.org/ns/shop/sa/crawler"
REFUSED = Closed(
    listener=INBOUND,
    start_time=1000.0,
    duration_s=0.5,
    downstream_remote_address="10.0.0.7:40000",
    downstream_local_address="10.0.0.1:15006",
    upstream_address=None,
    bytes_received=0,
    bytes_sent=0,
    security=None,
    tls=TlsFacts(peer_spiffe_id=CRAWLER),
    reason=Reason.NOT_ALLOWED,
    detail="not in allow",
)
RELOADED = Reloaded(
    what="identity", result=ReloadResult.PUBLISHED, reason=Reason.RELOADED, detail="spiffe://a", generation=2
)


def kept(*events: object) -> dict[str, list[dict[str, object]]]:
    recent = Recent(lambda: 2000.0)
    observer = Observers(recent)
    for event in events:
        observer.emit(event)  # type: ignore[arg-type]
    return recent.view()


def other(**fields: object) -> Closed:
    return msgspec.structs.replace(REFUSED, **fields)


def test_a_refusal_is_kept_with_who_it_was_and_what_to_do() -> None:
    assert kept(REFUSED)["refusals"] == [
        {
            "time": "1970-01-01T00:16:40.500Z",
            "count": 1,
            "reason": "NOT_ALLOWED",
            "direction": "inbound",
            "listener": "http",
            "who": CRAWLER,
            "downstream_remote_address": "10.0.0.7:40000",
            "detail": "not in allow",
            "advice": EXPLANATIONS[Reason.NOT_ALLOWED].advice,
        }
    ]


def test_who_tries_again_is_one_entry_with_a_count_and_the_last_circumstances() -> None:
    again = other(start_time=2000.0, downstream_remote_address="10.0.0.7:40001")
    (row,) = kept(REFUSED, REFUSED, again)["refusals"]
    assert (row["count"], row["downstream_remote_address"]) == (3, "10.0.0.7:40001")


@pytest.mark.parametrize(
    ("event", "who"),
    [
        (other(tls=None), "10.0.0.7"),
        (other(tls=TlsFacts()), "10.0.0.7"),
        (other(tls=None, downstream_remote_address="[fd00::7]:40000"), "[fd00::7]"),
        (other(tls=None, downstream_remote_address="unix"), "unix"),
        (
            other(tls=None, listener=Listener(Direction.OUTBOUND, "x"), upstream_address="10.0.0.9:15006"),
            "10.0.0.9:15006",
        ),
        (other(tls=None, listener=Listener(Direction.OUTBOUND, "x")), "the upstream"),
    ],
)
def test_a_peer_without_an_identity_is_known_by_its_address(event: Closed, who: str) -> None:
    assert kept(event)["refusals"][0]["who"] == who


@pytest.mark.parametrize("reason", Reason)
def test_what_is_no_refusal_is_not_kept(reason: Reason) -> None:
    is_refusal = EXPLANATIONS[reason].kind is Kind.REJECTED and reason is not Reason.CLIENT_LEFT
    assert bool(kept(other(reason=reason))["refusals"]) == is_refusal


def test_strangers_push_out_the_oldest_and_no_more_is_kept() -> None:
    strangers = [other(tls=None, downstream_remote_address=f"10.0.0.{number}:1") for number in range(60)]
    rows = kept(*strangers)["refusals"]
    assert [row["who"] for row in rows] == [f"10.0.0.{number}" for number in range(59, 59 - MAX_REFUSALS, -1)]


def test_who_comes_again_is_not_the_oldest_any_more() -> None:
    strangers = [other(tls=None, downstream_remote_address=f"10.0.0.{number}:1") for number in range(MAX_REFUSALS)]
    rows = kept(*strangers, strangers[0], REFUSED)["refusals"]
    assert "10.0.0.0" in [row["who"] for row in rows]
    assert "10.0.0.1" not in [row["who"] for row in rows]


def test_reloads_are_kept_but_for_those_that_changed_nothing() -> None:
    unchanged = msgspec.structs.replace(RELOADED, result=ReloadResult.UNCHANGED)
    failed = msgspec.structs.replace(RELOADED, result=ReloadResult.FAILED, reason=Reason.CONFIG_FAULT)
    rows = kept(RELOADED, unchanged, failed)["reloads"]
    assert [(row["result"], row["reason"], row["time"]) for row in rows] == [
        ("failed", "CONFIG_FAULT", "1970-01-01T00:33:20.000Z"),
        ("published", "RELOADED", "1970-01-01T00:33:20.000Z"),
    ]
    assert len(kept(*[RELOADED] * 50)["reloads"]) == MAX_RELOADS


def test_a_long_detail_is_cut() -> None:
    long = "x" * 100_000
    view = kept(other(detail=long), msgspec.structs.replace(RELOADED, detail=long))
    assert all(len(str(row["detail"])) == 400 for rows in view.values() for row in rows)


def test_the_views_of_workers_are_one_the_latest_first() -> None:
    one = kept(REFUSED, RELOADED)
    two = kept(other(start_time=3000.0))
    merged = merge([one, two, {}])
    assert [row["time"] for row in merged["refusals"]] == ["1970-01-01T00:50:00.500Z", "1970-01-01T00:16:40.500Z"]
    assert len(merged["reloads"]) == 1
    assert len(merge([kept(other(start_time=float(n))) for n in range(99)])["refusals"]) == MAX_REFUSALS
