"""
Verdicts on chains that were judged before: a client that comes again is not verified again.

Path validation is pure: the certificates presented and the bundles decide it, and neither the clock nor the policy has
a part in it. So its good end may be kept under the SHA-256 of every certificate presented, in order, for as long as
the bundles stand: a cache belongs to one Verifier, and a Verifier to one trust generation. What may change from one
connection to the next is judged at each: the validity instants of the path by `Verifier.verify`, the policy by the
handshake, and that the peer holds the leaf's private key is proven by the handshake itself.

Refusals are never kept. A stranger chooses what he presents, and could fill the cache with his own; a good verdict
needs a chain that one of our authorities signed. The attacks that were considered: docs/decisions/0006-verdict-cache.md
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.tls.verify import PeerIdentity, Purpose

MAX_VERDICTS = 1024  # chains; a sidecar has a few dozen peers, and each entry shares its bytes with `Verifier._facts`

Key = tuple["Purpose", bytes]  # what the peer acts as, and SHA-256 over the SHA-256 of each certificate, in order


class VerdictCache:
    """Good verdicts of one trust generation; the one that was used longest ago makes room for a new one."""

    __slots__ = ("_limit", "_verdicts")

    def __init__(self, limit: int = MAX_VERDICTS) -> None:
        self._limit = limit
        self._verdicts: dict[Key, PeerIdentity] = {}

    def find(self, key: Key) -> "PeerIdentity | None":
        """The identity that this chain proved; its time is the caller's to check."""
        peer = self._verdicts.pop(key, None)
        if peer is not None:
            self._verdicts[key] = peer  # at the end again: the order is that of the last use
        return peer

    def keep(self, key: Key, peer: "PeerIdentity") -> None:
        """Remember a good verdict."""
        if self._limit <= 0:
            return
        self._verdicts.pop(key, None)
        if len(self._verdicts) >= self._limit:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[key] = peer

    def __len__(self) -> int:
        return len(self._verdicts)
