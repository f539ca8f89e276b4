"""
OpenSSL itself, as the `cryptography` wheel carries it: the one file that touches what pyOpenSSL does not publish.

pyOpenSSL is pyca's own face of that binding, and contexts are built with it. The data path goes one step lower, for
three reasons that were measured or that cannot be had otherwise:

* `SSL_read` and `SSL_write` into one shared buffer cost two Python calls; pyOpenSSL's `recv_into` copies twice.
* A verify callback that chooses the alert has to set the error of the store context first; pyOpenSSL's cannot.
* Groups, group names, and X.509 path validation with the chain that was found have no public method.

Everything here is a thin, typed word for one call of OpenSSL. Names follow OpenSSL's, so its manual pages apply.
`lib` and `ffi` do not leave the `tls` package.
"""

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto

lib: Any = SSL._lib  # type: ignore[attr-defined]
ffi: Any = SSL._ffi  # type: ignore[attr-defined]

# SSL_get_error
ERROR_SSL = 1
ERROR_WANT_READ = 2
ERROR_WANT_WRITE = 3
ERROR_SYSCALL = 5
ERROR_ZERO_RETURN = 6

VERIFY_PEER_AND_REQUIRE = 0x01 | 0x02  # SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
MODE_RELEASE_BUFFERS = 0x10  # an idle connection keeps no 16 KiB buffers: 33 KiB instead of 57
OP_NO_COMPRESSION = 1 << 17
OP_NO_RENEGOTIATION = 1 << 30
OP_CIPHER_SERVER_PREFERENCE = 1 << 22
OP_NO_TICKET = 1 << 14
X509_FLAG_PARTIAL_CHAIN = 0x80000  # every certificate of a bundle is an anchor, self-signed or not
X509_FLAG_NO_CHECK_TIME = 0x200000  # time is judged by core/svid with a clock that is an argument

PURPOSE_CLIENT: int = lib.X509_PURPOSE_SSL_CLIENT  # the peer is to act as a TLS client
PURPOSE_SERVER: int = lib.X509_PURPOSE_SSL_SERVER

ERROR_CERTIFICATE_REJECTED: int = lib.X509_V_ERR_CERT_REJECTED

SHUTDOWN_SENT = 1
SHUTDOWN_RECEIVED = 2

_LIBRARY_SSL = 20  # ERR_LIB_SSL: an error code is its library's number, 23 bits up, and the reason

SSL_read: Callable[[Any, Any, int], int] = lib.SSL_read
SSL_write: Callable[[Any, Any, int], int] = lib.SSL_write
SSL_get_error: Callable[[Any, int], int] = lib.SSL_get_error
SSL_do_handshake: Callable[[Any], int] = lib.SSL_do_handshake
ERR_clear_error: Callable[[], None] = lib.ERR_clear_error


def openssl_version() -> str:
    """The version text of the OpenSSL on the data path, e.g. "OpenSSL 4.0.3 29 Sep 2026"."""
    return SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii")


def first_error() -> tuple[int, str]:
    """Take the oldest error of OpenSSL's queue and empty it. Returns: as peek_error."""
    found = peek_error()
    lib.ERR_clear_error()
    return found


def peek_error() -> tuple[int, str]:
    """
    The oldest error of OpenSSL's queue, left there.

    Returns: (SSL_R_* code, its text); the code is 0 for the error of another library, since each counts its own from
    100 (155 is "https proxy request" in one and "too long" in ASN.1), and of the system; (0, "") when there is none
    """
    code = lib.ERR_peek_error()
    if not code:
        return 0, ""
    words = text_of(lib.ERR_reason_error_string(code)) or f"error {code:#x}"
    return (lib.ERR_GET_REASON(code) if code >> 23 == _LIBRARY_SSL else 0), words


def set_groups(context: SSL.Context, names: str) -> bool:
    """Set the key-exchange groups of a context, "X25519:P-256"; False when OpenSSL does not know one of them."""
    ok = bool(lib.SSL_CTX_set1_curves_list(context._context, names.encode("ascii")) == 1)
    lib.ERR_clear_error()
    return ok


def set_verify(context: SSL.Context, callback: Any) -> None:
    """Require a certificate of the peer, and let `callback` (of `verify_callback`) judge it."""
    lib.SSL_CTX_set_verify(context._context, VERIFY_PEER_AND_REQUIRE, callback)


