"""A connection's whole life: the table of modes, what a refused client sees, and every wait on a silent peer."""

import contextlib
import socket
import ssl

import pytest
from OpenSSL import SSL

from proxy.core.config import AppTls, Mode, ProxyProtocol, Timeouts, UnixAddress
from proxy.core.events import Dialed, Security
from proxy.core.reasons import Reason
from proxy.tls.channel import End
from tests import minting
from tests.engines import POLICY_ALERT
from tests.net.hello import client_hello
from tests.net.peers import TlsPeer, receive_exactly, receive_to_end, reset, tls_context
from tests.net.rig import World, blocking, client, client_svid, inbound, issuer, stranger

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])
SERVED = Reason.COMPLETED
NAMES = ("app.shop.svc",)


def plaintext(sock: socket.socket) -> None:
    sock.sendall(b"hello from a client")
    sock.shutdown(socket.SHUT_WR)


def without_certificate(sock: socket.socket) -> None:
    speak_tls(sock, tls_context(None, server=False))


def of_a_stranger(sock: socket.socket) -> None:
    speak_tls(sock, tls_context(minting.svid(stranger()), server=False))


def with_an_svid(sock: socket.socket) -> None:
    speak_tls(sock, client())


def the_apps_own(sock: socket.socket) -> None:
    """A hello for the app, which answers something that is no handshake here."""
    sock.sendall(client_hello(NAMES[0]))
    sock.shutdown(socket.SHUT_WR)


def speak_tls(sock: socket.socket, context: SSL.Context) -> None:
    """Close at the end alone: a refused client that stays is waited for."""
    with sock, contextlib.suppress(SSL.Error, ConnectionError):  # refused, as the test sees on the other side
        peer = TlsPeer(context, sock, accepting=False).shake()
        peer.send(b"hello from a client")
        peer.finish()
        peer.receive_to_end()


PASS = {"app_tls": AppTls.PASSTHROUGH, "app_tls_server_names": NAMES}
TABLE = [
    (plaintext, Mode.STRICT, {}, Reason.PLAINTEXT_REFUSED, None),
    (plaintext, Mode.PERMISSIVE, {}, SERVED, Security.PLAINTEXT),
    (plaintext, Mode.DISABLE, {}, SERVED, Security.PLAINTEXT),
    (with_an_svid, Mode.STRICT, {}, SERVED, Security.MUTUAL_TLS),
    (with_an_svid, Mode.PERMISSIVE, {}, SERVED, Security.MUTUAL_TLS),
    (with_an_svid, Mode.PERMISSIVE, PASS, SERVED, Security.MUTUAL_TLS),
    (without_certificate, Mode.STRICT, {}, Reason.NO_CLIENT_CERTIFICATE, None),
    (without_certificate, Mode.PERMISSIVE, {}, Reason.NO_CLIENT_CERTIFICATE, None),
    (of_a_stranger, Mode.STRICT, {}, Reason.UNKNOWN_AUTHORITY, None),
    (of_a_stranger, Mode.PERMISSIVE, {}, Reason.UNKNOWN_AUTHORITY, None),
    (the_apps_own, Mode.STRICT, {}, Reason.CLIENT_LEFT, None),
    (the_apps_own, Mode.PERMISSIVE, {}, Reason.CLIENT_LEFT, None),
    (the_apps_own, Mode.PERMISSIVE, PASS, SERVED, Security.APP_TLS),
    (the_apps_own, Mode.DISABLE, {}, SERVED, Security.PLAINTEXT),
]


