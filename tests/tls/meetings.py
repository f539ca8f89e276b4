"""What became of two ends that met: how each ended, and the alert that each was sent. And peers that are not ours."""

import re
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.core.reasons import Reason, Rejected
from proxy.tls.authority import Svid
from proxy.tls.channel import Scratch, TlsChannel
from proxy.tls.contexts import ClientContext, ServerContext
from proxy.tls.handshake import Handshake, Step
from tests.tls.pairs import connected, read, shake

SCRATCH = Scratch()
_ALERT = re.compile(r"the peer sent the alert ([a-z_]+)")


@contextmanager
def connected_by_tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """As `connected`, over loopback: where a reset is a reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        yield ours, theirs


@dataclass(frozen=True)
class Meeting:
    """client, server: each Handshake when it ended well, else why not; alert_to_*: what the other side sent to it."""

    client: Handshake | Rejected
    server: Handshake | Rejected
    alert_to_client: str | None
    alert_to_server: str | None

    @property
    def reasons(self) -> tuple[Reason | None, Reason | None]:
        """Of client and server; None for a good end."""
        client, server = (end.reason if isinstance(end, Rejected) else None for end in (self.client, self.server))
        return client, server


def meet(client: ClientContext, server: ServerContext) -> Meeting:
    """Shake hands; a client that was let in by TLS 1.3 before the server judged it then reads what came."""
    with connected() as (ours, theirs):
        ends = shake(client, server, ours, theirs)
        alerts = [_alert_to(end) for end in ends]
        for end in ends:
            if isinstance(end, Handshake):
                end.channel.close()
    return Meeting(*ends, *alerts)


def drive(*ends: "Handshake | Foreign") -> None:
    """Let each go on in turn; raises what the first refusal raises."""
    for _ in range(5):
        for end in ends:
            end.step()


def _alert_to(end: Handshake | Rejected) -> str | None:
    if isinstance(end, Handshake):
        read(end.channel, SCRATCH)
        words = end.channel.end_detail
    else:
        words = end.detail
    found = _ALERT.search(words)
    return found[1] if found else None


def accept(context: ServerContext, sock: socket.socket, peer: "Foreign") -> Handshake | Rejected:
    """Drive a server against a foreign client."""
    return _drive(context.accept(sock), peer)


def connect(context: ClientContext, sock: socket.socket, peer: "Foreign") -> Handshake | Rejected:
    """Drive a client against a foreign server."""
    return _drive(context.connect(sock), peer)


def _drive(handshake: Handshake, peer: "Foreign") -> Handshake | Rejected:
    for _ in range(10):
        peer.step()
        try:
            if handshake.step() is Step.DONE:
                peer.step()
                return handshake
        except Rejected as rejected:
            peer.step()
            return rejected
    raise AssertionError("the handshake did not end")


class Foreign:
    """Python's own ssl on one end of a pair. error: the words of what it raised, e.g. "TLSV1_ALERT_UNKNOWN_CA"."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, *, server: bool = False) -> None:
        self.tls = context.wrap_socket(
            sock.dup(),
            server_side=server,
            do_handshake_on_connect=False,
            server_hostname=None if server else "payments.example",
            suppress_ragged_eofs=False,
        )
        self.tls.setblocking(False)
        self.error: str | None = None
        self.done = False

    def step(self) -> None:
        """Go on as far as it can; once the handshake is done, read."""
        if self.error is not None:
            return
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            self.tls.recv(1)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error.reason or str(error)

    def close(self) -> None:
        self.tls.close()


def foreign_client(
    folder: Path | None = None,
    svid: Svid | None = None,
    *,
    ciphers: str = "DEFAULT",
    least: str = "TLSv1_2",
    most: str = "TLSv1_3",
) -> ssl.SSLContext:
    """A client that checks nothing. svid: what it presents, written into `folder`; None: no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old versions are deprecated, which is why they are asked for
        context.minimum_version = ssl.TLSVersion[least]
        context.maximum_version = ssl.TLSVersion[most]
    if svid is not None and folder is not None:
        path = folder / "client.pem"
        path.write_bytes(svid.cert_pem + svid.key_pem)
        context.load_cert_chain(path)
    return context


def pass_bytes(source: TlsChannel, sink: TlsChannel, data: bytes) -> bytes:
    """Send a short message and read it at the other end."""
    assert source.send_bytes(data) == len(data)
    return read(sink, SCRATCH)
