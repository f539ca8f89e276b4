"""
The judgement of `probe`: from what was seen to who the peer is, what is odd, one verdict and what to type next.

The chain is judged by the validator of the data path, and the verdict is what an outbound sidecar would meet: it goes
by the best version that the peer speaks, since that is the one that the two would negotiate. Nothing that was not
asked for counts as good: without a bundle nobody is known, and without --server-id anybody could answer.
"""

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from proxy.cli.probe_document import (
    SCHEMA,
    Demand,
    HandshakeView,
    IdentityView,
    Outcome,
    ProbeDocument,
    VerdictView,
    VersionView,
)
from proxy.cli.probe_settings import Settings
from proxy.cli.probe_steps import Findings
from proxy.core.clockwords import rfc3339
from proxy.core.config import TcpAddress
from proxy.core.reasons import EXPLANATIONS, Reason, Rejected
from proxy.core.svid import load_certificate
from proxy.tls.pemview import FileView, view_files
from proxy.tls.probing import judge_server

_MAX_NAMES = 3
_EXPIRED, _UNKNOWN_CA = "certificate_expired", "unknown_ca"
_BROKEN_CERTIFICATE = ("bad_certificate", "unsupported_certificate", _UNKNOWN_CA)

_ASK_THE_PEER = (
    "curl http://127.0.0.1:15000/recent   # on the peer's machine, if it is an mtls-sidecar: whom it refused"
)
_UNREACHABLE_ADVICE = {
    Reason.UPSTREAM_UNRESOLVED: "Check the spelling and the namespace in the name, then DNS on this machine.",
    Reason.UPSTREAM_REFUSED: "Is the peer listening on this very address? For a Service, does it have ready endpoints?",
    Reason.UPSTREAM_TIMEOUT: "Look for a NetworkPolicy or firewall that drops packets, or a host that is down.",
}


class _Problem(NamedTuple):
    reason: Reason
    sentence: str
    advice: str
    next_command: str


def document_of(settings: Settings, findings: Findings, now: float, *, verbose: bool) -> ProbeDocument:
    """Judge what was found. now: our clock, epoch seconds; verbose: whether the PEM of the chain is to be in it."""
    pems = [_pem(der) for der in findings.chain]
    shown = _view_chain(pems, now)
    identity = _identify(settings, findings, shown, now) if findings.chain else None
    greeting = findings.greeting
    return ProbeDocument(
        schema=SCHEMA,
        peer=str(settings.wish.upstream),
        server_name=settings.wish.server_name,
        our_clock=rfc3339(now),
        ours=settings.ours,
        lookup_ms=findings.lookup_ms,
        addresses=findings.addresses,
        probed=findings.probed,
        speaks_tls=findings.speaks_tls,
        protocol=greeting.protocol if greeting else None,
        greeting=greeting.quotation if greeting else None,
        versions=findings.versions,
        groups=findings.groups,
        cipher_suites=findings.cipher_suites,
        chain=shown.certificates if shown else [],
        chain_order=shown.chain if shown else None,
        pem=pems if verbose else [],
        identity=identity,
        warnings=list(_warnings(settings, findings, shown)),
        connections=findings.connections,
        verdict=_verdict(settings, findings, identity),
    )


def _pem(der: bytes) -> str:
    try:
        return load_certificate(der).public_bytes(Encoding.PEM).decode("ascii")
    except Rejected:
        return ""  # what OpenSSL takes and the stricter parser does not; the judge says so


def _view_chain(pems: list[str], now: float) -> FileView | None:
    data = "".join(pems).encode("ascii")
    return view_files({"the chain": data}, datetime.fromtimestamp(now, UTC))[0] if data else None


