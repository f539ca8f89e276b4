"""A worker while its configuration changes under traffic, and how it ends."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from proxy.core.config import Limits, Mode, TcpAddress, Timeouts
from proxy.core.events import Accepted, Saturated
from proxy.core.reasons import Reason
from proxy.core.spiffe import parse_trust_domain
from proxy.net.sockets import open_socket
from proxy.tls.channel import End
from tests import minting
from tests.net.hello import client_hello
from tests.net.peers import TlsPeer, receive_exactly, receive_to_end
from tests.net.rig import World, blocking, client, config_of, inbound, issuer, outbound, server, stranger
from tests.tls.pairs import roots

DOMAIN = parse_trust_domain(minting.DOMAIN)


async def alive(world: World, rig, app, name: str = "http") -> tuple:
    """A plaintext connection through a listener, known to relay."""
    down = await world.dial(rig.address(name))
    up = await world.accept(app)
    await blocking(down.sendall, b"x")
    assert await blocking(receive_exactly, up, 1) == b"x"
    return down, up


async def test_listeners_come_move_and_go_without_touching_the_others(world: World) -> None:
    app = world.listening()
    at = app.getsockname()
    one = inbound(at, "one", mode=Mode.DISABLE)
    two = inbound(at, "two", mode=Mode.DISABLE, listen=TcpAddress("127.0.0.3", 0))
    rig = world.rig(one)
    down, up = await alive(world, rig, app, "one")
    kept = rig.address("one")
    rig.apply(config_of(one, two))
    assert rig.address("one") == kept
    second, _ = await alive(world, rig, app, "two")
    moved = inbound(at, "two", mode=Mode.DISABLE, listen=TcpAddress("127.0.0.4", 0))
    old = rig.address("two")
    rig.apply(config_of(one, moved))
    with pytest.raises(ConnectionRefusedError):
        await world.dial(old)
    await alive(world, rig, app, "two")
    await blocking(second.sendall, b"still here")
    rig.apply(config_of(one))
    closed = await rig.recorder.closed(2)
    assert {(c.listener.name, c.reason) for c in closed} == {("two", Reason.POLICY_CHANGED)}
    await blocking(down.sendall, b"never noticed")
    assert await blocking(receive_exactly, up, 13) == b"never noticed"


async def test_the_same_generation_again_ends_nobody(world: World) -> None:
    rig, peer, app = await world.relayed()
    for _ in range(3):
        rig.apply(rig.generation.config)
    await blocking(peer.send, b"x")
    assert await blocking(receive_exactly, app, 1) == b"x"


async def two_peers(world: World):
    """A client of /ns/web and one of /ns/shop, both relaying, on one rig."""
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    web = await world.dial_tls(rig.address())
    web_app = await world.accept(app)
    shop = await world.dial_tls(rig.address(), client(svid=minting.svid(issuer())))
    shop_app = await world.accept(app)
    await rig.recorder.until_polled(lambda: all(c.relay for c in rig.worker.connections), "relaying")
    return rig, app, (web, web_app), (shop, shop_app)


async def still_works(peer: TlsPeer, app) -> None:
    await blocking(peer.send, b"x")
    assert await blocking(receive_exactly, app, 1) == b"x"


async def test_a_policy_that_narrows_ends_exactly_those_it_no_longer_allows(world: World) -> None:
    rig, app, web, shop = await two_peers(world)
    rig.apply(config_of(inbound(app.getsockname(), allow=("spiffe://example.org/ns/shop/**",))))
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.POLICY_CHANGED
    assert (await blocking(web[0].receive_to_end))[1] is End.RESET
    await still_works(*shop)


async def test_a_ca_that_leaves_the_bundle_takes_its_peers_along(world: World) -> None:
    app = world.listening()
    both = {DOMAIN: (*roots(issuer()), *roots(stranger()))}
    rig = world.rig(inbound(app.getsockname()), bundles=both)
    ours = await world.dial_tls(rig.address())
    ours_app = await world.accept(app)
    theirs = await world.dial_tls(rig.address(), client(svid=minting.svid(stranger())))
    await world.accept(app)
    await rig.recorder.until_polled(lambda: all(c.relay for c in rig.worker.connections), "relaying")
    rig.apply(rig.generation.config)  # with the issuer's bundle alone
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.TRUST_WITHDRAWN
    assert (await blocking(theirs.receive_to_end))[1] is End.RESET
    await still_works(ours, ours_app)


async def test_a_chain_that_has_lapsed_is_noticed_when_a_generation_is_published(world: World) -> None:
    rig, _peer, _app = await world.relayed()
    real = rig.clock
    rig.clock = lambda: real() + 2 * minting.HOUR_S
    rig.worker._recheck_all(_with_number(rig, 2))
    assert await rig.recorder.reason() is Reason.CERTIFICATE_LAPSED


def _with_number(rig, number: int):
    return replace(rig.generation, number=number)


async def test_a_port_that_becomes_strict_ends_its_plaintext_connections_alone(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.PERMISSIVE, detection_timeout_s=0.05))
    plain, _ = await alive(world, rig, app)
    peer = await world.dial_tls(rig.address())
    peer_app = await world.accept(app)
    await still_works(peer, peer_app)
    rig.apply(config_of(inbound(app.getsockname(), mode=Mode.STRICT)))
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.POLICY_CHANGED
    assert (await blocking(receive_to_end, plain))[1] is End.RESET
    await still_works(peer, peer_app)


async def test_a_connection_in_mid_handshake_is_judged_by_the_new_generation(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname()))
    sock = await world.dial(rig.address())
    await rig.recorder.until(lambda: rig.recorder.of(Accepted), "accepted")
    rig.apply(config_of(inbound(app.getsockname(), allow=("spiffe://example.org/ns/shop/**",))))
    peer = TlsPeer(client(), sock, accepting=False)
    with contextlib.suppress(Exception):
        await blocking(peer.shake)
    assert await rig.recorder.reason() is Reason.POLICY_CHANGED


async def test_a_drain_closes_inbound_first_and_outbound_after_the_last_inbound_is_done(world: World) -> None:
    app, upstream = world.listening(), world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE), outbound(upstream.getsockname()))
    down, up = await alive(world, rig, app)
    inbound_at, outbound_at = rig.address("http"), rig.address("payments")
    draining = asyncio.get_running_loop().create_task(rig.worker.drain(10))
    await rig.recorder.until_polled(lambda: len(rig.worker.listeners) == 1, "inbound has stopped")
    with pytest.raises(ConnectionRefusedError):
        await world.dial(inbound_at)
    out = await world.dial(outbound_at)  # the app still needs its upstream
    peer = await world.accept_tls(upstream, server())
    down.close()
    await blocking(receive_to_end, up)
    up.close()
    await rig.recorder.until_polled(lambda: not rig.worker.listeners, "outbound has stopped")
    with pytest.raises(ConnectionRefusedError):
        await world.dial(outbound_at)
    assert not draining.done()
    await blocking(peer.close)
    await blocking(receive_to_end, out)
    out.close()
    assert await draining == 0


async def test_a_listener_that_comes_in_the_middle_of_a_drain_keeps_nobody_waiting(world: World) -> None:
    """A reload was under way when the drain began: its new socket must not listen for nobody."""
    app = world.listening()
    rig = world.rig(first := inbound(app.getsockname(), mode=Mode.DISABLE))
    await alive(world, rig, app)
    draining = asyncio.get_running_loop().create_task(rig.worker.drain(10))
    await asyncio.sleep(0)
    second = inbound(app.getsockname(), "late", listen=TcpAddress("127.0.0.3", 0))
    late = rig.sockets[second.listen] = open_socket(second.listen, {})
    address = late.sock.getsockname()
    rig.apply(config_of(first, second))
    with pytest.raises(ConnectionRefusedError):
        await world.dial(address)
    for connection in rig.worker.connections:
        connection.end(Reason.DRAINED, "the test is over")
    await draining


async def test_what_is_left_when_the_drain_is_over_is_cut(world: World) -> None:
    rig, peer, app = await world.relayed()
    assert await rig.worker.drain(0.1) == 1
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.DRAINED
    assert (await blocking(peer.receive_to_end))[1] is End.RESET
    assert (await blocking(receive_to_end, app))[1] is End.RESET


async def test_a_drain_with_nothing_to_do_is_over_at_once(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)))
    assert await rig.worker.drain(0) == 0


async def test_silent_clients_at_the_cap_are_told_of_and_starve_no_listener_that_shakes_no_hands(world: World) -> None:
    app = world.listening()
    strict = inbound(app.getsockname(), "strict")
    plain = inbound(app.getsockname(), "plain", mode=Mode.DISABLE, listen=TcpAddress("127.0.0.3", 0))
    rig = world.rig(strict, plain, limits=Limits(handshakes=2))
    for _ in range(3):
        await world.dial(rig.address("strict"))
    saturated = await rig.recorder.until(lambda: rig.recorder.of(Saturated), "it was said that clients wait")
    assert [(event.listener.name, event.handshakes, event.silent) for event in saturated] == [("strict", 2, 2)]
    await world.dial(rig.address("plain"))
    await world.accept(app)
    assert len(rig.recorder.of(Saturated)) == 1


async def test_clients_beyond_the_cap_of_handshakes_wait_and_are_served(world: World) -> None:
    """Two listeners share the cap, so neither may take one more than it."""
    app = world.listening()
    other = inbound(app.getsockname(), "other", listen=TcpAddress("127.0.0.3", 0))
    rig = world.rig(inbound(app.getsockname()), other, limits=Limits(handshakes=2))
    silent = [await world.dial(rig.address()) for _ in range(2)]
    await rig.recorder.until_polled(lambda: len(rig.recorder.of(Accepted)) == 2, "full")
    waiting = [await world.dial(rig.address(name)) for name in ("http", "other")]
    for sock in waiting:
        await blocking(sock.sendall, client_hello())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.recorder.until(lambda: len(rig.recorder.of(Accepted)) > 2, "a third"), 0.2)
    for sock in silent:
        sock.close()
    await rig.recorder.until_polled(lambda: len(rig.recorder.of(Accepted)) == 4, "those that waited")


@pytest.mark.parametrize(
    "limits", [Limits(handshakes=2), Limits(connections=2), Limits(handshakes_per_s=2, handshakes_per_s_per_source=2)]
)
async def test_strangers_who_fill_the_inbound_places_do_not_stop_our_own_app(world: World, limits: Limits) -> None:
    upstream = world.listening()
    rig = world.rig(inbound(("127.0.0.1", 1)), outbound(upstream.getsockname()), limits=limits)
    for _ in range(2):
        await world.dial(rig.address("http"))
    await rig.recorder.until_polled(lambda: len(rig.worker.connections) == 2, "both are taken, and say nothing")
    await world.dial(rig.address("payments"))
    await world.accept_tls(upstream)


async def test_a_cap_that_is_raised_while_it_is_reached_lets_the_waiting_in(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)), limits=Limits(handshakes=1))
    for _ in range(3):
        await world.dial(rig.address())
    await rig.recorder.until_polled(lambda: len(rig.recorder.of(Accepted)) == 1, "full")
    rig.apply(rig.with_sections(limits=Limits(handshakes=0)))
    await rig.recorder.until_polled(lambda: len(rig.recorder.of(Accepted)) == 3, "all of them")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(connections=1), Reason.OVERLOADED),
        (Limits(handshakes_per_s=0.01), Reason.RATE_LIMITED),
        (Limits(handshakes_per_s_per_source=0.01), Reason.RATE_LIMITED),
    ],
)
async def test_what_is_beyond_a_limit_is_refused_at_once(world: World, limits: Limits, reason: Reason) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)), limits=limits)
    await world.dial(rig.address())
    assert (await world.dial_to_end(rig.address()))[1] is End.RESET
    [closed] = await rig.recorder.closed()
    assert closed.reason is reason


async def test_a_place_that_is_free_again_is_given_away(world: World) -> None:
    rig = world.rig(inbound(("127.0.0.1", 1)), limits=Limits(connections=1), timeouts=Timeouts())
    (await world.dial(rig.address())).close()
    assert await rig.recorder.reason() is Reason.CLIENT_LEFT
    await rig.recorder.until_polled(lambda: not rig.worker.connections, "closed")
    await world.dial(rig.address())
    await rig.recorder.until_polled(lambda: rig.worker.connections, "accepted")


async def test_the_peak_is_told_once_also_of_connections_that_are_gone(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE))
    for _ in range(2):
        await world.dial(rig.address())
    await rig.recorder.until_polled(lambda: len(rig.recorder.of(Accepted)) == 2, "both came")
    for connection in rig.worker.connections:
        connection.end(Reason.DRAINED, "the test ends it")
    await rig.recorder.closed(2)
    assert [rig.worker.take_peak(), rig.worker.take_peak()] == [2, 0]
