"""
OpenSSL alone: a server and a client of the binding that talk through memory, with the server's share of the CPU timed.

It is the floor under every proxy of the laboratory: what TLS itself costs the server with this OpenSSL, without
sockets, a kernel, an event loop or an app. The server does what the proxies are set up to do (a client certificate of
the one CA is required, TLS tickets, X25519, one byte each way, close_notify), and what the client does is not counted.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from OpenSSL import SSL

from proxy.tls import binding
from proxy.tls.loadcontext import Credentials, Offer, client_context

SUITES = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
GROUPS = "X25519:P-256:P-384"  # the curves stand for the certificates: TLS 1.2 reads the list for those too
RECORD_BYTES = 16_384

_WIRE_BYTES = 65_536
_MOST_FLIGHTS = 8
_T = TypeVar("_T")


class InMemory:
    """
    A pair of contexts. cert, key: PEM files of the server; credentials, offer: the client's

    mutual: whether the server requires a client certificate
    Raises: Rejected as client_context does
    """

    def __init__(self, cert: str, key: str, credentials: Credentials, offer: Offer, *, mutual: bool = True) -> None:
        self._client = client_context(credentials, offer)
        self._server = _server_context(cert, key, credentials.ca, mutual=mutual)
        self._session: Any = None
        self.server_s = 0.0  # CPU of the server's calls so far

    def handshake(self, *, resumed: bool) -> bool:
        """A connection from its first byte to its end. Returns: whether it was resumed."""
        client, server = self._connect(self._session if resumed else None)
        self._say(client, server, b"P")
        self._answer(server, client, b"P")
        self._session = client.get_session()
        was_resumed = bool(binding.lib.SSL_session_reused(client._ssl))
        client.shutdown()
        _carry(client, server)
        self._timed(lambda: _end(server))
        return was_resumed

    def open(self) -> "Stream":
        """A connection that stays open."""
        return Stream(self, *self._connect(None))

    def _connect(self, session: Any) -> tuple[SSL.Connection, SSL.Connection]:
        client = SSL.Connection(self._client, None)
        client.set_connect_state()
        if session is not None:
            client.set_session(session)
        server = self._timed(lambda: _accept(self._server))
        for _ in range(_MOST_FLIGHTS):
            done = _step(client)
            _carry(client, server)
            done = self._timed(lambda: _step(server)) and done
            _carry(server, client)
            if done:
                return client, server
        raise RuntimeError("a handshake in memory did not come to its end")

    def _say(self, client: SSL.Connection, server: SSL.Connection, data: bytes) -> None:
        """The client sends, the server receives."""
        client.send(data)
        _carry(client, server)
        self._timed(lambda: server.recv(len(data)))

    def _answer(self, server: SSL.Connection, client: SSL.Connection, data: bytes) -> None:
        """The server sends, the client receives."""
        self._timed(lambda: server.send(data))
        _carry(server, client)
        client.recv(len(data))

    def _timed(self, work: Callable[[], _T]) -> _T:
        start_s = time.thread_time()
        try:
            return work()
        finally:
            self.server_s += time.thread_time() - start_s


class Stream:
    """An open connection in memory."""

    def __init__(self, floor: InMemory, client: SSL.Connection, server: SSL.Connection) -> None:
        self._floor, self._client, self._server = floor, client, server

    def request(self, message: bytes) -> None:
        """One message there and back."""
        self._floor._say(self._client, self._server, message)
        self._floor._answer(self._server, self._client, message)

    def upload(self, record: bytes) -> None:
        """One record to the server."""
        self._floor._say(self._client, self._server, record)

    def download(self, record: bytes) -> None:
        """One record from the server."""
        self._floor._answer(self._server, self._client, record)


def _server_context(cert: str, key: str, ca: str, *, mutual: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_mode(binding.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"in memory")
    context.set_cipher_list(SUITES)
    binding.set_groups(context, GROUPS)
    context.use_certificate_chain_file(cert)
    context.use_privatekey_file(key)
    if mutual:
        context.load_verify_locations(ca)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


def _accept(context: SSL.Context) -> SSL.Connection:
    server = SSL.Connection(context, None)
    server.set_accept_state()
    return server


def _step(connection: SSL.Connection) -> bool:
    """Go on with the handshake; True when this side is done."""
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _end(server: SSL.Connection) -> None:
    """See the client's close_notify, and answer it."""
    try:
        server.recv(1)
    except SSL.ZeroReturnError:
        server.shutdown()


def _carry(sender: SSL.Connection, receiver: SSL.Connection) -> None:
    """Everything that one side has said, to the other."""
    while True:
        try:
            said = sender.bio_read(_WIRE_BYTES)
        except SSL.WantReadError:
            return
        receiver.bio_write(said)