def _identify(settings: Settings, findings: Findings, shown: FileView | None, now: float) -> IdentityView:
    leaf = shown.certificates[0] if shown and shown.certificates else None
    claimed = leaf.spiffe_id if leaf else None
    server_ids = [str(pattern) for pattern in settings.server_ids]
    try:
        peer = judge_server(settings.verifier, findings.chain, now)
    except Rejected as rejected:
        detail, advice = rejected.detail, EXPLANATIONS[rejected.reason].advice
        if rejected.reason is Reason.NOT_AN_SVID and claimed is None and leaf is not None:
            names = ", ".join(leaf.dns_names[:_MAX_NAMES] + leaf.ip_addresses[:_MAX_NAMES]) or "no name at all"
            detail += f"; it is an ordinary web certificate, for {names}"
            advice = (
                "A sidecar knows peers by SPIFFE ID alone. If this is the right port, give the server an SVID or a "
                "sidecar of its own."
            )
        if rejected.reason is Reason.WRONG_TRUST_DOMAIN and not settings.bundles:
            detail = f"it says that it is {claimed}, and there is no trust bundle to judge that by"
            advice = "Give the roots of its trust domain: --bundle TRUSTDOMAIN=FILE, or --config FILE of a sidecar."
        return IdentityView(
            spiffe_id=claimed,
            verified=False,
            server_ids=server_ids,
            expected=None,
            lapses_at=None,
            reason=rejected.reason,
            detail=detail,
            advice=advice,
        )
    expected = any(pattern.matches(peer.spiffe_id) for pattern in settings.server_ids) if server_ids else None
    reason, advice = (None, "") if expected else (Reason.SERVER_ID_MISMATCH, _mismatch_advice(server_ids))
    if expected is None:
        detail = f"it is {peer.spiffe_id}, verified; nobody said who it should be"
    else:
        detail = f"it is {peer.spiffe_id}" + ("" if expected else f", expected was {', '.join(server_ids)}")
    return IdentityView(
        spiffe_id=str(peer.spiffe_id),
        verified=True,
        server_ids=server_ids,
        expected=expected,
        lapses_at=rfc3339(peer.lapses_at),
        reason=reason,
        detail=detail,
        advice=advice,
    )


def _mismatch_advice(server_ids: list[str]) -> str:
    if server_ids:
        return EXPLANATIONS[Reason.SERVER_ID_MISMATCH].advice
    return "Say who it should be, or anybody with a certificate of that domain could answer: --server-id PATTERN."


def _warnings(settings: Settings, findings: Findings, shown: FileView | None) -> Iterator[str]:
    yield from settings.warnings
    ours = settings.ours
    if ours is not None and ours.fault is not None:
        yield f"our own certificate would be refused by our own bundle: {ours.reason}: {ours.fault}"
    silent = [one for one in findings.addresses if not one.connected]
    if findings.probed and silent:
        yield f"only {findings.probed} was probed; " + "; ".join(f"{one.address}: {one.detail}" for one in silent)
    best = _best(findings)
    if best is not None:
        yield from _client_certificate_warnings(settings, best)
        yield from _version_warnings(findings, best)
    if shown is not None:
        yield from (f"the chain as it was sent: {fault.detail}" for fault in shown.faults)


def _client_certificate_warnings(settings: Settings, best: VersionView) -> Iterator[str]:
    if best.client_certificate is Demand.NOT_ASKED:
        yield "it asks for no client certificate: this is TLS, not mutual TLS, and whoever reaches it may speak to it"
    elif best.client_certificate is Demand.OPTIONAL:
        yield (
            "it asks for a client certificate and lets TLS finish without one: some servers refuse later, in their own "
            "protocol (nginx: HTTP 400), others let everybody in; TLS does not show which"
        )
    view, ours = best.as_asked, settings.ours
    if ours is None or settings.wish.svid is None:
        return
    if view.certificate_asked and not view.certificate_sent:
        yield (
            f"our certificate was asked for and not sent: the peer takes no signature of our key, {ours.key_type}; "
            "ecdsa-p256 is taken nearly everywhere"
        )
    issuers = {certificate.issuer.rfc4514_string() for certificate in settings.wish.svid.chain}
    if view.ca_names and not issuers & set(view.ca_names):
        yield f"ours was issued by {ours.issuer}, which is not among the CAs that it asks for"


