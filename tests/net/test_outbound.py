"""From our app to the network: who refused whom, and what is kept for the next connection."""

import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL

from proxy.core.config import TcpAddress, Timeouts
from proxy.core.events import Relaying
from proxy.core.reasons import Reason
from proxy.tls.channel import End
from tests import minting
from tests.engines import POLICY_ALERT
from tests.net.peers import TlsPeer, receive_exactly, receive_to_end
from tests.net.rig import Rig, World, blocking, issuer, outbound, server, stranger

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


async def upstream_of(world: World, **fields):
    listening = world.listening()
    timeouts = fields.pop("timeouts", Timeouts())
    rig = world.rig(outbound(listening.getsockname(), **fields), timeouts=timeouts)
    return rig, listening, await world.dial(rig.address("payments"))


@both_versions
async def test_the_app_reaches_an_upstream_that_proves_itself(world: World, version: str) -> None:
    rig, listening, app = await upstream_of(world)
    peer = await world.accept_tls(listening, server(version))
    await blocking(app.sendall, b"question")
    assert await blocking(peer.receive_exactly, 8) == b"question"
    await blocking(peer.send, b"reply")
    await blocking(peer.close)
    assert await blocking(receive_to_end, app) == (b"reply", End.CLEAN)
    app.close()
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.bytes_received, closed.bytes_sent) == (Reason.COMPLETED, 8, 5)
    assert closed.tls is not None
    assert closed.tls.peer_spiffe_id == minting.CART


@both_versions
@pytest.mark.parametrize("writes", [False, True])
async def test_an_upstream_that_does_not_like_our_certificate_is_named(
    world: World, version: str, writes: bool
) -> None:
    """In TLS 1.3 its alert comes after our handshake has ended, perhaps while we are writing."""
    rig, listening, app = await upstream_of(world)
    if writes:
        await blocking(app.sendall, bytes(100_000))
    with pytest.raises(SSL.Error):
        await world.accept_tls(listening, server(version, accept=False))
    assert (await blocking(receive_to_end, app)) == (b"", End.RESET)
    assert await rig.recorder.reason() is Reason.UPSTREAM_REJECTED_US


