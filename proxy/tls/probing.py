"""
One client's handshake for `probe`, without a socket: bytes from the peer in, bytes for it out, and what was seen.

This is the one place that may finish a handshake with a peer that it does not trust: whoever asks what is wrong with a
certificate has to be shown it. OpenSSL's verify callback therefore lets everybody in here, and nothing more follows
from it. The chain is judged afterwards by the one validator (tls/verify.py), and an Attempt has no way to send
application data: the peer gets a handshake, at the most a close_notify, and the end.

OpenSSL works on memory and not on the descriptor, for two things that only whoever holds the bytes can do: to show the
first bytes of an answer that is not TLS, and to leave in mid-handshake, unjudged, when all that was asked is what the
server chooses (`Extent.SERVER_FLIGHT`).

OpenSSL hands each message to the message callback before it looks at it, so the lengths in it are not to be believed.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from proxy.core.config import CIPHER_SUITES, GROUPS
from proxy.core.reasons import Reason, Rejected
from proxy.tls import binding
from proxy.tls.keys import PrivateKey
from proxy.tls.suites import OPENSSL_SUITES
from proxy.tls.verify import PeerIdentity, Purpose, Verifier

MAX_RECEIVED_BYTES = 1 << 18  # a whole handshake with the longest chain that OpenSSL takes has less
FIRST_BYTES = 256  # kept of what came first, in case it is not TLS

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_IANA_NAMES = {openssl: iana for iana, openssl in OPENSSL_SUITES.items()}
_GROUP_NAMES = {"secp256r1": "P-256", "prime256v1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_GROUP_NAMES |= {"x25519": "X25519", "x448": "X448"}
_MAX_CA_NAMES = 64
_READ_BYTES = 16384

_ALERT, _HANDSHAKE = 21, 22  # ContentType, RFC 8446 5.1
_SERVER_HELLO, _TICKET, _CERTIFICATE, _CERTIFICATE_REQUEST, _SERVER_HELLO_DONE = 2, 4, 11, 13, 14  # RFC 8446 4
_FATAL = 2


class OwnSvid(msgspec.Struct, frozen=True):
    """What we present: the chain, leaf first, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey

    def __repr__(self) -> str:
        return "OwnSvid(...)"


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt offers: one version, groups and suites (of TLS 1.2) in order, ALPN names, the SNI or None."""

    version: str
    groups: tuple[str, ...] = GROUPS
    cipher_suites: tuple[str, ...] = CIPHER_SUITES
    alpn: tuple[str, ...] = ()
    server_name: str | None = None


class Extent(Enum):
    """How far an attempt goes. SERVER_FLIGHT: what the server chose is known, and nothing of ours has answered it."""

    SERVER_FLIGHT = "server flight"
    WHOLE = "whole"


class Negotiated(msgspec.Struct, frozen=True, kw_only=True):
    """What the two settled on, as configuration and tables spell it; group is None on a TLS 1.2 resumption."""

    cipher: str | None
    group: str | None
    alpn: str | None
    resumed: bool


class Attempt:
    """
    One handshake. Facts are attributes, and change only in `advance` and `close_notify`.

    hello_came:        the server has answered with a ServerHello: it speaks TLS, in this version
    certificate_asked: it asked for a client certificate
    certificate_sent:  we sent one; False when it was asked for and none of ours fits what the server can verify
    done:              our end of the handshake is over (TLS 1.3: the server has not judged us yet)
    tickets:           session tickets that came; ticket_lifetime_s: of the last one
    data_came:         the server has sent application data (of which nothing is kept)
    closed:            the server has sent close_notify
    alert:             the fatal alert that the server sent; warned: the last one that was no fatal one
    fault:             OpenSSL's words for why it cannot go on, "" while it can
    """

    def __init__(self, context: "ProbeContext", session: Any | None, extent: Extent) -> None:
        self._context = context
        self._extent = extent
        self._connection = SSL.Connection(context.ssl_context, None)
        self._connection.set_connect_state()
        if context.offer.server_name is not None:
            self._connection.set_tlsext_host_name(context.offer.server_name.encode("ascii"))
        if session is not None:
            self._connection.set_session(session)
        self._received = 0
        self.first_bytes = b""
        self.hello_came = self.certificate_asked = self.certificate_sent = False
        self.done = self.data_came = self.closed = False
        self.tickets = 0
        self.ticket_lifetime_s: int | None = None
        self.alert: int | None = None
        self.warned: int | None = None
        self.fault = ""
        self._flight_over = False

    def advance(self, data: bytes = b"") -> bytes:
        """Take what the peer sent (at first nothing). Returns: what is to be sent to it."""
        self._received += len(data)
        self.first_bytes = (self.first_bytes + data)[:FIRST_BYTES]
        if self._received > MAX_RECEIVED_BYTES:
            self.fault = f"the peer has sent more than {MAX_RECEIVED_BYTES} bytes"
        if self.fault:
            return b""
        self._context.watching = self
        try:
            if data:
                self._connection.bio_write(data)
            if not self.done:
                self._connection.do_handshake()
                self.done = self._flight_over = True
            if self._extent is Extent.WHOLE:
                self._read()
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.fault = _words(error)
        finally:
            self._context.watching = None
            binding.ERR_clear_error()
        return self._outgoing()

    def _read(self) -> None:
        while self._connection.recv(_READ_BYTES):
            self.data_came = True

    def _outgoing(self) -> bytes:
        if self._flight_over and self._extent is Extent.SERVER_FLIGHT:
            return b""  # all is known: what OpenSSL would say next goes nowhere
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(_READ_BYTES))
        except SSL.WantReadError:
            return b"".join(parts)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be learnt from the peer's bytes."""
        known = self._flight_over and self._extent is Extent.SERVER_FLIGHT
        return known or bool(self.fault) or self.closed or self.alert is not None

    def close_notify(self) -> bytes:
        """End our direction. Returns: what is to be sent, nothing where the handshake never came so far."""
        if not self.done or self.fault:
            return b""
        try:
            self._connection.shutdown()
        except SSL.Error:
            return b""
        finally:
            binding.ERR_clear_error()
        return self._outgoing()

    def negotiated(self) -> Negotiated | None:
        """What the server chose; None before its hello has come."""
        if not self.hello_came or self._connection.get_session() is None:
            return None
        resumed = self.done and binding.session_reused(self._connection)
        cipher = self._connection.get_cipher_name()
        # A TLS 1.2 resumption has no key exchange, and asking for the group of none crashes some versions of OpenSSL.
        group = None if resumed and self._context.offer.version == "1.2" else self._connection.get_group_name()
        alpn = self._connection.get_alpn_proto_negotiated()
        return Negotiated(
            cipher=_IANA_NAMES.get(cipher or "", cipher),
            group=_GROUP_NAMES.get(group or "", group),
            alpn=alpn.decode("ascii", "replace") or None,
            resumed=resumed,
        )

    def chain(self) -> tuple[bytes, ...]:
        """The DER of each certificate that the server sent, as it sent them."""
        return tuple(binding.sent_chain(self._connection))

    def ca_names(self) -> tuple[x509.Name, ...]:
        """The CAs from which the server asks for a certificate, at most 64; none: any CA, or what cannot be read."""
        try:
            return tuple(self._connection.get_client_ca_list(as_cryptography=True)[:_MAX_CA_NAMES])
        except ValueError:  # OpenSSL takes names that the stricter parser does not
            return ()

    def session(self) -> Any | None:
        """The session, to be offered to a later attempt of the same context."""
        # Freed without any close_notify, OpenSSL would mark it as not resumable.
        self._connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        return self._connection.get_session()

    def note(self, *, ours: bool, content_type: int, message: bytes) -> None:
        """Called by OpenSSL for each message, before it has looked at it. It must not raise."""
        if content_type == _ALERT and not ours and len(message) == 2:
            if message[0] == _FATAL:
                self.alert = message[1]
            elif message[1]:  # 0 is close_notify, which is no complaint
                self.warned = message[1]
        elif content_type == _HANDSHAKE and message:
            self._note_handshake(ours, message[0], message[4:])

    def _note_handshake(self, ours: bool, kind: int, body: bytes) -> None:
        if ours:
            if kind == _CERTIFICATE:
                self.certificate_sent = len(body) > 8  # an empty one is its framing alone
        elif kind == _SERVER_HELLO:
            self.hello_came = True
        elif kind == _CERTIFICATE_REQUEST:
            self.certificate_asked = True
        elif kind == _SERVER_HELLO_DONE:
            self._flight_over = True
        elif kind == _TICKET:
            self.tickets += 1
            self.ticket_lifetime_s = int.from_bytes(body[:4], "big") if len(body) >= 4 else None