def _version_warnings(findings: Findings, best: VersionView) -> Iterator[str]:
    for version in findings.versions:
        outcome = version.as_asked.outcome
        if version.spoken and outcome is not best.as_asked.outcome:
            yield f"TLS {version.version} differs from TLS {best.version}: {outcome}, {version.as_asked.detail}"
        if version.as_asked.warning_alert is not None:
            yield f"it warned with the alert {version.as_asked.warning_alert} in TLS {version.version} and went on"


def _best(findings: Findings) -> VersionView | None:
    """The version that the two would negotiate."""
    return next((version for version in findings.versions if version.spoken), None)


def _verdict(settings: Settings, findings: Findings, identity: IdentityView | None) -> VerdictView:
    problems = list(_problems(settings, findings, identity))
    if problems:
        first = problems[0]
        return VerdictView(
            good=False,
            reason=first.reason,
            sentence="; ".join(problem.sentence for problem in problems),
            advice=first.advice,
            next_command=first.next_command,
        )
    assert identity is not None
    versions = [version.version for version in findings.versions if version.as_asked.outcome is Outcome.ACCEPTED]
    accepted = "accepts us" if settings.ours else "speaks to us without a client certificate"
    return VerdictView(
        good=True,
        reason=None,
        sentence=f"it is {identity.spiffe_id}, as it should be, and {accepted} in TLS {' and '.join(versions)}",
        advice="",
        next_command=_talk(settings),
    )


def _problems(settings: Settings, findings: Findings, identity: IdentityView | None) -> Iterator[_Problem]:
    if findings.refusal is not None:
        yield _unreachable(settings, findings.refusal)
        return
    best = _best(findings)
    if best is None:
        yield _not_spoken(settings, findings)
        return
    if identity is not None and identity.reason is not None:
        yield _stranger(settings, identity)
    view = best.as_asked
    if view.outcome is not Outcome.ACCEPTED:
        yield _refusal(settings, view)
    elif settings.wish.alpn and view.alpn is None:
        offered = ", ".join(settings.wish.alpn)
        advice = (
            "What is behind it may still speak the protocol; clients that insist on ALPN (gRPC) will not. Set `alpn`."
        )
        yield _Problem(
            Reason.HANDSHAKE_FAILED, f"it selected none of our ALPN names ({offered})", advice, settings.again
        )
    if identity is None:
        yield _Problem(
            Reason.HANDSHAKE_FAILED, "it showed no certificate", "Look at its configuration.", settings.again
        )


def _unreachable(settings: Settings, refusal: Rejected) -> _Problem:
    upstream, advice = settings.wish.upstream, _UNREACHABLE_ADVICE.get(refusal.reason, "")
    command = settings.again
    if not isinstance(upstream, TcpAddress):
        command = shlex.join(["ls", "-l", upstream.path])
    elif refusal.reason is Reason.UPSTREAM_UNRESOLVED:
        command = shlex.join(["getent", "ahosts", upstream.host])
    elif refusal.reason is Reason.UPSTREAM_REFUSED:
        command = f"ss -ltnp 'sport = :{upstream.port}'   # on the peer's machine: who listens there?"
    return _Problem(refusal.reason, f"{upstream} cannot be reached: {refusal.detail}", advice, command)


def _not_spoken(settings: Settings, findings: Findings) -> _Problem:
    views = [version.as_asked for version in findings.versions]
    telling = [view for view in views if view.outcome is not Outcome.NOT_SPOKEN]
    if not telling:
        tried = ", ".join(view.version for view in views)
        sentence = f"it speaks TLS, but neither of ours: {tried} tried"
        return _Problem(Reason.UNSUPPORTED_TLS_VERSION, sentence, views[0].advice, settings.again)
    view = telling[0]
    reason = view.reason or Reason.HANDSHAKE_FAILED
    return _Problem(reason, view.detail, view.advice, _look_at_plaintext(settings, findings))


