"""What a person reads: aligned, safe for the terminal, nothing left out that the verdict speaks of."""

import msgspec
import pytest

from proxy.cli.probe_document import (
    SCHEMA,
    AddressView,
    ChoiceView,
    Demand,
    HandshakeView,
    IdentityView,
    OursView,
    Outcome,
    ProbeDocument,
    Resumption,
    VerdictView,
    VersionView,
)
from proxy.cli.probe_report import report_of
from proxy.core.reasons import Reason

ACCEPTED = HandshakeView(
    version="1.3",
    with_certificate=True,
    outcome=Outcome.ACCEPTED,
    proof="a session ticket",
    reason=None,
    alert=None,
    detail="accepted, by a session ticket",
    advice="",
    cipher="TLS_AES_256_GCM_SHA384",
    group="X25519MLKEM768",
    alpn="h2",
    certificate_asked=True,
    certificate_sent=True,
    ca_names=["CN=root"],
    tickets=2,
    ticket_lifetime_s=7200,
    warning_alert=None,
    ms=3.5,
)
REFUSED = msgspec.structs.replace(
    ACCEPTED,
    version="1.2",
    outcome=Outcome.REFUSED,
    proof=None,
    reason=Reason.UPSTREAM_REJECTED_US,
    detail="it closed the connection without an alert after it had seen our certificate",
    tickets=0,
)


def version(view: HandshakeView) -> VersionView:
    return VersionView(
        version=view.version,
        spoken=True,
        as_asked=view,
        without_certificate=None,
        client_certificate=Demand.REQUIRED,
        resumption=Resumption.WORKS,
    )


DOCUMENT = ProbeDocument(
    schema=SCHEMA,
    peer="payments:15006",
    server_name="payments",
    our_clock="2026-11-24T12:00:00Z",
    ours=OursView(
        spiffe_id="spiffe://example.org/cart",
        serial="1",
        issuer="CN=root",
        key_type="ecdsa-p256",
        validity="valid from A to B, our clock says C: expires in 1 h",
        reason=None,
        fault=None,
    ),
    lookup_ms=1.5,
    addresses=[
        AddressView(address="10.0.0.1:15006", connected=True, ms=0.5, reason=None, detail="connected"),
        AddressView(
            address="10.0.0.2:15006", connected=False, ms=0.5, reason=Reason.UPSTREAM_REFUSED, detail="refused: nothing"
        ),
    ],
    probed="10.0.0.1:15006",
    speaks_tls=True,
    protocol=None,
    greeting=None,
    versions=[version(ACCEPTED), version(REFUSED)],
    groups=ChoiceView(version="1.3", taken=["X25519"], not_taken=["P-521"], complete=True),
    cipher_suites=ChoiceView(version="1.2", taken=["TLS_A"], not_taken=["TLS_B"], complete=False),
    chain=[],
    chain_order=None,
    pem=[],
    identity=IdentityView(
        spiffe_id="spiffe://example.org/payments",
        verified=True,
        server_ids=[],
        expected=None,
        lapses_at=None,
        reason=None,
        detail="",
        advice="",
    ),
    warnings=["the first warning", "the second"],
    connections=7,
    verdict=VerdictView(good=True, reason=None, sentence="it is well", advice="", next_command="true"),
)


def lines() -> dict[str, str]:
    """The report's lines by their label."""
    return {line[:21].strip(): line[21:] for line in report_of(DOCUMENT).splitlines()}


@pytest.mark.parametrize(
    ("label", "cells"),
    [
        ("with our certificate", ["accepted, by a session ticket", "refused, without an alert"]),
        ("client certificate", ["required", "required"]),
        ("cipher suite", ["TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"]),
        ("ALPN", ["h2", "h2"]),
        ("session tickets", ["yes, for 2 h", "-"]),
        ("resumption", ["works", "works"]),
    ],
)
def test_the_versions_stand_side_by_side(label: str, cells: list[str]) -> None:
    row = lines()[label]
    assert [row[:42].strip(), row[42:].strip()] == cells


def test_lists_say_what_was_not_taken_and_what_is_not_known() -> None:
    assert lines()["takes groups"] == "X25519; not P-521"
    assert lines()["TLS 1.2 suites"] == "TLS_A; could not tell for TLS_B"


def test_a_refusal_without_an_alert_has_its_sentence() -> None:
    assert lines()["TLS 1.2, with"].startswith("it closed the connection without an alert")


def test_each_address_each_warning_and_the_verdict_are_there() -> None:
    report = report_of(DOCUMENT)
    for text in ("10.0.0.1:15006", "10.0.0.2:15006  refused: nothing", "the first warning", "the second"):
        assert text in report
    assert report.splitlines()[-1] == f"{'next':<21}true"
    assert report.splitlines()[-3].split() == ["verdict", "good"]


def test_what_a_peer_chose_cannot_move_the_cursor() -> None:
    evil = "\x1b[2J\nverdict good\u202e"
    verdict = VerdictView(good=False, reason=Reason.NOT_TLS, sentence=evil, advice=evil, next_command=evil)
    shaken = msgspec.structs.replace(ACCEPTED, ca_names=[evil], alpn=evil, cipher=evil, detail=evil)
    document = msgspec.structs.replace(
        DOCUMENT, warnings=[evil], verdict=verdict, versions=[version(shaken)], chain_order=evil
    )
    report = report_of(document)
    assert "\x1b" not in report
    assert "\u202e" not in report
    assert "\nverdict good" not in report


def test_a_line_is_never_wider_than_the_page_but_for_the_command_to_copy() -> None:
    document = msgspec.structs.replace(DOCUMENT, warnings=["word " * 100], pem=["PEM"])
    assert max(map(len, report_of(document).splitlines())) <= 116
