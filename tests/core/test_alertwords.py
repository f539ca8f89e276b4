"""Every alert has its meaning for an operator, and the Reasons of an mtls-sidecar are where an operator looks."""

import pytest

from proxy.core.alertwords import alert_words
from proxy.core.reasons import Reason
from proxy.tls.channel import ALERTS

KNOWN = sorted(ALERTS.keys() - {0})  # close_notify is an end and no complaint


@pytest.mark.parametrize("alert", KNOWN, ids=lambda alert: ALERTS[alert])
def test_an_alert_has_a_meaning_of_its_own_and_an_advice(alert: int) -> None:
    words = alert_words(alert)
    assert words.meaning != alert_words(255).meaning
    assert words.advice.endswith(".")
    assert not words.meaning.endswith(".")


@pytest.mark.parametrize("alert", range(256))
def test_every_number_has_an_answer(alert: int) -> None:
    assert alert_words(alert).advice


@pytest.mark.parametrize(
    ("reason", "alerts"),
    [
        (Reason.NO_CLIENT_CERTIFICATE, {40, 116}),
        (Reason.UNKNOWN_AUTHORITY, {48}),
        (Reason.WRONG_TRUST_DOMAIN, {48}),
        (Reason.CERTIFICATE_EXPIRED, {45}),
        (Reason.CERTIFICATE_NOT_YET_VALID, {45}),
        (Reason.CERTIFICATE_INVALID, {42}),
        (Reason.SPIFFE_ID_MALFORMED, {42}),
        (Reason.NOT_AN_SVID, {43}),
        (Reason.NOT_ALLOWED, {46, 49}),
        (Reason.DENIED, {46, 49}),
        (Reason.UNSUPPORTED_TLS_VERSION, {70}),
        (Reason.NO_SHARED_CIPHER, {40}),
    ],
)
def test_the_alerts_of_a_sidecar_lead_back_to_its_reasons(reason: Reason, alerts: set[int]) -> None:
    """The table of docs/decisions/0003-alerts.md, read the other way round."""
    assert {alert for alert in KNOWN if reason in alert_words(alert).sidecar} == alerts
