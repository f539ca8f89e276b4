"""Deny wins, nothing matched is refused, and nobody but policy.py makes a Permit."""

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import Mode
from proxy.core.events import Direction, Listener, Security
from proxy.core.policy import (
    Permit,
    Policy,
    ServerPolicy,
    is_app_server_name,
    permit_app_tls,
    permit_outbound,
    permit_plaintext,
)
from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import parse_pattern, parse_workload_id

HTTP = Listener(Direction.INBOUND, "http")
PAYMENTS = Listener(Direction.OUTBOUND, "payments")
CART = parse_workload_id("spiffe://example.org/ns/shop/sa/cart")


def patterns(*texts: str):
    return tuple(parse_pattern(text) for text in texts)


def refusal(call, *arguments) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*arguments)
    return caught.value


def test_a_peer_that_a_pattern_allows_gets_a_permit() -> None:
    policy = Policy(patterns("spiffe://example.org/ns/web/**", "spiffe://example.org/ns/*/sa/cart"))
    permit = policy.authorize(CART, HTTP)
    assert (permit.listener, permit.peer, permit.security) == (HTTP, CART, Security.MUTUAL_TLS)


def test_deny_wins_over_allow_and_names_the_pattern() -> None:
    policy = Policy(allow=patterns("spiffe://example.org/**"), deny=patterns("spiffe://example.org/ns/shop/**"))
    rejected = refusal(policy.authorize, CART, HTTP)
    assert rejected.reason is Reason.DENIED
    assert rejected.detail == (
        "spiffe://example.org/ns/shop/sa/cart is denied on the inbound listener http "
        "by the pattern spiffe://example.org/ns/shop/**"
    )


def test_nothing_matched_is_refused_with_the_nearest_pattern() -> None:
    policy = Policy(
        patterns("spiffe://example.com/**", "spiffe://example.org/ns/shop/sa/card", "spiffe://example.org/x")
    )
    rejected = refusal(policy.authorize, CART, HTTP)
    assert rejected.reason is Reason.NOT_ALLOWED
    assert rejected.detail == (
        "spiffe://example.org/ns/shop/sa/cart is not allowed on the inbound listener http: "
        "none of 3 `allow` patterns matches, the nearest is spiffe://example.org/ns/shop/sa/card"
    )


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        ((), "it has no `allow` pattern"),
        (("spiffe://example.com/**",), "spiffe://example.com/**, does not match: it is for another trust domain"),
        (("spiffe://example.org/a",), "the one `allow` pattern, spiffe://example.org/a, does not match"),
        (("spiffe://a/**", "spiffe://b/**"), "none of 2 `allow` patterns matches: all are for other trust domains"),
    ],
)
def test_each_shape_of_a_rule_list_has_its_words(allow: tuple[str, ...], words: str) -> None:
    rejected = refusal(Policy(patterns(*allow)).authorize, CART, HTTP)
    assert rejected.reason is Reason.NOT_ALLOWED
    assert words in rejected.detail


def test_an_allow_list_that_is_empty_lets_nobody_in() -> None:
    assert refusal(Policy(allow=(), deny=()).authorize, CART, HTTP).reason is Reason.NOT_ALLOWED


def test_a_server_with_a_listed_identity_is_accepted() -> None:
    assert ServerPolicy(patterns("spiffe://example.org/ns/shop/**")).authorize(CART, PAYMENTS) is CART


@pytest.mark.parametrize("server_ids", [(), ("spiffe://example.org/ns/shop/sa/payments",), ("spiffe://x/**",)])
def test_a_server_with_another_identity_is_a_mismatch(server_ids: tuple[str, ...]) -> None:
    rejected = refusal(ServerPolicy(patterns(*server_ids)).authorize, CART, PAYMENTS)
    assert rejected.reason is Reason.SERVER_ID_MISMATCH
    assert str(CART) in rejected.detail
    assert "the outbound listener payments" in rejected.detail


def test_nobody_else_can_construct_a_permit() -> None:
    facts = {"listener": HTTP, "peer": CART, "security": Security.MUTUAL_TLS}
    with pytest.raises(TypeError):
        Permit(**facts)
    for maker in (None, object(), True):
        with pytest.raises(TypeError, match="comes only from"):
            Permit(**facts, maker=maker)


def test_a_permit_cannot_be_changed_into_another() -> None:
    permit = permit_plaintext(HTTP, Mode.PERMISSIVE)
    with pytest.raises(AttributeError):
        permit.peer = CART  # type: ignore[misc]
    with pytest.raises((ValueError, TypeError), match="maker"):  # Python 3.13 changed the type
        dataclasses.replace(permit, peer=CART)
    assert copy.copy(permit) == permit


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
def test_plaintext_is_permitted_where_the_operator_asked_for_it(mode: Mode) -> None:
    permit = permit_plaintext(HTTP, mode)
    assert (permit.listener, permit.peer, permit.security) == (HTTP, None, Security.PLAINTEXT)


@pytest.mark.parametrize("mode", [Mode.STRICT, "PERMISSIVE", None])
def test_plaintext_is_refused_in_strict_and_in_whatever_is_no_mode(mode) -> None:
    assert refusal(permit_plaintext, HTTP, mode).reason is Reason.PLAINTEXT_REFUSED


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("db.example.org", True),
        ("DB.Example.ORG", True),
        ("cart.shop.svc", True),
        ("CART.SHOP.SVC", True),
        ("shop.svc", False),
        (".shop.svc", False),
        ("a.b.shop.svc", False),
        ("cartshop.svc", False),
        ("cart.shop.svc.", False),
        ("*.shop.svc", False),
        ("db.example.orgx", False),
        ("xdb.example.org", False),
        ("", False),
        ("svc", False),
        ("cart.shop.\u017fvc", False),
        ("\u212aart.shop.svc", False),
    ],
)
def test_app_tls_is_permitted_by_server_name_alone(name: str, matches: bool) -> None:
    names = ("db.example.org", "*.Shop.svc")
    assert matches is is_app_server_name(name, names)
    if matches:
        permit = permit_app_tls(HTTP, name, names)
        assert (permit.listener, permit.peer, permit.security) == (HTTP, None, Security.APP_TLS)
    else:
        assert refusal(permit_app_tls, HTTP, name, names).reason is Reason.NOT_ALLOWED


def test_app_tls_without_a_server_name_or_without_names_is_refused() -> None:
    assert "sent none" in refusal(permit_app_tls, HTTP, None, ("db.example.org",)).detail
    assert refusal(permit_app_tls, HTTP, "db.example.org", ()).reason is Reason.NOT_ALLOWED


@given(st.text())
def test_a_hostile_server_name_is_refused_in_printable_words(name: str) -> None:
    detail = refusal(permit_app_tls, HTTP, name, ("db.example.org",)).detail
    assert detail.isascii()
    assert detail.isprintable()


def test_our_own_app_may_dial_through_an_outbound_listener_only() -> None:
    permit = permit_outbound(PAYMENTS)
    assert (permit.listener, permit.peer, permit.security) == (PAYMENTS, None, Security.MUTUAL_TLS)
    assert refusal(permit_outbound, HTTP).reason is Reason.PLAINTEXT_REFUSED
