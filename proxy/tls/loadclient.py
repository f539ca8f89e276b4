"""
The TLS client of the laboratory: thousands of connections of one process, each with TLS on its descriptor.

It differs from the outbound side of the proxy in what it wants to know. A load generator counts a handshake only when
the server has accepted the client (in TLS 1.3 the client is done before it was judged: RFC 8446 2), so a connection can
say whether a session ticket has come; and it reads from the connection itself whether the session was reused. It works
on pyca's binding whichever engine the proxy runs on: a yardstick must not change with what it measures.

What a server refuses, and what is refused of a server, is raised as Rejected, with the words that the outbound side of
the proxy has for it.
"""

import errno
import os
import socket
from enum import Enum
from typing import Any

import msgspec

from proxy.core.reasons import Reason, Rejected
from proxy.core.svid import judge_leaf, load_certificate
from proxy.tls import binding
from proxy.tls.channel import alert_name
from proxy.tls.loadcontext import OPENSSL_SUITES, Credentials, Offer, client_context, is_ip, names_of, patterns_of

SCRATCH_BYTES = 65536

_MAX_JUDGED = 256  # leaves of the server whose names were judged, by digest

# SSL_R_*, X509_V_ERR_* and alerts, as far as they have a Reason of their own.
_VERIFY_FAILED = 134
_UNEXPECTED_EOF = 294
_ALERT_BASE = 1000
_VERSION_REASONS = frozenset({161, 191, 258, 396, 421, _ALERT_BASE + 70})
_CIPHER_REASONS = frozenset({101, 118, 185, 193, 295, 360, 376, 410})
_UNREACHABLE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EACCES})
_NOT_TLS_REASONS = frozenset({155, 156, 198, 267})
_REFUSING_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 49, 116})
_NO_COMMON_ALERTS = frozenset({40, 71})
_REASON_OF_VERIFY_ERROR = {
    9: Reason.CERTIFICATE_NOT_YET_VALID,
    10: Reason.CERTIFICATE_EXPIRED,
    18: Reason.UNKNOWN_AUTHORITY,
    19: Reason.UNKNOWN_AUTHORITY,
    20: Reason.UNKNOWN_AUTHORITY,
    21: Reason.UNKNOWN_AUTHORITY,
    62: Reason.SERVER_ID_MISMATCH,
    64: Reason.SERVER_ID_MISMATCH,
}
_IANA_NAMES = {openssl: iana for iana, openssl in OPENSSL_SUITES.items()}
_GROUP_NAMES = {"secp256r1": "P-256", "prime256v1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_GROUP_NAMES |= {"x25519": "X25519", "x448": "X448"}


class Want(Enum):
    """What a step of a connection waits for."""

    NOTHING = "nothing"
    READ = "read"
    WRITE = "write"


class Negotiated(msgspec.Struct, frozen=True):
    """What both ends settled on. group: None on a resumed connection without a key exchange of its own (TLS 1.2)."""

    version: str
    cipher: str | None
    group: str | None


class LoadContext:
    """
    Everything that connections of one kind share.

    Raises: Rejected(PEM_MALFORMED | KEY_MISMATCH | FILE_MISSING | CONFIG_FAULT), the detail a whole sentence
    """

    def __init__(self, credentials: Credentials, offer: Offer) -> None:
        self.credentials = credentials
        self.offer = offer
        if not credentials.server_ids and not credentials.server_name:
            raise Rejected(Reason.CONFIG_FAULT, "nothing says who the server has to be: give its name or its SPIFFE ID")
        self._patterns = patterns_of(credentials.server_ids)
        self._judged: set[bytes] = set()
        self.scratch = binding.ffi.new("unsigned char[]", SCRATCH_BYTES)
        self._context = client_context(credentials, offer)
        name = credentials.server_name
        self._sni = name.encode("ascii") if name and not is_ip(name) else None

    def connect(self, sock: socket.socket, session: Any | None = None) -> "LoadConnection":
        """Begin a client's handshake on a non-blocking socket, connected or on its way; `session` is offered."""
        ssl = binding.new_ssl(self._context, sock.fileno())
        binding.lib.SSL_set_connect_state(ssl)
        if self._sni is not None:
            binding.lib.SSL_set_tlsext_host_name(ssl, self._sni)
        if session is not None:
            binding.lib.SSL_set_session(ssl, session)
        return LoadConnection(self, sock, ssl)

    def judge_server(self, ssl: Any) -> None:
        """Compare the server's SPIFFE ID with what is expected; a leaf is read once. Raises: Rejected"""
        if not self._patterns:
            return  # OpenSSL has compared the name
        leaf = binding.peer_certificate(ssl)
        if leaf is None:
            raise Rejected(Reason.SERVER_ID_MISMATCH, "the server presented no certificate")
        digest = binding.digest_of(leaf)
        if digest in self._judged:
            return
        spiffe_id = judge_leaf(load_certificate(binding.der_of(leaf)))
        if not any(pattern.matches(spiffe_id) for pattern in self._patterns):
            expected = ", ".join(str(pattern) for pattern in self._patterns)
            raise Rejected(Reason.SERVER_ID_MISMATCH, f"the server is {spiffe_id}, expected was {expected}")
        if len(self._judged) < _MAX_JUDGED:
            self._judged.add(digest)


class LoadConnection:
    """One connection of the generator. It never waits; whoever owns it waits for what `handshake` wants."""

    __slots__ = ("_context", "_first_session", "done", "sock", "ssl")

    def __init__(self, context: LoadContext, sock: socket.socket, ssl: Any) -> None:
        self._context = context
        self._first_session: Any = None
        self.sock = sock
        self.ssl = ssl
        self.done = False  # our end of the handshake; in TLS 1.3 the server has not judged us yet

    def handshake(self) -> Want:
        """Go on as far as the socket allows. Raises: Rejected"""
        ssl = self.ssl
        code = binding.SSL_do_handshake(ssl)
        if code == 1:
            self._context.judge_server(ssl)
            self.done = True
            if self._context.offer.version == "1.3":
                # Held and not only looked at: freed, its address could be given to the session of a ticket.
                self._first_session = binding.session_of(ssl)
            return Want.NOTHING
        error = binding.SSL_get_error(ssl, code)
        if error == binding.ERROR_WANT_READ:
            return Want.READ
        if error == binding.ERROR_WANT_WRITE:
            return Want.WRITE
        raise self._failure(error)

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes; None: nothing now; b"": the server ended in order. Raises: Rejected"""
        scratch = self._context.scratch
        count = binding.SSL_read(self.ssl, scratch, min(size, SCRATCH_BYTES))
        if count > 0:
            return bytes(binding.ffi.buffer(scratch, count))
        return self._unread(count)

    def read_into(self, buffer: memoryview) -> int | None:
        """As read, into the caller's buffer. Returns: the count; None: nothing now; 0: the server ended in order."""
        count = binding.SSL_read(self.ssl, binding.ffi.from_buffer(buffer), len(buffer))
        return count if count > 0 else (None if self._unread(count) is None else 0)

    def write(self, data: bytes | memoryview) -> int:
        """
        Send. Returns: how many bytes were taken, 0 when the kernel takes none now

        Raises: Rejected; where the server refused us and closed, with its alert rather than "broken pipe"
        """
        # Asked before, for OpenSSL reads nothing any more after a write that failed, and the alert would be lost.
        if not self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            count = binding.SSL_write(self.ssl, binding.ffi.from_buffer(data), len(data))
            if count > 0:
                return int(count)
            error = binding.SSL_get_error(self.ssl, count)
            binding.ERR_clear_error()
            if error in (binding.ERROR_WANT_READ, binding.ERROR_WANT_WRITE):
                return 0
        while self.read(SCRATCH_BYTES):  # it raises at the alert, if one is there
            pass
        raise Rejected(Reason.RESET, "the connection broke while the client was sending")

    def ticket_has_come(self) -> bool:
        """TLS 1.3: whether the server has sent a session ticket (seen by a read); it has accepted the client then."""
        first = self._first_session
        return first is not None and bool(binding.lib.SSL_get_session(self.ssl) != first)

    @property
    def resumed(self) -> bool:
        """Whether the session that was offered is in use."""
        return bool(binding.lib.SSL_session_reused(self.ssl))

    def session(self) -> Any | None:
        """The newest session, to be offered to a later connection."""
        return binding.session_of(self.ssl)

    def negotiated(self) -> Negotiated:
        """Version, suite and group, as configuration and tables spell them. Only after the handshake."""
        ssl, lib = self.ssl, binding.lib
        cipher = lib.SSL_get_current_cipher(ssl)
        name = None if cipher == binding.ffi.NULL else binding.text_of(lib.SSL_CIPHER_get_name(cipher))
        version = (binding.text_of(lib.SSL_get_version(ssl)) or "unknown").removeprefix("TLSv")
        group = None
        if lib.SSL_get_session(ssl) != binding.ffi.NULL and not (version == "1.2" and self.resumed):
            group = binding.text_of(lib.SSL_get0_group_name(ssl))
        return Negotiated(version, _IANA_NAMES.get(name or "", name), _GROUP_NAMES.get(group or "", group))

    def finish(self) -> None:
        """Send close_notify: no more will come from us."""
        binding.lib.SSL_shutdown(self.ssl)
        binding.ERR_clear_error()  # the server may have been faster

    def close(self) -> None:
        """Free both parts. The session stays usable: OpenSSL would spoil that of a connection cut short."""
        if self.ssl != binding.ffi.NULL:
            binding.lib.SSL_set_shutdown(self.ssl, binding.SHUTDOWN_SENT | binding.SHUTDOWN_RECEIVED)
            binding.free_ssl(self.ssl)
            self.ssl = binding.ffi.NULL
        self.sock.close()

    def _unread(self, count: int) -> bytes | None:
        error = binding.SSL_get_error(self.ssl, count)
        if error in (binding.ERROR_WANT_READ, binding.ERROR_WANT_WRITE):
            return None
        if error == binding.ERROR_ZERO_RETURN:
            return b""
        raise self._failure(error)

    def _failure(self, error: int) -> Rejected:
        """What a failed call means. Empties OpenSSL's error queue."""
        number = binding.ffi.errno  # as the last call of OpenSSL left it
        code, words = binding.first_error()
        binding.ERR_clear_error()
        seen = self.done or binding.peer_certificate(self.ssl) is not None
        if code == _VERIFY_FAILED:
            return self._server_refused()
        if code in _VERSION_REASONS:
            return self._unsupported_version()
        if code in _CIPHER_REASONS:
            return Rejected(Reason.NO_SHARED_CIPHER, f"no cipher suite, group or signature in common ({words})")
        if code in _NOT_TLS_REASONS and not seen:
            return Rejected(Reason.NOT_TLS, f"the answer is not TLS ({words})")
        if _ALERT_BASE < code < _ALERT_BASE + 256:
            return _alerted(code - _ALERT_BASE, seen=seen)
        if error == binding.ERROR_SYSCALL and not seen and number in _UNREACHABLE:
            return Rejected(Reason.UPSTREAM_REFUSED, f"the server cannot be reached ({os.strerror(number).lower()})")
        if code == _UNEXPECTED_EOF or error == binding.ERROR_SYSCALL or not words:
            how = "closed" if code == _UNEXPECTED_EOF else "reset"
            if seen:
                return Rejected(Reason.UPSTREAM_REJECTED_US, f"the server {how} the connection without an alert")
            return Rejected(Reason.RESET, f"the server {how} the connection before it showed a certificate")
        return Rejected(Reason.HANDSHAKE_FAILED, words or "OpenSSL gave no reason")

    def _unsupported_version(self) -> Rejected:
        ours = self._context.offer.version
        other = "1.3" if ours == "1.2" else "1.2"
        words = f"the server does not take TLS {ours}: leave it out with --matrix version={other}"
        return Rejected(Reason.UNSUPPORTED_TLS_VERSION, words)

    def _server_refused(self) -> Rejected:
        error = int(binding.lib.SSL_get_verify_result(self.ssl))
        reason = _REASON_OF_VERIFY_ERROR.get(error, Reason.CERTIFICATE_INVALID)
        detail = f"the server's certificate is refused here: {binding.path_error_text(error)}"
        return Rejected(reason, detail + self._server_names())

    def _server_names(self) -> str:
        chain = binding.lib.SSL_get_peer_cert_chain(self.ssl)  # here also after a failure; borrowed from the SSL
        known = chain != binding.ffi.NULL and binding.lib.sk_X509_num(chain) > 0
        names = names_of(binding.der_of(binding.lib.sk_X509_value(chain, 0))) if known else []
        return f"; it is for {', '.join(names)}" if names else ""


def _alerted(alert: int, *, seen: bool) -> Rejected:
    words = f"the server sent the alert {alert_name(alert)}"
    if alert in _REFUSING_ALERTS or seen:
        return Rejected(Reason.UPSTREAM_REJECTED_US, words)
    if alert in _NO_COMMON_ALERTS:
        return Rejected(Reason.NO_SHARED_CIPHER, f"{words} before it showed a certificate")
    return Rejected(Reason.HANDSHAKE_FAILED, words)
