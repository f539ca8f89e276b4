"""
From a checked Material to what a listener needs for its handshakes, whichever engine shakes hands.

A context belongs to one listener and one trust generation, and is never changed after it was made: a failed key load
poisons a live SSL_CTX, and a CA cannot be taken out of one. Whatever is new (certificate, bundle, policy, versions)
makes new contexts aside; the old ones live on in the connections that were made with them.

Tickets follow from that. A server context seals its tickets with a key of its own, derived for this listener and this
generation (tls/ticketkeys.py), so a ticket of one listener, or of an older generation, opens nowhere else, and the
client falls back to a full handshake. Each client context keeps the last session of its one upstream (of each
destination, where it is a route's), together with the identity that was verified in full when it began; a session whose
chain has lapsed is not offered again.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.core.policy import Permit
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import SpiffeId
from proxy.core.svid import LeafFacts
from proxy.tls.channel import End
from proxy.tls.handshake import Handshake, Step
from proxy.tls.verify import PeerIdentity, Purpose, Verifier

Clock = Callable[[], float]
Admit = Callable[[SpiffeId], Permit | None]

_KEPT_SESSIONS = 256  # destinations of one route whose last session is kept; the one that was quiet longest goes first


class PeerContext(ABC):
    """
    What server and client contexts share: the judge of the peer.

    admit: the policy; takes a verified identity, raises Rejected to refuse it, and gives a server its Permit
    clock: our clock, epoch seconds
    """

    purpose: Purpose

    def __init__(self, verifier: Verifier, admit: Admit, clock: Clock) -> None:
        self.admit = admit
        self.clock = clock
        self.verifier = verifier

    def verify(self, chain: list[Any]) -> PeerIdentity:
        """Judge a presented chain now. Raises: Rejected."""
        return self.verifier.verify(chain, self.purpose, self.clock())

    def leaf_facts(self, chain: list[Any]) -> LeafFacts | None:
        """What the presented leaf claims, for the log; None when it names nobody."""
        return self.verifier.leaf_facts(chain[0]) if chain else None


class ServerContext(PeerContext):
    """For the inbound side of one listener. What an engine adds: `accept`."""

    purpose = Purpose.CLIENT

    @abstractmethod
    def accept(self, sock: socket.SocketType) -> Handshake:
        """Begin a server's handshake on a connected, non-blocking socket."""


class _Kept(NamedTuple):
    session: Any  # the engine's
    peer: PeerIdentity
    handshake: Handshake  # that it came from


class ClientContext(PeerContext):
    """
    For one upstream, or for the many destinations of a route: a session is offered to the one that it came from.

    resume: whether to keep and offer sessions. What an engine adds: `_begin`
    """

    purpose = Purpose.SERVER

    def __init__(self, verifier: Verifier, admit: Admit, clock: Clock, *, resume: bool) -> None:
        super().__init__(verifier, admit, clock)
        self._resume = resume
        self._sessions: dict[str, _Kept] = {}

    def connect(self, sock: socket.SocketType, destination: str = "") -> Handshake:
        """
        Begin a client's handshake on a connected, non-blocking socket, offering the session that we keep.

        destination: tells those of a route apart; empty for the one upstream
        """
        kept = self._sessions.get(destination)
        # An upstream that rotated would still resume the old session, and we would then refuse its old leaf. And what
        # ended in an error is not to be resumed (RFC 5246 7.2.2).
        if kept is not None and (
            not kept.peer.valid_from <= self.clock() < kept.peer.lapses_at
            or kept.handshake.channel.end in (End.ALERT, End.PROTOCOL)
        ):
            kept = None
            del self._sessions[destination]
        return self._begin(sock, kept.session if kept is not None else None)

    @abstractmethod
    def _begin(self, sock: socket.SocketType, session: Any | None) -> Handshake: ...

    def keep_session(self, handshake: Handshake, destination: str = "") -> None:
        """Keep the session of a connection whose upstream has proven that it accepts us."""
        if self._resume and handshake.peer is not None:
            session = handshake.session()
            if session is not None:
                self._sessions.pop(destination, None)  # at the end again: the order is that of the last use
                self._sessions[destination] = _Kept(session, handshake.peer, handshake)
                if len(self._sessions) > _KEPT_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]

    def forget_session(self, destination: str = "") -> None:
        """Offer no session again until a full handshake made a new one: the upstream did not like the last."""
        self._sessions.pop(destination, None)


def shake_hands(*ends: Handshake) -> None:
    """Drive both ends of a handshake with oneself. Raises: Rejected."""
    for _ in range(8):  # a handshake takes four flights at the most
        if [end.step() for end in ends] == [Step.DONE, Step.DONE]:
            return
    raise Rejected(Reason.HANDSHAKE_FAILED, "neither side came to an end")
