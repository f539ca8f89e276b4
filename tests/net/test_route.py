"""
Intercepted connections in a worker: the service and the upstream follow from the original destination.

What SO_ORIGINAL_DST would say is said by the test here, so that no rules and no root are needed;
tests/e2e/test_intercept.py asks the kernel.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.core.config import (
    InboundPolicy,
    InterceptConfig,
    InterceptInbound,
    InterceptOutbound,
    Limits,
    Mode,
    OutboundDefault,
    PortPolicy,
    Route,
    TcpAddress,
)
from proxy.core.events import Direction, HandshakeEnded, Relaying, Security
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_pattern
from proxy.net import route
from proxy.net.route import Router, end_of
from tests.net.rig import Rig, World, blocking, server

ANYBODY = (parse_pattern("spiffe://example.org/**"),)
NOBODY = (parse_pattern("spiffe://example.org/nobody"),)
Mean = Callable[[TcpAddress | OSError | None], None]


@pytest.fixture
def mean(monkeypatch: pytest.MonkeyPatch) -> Mean:
    """`mean(address)`: where connections were going from now on; None: nowhere but to the interception."""

    def mean(meant: TcpAddress | OSError | None) -> None:
        def answer(_sock: socket.socket) -> TcpAddress | None:
            if isinstance(meant, OSError):
                raise meant
            return meant

        monkeypatch.setattr(route, "original_destination", answer)

    return mean


def inbound(default: InboundPolicy | None = None, *ports: PortPolicy) -> InterceptConfig:
    return InterceptConfig(inbound=InterceptInbound(listen=TcpAddress("127.0.0.1", 0), ports=ports, default=default))


def outbound(*routes: Route, default: OutboundDefault = OutboundDefault.PASSTHROUGH) -> InterceptConfig:
    section = InterceptOutbound(listen=TcpAddress("127.0.0.1", 0), routes=routes, default=default)
    return InterceptConfig(outbound=section)


def route_to_loopback(server_ids: tuple[object, ...] = ANYBODY) -> Route:
    return Route(to=ip_network("127.0.0.0/8"), server_ids=server_ids)  # type: ignore[arg-type]


def target_of(app: socket.socket) -> TcpAddress:
    return TcpAddress(*app.getsockname()[:2])


async def exchanged(world: World, rig: Rig, app: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A plaintext client whose bytes have come to the app, and the app's end."""
    client = await world.dial(rig.address("intercept"))
    client.sendall(b"hello")
    accepted = await world.accept(app)
    assert await blocking(accepted.recv, 5) == b"hello"
    return client, accepted


async def test_an_intercepted_connection_goes_on_to_where_it_was_going(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=inbound(InboundPolicy(mode=Mode.DISABLE)))
    ends = await exchanged(world, rig, app)
    assert rig.only.target == rig.only.meant == target_of(app)
    assert rig.only.local == rig.only.upstream_address == str(target_of(app))
    for end in ends:
        end.close()
    [closed] = await rig.recorder.closed()
    assert (closed.listener.name, closed.security) == ("intercept", Security.PLAINTEXT)


async def test_what_no_route_covers_is_relayed_as_it_is(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=outbound())
    ends = await exchanged(world, rig, app)
    assert rig.only.security is Security.PLAINTEXT
    for end in ends:
        end.close()
    [closed] = await rig.recorder.closed()
    assert (closed.listener.name, closed.bytes_received, closed.tls) == ("intercept", 5, None)


async def test_what_a_route_covers_is_reached_by_mutual_tls(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=outbound(route_to_loopback()))
    client = await world.dial(rig.address("intercept"))
    peer = await world.accept_tls(app, server())
    client.sendall(b"hello")
    assert await blocking(peer.receive, 5) == b"hello"
    assert rig.only.service.listener.name == "intercept-127.0.0.0/8"


async def test_each_destination_of_a_route_has_its_own_session(world: World, mean: Mean) -> None:
    """Offering one upstream the session of another would be a full handshake each time."""
    apps = [(world.listening(), server("1.3")) for _ in range(2)]
    rig = world.rig(intercept=outbound(route_to_loopback()))
    for _ in range(2):
        for app, context in apps:
            mean(target_of(app))
            client = await world.dial(rig.address("intercept"))
            peer = await world.accept_tls(app, context)
            await blocking(peer.send, b"x")
            assert await blocking(client.recv, 1) == b"x"
            await blocking(peer.close)
            client.close()
            await rig.recorder.until(lambda: not rig.worker.connections, "it is over")
    handshakes = [event.tls for event in rig.recorder.of(HandshakeEnded)]
    assert [tls is not None and tls.resumed for tls in handshakes] == [False, False, True, True]


async def test_who_was_not_redirected_is_refused(world: World, mean: Mean) -> None:
    mean(None)
    for section in (inbound(InboundPolicy(mode=Mode.DISABLE)), outbound()):
        rig = world.rig(intercept=section)
        assert (await world.dial_to_end(rig.address("intercept")))[0] == b""
        [closed] = await rig.recorder.closed()
        assert (closed.reason, closed.upstream_address) == (Reason.NOT_ALLOWED, None)
        assert "was not redirected" in closed.detail


