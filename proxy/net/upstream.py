"""
Whether the upstream of an outbound connection has accepted us.

In TLS 1.3 the client is done before the server has judged the client's certificate (RFC 8446 2). Our handshake's end
proves nothing then: only the upstream's first byte, or its session ticket, does. Whatever ends the connection before
that is UPSTREAM_REJECTED_US. In TLS 1.2 the server's Finished comes after its judgement.
"""

from proxy.core.reasons import Reason
from proxy.net.relay import Outcome
from proxy.tls.channel import End
from proxy.tls.handshake import Handshake
from proxy.tls.store import OutboundService


class Upstream:
    """What the upstream of one connection has proven so far. destination: which one it is, of an intercepted route."""

    __slots__ = ("_destination", "_handshake", "_proven", "_service")

    def __init__(self, service: OutboundService, handshake: Handshake, destination: str = "") -> None:
        self._service = service
        self._handshake = handshake
        self._destination = destination
        self._proven = handshake.version == "TLSv1.2"  # where the server's Finished comes after its judgement
        if self._proven:
            service.context.keep_session(handshake, destination)

    def answered(self, received: int) -> bool:
        """Called after each look at the upstream until True. received: application bytes that came from it so far."""
        if not self._proven and (received or self._handshake.ticket_has_come()):
            self._proven = True
            self._service.context.keep_session(self._handshake, self._destination)
        return self._proven

    def judge(self, outcome: Outcome, received: int, *, upstream_first: bool) -> Outcome:
        """
        Tell a refusal from an end.

        received:       application bytes that came from the upstream
        upstream_first: it ended its stream before the app had ended its own
        """
        channel = self._handshake.channel
        if received or channel.end is None:
            return outcome
        if channel.end is End.CLEAN and not upstream_first:
            return outcome
        if channel.end is not End.CLEAN and self._proven:
            hint = "it sent nothing: it may have refused our certificate without a word, or its app is down"
            return Outcome(outcome.reason, f"{outcome.detail}; {hint}")
        if self._handshake.resumed:
            self._service.context.forget_session(self._destination)
        detail = channel.end_detail or "the upstream closed, as some servers do instead of sending an alert"
        return Outcome(Reason.UPSTREAM_REJECTED_US, f"{detail}, before it had sent anything")
