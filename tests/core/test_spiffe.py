"""SPIFFE-ID 2 to 2.4 as tables, every byte where an alphabet matters, and patterns against a naive matcher."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.core.spiffe import (
    MAX_ID_BYTES,
    IdPattern,
    PatternFault,
    SpiffeId,
    TrustDomain,
    parse_authority_id,
    parse_pattern,
    parse_trust_domain,
    parse_workload_id,
    quote,
)

TRUST_DOMAIN_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789.-_"
SEGMENT_BYTES = TRUST_DOMAIN_BYTES + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"

domains = st.text(TRUST_DOMAIN_BYTES.decode(), min_size=1, max_size=20)
segments = st.text(SEGMENT_BYTES.decode(), min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))
ids = st.builds(lambda domain, path: f"spiffe://{domain}/{'/'.join(path)}", domains, st.lists(segments, min_size=1))


def refusal_of(parse, text: str) -> str:
    with pytest.raises(Rejected) as caught:
        parse(text)
    assert caught.value.reason is Reason.SPIFFE_ID_MALFORMED
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 1000
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("spiffe://example.org/ns/shop/sa/cart", "example.org", "/ns/shop/sa/cart"),
        ("spiffe://a/b", "a", "/b"),
        ("spiffe://1.2.3.4/service", "1.2.3.4", "/service"),
        ("spiffe://300.1.1.1/looks-like-no-ip", "300.1.1.1", "/looks-like-no-ip"),
        ("spiffe://..-_/a", "..-_", "/a"),
        ("spiffe://example.org/...", "example.org", "/..."),
        ("spiffe://example.org/.x/..y/z.", "example.org", "/.x/..y/z."),
        ("spiffe://example.org/UPPER/Lower", "example.org", "/UPPER/Lower"),
    ],
)
def test_an_id_that_the_standard_allows_is_accepted(text: str, domain: str, path: str) -> None:
    assert parse_workload_id(text) == SpiffeId(TrustDomain(domain), path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "spiffe://"),
        ("spiffe", "spiffe://"),
        ("spiffe:/", "spiffe://"),
        ("spiffe:example.org/a", "spiffe://"),
        ("https://example.org/a", "spiffe://"),
        (" spiffe://example.org/a", "spiffe://"),
        ("Spiffe://example.org/a", "lower case"),
        ("SPIFFE://example.org/a", "lower case"),
        ("spiffe://", "empty"),
        ("spiffe:///path", "empty"),
        ("spiffe://Example.org/a", "'E'"),
        ("spiffe://user@example.org/a", "user information"),
        ("spiffe://user:pw@example.org/a", "port"),
        ("spiffe://example.org:443/a", "port"),
        ("spiffe://example.org:/a", "port"),
        ("spiffe://[::1]/a", "'['"),
        ("spiffe://exa%6dple.org/a", "percent"),
        ("spiffe://b\u00fccher.example/a", "'\\xfc'"),
        ("spiffe://example.org?q/a", "query"),
        ("spiffe://example.org#f/a", "fragment"),
        ("spiffe://example.org", "has a path"),
        ("spiffe://example.org/", "slash"),
        ("spiffe://example.org/a/", "slash"),
        ("spiffe://example.org//a", "empty segment"),
        ("spiffe://example.org/a//b", "empty segment"),
        ("spiffe://example.org/.", "'.'"),
        ("spiffe://example.org/..", "'..'"),
        ("spiffe://example.org/a/../b", "'..'"),
        ("spiffe://example.org/a/./b", "'.'"),
        ("spiffe://example.org/a%2fb", "percent"),
        ("spiffe://example.org/a?q", "query"),
        ("spiffe://example.org/a?", "query"),
        ("spiffe://example.org/a#f", "fragment"),
        ("spiffe://example.org/a#", "fragment"),
        ("spiffe://example.org/a:b", "':'"),
        ("spiffe://example.org/*", "'*'"),
        ("spiffe://example.org/a\x00", "'\\x00'"),
        ("spiffe://example.org/a\n", "'\\n'"),
        ("spiffe://example.org/\u212a", "'\\u212a'"),
        ("spiffe://example.org/\udc80", "'\\udc80'"),
    ],
)
def test_an_id_that_the_standard_forbids_is_refused_with_the_cause(text: str, why: str) -> None:
    assert why in refusal_of(parse_workload_id, text)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_a_trust_domain_is_judged_by_the_alphabet(byte: int) -> None:
    text = f"spiffe://a{chr(byte)}b/p"
    if byte in TRUST_DOMAIN_BYTES:
        assert parse_workload_id(text).trust_domain.name == f"a{chr(byte)}b"
    elif chr(byte) == "/":
        assert parse_workload_id(text) == SpiffeId(TrustDomain("a"), "/b/p")
    else:
        refusal_of(parse_workload_id, text)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_a_segment_is_judged_by_the_alphabet(byte: int) -> None:
    text = f"spiffe://a/b{chr(byte)}c"
    if byte in SEGMENT_BYTES or chr(byte) == "/":
        assert str(parse_workload_id(text)) == text
    else:
        refusal_of(parse_workload_id, text)


@pytest.mark.parametrize(("length", "accepted"), [(254, True), (255, True), (256, False)])
def test_a_trust_domain_has_at_most_255_bytes(length: int, accepted: bool) -> None:
    name = "a" * length
    if accepted:
        assert parse_trust_domain(name) == parse_workload_id(f"spiffe://{name}/x").trust_domain
    else:
        assert "255" in refusal_of(parse_trust_domain, name)
        assert "255" in refusal_of(parse_workload_id, f"spiffe://{name}/x")


@pytest.mark.parametrize(("length", "accepted"), [(2047, True), (2048, True), (2049, False), (65536, False)])
def test_an_id_has_at_most_2048_bytes(length: int, accepted: bool) -> None:
    text = "spiffe://example.org/".ljust(length, "a")
    if accepted:
        assert str(parse_workload_id(text)) == text
    else:
        assert "2048" in refusal_of(parse_workload_id, text)


@given(ids)
def test_an_id_survives_text_and_back(text: str) -> None:
    spiffe_id = parse_workload_id(text)
    assert text == str(spiffe_id)
    assert spiffe_id == parse_workload_id(str(spiffe_id))
    assert len({spiffe_id, parse_workload_id(text)}) == 1


@given(st.text() | st.builds("spiffe://{}".format, st.text()) | st.builds("{}{}".format, ids, st.text(max_size=3)))
def test_any_text_is_either_an_id_byte_for_byte_or_refused(text: str) -> None:
    grammar = r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+"
    if len(text) <= MAX_ID_BYTES and re.fullmatch(grammar, text):
        assert text == str(parse_workload_id(text))
    else:
        refusal_of(parse_workload_id, text)


def test_every_prefix_of_an_id_is_an_id_or_refused() -> None:
    text = "spiffe://example.org/ns/shop"
    accepted = [text[:end] for end in range(len(text) + 1) if _accepts(text[:end])]
    expected = ["/n", "/ns", "/ns/s", "/ns/sh", "/ns/sho", "/ns/shop"]
    assert accepted == [f"spiffe://example.org{path}" for path in expected]


def _accepts(text: str) -> bool:
    try:
        parse_workload_id(text)
    except Rejected:
        return False
    return True


def test_an_authority_id_is_the_trust_domain_alone() -> None:
    assert parse_authority_id("spiffe://example.org") == TrustDomain("example.org")
    for text in ("spiffe://example.org/", "spiffe://example.org/ca"):
        assert "no path" in refusal_of(parse_authority_id, text)
    for text in ("example.org", "spiffe://", "spiffe://Example.org", "spiffe://example.org?x"):
        refusal_of(parse_authority_id, text)


def test_a_trust_domain_is_spelled_bare() -> None:
    assert parse_trust_domain("example.org") == TrustDomain("example.org")
    assert str(TrustDomain("example.org")) == "example.org"
    assert "without the scheme" in refusal_of(parse_trust_domain, "spiffe://example.org")
    for text in ("", "Example.org", "example.org/", "a b", "*.example.org", "example.org:1"):
        refusal_of(parse_trust_domain, text)


def test_values_are_frozen_and_hold_no_dictionary() -> None:
    spiffe_id = parse_workload_id("spiffe://example.org/a")
    with pytest.raises(AttributeError):
        spiffe_id.path = "/b"  # type: ignore[misc]
    assert not hasattr(spiffe_id, "__dict__")
    assert not hasattr(spiffe_id.trust_domain, "__dict__")


def test_a_hostile_name_is_quoted_and_cut() -> None:
    assert quote("a\x1b[2J\n") == r"'a\x1b[2J\n'"
    assert quote("x" * 65536) == f"'{'x' * 120}'... (65536 characters)"


@pytest.mark.parametrize(
    ("pattern", "matching", "foreign"),
    [
        ("/ns/shop/sa/cart", ["/ns/shop/sa/cart"], ["/ns/shop/sa", "/ns/shop/sa/cart/x", "/ns/shop/sa/Cart"]),
        ("/ns/*/sa/cart", ["/ns/a/sa/cart", "/ns/b/sa/cart"], ["/ns/sa/cart", "/ns/a/b/sa/cart", "/ns/a/sa/carts"]),
        ("/*", ["/a", "/cart"], ["/a/b"]),
        ("/**", ["/a", "/a/b", "/a/b/c"], []),
        ("/ns/web/**", ["/ns/web/a", "/ns/web/a/b"], ["/ns/web", "/ns/website", "/ns/website/a", "/ns"]),
        ("/ns/*/**", ["/ns/a/b", "/ns/a/b/c"], ["/ns/a", "/ns", "/xx/a/b"]),
        ("/*/*", ["/a/b"], ["/a", "/a/b/c"]),
    ],
)
def test_a_pattern_matches_whole_segments(pattern: str, matching: list[str], foreign: list[str]) -> None:
    compiled = parse_pattern(f"spiffe://example.org{pattern}")
    for path in matching:
        assert compiled.matches(parse_workload_id(f"spiffe://example.org{path}")), path
        assert not compiled.matches(parse_workload_id(f"spiffe://example.com{path}")), path
    for path in foreign:
        assert not compiled.matches(parse_workload_id(f"spiffe://example.org{path}")), path


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write spiffe://"),
        ("*", "write spiffe://"),
        ("example.org/a", "write spiffe://"),
        ("SPIFFE://example.org/a", "write spiffe://"),
        ("spiffe://example.org", "write spiffe://example.org/**"),
        ("spiffe://example.org/", "write it like"),
        ("spiffe:///a", "write it like"),
        ("spiffe://*/a", "one pattern for each trust domain"),
        ("spiffe://*.example.org/a", "one pattern for each trust domain"),
        ("spiffe://Example.org/a", "'E'"),
        ("spiffe://example.org/**/a", "write `*`"),
        ("spiffe://example.org/**/**", "write `*`"),
        ("spiffe://example.org/cart-*", "one pattern for each name"),
        ("spiffe://example.org/***", "one pattern for each name"),
        ("spiffe://example.org/a/*b/c", "one pattern for each name"),
        ("spiffe://example.org/a/", "slash"),
        ("spiffe://example.org/a/../b", "'..'"),
        ("spiffe://example.org//**", "empty segment"),
        ("spiffe://example.org/a?b", "query"),
        ("spiffe://example.org/" + "a/" * 2000 + "**", "2048"),
    ],
)
def test_a_faulty_pattern_says_what_to_write_instead(text: str, advice: str) -> None:
    with pytest.raises(PatternFault) as caught:
        parse_pattern(text)
    assert advice in str(caught.value)
    assert len(str(caught.value)) < 600


def test_patterns_compare_by_text_and_print_as_written() -> None:
    text = "spiffe://example.org/ns/*/**"
    assert parse_pattern(text) == parse_pattern(text)
    assert parse_pattern(text) != parse_pattern("spiffe://example.org/ns/**")
    assert len({parse_pattern(text), parse_pattern(text)}) == 1
    assert str(parse_pattern(text)) == text
    assert repr(parse_pattern(text)) == f"IdPattern(text={text!r})"


def naive_match(pattern: str, text: str) -> bool:
    """The rules of the contract as directly as they can be said."""
    wanted, given_ = pattern.split("/"), text.split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1] + ["*"] * max(1, len(given_) - len(wanted) + 1)
    return len(wanted) == len(given_) and all(w in ("*", g) for w, g in zip(wanted, given_, strict=True))


few = st.sampled_from(["a", "b", "ab"])


@given(
    st.sampled_from(["d", "e"]),
    st.lists(few | st.just("*"), max_size=4),
    st.booleans(),
    st.sampled_from(["d", "e"]),
    st.lists(few, min_size=1, max_size=5),
)
def test_matching_agrees_with_a_naive_matcher(domain, wanted, open_ended, other_domain, path) -> None:
    wanted = [*wanted, "**"] if open_ended or not wanted else wanted
    pattern = f"spiffe://{domain}/{'/'.join(wanted)}"
    text = f"spiffe://{other_domain}/{'/'.join(path)}"
    assert naive_match(pattern, text) == parse_pattern(pattern).matches(parse_workload_id(text))


_SMALL = [
    "spiffe://a/" + "/".join(parts)
    for length in (1, 2, 3)
    for parts in itertools.product(("x", "y", "*"), repeat=length)
]
_SMALL_PATTERNS = [parse_pattern(text) for text in [*_SMALL, "spiffe://a/**", *(f"{text}/**" for text in _SMALL)]]
_SMALL_IDS = [
    parse_workload_id("spiffe://a/" + "/".join(parts))
    for length in range(1, 6)
    for parts in itertools.product("xyz", repeat=length)
]


def test_a_pattern_covers_another_exactly_when_it_matches_all_of_its_ids() -> None:
    """Every pair of small patterns; `z` stands for the segments that no pattern names."""
    matched = {pattern: frozenset(filter(pattern.matches, _SMALL_IDS)) for pattern in _SMALL_PATTERNS}
    for one, other in itertools.product(_SMALL_PATTERNS, repeat=2):
        assert one.covers(other) == (matched[one] >= matched[other]), f"{one} {other}"


def test_a_pattern_of_another_trust_domain_covers_nothing() -> None:
    assert not parse_pattern("spiffe://b/**").covers(parse_pattern("spiffe://a/x"))


@given(ids)
def test_an_id_is_a_pattern_for_itself(text: str) -> None:
    spiffe_id = parse_workload_id(text)
    assert parse_pattern(text).matches(spiffe_id)
    assert parse_pattern(f"spiffe://{spiffe_id.trust_domain}/**").matches(spiffe_id)
    assert not parse_pattern(f"{text}/**").matches(spiffe_id)


@given(st.text(max_size=40) | st.builds("spiffe://{}".format, st.text("ab*/.", max_size=30)))
def test_any_text_is_a_pattern_or_a_pattern_fault(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except PatternFault:
        return
    assert isinstance(pattern, IdPattern)
    assert str(pattern) == text


def test_nearness_counts_the_segments_in_common() -> None:
    pattern = parse_pattern("spiffe://d/ns/*/sa/cart")
    near = {"spiffe://e/ns/a": 0, "spiffe://d/x": 1, "spiffe://d/ns/a": 3, "spiffe://d/ns/a/sa/x": 4}
    assert near == {text: pattern.nearness(parse_workload_id(text)) for text in near}
