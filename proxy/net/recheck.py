"""
Would this connection be let in now? Asked of live connections when a new generation is published, and of a connection
that was still in its handshake meanwhile.

The answer differs from the first judgement in its words only: what was granted is now withdrawn (TRUST_WITHDRAWN,
POLICY_CHANGED) or has run out (CERTIFICATE_LAPSED). Nobody else is touched: ending every connection at each rotation
would make short-lived certificates an outage.
"""

from proxy.core.config import AppTls, Mode
from proxy.core.events import Security
from proxy.core.policy import permit_app_tls, permit_plaintext
from proxy.core.reasons import Reason, Rejected
from proxy.net.route import route_again
from proxy.net.state import Connection
from proxy.tls.interception import PassthroughService
from proxy.tls.store import Generation, InboundService, OutboundService, Service
from proxy.tls.verify import PeerIdentity, Purpose

Verdicts = dict[tuple[Purpose, tuple[bytes, ...]], PeerIdentity | Rejected]


def recheck(connection: Connection, generation: Generation, now: float, verdicts: Verdicts) -> PeerIdentity | None:
    """
    Judge a connection by another generation than its own.

    now:      our clock, epoch seconds
    verdicts: of this generation and this round, so that the many connections of one peer cost one validation
    Returns:  the peer as the new generation sees it (its path may lapse at another time); None when there is none
    Raises:   Rejected(TRUST_WITHDRAWN | CERTIFICATE_LAPSED | POLICY_CHANGED)
    """
    try:
        service = route_again(generation, connection.service.listener, connection.meant)
    except Rejected as rejected:
        raise Rejected(Reason.POLICY_CHANGED, rejected.detail) from None
    if service is None or type(service) is not type(connection.service):
        raise Rejected(Reason.POLICY_CHANGED, _gone(connection, service))
    if isinstance(service, PassthroughService):
        return None
    peer = connection.peer
    if peer is None:
        if isinstance(service, InboundService):
            _recheck_without_peer(connection, service)
        return None
    fresh = _verify(peer, service, generation, now, verdicts)
    try:
        if isinstance(service, InboundService) and service.config.mode is Mode.DISABLE:
            return fresh  # a port that now takes plaintext from anybody still takes a peer that proved itself
        service.policy.authorize(fresh.spiffe_id, service.listener)
    except Rejected as rejected:
        raise Rejected(Reason.POLICY_CHANGED, rejected.detail) from None
    return fresh


def _gone(connection: Connection, service: Service | None) -> str:
    name = connection.service.listener.name
    if service is None or connection.meant is None:
        return f"the listener {name} is gone"
    return f"{connection.meant} is now a matter of {service.listener.name}, and was one of {name}"


def _recheck_without_peer(connection: Connection, service: InboundService) -> None:
    try:
        if connection.security is Security.PLAINTEXT:
            permit_plaintext(service.listener, service.config.mode)
        elif connection.security is Security.APP_TLS:
            if service.config.mode is Mode.STRICT or service.config.app_tls is not AppTls.PASSTHROUGH:
                raise Rejected(Reason.POLICY_CHANGED, f"{service.listener.name} no longer passes the app's own TLS")
            permit_app_tls(service.listener, connection.server_name, service.config.app_tls_server_names)
    except Rejected as rejected:
        raise Rejected(Reason.POLICY_CHANGED, rejected.detail) from None


def _verify(
    peer: PeerIdentity,
    service: InboundService | OutboundService,
    generation: Generation,
    now: float,
    verdicts: Verdicts,
) -> PeerIdentity:
    purpose = Purpose.CLIENT if isinstance(service, InboundService) else Purpose.SERVER
    verdict = verdicts.get((purpose, peer.path))
    if verdict is None:
        try:
            verdict = generation.verifier.verify_der(peer.path, purpose, now)
        except Rejected as rejected:
            lapsed = rejected.reason is Reason.CERTIFICATE_EXPIRED
            verdict = Rejected(Reason.CERTIFICATE_LAPSED if lapsed else Reason.TRUST_WITHDRAWN, rejected.detail)
        verdicts[purpose, peer.path] = verdict
    if isinstance(verdict, Rejected):
        raise Rejected(verdict.reason, verdict.detail)
    return verdict
