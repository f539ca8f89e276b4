"""Failures are remembered with their age until something goes well."""

from proxy.core.reasons import EXPLANATIONS, Reason, Rejected
from proxy.ops.failures import CONFIGURATION, IDENTITY, Failures


def test_a_failure_keeps_its_age_while_its_reason_stays() -> None:
    times = iter([10.0, 20.0])
    failures = Failures(lambda: next(times))
    assert failures.remember(IDENTITY, Rejected(Reason.FILE_MISSING, "no tls.crt"))
    assert not failures.remember(IDENTITY, Rejected(Reason.FILE_MISSING, "no tls.key"))
    first = failures.get(IDENTITY)
    assert first is not None
    assert (first.since, first.detail) == (10.0, "no tls.key")
    assert failures.remember(IDENTITY, Rejected(Reason.KEY_MISMATCH, "another key"))
    second = failures.get(IDENTITY)
    assert second is not None
    assert second.since == 20.0


def test_each_is_forgotten_alone() -> None:
    failures = Failures(lambda: 1.0)
    for what in (IDENTITY, CONFIGURATION):
        failures.remember(what, Rejected(Reason.CONFIG_FAULT, what))
    failures.forget(IDENTITY)
    assert failures
    assert failures.get(IDENTITY) is None
    failures.forget(CONFIGURATION)
    assert not failures


def test_it_is_shown_with_advice() -> None:
    failures = Failures(lambda: 1.0)
    failures.remember(CONFIGURATION, Rejected(Reason.CONFIG_FAULT, "line 3"))
    advice = EXPLANATIONS[Reason.CONFIG_FAULT].advice
    shown = {"reason": Reason.CONFIG_FAULT, "detail": "line 3", "advice": advice, "since": "1970-01-01T00:00:01.000Z"}
    assert failures.describe() == {"configuration_failure": shown}