class ProbeContext:
    """
    What attempts with one offer share. A session of one attempt can be offered by another of the same context.

    Raises: Rejected(KEY_MISMATCH) when OpenSSL does not take the SVID, Rejected(CONFIG_FAULT) for an unknown word
    """

    def __init__(self, offer: Offer, svid: OwnSvid | None) -> None:
        self.offer = offer
        self.watching: Attempt | None = None
        self.ssl_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.ssl_context.set_min_proto_version(_VERSIONS[offer.version])
        self.ssl_context.set_max_proto_version(_VERSIONS[offer.version])
        self.ssl_context.set_options(binding.OP_NO_COMPRESSION | binding.OP_NO_RENEGOTIATION)
        self.ssl_context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Everybody is let in, to be looked at: see the top of this file.
        self.ssl_context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        self._choose(offer)
        if svid is not None:
            self._present(svid)
        self._callback = binding.observe_messages(self.ssl_context, self._note)

    def attempt(self, session: Any | None = None, extent: Extent = Extent.WHOLE) -> Attempt:
        """Begin an attempt; it sends nothing before its first `advance`."""
        return Attempt(self, session, extent)

    def _note(self, ours: bool, content_type: int, message: bytes) -> None:
        if self.watching is not None:
            self.watching.note(ours=ours, content_type=content_type, message=message)

    def _choose(self, offer: Offer) -> None:
        suites = ":".join(OPENSSL_SUITES.get(suite, suite) for suite in offer.cipher_suites)
        try:
            self.ssl_context.set_cipher_list(suites.encode("ascii"))
        except SSL.Error:
            raise Rejected(Reason.CONFIG_FAULT, f"this OpenSSL has none of the suites {suites}") from None
        finally:
            binding.ERR_clear_error()
        if not binding.set_groups(self.ssl_context, ":".join(offer.groups)):
            raise Rejected(
                Reason.CONFIG_FAULT, f"this OpenSSL does not know all of the groups {', '.join(offer.groups)}"
            )
        if offer.alpn:
            self.ssl_context.set_alpn_protos([name.encode("ascii") for name in offer.alpn])

    def _present(self, svid: OwnSvid) -> None:
        try:
            self.ssl_context.use_certificate(svid.chain[0])
            for intermediate in svid.chain[1:]:
                self.ssl_context.add_extra_chain_cert(intermediate)
            self.ssl_context.use_privatekey(svid.key)
            self.ssl_context.check_privatekey()
        except SSL.Error as error:
            raise Rejected(
                Reason.KEY_MISMATCH, f"OpenSSL does not take the certificate with its key ({_words(error)})"
            ) from None
        finally:
            binding.ERR_clear_error()


def judge_server(verifier: Verifier, chain: Sequence[bytes], now: float) -> PeerIdentity:
    """Judge the chain that a server presented, by the validator of the data path. Raises: Rejected"""
    return verifier.verify_der(chain, Purpose.SERVER, now)


def judge_ourselves(verifier: Verifier, svid: OwnSvid, now: float) -> PeerIdentity:
    """Judge our own chain as the peer may. Raises: Rejected"""
    ders = [certificate.public_bytes(Encoding.DER) for certificate in svid.chain]
    return verifier.verify_der(ders, Purpose.CLIENT, now)


def _words(error: SSL.Error) -> str:
    errors = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(errors[0][2]) if errors else "OpenSSL gave no reason"