@pytest.mark.parametrize(("speak", "mode", "more", "reason", "security"), TABLE)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_the_table_of_modes(world: World, tmp_path, speak, mode, more, reason, security, kind: str) -> None:
    """Who is not served never makes the app hear of it."""
    app = world.listening()
    if kind == "unix":
        more = more | {"listen": UnixAddress(str(tmp_path / "s"))}
    rig = world.rig(inbound(app.getsockname(), mode=mode, **more))
    sock = await world.dial(rig.address())
    speaking = blocking(speak, sock)
    if reason is SERVED:
        heard = await world.accept(app)
        data, end = await blocking(receive_to_end, heard)
        assert (bool(data), end) == (True, End.CLEAN)
        heard.close()
    await speaking
    [closed] = await rig.recorder.closed()
    assert closed.reason is reason
    assert closed.security is security or reason is not SERVED
    assert bool(rig.recorder.of(Dialed)) == (reason is SERVED)


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_a_server_first_app_greets_a_silent_client(world: World, mode: Mode) -> None:
    """PERMISSIVE: after `server_first_hold_s`, in plaintext. STRICT: once the client is authorized."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=mode, server_first=True, server_first_hold_s=0.05))
    if mode is Mode.STRICT:
        peer = await world.dial_tls(rig.address())
        (await world.accept(app)).sendall(b"220 ready")
        assert await blocking(peer.receive_exactly, 9) == b"220 ready"
    else:
        sock = await world.dial(rig.address())
        (await world.accept(app)).sendall(b"220 ready")
        assert await blocking(receive_exactly, sock, 9) == b"220 ready"


async def test_a_client_that_opens_tls_in_time_gets_the_greeting_through_tls(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.PERMISSIVE, server_first=True, server_first_hold_s=5))
    sock = await world.dial(rig.address())
    (await world.accept(app)).sendall(b"220 ready")
    peer = await blocking(TlsPeer(client(), sock, accepting=False).shake)
    assert await blocking(peer.receive_exactly, 9) == b"220 ready"
    assert len(rig.recorder.of(Dialed)) == 1


async def test_a_client_of_a_server_first_port_that_is_refused_frees_the_app(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.PERMISSIVE, server_first=True, server_first_hold_s=5))
    sock = await world.dial(rig.address())
    heard = await world.accept(app)
    await blocking(without_certificate, sock)
    assert await rig.recorder.reason() is Reason.NO_CLIENT_CERTIFICATE
    assert await blocking(receive_to_end, heard) == (b"", End.RESET)


async def test_silence_is_plaintext_in_permissive_and_the_app_may_speak(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.PERMISSIVE, detection_timeout_s=0.05))
    sock = await world.dial(rig.address())
    (await world.accept(app)).sendall(b"hello")
    assert await blocking(receive_exactly, sock, 5) == b"hello"


@both_versions
@pytest.mark.parametrize(
    ("svid", "words"),
    [
        (lambda: minting.svid(stranger()), "unknown ca"),
        (lambda: minting.expired(issuer()), "certificate expired"),
        (lambda: minting.svid(issuer(), "spiffe://example.org/ns/evil/sa/x"), "policy"),
        (lambda: minting.without_san(issuer()), "unsupported certificate"),
    ],
)
async def test_a_refused_client_can_read_its_alert_although_it_goes_on_sending(
    world: World, version: str, svid, words: str
) -> None:
    """A socket that is closed with unread bytes resets, and a reset would overtake the alert."""
    rig = world.rig(inbound(("127.0.0.1", 1), allow=("spiffe://example.org/ns/web/**", minting.CART)))
    peer = TlsPeer(client(version, svid()), await world.dial(rig.address()), accepting=False)

    def talk() -> str:
        try:
            peer.shake()
            peer.send(bytes(100_000))  # TLS 1.3: the client believes that it is let in
        except SSL.Error as error:
            return str(error)
        except ConnectionError:
            pass
        peer.receive_to_end()
        return peer.alert

    said = await blocking(talk)
    assert words.replace("policy", POLICY_ALERT[world.engine].replace("_", " ")) in said.replace("tlsv1 alert ", "")
    peer.sock.close()
    [closed] = await rig.recorder.closed()
    assert closed.tls is not None
    assert closed.upstream_address is None


async def test_refused_plaintext_ends_with_a_fin_and_without_a_byte(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)))
    sock = await world.dial(rig.address())
    await blocking(sock.sendall, b"GET / HTTP/1.1\r\n\r\n")
    assert await blocking(receive_to_end, sock) == (b"", End.CLEAN)
    sock.close()
    assert await rig.recorder.reason() is Reason.PLAINTEXT_REFUSED


async def test_a_refused_client_that_never_closes_is_closed(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)))
    sock = await world.dial(rig.address())
    await blocking(sock.sendall, b"G")
    await rig.recorder.reason()
    await rig.recorder.until_polled(lambda: not rig.worker.connections, "closed")


@pytest.mark.parametrize("begun", [0, 1, 11, 100, 65536])
async def test_a_client_that_falls_silent_costs_no_more_than_the_deadline(world: World, begun: int) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)), timeouts=Timeouts(handshake_s=0.1))
    sock = await world.dial(rig.address())
    await blocking(sock.sendall, client_hello()[:begun])
    await blocking(receive_to_end, sock)
    sock.close()
    assert await rig.recorder.reason() is Reason.HANDSHAKE_TIMEOUT


@pytest.mark.parametrize("begun", [0, 1, 65536])
async def test_a_connection_is_ended_wherever_it_waits(world: World, begun: int) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)))
    sock = await world.dial(rig.address())
    await blocking(sock.sendall, client_hello()[:begun])
    await rig.recorder.until_polled(lambda: rig.worker.connections, "accepted")
    rig.only.end(Reason.DRAINED, "now")
    assert await rig.recorder.reason() is Reason.DRAINED
    assert (await blocking(receive_to_end, sock))[1] is End.RESET


async def test_a_connection_that_is_ended_in_the_very_turn_of_its_accept_is_closed_too(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)))
    real = rig.worker._take

    def take(*arguments):
        real(*arguments)
        rig.only.end(Reason.DRAINED, "at once")

    for acceptor in rig.worker._acceptors.values():
        acceptor._take = take
    with contextlib.suppress(ConnectionResetError):  # it may come before the client has noticed that it is connected
        await world.dial(rig.address())
    assert await rig.recorder.reason() is Reason.DRAINED


async def test_an_app_that_refuses_resets_the_client(world: World) -> None:
    """A FIN would look like an answer that happens to be empty."""
    rig = world.rig(inbound(("127.0.0.1", 1), mode=Mode.DISABLE))
    assert await world.dial_to_end(rig.address()) == (b"", End.RESET)
    assert await rig.recorder.reason() is Reason.UPSTREAM_REFUSED


async def test_a_client_that_is_gone_before_the_header_is_written_is_no_bug_of_ours(world: World) -> None:
    """Its address can no longer be asked of the socket."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE, proxy_protocol=ProxyProtocol.V2))
    sock = await world.dial(rig.address())
    reset(sock)
    await rig.recorder.closed()
    assert rig.bugs == []