def _look_at_plaintext(settings: Settings, findings: Findings) -> str:
    upstream = settings.wish.upstream
    if not isinstance(upstream, TcpAddress) or findings.speaks_tls:
        return settings.again
    if findings.greeting is not None and (findings.greeting.protocol or "").startswith("HTTP"):
        return f"curl --verbose http://{upstream}/"
    return f"ss -ltnp 'sport = :{upstream.port}'   # on the peer's machine: what listens there?"


def _stranger(settings: Settings, identity: IdentityView) -> _Problem:
    assert identity.reason is not None
    domain = (identity.spiffe_id or "").removeprefix("spiffe://").partition("/")[0]
    command = f"{settings.again} --verbose"
    match identity.reason:
        case Reason.WRONG_TRUST_DOMAIN if settings.config is None:
            command = f"{settings.again} --bundle {domain}={domain}.crt"
        case Reason.WRONG_TRUST_DOMAIN:
            command = f"$EDITOR {settings.config}   # identity.bundles: {domain}: PATH"
        case Reason.UNKNOWN_AUTHORITY if domain in settings.bundles:
            command = shlex.join(["mtls-sidecar", "certs", "show", settings.bundles[domain]])
        case Reason.CERTIFICATE_EXPIRED | Reason.CERTIFICATE_NOT_YET_VALID:
            command = "date -u; mtls-sidecar certs check-expiration FILE   # on the peer's machine"
        case Reason.SERVER_ID_MISMATCH if not identity.server_ids:
            command = f"{settings.again} --server-id {identity.spiffe_id}"
    return _Problem(identity.reason, identity.detail, identity.advice, command)


def _refusal(settings: Settings, view: HandshakeView) -> _Problem:
    reason, ours = view.reason or Reason.HANDSHAKE_FAILED, settings.ours
    if ours is None:
        if view.certificate_asked and view.outcome is Outcome.REFUSED:
            return _Problem(
                reason,
                f"it demands a client certificate, and none was given ({view.alert or view.detail})",
                "Present an SVID that it lets in.",
                f"{settings.again} --cert tls.crt --key tls.key",
            )
        return _Problem(reason, view.detail, view.advice, settings.again)
    us, sentence = ours.spiffe_id or "a certificate without a SPIFFE ID", view.detail
    if view.outcome is Outcome.REFUSED:
        sentence = f"it {'refuses' if view.alert else 'does not serve'} us, {us}: {view.detail}"
    if view.alert == _EXPIRED:
        sentence += f"; ours is {ours.validity}"
    elif view.alert == _UNKNOWN_CA:
        sentence += f"; ours was issued by {ours.issuer}"
    return _Problem(reason, sentence, view.advice, _after_refusal(settings, view))


def _after_refusal(settings: Settings, view: HandshakeView) -> str:
    if view.alert in _BROKEN_CERTIFICATE and settings.cert:
        return shlex.join(["mtls-sidecar", "certs", "show", settings.cert])
    if view.alert == _EXPIRED and settings.cert:
        return "date -u; " + shlex.join(["mtls-sidecar", "certs", "check-expiration", settings.cert])
    return _ASK_THE_PEER if view.outcome is Outcome.REFUSED else settings.again


def _talk(settings: Settings) -> str:
    if settings.config is not None:
        return shlex.join(["mtls-sidecar", "run", "--config", settings.config])
    upstream = settings.wish.upstream
    words = ["openssl", "s_client", "-quiet"]
    words += ["-connect", str(upstream)] if isinstance(upstream, TcpAddress) else ["-unix", upstream.path]
    anchors = next(iter(settings.bundles.values()), None)
    for option, file in (("-cert", settings.cert), ("-key", settings.key), ("-CAfile", anchors)):
        words += [option, file] if file else []
    return shlex.join(words)