async def test_a_bare_end_before_any_byte_is_a_refusal_in_tls_1_3(world: World, tmp_path: Path) -> None:
    """Python's ssl is the one that can leave the tickets out, which would count as a proof."""
    svid = minting.svid(issuer())
    (tmp_path / "pem").write_bytes(svid.cert_pem + svid.key_pem)
    (tmp_path / "ca").write_bytes(issuer().bundle_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca")
    context.load_cert_chain(tmp_path / "pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    rig, listening, app = await upstream_of(world)
    sock = await world.accept(listening)
    (await blocking(lambda: context.wrap_socket(sock, server_side=True))).close()
    assert await rig.recorder.reason() is Reason.UPSTREAM_REJECTED_US
    assert (await blocking(receive_to_end, app)) == (b"", End.RESET)


async def test_a_bare_end_after_the_first_byte_is_a_truncation(world: World) -> None:
    rig, listening, app = await upstream_of(world)
    peer = await world.accept_tls(listening, server("1.3"))
    await blocking(peer.send, b"x")
    peer.sock.close()
    assert await blocking(receive_to_end, app) == (b"x", End.RESET)
    assert await rig.recorder.reason() is Reason.TRUNCATED


async def test_a_session_ticket_proves_that_we_are_accepted(world: World) -> None:
    rig, listening, _app = await upstream_of(world)
    peer = await world.accept_tls(listening, server("1.3"))
    await rig.recorder.until(lambda: rig.recorder.of(Relaying), "relaying")
    service = next(iter(rig.generation.services.values()))
    await rig.recorder.until_polled(lambda: service.context._sessions, "the session is kept")
    peer.sock.close()
    assert await rig.recorder.reason() is Reason.TRUNCATED


@both_versions
async def test_a_server_that_is_not_in_server_ids_gets_an_alert_and_no_byte(world: World, version: str) -> None:
    rig, listening, app = await upstream_of(world, server_ids=("spiffe://example.org/ns/shop/sa/other",))
    await blocking(app.sendall, b"secret")
    peer = TlsPeer(server(version), await world.accept(listening), accepting=True)
    with pytest.raises(SSL.Error, match=POLICY_ALERT[world.engine].replace("_", " ")):
        await blocking(peer.shake)
    assert await rig.recorder.reason() is Reason.SERVER_ID_MISMATCH
    assert (await blocking(receive_to_end, app)) == (b"", End.RESET)


@pytest.mark.parametrize(
    ("svid", "reason"),
    [
        (lambda: minting.svid(stranger()), Reason.UNKNOWN_AUTHORITY),
        (lambda: minting.svid(minting.authority("other.org")), Reason.WRONG_TRUST_DOMAIN),
        (lambda: minting.expired(issuer()), Reason.CERTIFICATE_EXPIRED),
        (lambda: minting.not_yet_valid(issuer()), Reason.CERTIFICATE_NOT_YET_VALID),
        (lambda: minting.as_ca(issuer()), Reason.NOT_AN_SVID),
        (lambda: minting.with_uris(issuer(), "spiffe://example.org/ns//x"), Reason.SPIFFE_ID_MALFORMED),
    ],
)
async def test_an_upstream_with_the_wrong_certificate_is_refused(world: World, svid, reason: Reason) -> None:
    rig, listening, _app = await upstream_of(world)
    with pytest.raises(SSL.Error):
        await world.accept_tls(listening, server(svid=svid()))
    assert await rig.recorder.reason() is reason


async def test_an_upstream_that_answers_in_plaintext_is_not_tls(world: World) -> None:
    rig, listening, _app = await upstream_of(world)
    peer = await world.accept(listening)
    await blocking(peer.sendall, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert await rig.recorder.reason() is Reason.NOT_TLS


async def test_an_upstream_that_says_nothing_is_given_up(world: World) -> None:
    rig, listening, app = await upstream_of(world, timeouts=Timeouts(handshake_s=0.1))
    await world.accept(listening)
    assert await rig.recorder.reason() is Reason.UPSTREAM_TIMEOUT
    assert (await blocking(receive_to_end, app)) == (b"", End.RESET)


async def test_a_handshake_with_a_silent_upstream_can_be_ended(world: World) -> None:
    rig, listening, _app = await upstream_of(world)
    peer = await world.accept(listening)
    await blocking(receive_exactly, peer, 5)  # its ClientHello has come
    rig.only.end(Reason.DRAINED, "now")
    assert await rig.recorder.reason() is Reason.DRAINED
    assert (await blocking(receive_to_end, peer))[1] is End.RESET


async def connect_again(world: World, rig: Rig, listening, context: SSL.Context) -> bool:
    """One more connection that ends well. Returns: whether it was resumed."""
    app = await world.dial(rig.address("payments"))
    peer = await world.accept_tls(listening, context)
    await blocking(peer.send, b"x")
    assert await blocking(receive_exactly, app, 1) == b"x"
    app.close()
    await blocking(peer.receive_to_end)
    await blocking(peer.close)
    done = await rig.recorder.closed(len(rig.recorder.of(Relaying)))
    assert done[-1].tls is not None
    return done[-1].tls.resumed


@both_versions
@pytest.mark.parametrize("resume", [True, False])
async def test_a_session_is_kept_and_used_when_asked_for(world: World, version: str, resume: bool) -> None:
    listening = world.listening()
    rig = world.rig(outbound(listening.getsockname(), resume=resume))
    context = server(version)
    resumed = [await connect_again(world, rig, listening, context) for _ in range(3)]
    assert resumed == [False, resume, resume]


@both_versions
async def test_a_session_does_not_outlive_its_generation(world: World, version: str) -> None:
    listening = world.listening()
    rig = world.rig(outbound(listening.getsockname()))
    context = server(version)
    assert not await connect_again(world, rig, listening, context)
    rig.apply(rig.generation.config)
    assert not await connect_again(world, rig, listening, context)


@both_versions
async def test_a_session_is_forgotten_after_a_refusal(world: World, version: str) -> None:
    listening = world.listening()
    rig = world.rig(outbound(listening.getsockname()))
    assert not await connect_again(world, rig, listening, server(version))
    service = next(iter(rig.generation.services.values()))
    assert service.context._sessions
    await world.dial(rig.address("payments"))
    with pytest.raises(SSL.Error):
        await world.accept_tls(listening, server(version, accept=False))
    closed = await rig.recorder.closed(2)
    assert closed[-1].reason is Reason.UPSTREAM_REJECTED_US
    if version == "1.2":
        assert not service.context._sessions


async def test_the_server_name_is_the_hosts_and_never_an_address(world: World) -> None:
    for host, name in (("localhost", "localhost"), ("127.0.0.1", None)):
        listening = world.listening()
        rig = world.rig(outbound(TcpAddress(host, listening.getsockname()[1])))
        app = await world.dial(rig.address("payments"))
        peer = await world.accept_tls(listening)
        seen = peer.ssl.get_servername()
        assert (seen.decode() if seen else None) == name
        app.close()


async def test_an_upstream_that_refuses_the_connection_resets_the_app(world: World) -> None:
    rig = world.rig(outbound(("127.0.0.1", 1)))
    assert await world.dial_to_end(rig.address("payments")) == (b"", End.RESET)
    assert await rig.recorder.reason() is Reason.UPSTREAM_REFUSED
