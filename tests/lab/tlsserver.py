"""
TLS servers for the generator's tests, on Python's own ssl module, so that neither the product nor its OpenSSL judges
itself: one that behaves, one that stalls on purpose, one that speaks only one version, one that trusts nobody.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from proxy.lab.plan import Plan
from proxy.tls.authority import Authority
from proxy.tls.identityfiles import BUNDLE_FILE, CERT_FILE, KEY_FILE, write_svid
from proxy.tls.loadcontext import Credentials, Offer
from tests import minting

DEADLINE_S = 20.0
SERVER = "spiffe://example.org/ns/shop/sa/orders"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
Serve = Callable[[ssl.SSLSocket], None]


class Ends(NamedTuple):
    """The folders of a server's and of a client's SVID (tls.crt, tls.key, ca.crt), of one CA."""

    server: Path
    client: Path

    def credentials(self, **changes: object) -> Credentials:
        """The client's, who expects the server's SPIFFE ID."""
        fields: dict[str, object] = {
            "ca": str(self.client / BUNDLE_FILE),
            "cert": str(self.client / CERT_FILE),
            "key": str(self.client / KEY_FILE),
            "server_ids": (SERVER,),
        }
        return Credentials(**(fields | changes))  # type: ignore[arg-type]


def make_ends(folder: Path, *, issuer: Authority | None = None, dns_names: tuple[str, ...] = ()) -> Ends:
    """Both ends, of a new CA."""
    authority = issuer or minting.authority()
    for name, spiffe_id in (("server", SERVER), ("client", minting.CART)):
        svid = minting.svid(authority, spiffe_id, dns_names=dns_names)
        write_svid(folder / name, svid, bundles={BUNDLE_FILE: authority.bundle_pem})
    return Ends(folder / "server", folder / "client")


def answer(sock: ssl.SSLSocket) -> None:
    """One byte for one byte, then the end in the order of RFC 8446 6.1."""
    if sock.recv(1):
        sock.sendall(b"P")
    with contextlib.suppress(OSError):
        while sock.recv(4096):
            pass


def server_context(ends: Ends, *versions: str, trusted: Path | None = None, tickets: bool = True) -> ssl.SSLContext:
    """Requires a certificate of the client. trusted: a CA file other than the client's own"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[min(versions or VERSIONS)]
    context.maximum_version = VERSIONS[max(versions or VERSIONS)]
    context.load_cert_chain(ends.server / CERT_FILE, ends.server / KEY_FILE)
    context.load_verify_locations(trusted or ends.server / BUNDLE_FILE)
    context.verify_mode = ssl.CERT_REQUIRED
    if not tickets:
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


@contextlib.contextmanager
def tls_server(
    context: ssl.SSLContext | None, serve: Serve = answer, *, before: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, int]]:
    """
    A server on a port of loopback, a thread for each connection.

    context: None: it accepts, and never says a word
    before:  called before each connection is accepted, where a stall belongs
    """
    silent: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        stopping = threading.Event()

        def one(sock: socket.socket) -> None:
            assert context is not None
            sock.settimeout(DEADLINE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as secured:
                serve(secured)
            sock.close()

        def accept() -> None:
            while True:
                before()
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                if stopping.is_set():
                    sock.close()
                    return
                if context is None:
                    silent.append(sock)
                else:
                    threading.Thread(target=one, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        address: tuple[str, int] = listener.getsockname()
        try:
            yield address
        finally:
            stopping.set()
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=DEADLINE_S):
                pass  # so that accept() returns
            thread.join(DEADLINE_S)
            for sock in silent:
                sock.close()


@contextlib.contextmanager
def late_ticket_server(context: ssl.SSLContext, *, tickets: bool = True) -> Iterator[tuple[str, int]]:
    """
    A TLS 1.3 server whose ticket goes with its first bytes, of which its end is one, as BoringSSL's does.

    tickets: False: it keeps its ticket to itself even then
    """

    def serve(sock: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = context.wrap_bio(incoming, outgoing, server_side=True)
        step = secured.do_handshake
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                data = sock.recv(65536)
                incoming.write(data) if data else incoming.write_eof()
                continue
            break
        ticket = outgoing.read()
        while True:
            try:
                if not secured.read(1):
                    break
            except ssl.SSLWantReadError:
                data = sock.recv(65536)
                incoming.write(data) if data else incoming.write_eof()
        with contextlib.suppress(ssl.SSLError):
            secured.unwrap()
        end = outgoing.read()
        # Without its ticket the record of its end has the wrong number; such a server just closes.
        sock.sendall(ticket + end if tickets else b"")

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        stopping = threading.Event()

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                sock.settimeout(DEADLINE_S)
                serve(sock)

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                if stopping.is_set():
                    sock.close()
                    return
                threading.Thread(target=one, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        address: tuple[str, int] = listener.getsockname()
        try:
            yield address
        finally:
            stopping.set()
            with socket.create_connection(address, timeout=DEADLINE_S):
                pass
            thread.join(DEADLINE_S)


def plan_for(address: tuple[str, int], credentials: Credentials, version: str = "1.3", **changes: object) -> Plan:
    """A short plan; the client asks for a byte."""
    fields: dict[str, object] = {
        "address": address,
        "credentials": credentials,
        "offer": Offer(version=version),
        "request": b"P",
        "seconds": 0.3,
        "warm_up_s": 0.0,
        "timeout_s": 5.0,
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]
