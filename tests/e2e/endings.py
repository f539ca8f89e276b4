"""One scene for each Reason of an ending: the connection was let in, bytes went there and back, and then this."""

import select
import socket
import ssl
import struct

from proxy.core.reasons import Reason
from tests import minting
from tests.e2e.apps import Serve, echo
from tests.e2e.pki import Identity
from tests.e2e.stage import BOTH_CLOCKS, Shown, Stage, shows
from tests.e2e.tlspeers import ask, connect, end_of
from tests.e2e.waiting import PATIENCE_S


def hold(stage: Stage, serve: Serve = echo, **sections: object) -> tuple[Shown, ssl.SSLSocket]:
    """A connection of `cart` that has carried bytes, and what is known of it so far."""
    cart = stage.pki.identity("cart")
    sidecar = stage.inbound(serve, sections=sections)
    sock = connect(sidecar.at("in"), stage.client(cart))
    ask(sock)
    return Shown(sidecar, expected="reset", peer=cart.spiffe_id), sock


def finish_and_stay(sock: socket.socket) -> None:
    """Answer once, send nothing more, and wait until the other side is gone altogether."""
    sock.sendall(sock.recv(65536))
    sock.shutdown(socket.SHUT_WR)
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    poll.poll(PATIENCE_S * 1000)


def answer_and_reset(sock: socket.socket) -> None:
    """Answer once, then abort."""
    sock.sendall(sock.recv(65536))
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@shows(Reason.COMPLETED)
def both_sides_are_done(stage: Stage) -> Shown:
    shown, sock = hold(stage)
    with sock:
        sock.unwrap().close()  # our close_notify, and then the app's end as another
    return shown._replace(expected="")


@shows(Reason.RESET)
def the_app_aborts(stage: Stage) -> Shown:
    shown, sock = hold(stage, answer_and_reset)
    with sock:
        sock.sendall(b"again")
        return shown._replace(saw=end_of(sock), in_detail=("the upstream",))


@shows(Reason.TRUNCATED)
def a_client_ends_without_close_notify(stage: Stage) -> Shown:
    shown, sock = hold(stage)
    sock.close()
    return shown._replace(expected="", in_detail=("the downstream",))


@shows(Reason.IDLE_TIMEOUT)
def nobody_says_anything(stage: Stage) -> Shown:
    shown, sock = hold(stage, timeouts={"idle_s": 0.3})
    with sock:
        return shown._replace(saw=end_of(sock), expected="reset")


@shows(Reason.HALF_CLOSE_TIMEOUT)
def one_side_is_done_and_the_other_silent(stage: Stage) -> Shown:
    shown, sock = hold(stage, finish_and_stay, timeouts={"half_close_s": 0.3})
    with sock:
        saw = end_of(sock)
        shown.sidecar.closed()
    return shown._replace(saw=saw, expected="ended")


@shows(Reason.LIFETIME_ENDED)
def a_connection_is_as_old_as_it_may_get(stage: Stage) -> Shown:
    shown, sock = hold(stage, timeouts={"max_lifetime_s": 0.3})
    with sock:
        return shown._replace(saw=end_of(sock))


@shows(Reason.CERTIFICATE_LAPSED)
def a_clients_certificate_ends_before_its_connection(stage: Stage) -> Shown:
    sidecar = stage.inbound()
    cart = stage.pki.write(minting.svid(stage.pki.authority, lifetime_s=3))
    with connect(sidecar.at("in"), stage.client(cart)) as sock:
        ask(sock)
        return Shown(sidecar, end_of(sock), "reset", cart.spiffe_id, BOTH_CLOCKS)


@shows(Reason.TRUST_WITHDRAWN)
def a_ca_leaves_the_bundle(stage: Stage) -> Shown:
    web, cart = stage.pki.identity("web"), stage.pki.identity("cart", issuer=stage.pki.stranger)
    _trusting(web, stage, stage.pki.stranger.bundle_pem)
    app = stage.start_app(echo)
    sidecar = stage.inbound(upstream=app.address, identity=web)
    with connect(sidecar.at("in"), stage.client(cart)) as sock:
        ask(sock)
        _trusting(web, stage, b"")
        return Shown(sidecar, end_of(sock), "reset", cart.spiffe_id)


def _trusting(identity: Identity, stage: Stage, more: bytes) -> None:
    identity.bundle.write_bytes(stage.pki.authority.bundle_pem + more)


@shows(Reason.POLICY_CHANGED)
def a_peer_is_denied_from_now_on(stage: Stage) -> Shown:
    shown, sock = hold(stage)
    with sock:
        shown.sidecar.config["inbound"][0]["deny"] = [shown.peer]
        shown.sidecar.write()
        return shown._replace(saw=end_of(sock), in_detail=("is denied",))


@shows(Reason.DRAINED)
def a_drain_is_over_before_a_connection(stage: Stage) -> Shown:
    shown, sock = hold(stage, timeouts={"drain_s": 0.3})
    with sock:
        shown.sidecar.ask("POST", "/drain")
        return shown._replace(saw=end_of(sock))
