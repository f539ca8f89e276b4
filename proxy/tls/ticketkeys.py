"""
The keys that session tickets are sealed with: one for each listener and trust generation, the same in every worker.

A ticket may come back to another worker than the one that gave it out, so the workers of a sidecar must seal with the
same key, without talking to each other. So each derives it from what all of them have: a secret that was drawn when the
sidecar started (the supervisor hands it over with the order to serve; it is in no file, no log and no environment), the
bytes of the identity, and the listener with its policy. A new generation has another key, and so has a new policy.
A generation that returns to bytes that were in force before finds its old tickets valid; the peer behind a ticket is
judged in full whenever one is used, so that this gives nobody anything.
"""

import secrets
from hashlib import sha256
from hmac import digest
from typing import NamedTuple

SECRET_BYTES = 32
_NAME_BYTES = 16


class TicketKey(NamedTuple):
    """name: 16 bytes, in the clear in each ticket, tells keys apart; key: 32 bytes."""

    name: bytes
    key: bytes

    @classmethod
    def random(cls) -> "TicketKey":
        """A key that nobody shares."""
        return derive(new_secret(), b"")


def new_secret() -> bytes:
    """The secret of a sidecar: drawn once, and handed to its workers."""
    return secrets.token_bytes(SECRET_BYTES)


def derive(secret: bytes, *facts: bytes) -> TicketKey:
    """The key for these facts. Source: RFC 5869 2.3, with one block for the name and one for the key."""
    info = sha256(b"".join(len(fact).to_bytes(8, "big") + fact for fact in facts)).digest()
    name = digest(secret, b"mtls-sidecar ticket name" + info + b"\1", "sha256")
    key = digest(secret, b"mtls-sidecar ticket key" + info + b"\1", "sha256")
    return TicketKey(name[:_NAME_BYTES], key)
