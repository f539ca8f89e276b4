"""Which service an intercepted connection has, by where it was going."""

import pytest

from proxy.core.addresses import parse_network
from proxy.core.config import (
    Config,
    IdentityConfig,
    InboundPolicy,
    InterceptConfig,
    InterceptInbound,
    InterceptOutbound,
    Mode,
    OutboundDefault,
    PortPolicy,
    Route,
    TcpAddress,
)
from proxy.core.events import Direction
from proxy.core.policy import permit_passthrough
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_pattern
from proxy.tls.interception import InboundInterception, OutboundInterception, PassthroughService
from proxy.tls.store import Generation, InboundService, OutboundService, build_generation
from tests import minting
from tests.tls import pairs

WEB = (parse_pattern("spiffe://example.org/ns/web/**"),)


def generation(intercept: InterceptConfig) -> Generation:
    authority = minting.authority()
    material = pairs.material_of(minting.svid(authority), authority)
    config = Config(identity=IdentityConfig(cert="", key="", bundles={}), intercept=intercept)
    return build_generation(1, config, material, minting.now_s)


def inbound(default: InboundPolicy | None = None, *ports: PortPolicy) -> InboundInterception:
    section = InterceptInbound(listen=TcpAddress("0.0.0.0", 15006), ports=ports, default=default)
    found = generation(InterceptConfig(inbound=section)).interceptions[Direction.INBOUND]
    assert isinstance(found, InboundInterception)
    return found


def outbound(default: OutboundDefault, *routes: Route) -> OutboundInterception:
    section = InterceptOutbound(listen=TcpAddress("127.0.0.1", 15001), routes=routes, default=default)
    found = generation(InterceptConfig(outbound=section)).interceptions[Direction.OUTBOUND]
    assert isinstance(found, OutboundInterception)
    return found


def route(to: str, *ports: int) -> Route:
    return Route(to=parse_network(to), ports=ports, server_ids=WEB)


def refusal(interception: InboundInterception | OutboundInterception, host: str, port: int) -> str:
    with pytest.raises(Rejected) as refused:
        interception.service_for(TcpAddress(host, port))
    assert refused.value.reason is Reason.NOT_ALLOWED
    return refused.value.detail


def test_a_port_has_its_own_policy_and_the_others_the_default() -> None:
    interception = inbound(InboundPolicy(allow=WEB), PortPolicy(port=9090, mode=Mode.DISABLE))
    metrics, rest = (interception.service_for(TcpAddress("10.0.0.1", port)) for port in (9090, 9091))
    assert (metrics.listener.name, metrics.config.mode, metrics.context) == ("intercept-9090", Mode.DISABLE, None)
    assert (rest.listener.name, rest.config.mode, rest.policy.allow) == ("intercept", Mode.STRICT, WEB)
    assert isinstance(rest, InboundService)
    assert rest.context is not None


def test_without_a_default_other_ports_are_refused() -> None:
    assert "port 80 is not in" in refusal(inbound(None, PortPolicy(port=9090, mode=Mode.DISABLE)), "10.0.0.1", 80)


@pytest.mark.parametrize(("port", "owner"), [(15000, "admin"), (15006, "intercept")])
def test_a_port_of_our_own_is_refused_whatever_the_default(port: int, owner: str) -> None:
    assert f"({owner})" in refusal(inbound(InboundPolicy(mode=Mode.DISABLE)), "10.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("10.1.2.3", 80, "intercept-10.1.0.0/16:80,443"),
        ("10.1.2.3", 443, "intercept-10.1.0.0/16:80,443"),
        ("10.1.2.3", 81, "intercept-10.0.0.0/8"),
        ("10.2.2.3", 80, "intercept-10.0.0.0/8"),
        ("fd00::1", 80, "intercept-fd00::/8"),
        ("11.0.0.1", 80, "intercept"),
        ("fe80::1", 80, "intercept"),
    ],
)
def test_the_first_route_that_covers_a_destination_has_it(host: str, port: int, name: str) -> None:
    routes = (route("10.1.0.0/16", 80, 443), route("10.0.0.0/8"), route("fd00::/8"))
    service = outbound(OutboundDefault.PASSTHROUGH, *routes).service_for(TcpAddress(host, port))
    assert service.listener.name == name
    assert isinstance(service, PassthroughService if name == "intercept" else OutboundService)


def test_what_no_route_covers_is_refused_where_the_default_is_refuse() -> None:
    detail = refusal(outbound(OutboundDefault.REFUSE, route("10.0.0.0/8")), "11.0.0.1", 80)
    assert detail == "no route of `intercept.outbound` covers 11.0.0.1:80, and its `default` is refuse"


def test_no_passthrough_without_the_operators_word() -> None:
    interception = outbound(OutboundDefault.REFUSE)
    for listener, default in (
        (interception.listener, OutboundDefault.REFUSE),
        (inbound(InboundPolicy(mode=Mode.DISABLE)).listener, OutboundDefault.PASSTHROUGH),
    ):
        with pytest.raises(Rejected) as refused:
            permit_passthrough(listener, default)
        assert refused.value.reason is Reason.NOT_ALLOWED
