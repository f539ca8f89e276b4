"""
A refused handshake in the words of both sides: what the client offered, found again in the bytes that were peeked.

Only a handshake that failed comes here, so whatever it costs is not on the way of one that succeeds.
"""

from proxy.core.clienthello import ClientHello
from proxy.core.clientoffer import read_offer, read_opening
from proxy.core.mismatch import Ours, explain
from proxy.core.reasons import Reason, Rejected
from proxy.net.detection import Opening
from proxy.tls.keys import key_type_word
from proxy.tls.store import Generation

_MISMATCHES = frozenset({Reason.UNSUPPORTED_TLS_VERSION, Reason.NO_SHARED_CIPHER})


def explained(refusal: Rejected, spoken: ClientHello | Opening, generation: Generation) -> Rejected:
    """The refusal of a client, its detail saying what the two sides lack in common; any other as it is."""
    if refusal.reason not in _MISMATCHES:
        return refusal
    offer = read_opening(spoken.data) if isinstance(spoken, Opening) else read_offer(spoken.body)
    key = key_type_word(generation.material.key.public_key())
    return explain(refusal, offer, Ours(generation.config.tls, key))
