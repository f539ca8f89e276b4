"""
The alarm for a rotation that has silently stopped: an identity near its end, and no newer one was written.

A sidecar that still serves shows nothing else of it until the very end, and then everything stops at once.
"""

from proxy.core.clockwords import rfc3339, span
from proxy.ops.log import Log
from proxy.tls.store import Generation

LATE_SHARE = 0.2  # of its life: an identity with less than this left, and no newer one, is worth an alarm


class ExpiryAlarm:
    """Says it once for each generation."""

    __slots__ = ("_log", "_said_of")

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said_of = 0

    def look(self, generation: Generation | None, now: float) -> None:
        """Look at the identity in force. now: our clock, epoch seconds"""
        if generation is None or generation.number == self._said_of:
            return
        identity = generation.material.identity
        if identity.lapses_at - now < LATE_SHARE * (identity.lapses_at - identity.valid_from):
            self._said_of = generation.number
            left = span(identity.lapses_at - now) if identity.lapses_at > now else "nothing"
            self._log.warning(
                "identity is late",
                spiffe_id=str(identity.spiffe_id),
                lapses_at=rfc3339(identity.lapses_at),
                detail=f"{left} of its life is left and no newer one has been written",
                advice="Look at the issuer: cert-manager, SPIRE or whatever writes identity.cert.",
            )
