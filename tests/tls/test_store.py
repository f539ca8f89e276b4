"""One trust generation: made whole, proven, published by one assignment; and what each listener gets from it."""

import dataclasses
import errno
import os

import pytest

from proxy.core.config import (
    Config,
    IdentityConfig,
    InboundConfig,
    Mode,
    OutboundConfig,
    TcpAddress,
    TlsConfig,
    UnixAddress,
)
from proxy.core.events import Direction, Listener
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_pattern
from proxy.tls.store import Generation, Store, build_generation, server_name
from tests import minting
from tests.tls.meetings import SCRATCH, meet
from tests.tls.pairs import connected, material_of, read, shake

CA = minting.authority()
MATERIAL = material_of(minting.svid(CA), CA)
HERE = TcpAddress("127.0.0.1", 0)
CART, EVERYBODY = parse_pattern(minting.CART), parse_pattern("spiffe://example.org/**")
NOBODY = parse_pattern("spiffe://example.org/nobody")
HTTP, BATCH, OPEN = (Listener(Direction.INBOUND, name) for name in ("http", "batch", "open"))
PAYMENTS, STRANGE = (Listener(Direction.OUTBOUND, name) for name in ("payments", "strange"))
CONFIG = Config(
    identity=IdentityConfig(cert="tls.crt", key="tls.key", bundles={"example.org": "ca.crt"}),
    inbound=(
        InboundConfig(name="http", listen=HERE, upstream=HERE, allow=(CART,), alpn=("h2",)),
        InboundConfig(name="batch", listen=HERE, upstream=HERE, allow=(EVERYBODY,), deny=(CART,)),
        InboundConfig(name="open", listen=HERE, upstream=HERE, mode=Mode.DISABLE),
    ),
    outbound=(
        OutboundConfig(
            name="payments", listen=HERE, upstream=TcpAddress("payments.shop", 1), server_ids=(CART,), alpn=("h2",)
        ),
        OutboundConfig(name="strange", listen=HERE, upstream=HERE, server_ids=(NOBODY,), resume=False),
    ),
)


def clock() -> float:
    return minting.clock().timestamp()


def build(number: int = 1, config: Config = CONFIG, material=MATERIAL) -> Generation:
    return build_generation(number, config, material, clock)


def test_a_generation_has_a_service_for_every_listener():
    generation = build()

    assert set(generation.services) == {HTTP, BATCH, OPEN, PAYMENTS, STRANGE}
    assert {listener: service.listener for listener, service in generation.services.items()} == {
        listener: listener for listener in generation.services
    }
    assert generation.services[OPEN].context is None
    assert generation.services[HTTP].config is CONFIG.inbound[0]


def test_a_generation_cannot_be_changed():
    generation = build()

    with pytest.raises(TypeError):
        generation.services[HTTP] = generation.services[BATCH]
    with pytest.raises(dataclasses.FrozenInstanceError):
        generation.number = 2


@pytest.mark.parametrize(
    ("caller", "answerer", "reasons"),
    [
        (PAYMENTS, HTTP, (None, None)),
        (PAYMENTS, BATCH, (None, Reason.DENIED)),
        (STRANGE, HTTP, (Reason.SERVER_ID_MISMATCH, Reason.HANDSHAKE_FAILED)),
    ],
)
def test_each_listener_judges_by_its_own_rules(caller, answerer, reasons):
    services = build().services

    met = meet(services[caller].context, services[answerer].context)

    assert met.reasons == reasons
    if reasons == (None, None):
        assert met.server.permit.listener == HTTP
        assert met.client.permit is None


def test_the_words_of_each_listener_reach_its_context():
    services = build().services
    with connected() as (ours, theirs):
        ends = shake(services[PAYMENTS].context, services[HTTP].context, ours, theirs)
        facts = ends[1].facts()
        for end in ends:
            end.channel.close()

    assert (facts.sni, facts.alpn) == ("payments.shop", "h2")


def test_sessions_are_kept_per_listener_as_its_resume_says_and_die_with_the_generation():
    config = dataclasses.replace(
        CONFIG, outbound=tuple(dataclasses.replace(o, server_ids=(CART,)) for o in CONFIG.outbound)
    )
    old, new = build(1, config), build(2, config)

    def resumed(caller, answerer) -> bool:
        with connected() as (ours, theirs):
            ends = shake(caller.context, answerer.context, ours, theirs)
            ends[1].channel.send_bytes(b"x")
            read(ends[0].channel, SCRATCH)
            caller.context.keep_session(ends[0])
            for end in ends:
                end.channel.close()
            return ends[0].resumed

    answerer = old.services[HTTP]
    assert [resumed(old.services[PAYMENTS], answerer) for _ in range(3)] == [False, True, True]
    assert [resumed(old.services[STRANGE], answerer) for _ in range(2)] == [False, False]
    assert resumed(new.services[PAYMENTS], new.services[HTTP]) is False
    assert resumed(old.services[PAYMENTS], new.services[HTTP]) is False


def test_material_that_could_serve_nobody_makes_no_generation():
    stranger = material_of(minting.svid(minting.authority()), CA)
    expired = material_of(minting.expired(CA), CA)

    for material, reason in ((stranger, Reason.UNKNOWN_AUTHORITY), (expired, Reason.CERTIFICATE_EXPIRED)):
        with pytest.raises(Rejected) as caught:
            build(material=material)
        assert caught.value.reason == reason


def test_without_a_descriptor_left_no_generation_is_made_and_it_is_no_bug(monkeypatch):
    def no_sockets():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("proxy.tls.contexts.socket.socketpair", no_sockets)
    with pytest.raises(Rejected) as caught:
        build()
    assert caught.value.reason is Reason.OVERLOADED
    assert "too many open files" in caught.value.detail


def test_words_that_this_openssl_does_not_know_make_no_generation():
    config = dataclasses.replace(CONFIG, tls=TlsConfig(groups=("X25519", "nonsense")))

    with pytest.raises(Rejected) as caught:
        build(config=config)
    assert caught.value.reason == Reason.CONFIG_FAULT


# Publication.


def test_the_last_published_generation_is_in_force():
    first, second = build(1), build(2)
    store = Store(first)
    taken = store.current
    store.publish(second)

    assert store.current is second
    assert taken is first  # whoever took the old one keeps it whole


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_older_generation_is_not_published_and_the_one_in_force_stays(number):
    current = build(2)
    store = Store(current)

    with pytest.raises(ValueError, match=f"generation {number} is not younger than 2"):
        store.publish(dataclasses.replace(current, number=number))
    assert store.current is current


# SNI.


@pytest.mark.parametrize(
    ("upstream", "sni", "sent"),
    [
        (TcpAddress("payments.shop.svc", 15006), None, "payments.shop.svc"),
        (TcpAddress("payments.shop.svc.", 15006), None, "payments.shop.svc"),
        (TcpAddress("payments.shop.svc", 15006), "other.example", "other.example"),
        (TcpAddress("10.0.0.1", 15006), None, None),
        (TcpAddress("10.0.0.1", 15006), "other.example", "other.example"),
        (TcpAddress("::1", 15006), None, None),
        (TcpAddress("fe80::1%eth0", 15006), None, None),
        (UnixAddress("/run/app.sock"), None, None),
        (UnixAddress("/run/app.sock"), "other.example", "other.example"),
    ],
    ids=str,
)
def test_the_server_name_is_never_an_address(upstream, sni, sent):
    outbound = OutboundConfig(name="x", listen=HERE, upstream=upstream, server_ids=(CART,), sni=sni)

    assert server_name(outbound) == sent