async def test_an_exception_of_ours_ends_one_connection_and_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE))
    monkeypatch.setattr("proxy.net.connection.proxy_header", lambda *_: 1 / 0)
    assert (await world.dial_to_end(rig.address()))[1] is End.RESET
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.detail) == (Reason.RESET, "internal error: ZeroDivisionError")
    assert [type(rig.bugs.pop())] == [ZeroDivisionError]
    monkeypatch.undo()
    await world.dial(rig.address())
    await world.accept(app)


async def test_python_s_own_ssl_is_served_too(world: World, tmp_path) -> None:
    """Not everything that is tested here with OpenSSL 4 may be true of the OpenSSL that clients have."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    (tmp_path / "pem").write_bytes(client_svid().cert_pem + client_svid().key_pem)
    (tmp_path / "ca").write_bytes(issuer().bundle_pem)
    context = ssl.create_default_context(cafile=tmp_path / "ca")
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "pem")
    sock = await world.dial(rig.address())
    tls = world.keep(await blocking(context.wrap_socket, sock))
    await blocking(tls.sendall, b"hello")
    assert await blocking(receive_exactly, await world.accept(app), 5) == b"hello"


@pytest.mark.parametrize("length", [1, 3000, 50_000])
async def test_what_a_client_says_in_one_breath_with_its_last_flight_reaches_an_app_that_waits_for_it(
    world: World, length: int
) -> None:
    """No readiness will tell of bytes that the engine took from the socket together with the handshake's end."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    sock = await world.dial(rig.address())

    def speak() -> None:
        caller = SSL.Connection(client("1.3"))  # on a buffer of its own, so that we decide what goes in one segment
        caller.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            caller.do_handshake()
        sock.sendall(caller.bio_read(65536))
        while True:
            caller.bio_write(sock.recv(65536))
            try:
                caller.do_handshake()
                break
            except SSL.WantReadError:
                pass
        caller.sendall(bytes(length))
        sock.sendall(caller.bio_read(100_000))

    await blocking(speak)
    heard = await world.accept(app)
    assert await blocking(receive_exactly, heard, length) == bytes(length)
