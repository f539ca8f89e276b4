"""
TLS peers of the standard library, with an OpenSSL of their own: what a client saw of a refusal, and a server to dial.

What the peer of a refusal learns is the alert. In TLS 1.3 it comes after the client thinks that all is well, so a
client here has seen success only when bytes came back.
"""

import socket
import ssl
from pathlib import Path

from tests.e2e.apps import Serve
from tests.e2e.pki import Identity
from tests.e2e.waiting import PATIENCE_S, Address

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

HELLO = b"hello"

_TCP_CLOSE = 7  # tcpi_state after a reset


def client_context(identity: Identity | None, *, trust: Path, version: str | None = None) -> ssl.SSLContext:
    """A client that presents this identity, or none, and trusts these roots; names are not checked, SPIFFE has none."""
    context = ssl.create_default_context(cafile=str(trust))
    context.check_hostname = False
    if identity is not None:
        context.load_cert_chain(identity.cert, identity.key)
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def connect(
    address: Address, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None, sni: str | None = None
) -> ssl.SSLSocket:
    """A connection whose handshake is over for the client. Raises: OSError"""
    sock = socket.create_connection(address, timeout=PATIENCE_S)
    try:
        return context.wrap_socket(sock, server_hostname=sni, session=session, suppress_ragged_eofs=False)
    except BaseException:
        sock.close()
        raise


def ask(sock: socket.socket, data: bytes = HELLO) -> bytes:
    """Send bytes and take as many back. Raises: OSError, EOFError when the stream ends before that"""
    sock.sendall(data)
    received = b""
    while len(received) < len(data):
        more = sock.recv(65536)
        if not more:
            raise EOFError
        received += more
    return received


def is_served(sock: socket.socket) -> bool:
    """Whether a held connection still carries bytes there and back."""
    try:
        return ask(sock) == HELLO
    except (OSError, EOFError):
        return False


def what_is_seen(address: Address, context: ssl.SSLContext | None, *, session: ssl.SSLSession | None = None) -> str:
    """
    Connect, in plaintext without a context, and exchange bytes, as a client sees it.

    Returns: "served", the name of the alert (RFC 8446 6: "UNKNOWN_CA"), "reset" or "ended"
    """
    try:
        sock = socket.create_connection(address, timeout=PATIENCE_S)
    except ConnectionResetError:  # taken and reset before `connect` looked
        return "reset"
    if context is None:
        with sock:
            return _attempt(sock)
    if is_reset(sock):  # `wrap_socket` would raise, and leak the socket
        sock.close()
        return "reset"
    # The handshake apart from wrapping, so that there is a socket to ask how it ended.
    with context.wrap_socket(
        sock, session=session, suppress_ragged_eofs=False, do_handshake_on_connect=False
    ) as encrypted:
        try:
            encrypted.do_handshake()
        except OSError as error:
            return words_of(error, encrypted)
        return _attempt(encrypted)


def _attempt(sock: socket.socket) -> str:
    try:
        return "served" if ask(sock) == HELLO else "garbled"
    except (OSError, EOFError) as error:
        return words_of(error, sock)


def end_of(sock: socket.socket) -> str:
    """Wait for the end of a stream: "ended" in order, or how else, in the words of `what_is_seen`."""
    try:
        while sock.recv(65536):
            pass
    except OSError as error:
        return words_of(error, sock)
    return "ended"


def is_reset(sock: socket.socket) -> bool:
    """Whether the peer has reset the connection, whoever has been told."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


def words_of(error: OSError | EOFError, sock: socket.socket) -> str:
    """How a stream ended, in the words of `what_is_seen`; "cut" is a FIN without a close_notify."""
    reason = str(getattr(error, "reason", None) or "")
    if "_ALERT_" in reason:
        return reason.partition("_ALERT_")[2]
    # The ssl module calls a reset an end of file; the state of the socket tells the two apart.
    if isinstance(error, ConnectionError) or is_reset(sock):
        return "reset"
    if isinstance(error, ssl.SSLEOFError):
        return "cut"
    return "ended" if isinstance(error, EOFError) else reason or repr(error)


def over_tls(identity: Identity, serve: Serve, *, trust: Path | None = None) -> Serve:
    """An app that speaks mutual TLS itself: the upstream of an outbound listener. trust: whose clients it takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    context.load_verify_locations(trust or identity.bundle)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve_encrypted(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as encrypted:
            serve(encrypted)

    return serve_encrypted
