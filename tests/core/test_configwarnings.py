"""What a good configuration can hardly mean: patterns that can match nobody."""

import pytest

from proxy.core.configwarnings import warnings_of
from tests.configtexts import GOOD, read, with_line


def warnings(allow: str, deny: str = "") -> list[str]:
    return list(warnings_of(read(with_line(6, f"allow: [{allow}]") + (f"    deny: [{deny}]\n" if deny else ""))))


def test_a_configuration_that_makes_sense_is_not_warned_of() -> None:
    assert warnings_of(read(GOOD)) == ()
    assert warnings("spiffe://example.org/**", "spiffe://example.org/ns/web/**") == []
    assert warnings("spiffe://example.org/ns/*/sa/a", "spiffe://example.org/ns/x/sa/a") == []


def test_a_pattern_of_a_trust_domain_without_a_bundle_matches_nobody() -> None:
    one, all_of_them = warnings("spiffe://exmaple.org/ns/web/**")
    assert one == (
        "inbound[0].allow[0]: spiffe://exmaple.org/ns/web/** can match nobody: `identity.bundles` has no bundle for "
        "the trust domain exmaple.org; did you mean `example.org`?"
    )
    assert all_of_them == "inbound[0]: no `allow` pattern of http can let anybody in, so mutual TLS is refused to all"


def test_one_pattern_that_works_is_enough_for_the_listener() -> None:
    (one,) = warnings("spiffe://example.org/**, spiffe://partner.test/**")
    assert one.startswith("inbound[0].allow[1]: spiffe://partner.test/** can match nobody")
    assert one.endswith("; add its roots there, or remove the pattern")


def test_a_deny_pattern_that_can_match_nobody_is_named_as_well() -> None:
    (one,) = warnings("spiffe://example.org/**", "spiffe://exmaple.org/ns/web/**")
    assert one.startswith("inbound[0].deny[0]: ")


@pytest.mark.parametrize("deny", ["spiffe://example.org/ns/web/sa/a", "spiffe://example.org/ns/*/sa/*"])
def test_a_deny_that_covers_an_allow_is_named(deny: str) -> None:
    first, second = warnings("spiffe://example.org/ns/web/sa/a", f"spiffe://example.org/other, {deny}")
    assert first == (
        f"inbound[0].allow[0]: spiffe://example.org/ns/web/sa/a lets nobody in: inbound[0].deny[1], {deny}, covers all "
        "of it, and deny wins"
    )
    assert second.startswith("inbound[0]: no `allow` pattern")


def test_server_ids_are_looked_at_too() -> None:
    outbound = (
        "outbound:\n"
        "  - {name: o, listen: '127.0.0.1:9001', upstream: 'there:1', server_ids: ['spiffe://elsewhere.test/**']}\n"
    )
    (one,) = warnings_of(read(GOOD + outbound))
    assert one.startswith("outbound[0].server_ids[0]: spiffe://elsewhere.test/** can match nobody")


def test_patterns_of_what_is_intercepted_are_looked_at_too() -> None:
    stranger = "[spiffe://exmaple.org/ns/web/**]"
    text = f"""\
intercept:
  inbound: {{listen: 0.0.0.0:15007, ports: {{80: {{allow: {stranger}}}}}, default: {{mode: DISABLE}}}}
  outbound:
    listen: 127.0.0.1:15001
    routes: [{{to: 10.0.0.0/8, server_ids: {stranger}}}]
    default: refuse
"""
    assert [warning.partition(" ")[0] for warning in warnings_of(read(GOOD + text))] == [
        "intercept.inbound.ports['80'].allow[0]:",
        "intercept.inbound.ports['80']:",
        "intercept.outbound.routes[0].server_ids[0]:",
    ]