async def test_a_client_that_left_before_it_was_looked_at_is_named_so(world: World, mean: Mean) -> None:
    mean(OSError(107, "Transport endpoint is not connected"))
    rig = world.rig(intercept=inbound(InboundPolicy(mode=Mode.DISABLE)))
    await world.dial_to_end(rig.address("intercept"))
    assert await rig.recorder.reason() is Reason.CLIENT_LEFT


async def test_inbound_leads_to_this_host_alone(world: World, mean: Mean) -> None:
    mean(TcpAddress("192.0.2.1", 80))
    rig = world.rig(intercept=inbound(InboundPolicy(mode=Mode.DISABLE)))
    await world.dial_to_end(rig.address("intercept"))
    [closed] = await rig.recorder.closed()
    assert closed.detail.startswith("192.0.2.1:80 is no address of this host")


async def test_our_own_connection_that_comes_back_is_refused_and_soon_forgotten(world: World, mean: Mean) -> None:
    """The sidecar dials its own interception, as if the rules had sent it there."""
    rig = world.rig(intercept=outbound())
    mean(TcpAddress(*rig.address("intercept")))
    assert (await world.dial_to_end(rig.address("intercept")))[0] == b""
    [inner, _] = await rig.recorder.closed(2)
    assert inner.reason is Reason.NOT_ALLOWED
    assert "redirected the sidecar's own connection" in inner.detail
    assert rig.worker._router.own_ends == set()


def test_an_end_is_the_same_in_both_spellings() -> None:
    assert end_of(("::ffff:10.0.0.1", 4242, 0, 0)) == end_of(("10.0.0.1", 4242))
    assert end_of(("fd00::1", 4242, 0, 0)) == ("fd00::1", 4242)


def test_without_a_descriptor_left_to_look_with_the_client_is_refused_as_one_too_many(monkeypatch) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(route.socket, "socket", exhausted)
    with pytest.raises(Rejected) as caught:
        Router()._check(Direction.INBOUND, TcpAddress("192.0.2.1", 80), ("192.0.2.7", 5000))
    assert caught.value.reason is Reason.OVERLOADED


def test_a_local_address_is_remembered_and_a_strange_one_is_not() -> None:
    router = Router()
    assert [router._is_local(host) for host in ("127.0.0.1", "::1", "192.0.2.1", "127.0.0.1")] == [
        True,
        True,
        False,
        True,
    ]
    assert router._local_hosts == {"127.0.0.1", "::1"}


# A later generation.


async def test_a_port_that_turns_strict_ends_its_plaintext(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    port = PortPolicy(port=target_of(app).port, mode=Mode.PERMISSIVE, allow=ANYBODY)
    rig = world.rig(intercept=inbound(None, port))
    await exchanged(world, rig, app)
    rig.apply(rig.with_sections(intercept=inbound(None, replace(port, mode=Mode.STRICT))))
    [closed] = await rig.recorder.closed()
    assert (closed.reason, closed.listener.name) == (Reason.POLICY_CHANGED, f"intercept-{port.port}")


async def test_a_connection_moves_with_its_destination_to_another_service(world: World, mean: Mean) -> None:
    """The port got a policy of its own that allows the same: nobody notices."""
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=inbound(InboundPolicy(mode=Mode.DISABLE)))
    await exchanged(world, rig, app)
    rig.apply(rig.with_sections(intercept=inbound(None, PortPolicy(port=target_of(app).port, mode=Mode.DISABLE))))
    assert rig.only.generation is rig.generation


async def test_a_route_whose_servers_are_others_now_ends_its_connections(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=outbound(route_to_loopback()))
    await world.dial(rig.address("intercept"))
    await world.accept_tls(app, server())
    await rig.recorder.until(lambda: rig.recorder.of(Relaying), "relaying")
    rig.apply(rig.with_sections(intercept=outbound(route_to_loopback(NOBODY))))
    [closed] = await rig.recorder.closed()
    assert closed.reason is Reason.POLICY_CHANGED


async def test_a_passthrough_that_gets_a_route_or_is_refused_ends(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    for section in (outbound(route_to_loopback()), outbound(default=OutboundDefault.REFUSE)):
        rig = world.rig(intercept=outbound())
        await exchanged(world, rig, app)
        rig.apply(rig.with_sections(intercept=section))
        assert await rig.recorder.reason() is Reason.POLICY_CHANGED


async def test_passthrough_takes_no_place_among_the_handshakes(world: World, mean: Mean) -> None:
    app = world.listening()
    mean(target_of(app))
    rig = world.rig(intercept=outbound(), limits=Limits(handshakes=1))
    for _ in range(2):
        await exchanged(world, rig, app)
    assert len(rig.worker.connections) == 2
