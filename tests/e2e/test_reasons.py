"""
Every Reason of the contract, produced end to end by a running sidecar: one scene each (refusals.py, endings.py).

Whatever the Reason is, the same holds: one line in the log with the reason, a detail and, for a refusal, an advice; the
metric has moved by exactly one; a peer whose certificate was seen is named; and the client saw what it should.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest

from proxy.core.reasons import EXPLANATIONS, Kind, Reason
from tests.e2e import endings, refusals
from tests.e2e.apps import App, Serve
from tests.e2e.pki import Pki
from tests.e2e.sidecar import Line, Sidecar
from tests.e2e.stage import SCENES, Stage
from tests.e2e.waiting import until

assert endings
assert refusals  # their import fills SCENES


@pytest.fixture
def stage(pki: Pki, start_sidecar: Callable[..., Sidecar], start_app: Callable[[Serve], App]) -> Stage:
    return Stage(pki, start_sidecar, start_app)


def test_every_reason_of_a_connection_has_its_scene() -> None:
    of_connections = {reason for reason, word in EXPLANATIONS.items() if word.kind is not Kind.RELOAD}
    assert set(SCENES) == of_connections


def every_line(sidecar: Sidecar) -> Iterator[Line]:
    """The lines of connections as they come; the next one has to come in time."""
    return (sidecar.closed(count)[-1] for count in itertools.count(1))


@pytest.mark.parametrize("reason", SCENES)
def test_a_reason_is_logged_counted_explained_and_felt(stage: Stage, reason: Reason) -> None:
    shown = SCENES[reason](stage)
    sidecar, kind = shown.sidecar, EXPLANATIONS[reason].kind

    line = next(line for line in every_line(sidecar) if line["reason"] == reason)
    assert (shown.saw, [words for words in shown.in_detail if words not in line["detail"]]) == (shown.expected, []), (
        line
    )
    assert line["listener"] == shown.listener
    assert bool(line["detail"]) is (reason is not Reason.COMPLETED)
    assert line.get("advice") == (EXPLANATIONS[reason].advice if kind is Kind.REJECTED else None)
    assert (line["tls"] or {}).get("peer_spiffe_id") == shown.peer
    if shown.peer is not None:
        assert line["tls"]["peer_serial"]
        assert line["tls"]["peer_not_after"]

    labels = {"listener": shown.listener, "reason": str(reason)}
    until(lambda: sidecar.metric("closed_total", **labels) == 1, "it is counted once as closed")
    assert sidecar.metric("rejected_total", **labels) == (1 if kind is Kind.REJECTED else 0)