def verify_callback(judge: Callable[[Any], int | None]) -> Any:
    """
    Wrap `judge` as OpenSSL's verify callback. The result must be kept alive as long as any SSL of that context.

    judge: takes the X509_STORE_CTX; returns None to let the peer in, or the X509_V_ERR whose alert is to be sent. It
    is called once per certificate and error, in an order that depends on what the peer sent, so it has to give the
    same answer each time. It must not raise: cffi would print the traceback, and refuse.
    """

    @ffi.callback("int(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
    def verify(_preverified: int, store_context: Any) -> int:
        error = judge(store_context)
        lib.X509_STORE_CTX_set_error(store_context, 0 if error is None else error)
        return 1 if error is None else 0

    return verify


def select_alpn(context: SSL.Context, ours: tuple[str, ...]) -> Any:
    """
    Let a server pick the first of `ours` that the client offers, and none (not an alert) when nothing is in common.

    ours:    in order of preference, ASCII, 1 to 255 bytes each
    Returns: the callback, which must be kept alive as long as any SSL of that context. Source: RFC 7301 3.1, 3.2
    """
    names = [name.encode("ascii") for name in ours]
    kept = [ffi.new("unsigned char[]", name) for name in names]  # OpenSSL copies only after the callback has returned

    @ffi.callback(
        "int(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)",
        error=lib.SSL_TLSEXT_ERR_ALERT_FATAL,
    )  # type: ignore[untyped-decorator]
    def select(_ssl: Any, out: Any, out_length: Any, offered: Any, length: int, _argument: Any) -> int:
        theirs, wire = [], ffi.buffer(offered, length)[:]  # OpenSSL has checked the list's form
        while wire:
            theirs.append(wire[1 : 1 + wire[0]])
            wire = wire[1 + wire[0] :]
        for name, pointer in zip(names, kept, strict=True):
            if name in theirs:
                out[0], out_length[0] = pointer, len(name)
                return int(lib.SSL_TLSEXT_ERR_OK)
        return int(lib.SSL_TLSEXT_ERR_NOACK)

    lib.SSL_CTX_set_alpn_select_cb(context._context, select, ffi.NULL)
    return select


def set_hello_callback(context: SSL.Context, judge: Callable[[], int | None]) -> Any:
    """
    Let `judge` look at each ClientHello of a server, after OpenSSL has opened its ticket and before it has answered.

    It is OpenSSL's server name callback, which is called also when the client sent no name. Without any, a server does
    not keep the name in its sessions, and a resumed TLS 1.2 has none.

    judge:   returns None to go on, or the number of the alert to be sent. It must not raise (as in verify_callback).
    Returns: the callback, which must be kept alive as long as any SSL of that context
    """

    @ffi.callback("int(SSL *, int *, void *)", error=lib.SSL_TLSEXT_ERR_ALERT_FATAL)  # type: ignore[untyped-decorator]
    def look(_ssl: Any, out: Any, _argument: Any) -> int:
        alert = judge()
        if alert is None:
            return int(lib.SSL_TLSEXT_ERR_OK)
        out[0] = alert
        return int(lib.SSL_TLSEXT_ERR_ALERT_FATAL)

    lib.SSL_CTX_set_tlsext_servername_callback(context._context, look)
    return look


def info_callback(note: Callable[[Any], None]) -> Any:
    """
    A callback for SSL_set_info_callback: of an SSL that has it, `note` hears of each message and alert, but not of
    application data.

    note:    takes the SSL; called once or several times for each. It must not raise (as in verify_callback).
    Returns: the callback, which must be kept alive as long as any SSL that has it
    """

    @ffi.callback("void(*)(const SSL *, int, int)")  # type: ignore[untyped-decorator]
    def hear(ssl: Any, _where: int, _result: int) -> None:
        note(ssl)

    return hear


def observe_messages(context: SSL.Context, note: Callable[[bool, int, bytes], None]) -> Any:
    """
    Let `note` see each TLS message and alert in the clear, as it is sent or before it is looked at.

    note:    takes whether it is ours, the ContentType, and the bytes; lengths in them were not checked. It must not
             raise (as in verify_callback).
    Returns: the callback, which must be kept alive as long as any SSL of that context
    """

    @ffi.callback("void(int, int, int, void *, size_t, SSL *, void *)")  # type: ignore[untyped-decorator]
    def observe(ours: int, _version: int, content_type: int, data: Any, length: int, _ssl: Any, _argument: Any) -> None:
        note(bool(ours), content_type, bytes(ffi.buffer(data, length)))

    lib.SSL_CTX_set_msg_callback(context._context, observe)
    return observe


def new_ssl(context: SSL.Context, descriptor: int) -> Any:
    """A new SSL on a socket's descriptor; freed by `free_ssl`, or by the garbage collector at the latest."""
    ssl = lib.SSL_new(context._context)
    if ssl == ffi.NULL or lib.SSL_set_fd(ssl, descriptor) != 1:
        raise MemoryError("OpenSSL could not make a connection object")
    return ffi.gc(ssl, lib.SSL_free)


def free_ssl(ssl: Any) -> None:
    """Free an SSL now rather than at the next collection."""
    ffi.release(ssl)


def text_of(pointer: Any) -> str | None:
    """A C string as text; None for NULL."""
    return None if pointer == ffi.NULL else ffi.string(pointer).decode("ascii", "replace")


_alpn, _alpn_length = ffi.new("unsigned char **"), ffi.new("unsigned int *")  # filled and read within one call


def alpn_of(ssl: Any) -> str | None:
    """The application protocol that was selected; None when none was."""
    lib.SSL_get0_alpn_selected(ssl, _alpn, _alpn_length)
    length = _alpn_length[0]
    return ffi.buffer(_alpn[0], length)[:].decode("ascii", "replace") if length else None


def certificates_of(stack: Any) -> list[Any]:
    """The members of a STACK_OF(X509) that we own, each to be freed; the stack itself is freed."""
    if stack == ffi.NULL:
        return []
    members = [ffi.gc(lib.sk_X509_value(stack, i), lib.X509_free) for i in range(lib.sk_X509_num(stack))]
    lib.sk_X509_free(stack)
    return members


_SHA256 = lib.EVP_get_digestbyname(b"sha256")
_digest = ffi.new("unsigned char[32]")  # filled and copied within one call; calls into OpenSSL come from one thread
_digest_length = ffi.new("unsigned int *")
_digest_bytes = ffi.buffer(_digest)


def digest_of(certificate: Any) -> bytes:
    """SHA-256 over the DER of an X509: 32 bytes."""
    if lib.X509_digest(certificate, _SHA256, _digest, _digest_length) != 1:
        raise MemoryError("OpenSSL could not hash a certificate")
    return bytes(_digest_bytes)


def der_of(certificate: Any) -> bytes:
    """The DER of an X509."""
    bio = ffi.gc(lib.BIO_new(lib.BIO_s_mem()), lib.BIO_free)
    if lib.i2d_X509_bio(bio, certificate) != 1:
        raise MemoryError("OpenSSL could not encode a certificate")
    data = ffi.new("char **")
    length = lib.BIO_get_mem_data(bio, data)
    return bytes(ffi.buffer(data[0], length))


def presented_chain(store_context: Any) -> list[Any]:
    """Leaf first: the certificates that the peer sent and that lead on from its leaf, as OpenSSL strung them."""
    return certificates_of(lib.X509_STORE_CTX_get1_chain(store_context))


def session_reused(connection: SSL.Connection) -> bool:
    """Whether a connection took up an earlier session."""
    return bool(lib.SSL_session_reused(connection._ssl))


def sent_chain(connection: SSL.Connection) -> list[bytes]:
    """The DER of each certificate that a server sent, in its order; none on a resumed connection."""
    return [der_of(certificate._x509) for certificate in connection.get_peer_cert_chain() or []]


def peer_certificate(ssl: Any) -> Any | None:
    """The peer's leaf (also on a resumed connection, from its session); None when it sent none."""
    certificate = lib.SSL_get_peer_certificate(ssl)
    return None if certificate == ffi.NULL else ffi.gc(certificate, lib.X509_free)


def verify_path(store: tuple[Any, Any], chain: list[Any]) -> tuple[list[Any], int, int]:
    """
    RFC 5280 path validation of chain[0] to an anchor in `store` (of `trust_store`), the rest of `chain` untrusted.

    Returns: (the path found, leaf first; X509_V_ERR, 0 for good; the depth at which it failed). Time is not looked at
    when the store carries X509_FLAG_NO_CHECK_TIME.
    """
    untrusted = ffi.gc(lib.sk_X509_new_null(), lib.sk_X509_free)
    for certificate in chain[1:]:
        lib.sk_X509_push(untrusted, certificate)
    context = ffi.gc(lib.X509_STORE_CTX_new(), lib.X509_STORE_CTX_free)
    if lib.X509_STORE_CTX_init(context, store[0], chain[0], untrusted) != 1:
        raise MemoryError("OpenSSL could not start a path validation")
    good = lib.X509_verify_cert(context) == 1
    lib.ERR_clear_error()  # also after a good end, which may lie behind a path that was tried and failed
    if good:
        return certificates_of(lib.X509_STORE_CTX_get1_chain(context)), 0, 0
    error = lib.X509_STORE_CTX_get_error(context)
    return [], error or 1, lib.X509_STORE_CTX_get_error_depth(context)


def path_error_text(error: int) -> str:
    """OpenSSL's words for an X509_V_ERR."""
    return text_of(lib.X509_verify_cert_error_string(error)) or f"error {error}"


def session_of(ssl: Any) -> Any | None:
    """The session to resume later, owned by the caller; None when there is none yet."""
    session = lib.SSL_get1_session(ssl)
    return None if session == ffi.NULL else ffi.gc(session, lib.SSL_SESSION_free)


def x509_of(der: bytes) -> Any:
    """An X509 from its DER, owned by the caller. Raises ValueError when OpenSSL cannot read it."""
    try:
        certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    except crypto.Error as error:
        lib.ERR_clear_error()
        raise ValueError("OpenSSL cannot read this certificate") from error
    pointer = certificate._x509
    lib.X509_up_ref(pointer)
    return ffi.gc(pointer, lib.X509_free)


def trust_store(ders: list[bytes], purpose: int) -> tuple[Any, Any]:
    """A store of anchors for one purpose (PURPOSE_*). Returns: (X509_STORE, its owner to keep)."""
    store = crypto.X509Store()
    for der in ders:
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
    store.set_flags(X509_FLAG_PARTIAL_CHAIN | X509_FLAG_NO_CHECK_TIME)
    pointer = store._store
    lib.X509_STORE_set_purpose(pointer, purpose)
    return pointer, store
