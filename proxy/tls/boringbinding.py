"""
BoringSSL itself, as the distribution mtls-sidecar-boringssl carries it: the one file that imports it.

Its interface is ours (engine/src/interface.h): a call does as much of a handshake or a transfer as it can, and none
calls back into Python. Here are its typed words for Python, and certificates as a Verifier wants them; with this engine
a certificate is simply its DER, `bytes`.

Importing this file raises ImportError where the distribution is not installed.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import mtls_sidecar_boringssl as distribution  # that of engine/

lib: Any = distribution.lib
ffi: Any = distribution.ffi

DONE: int = lib.BS_DONE
WANT_READ: int = lib.BS_WANT_READ
WANT_WRITE: int = lib.BS_WANT_WRITE
JUDGE_CHAIN: int = lib.BS_JUDGE_CHAIN
JUDGE_TICKET: int = lib.BS_JUDGE_TICKET
CLOSED: int = lib.BS_CLOSED
CUT: int = lib.BS_CUT
RESET: int = lib.BS_RESET
FAILED: int = lib.BS_FAILED

YES: int = lib.BS_YES
NO_TICKET: int = lib.BS_NO_TICKET
NEVER: int = lib.BS_NEVER

bs_handshake: Callable[[Any], int] = lib.bs_handshake
bs_read: Callable[[Any, Any, int], int] = lib.bs_read
bs_write: Callable[[Any, Any, int], int] = lib.bs_write
bs_decide: Callable[[Any, int], None] = lib.bs_decide

NOBODY: Any = ffi.new("bs_connection *")  # what a closed connection points to: every call finds nothing there


def boringssl_version() -> str:
    """Which BoringSSL this is, e.g. "BoringSSL API 42 (grpcio 1.85.3)": it numbers its interface, not itself."""
    return str(distribution.VERSION)


def text_of(pointer: Any) -> str | None:
    """A C string as text; None for NULL."""
    return None if pointer == ffi.NULL else ffi.string(pointer).decode("ascii", "replace")


def last_words() -> str:
    """Why the last setter of a context answered no."""
    return text_of(lib.bs_last_words()) or ""


def presented_chain(connection: Any) -> list[bytes]:
    """Leaf first: the certificates that the peer presents now, or that it presented when its session began."""
    der = ffi.new("uint8_t **")
    chain = []
    for at in range(lib.bs_certificates(connection)):
        length = lib.bs_certificate(connection, at, der)
        chain.append(bytes(ffi.buffer(der[0], length)))
    return chain


_digest = ffi.new("uint8_t[32]")  # filled and copied within one call; calls into BoringSSL come from one thread
_digest_bytes = ffi.buffer(_digest)


def chain_digest(connection: Any) -> bytes:
    """SHA-256 over the SHA-256 of each certificate of `presented_chain`: what a Verifier knows a chain by."""
    lib.bs_chain_digest(connection, _digest)
    return bytes(_digest_bytes)


_alpn = ffi.new("uint8_t **")  # filled and read within one call


def alpn_of(connection: Any) -> str | None:
    """The application protocol that was selected; None when none was."""
    length = lib.bs_alpn(connection, _alpn)
    return bytes(ffi.buffer(_alpn[0], length)).decode("ascii", "replace") if length else None


def session_of(connection: Any) -> Any | None:
    """The session to resume later, owned by the caller; None when there is none yet."""
    session = lib.bs_session(connection)
    return None if session == ffi.NULL else ffi.gc(session, lib.bs_session_free)


class Blobs:
    """Byte strings as C wants many of them: an array of pointers and one of lengths."""

    __slots__ = ("_kept", "count", "lengths", "pointers")

    def __init__(self, blobs: list[bytes]) -> None:
        self._kept = [ffi.from_buffer("uint8_t[]", blob) for blob in blobs]
        self.count = len(blobs)
        self.pointers = ffi.new("uint8_t *[]", self._kept)
        self.lengths = ffi.new("size_t[]", [len(blob) for blob in blobs])


# Certificates, for tls/verify.py.


def x509_of(der: bytes) -> bytes:
    """A certificate, which is its DER. Raises: ValueError when BoringSSL cannot read it."""
    if not lib.bs_parses(der, len(der)):
        raise ValueError("BoringSSL cannot read this certificate")
    return der


def digest_of(certificate: bytes) -> bytes:
    """SHA-256 over its DER."""
    return sha256(certificate).digest()


def der_of(certificate: bytes) -> bytes:
    """Its DER, which is what it is."""
    return certificate


class TrustStore:
    """Anchors for one purpose; `anchors` in the order in which BoringSSL counts them."""

    __slots__ = ("anchors", "pointer")

    def __init__(self, ders: list[bytes], purpose: int) -> None:
        self.anchors = ders
        self.pointer = ffi.gc(lib.bs_store_new(purpose), lib.bs_store_free)
        for number, der in enumerate(ders, 1):
            if not lib.bs_store_add(self.pointer, der, len(der)):
                raise ValueError(f"BoringSSL cannot read certificate {number} of it; `tls.engine: openssl` may")


def trust_store(ders: list[bytes], purpose: int) -> TrustStore:
    """A store of anchors for one purpose (Purpose's values)."""
    return TrustStore(ders, purpose)


def verify_path(store: TrustStore, chain: list[bytes]) -> tuple[list[bytes], int, int]:
    """
    RFC 5280 path validation of chain[0] to an anchor in `store`, the rest of `chain` untrusted, time not looked at.

    Returns: (the path found, leaf first; X509_V_ERR, 0 for good; the depth at which it failed)
    """
    blobs = Blobs(chain)
    places, length, depth = ffi.new("int[]", lib.BS_MAX_PATH), ffi.new("int *"), ffi.new("int *")
    error = lib.bs_verify(store.pointer, blobs.pointers, blobs.lengths, blobs.count, places, length, depth)
    path = [chain[place] if place >= 0 else store.anchors[-1 - place] for place in places[0 : length[0]]]
    return path, error, depth[0]


def path_error_text(error: int) -> str:
    """BoringSSL's words for an X509_V_ERR."""
    return text_of(lib.bs_verify_words(error)) or f"error {error}"
