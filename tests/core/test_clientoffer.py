"""What a client offered, read from real hellos, built ones, beginnings of both, and junk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.clienthello import MAX_HELLO_BYTES
from proxy.core.clientoffer import Offer, read_offer, read_opening
from proxy.core.tlsnumbers import GREASE
from tests.core.test_clienthello import REAL, body, extension, hello, message_of, records, vector

HEADERS_BYTES = 9  # of the record and of the message
FIELDS = ("versions", "suites", "groups", "signatures")


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def versions(*values: int) -> bytes:
    return extension(43, vector(numbers(*values), 1))


def groups(*values: int) -> bytes:
    return extension(10, vector(numbers(*values), 2))


def signatures(*values: int) -> bytes:
    return extension(13, vector(numbers(*values), 2))


FULL = body(versions(0x0304, 0x0303), groups(29, 23), signatures(0x0403, 0x0804), suites=numbers(0x1301, 0xC02B))
OFFER = Offer(versions=(0x0304, 0x0303), suites=(0x1301, 0xC02B), groups=(29, 23), signatures=(0x0403, 0x0804))


def test_a_hello_is_read_in_the_clients_order() -> None:
    assert read_offer(FULL) == OFFER
    assert read_opening(records(b"\1" + vector(FULL, 3))) == OFFER


@pytest.mark.parametrize("name", REAL)
def test_a_real_hello_offers_what_every_client_does(name: str) -> None:
    offer = read_opening(REAL[name])
    assert offer == read_offer(REAL[name][HEADERS_BYTES:])
    assert offer.suites is not None
    assert offer.groups is not None
    assert offer.signatures is not None
    assert (0x1301 in offer.suites) == (name != "1.2")
    assert 29 in offer.groups
    assert 0x0403 in offer.signatures
    assert (offer.versions, offer.at_most) == {
        "1.2": ((0x0303,), True),
        "1.3": ((0x0304,), False),
    }.get(name, ((0x0304, 0x0303), False))


@pytest.mark.parametrize("name", REAL)
def test_of_every_prefix_only_what_is_there_whole_is_known(name: str) -> None:
    """A list is known whole or not at all; what is known once stays known, and is what the whole hello says."""
    wire, whole = REAL[name], read_opening(REAL[name])
    known: set[str] = set()
    for size in range(len(wire)):
        offer = read_opening(wire[:size])
        now = {field for field in FIELDS if getattr(offer, field) is not None}
        assert known <= now
        assert {field: getattr(offer, field) for field in now} == {field: getattr(whole, field) for field in now}
        known = now
    assert "suites" in known


def test_a_hello_in_many_records_is_one() -> None:
    message = message_of(REAL["1.3"])
    assert read_opening(records(message, iter([1]))) == read_opening(REAL["1.3"])


def test_what_was_not_seen_is_not_taken_for_what_was_not_sent() -> None:
    bare = body(suites=numbers(0xC02B))
    assert read_offer(bare, is_whole=False) == Offer(suites=(0xC02B,))
    assert read_offer(bare) == Offer(versions=(0x0303,), at_most=True, suites=(0xC02B,), groups=(), signatures=())
    cut = records(b"\1" + vector(bare + b"\0\1\0", 3))[:-3]  # just where its extensions begin
    assert read_opening(cut) == Offer(suites=(0xC02B,))


@pytest.mark.parametrize(("legacy", "highest"), [(b"\3\0", 0x0300), (b"\3\2", 0x0302), (b"\3\4", 0x0303)])
def test_without_supported_versions_the_legacy_version_is_the_most(legacy: bytes, highest: int) -> None:
    offer = read_offer(body(version=legacy))
    assert (offer.versions, offer.at_most) == ((highest,), True)


def test_grease_signals_and_repetitions_are_left_out() -> None:
    grease = sorted(GREASE)
    assert (len(grease), grease[0], grease[-1]) == (16, 0x0A0A, 0xFAFA)
    read = read_offer(
        body(
            versions(0x3A3A, 0x0304),
            groups(*grease, 29, 29),
            signatures(0x0403, 0x0A0A),
            suites=numbers(0x1301, 0x00FF, 0x5600, *grease, 0x1301),
        )
    )
    assert read == Offer(versions=(0x0304,), suites=(0x1301,), groups=(29,), signatures=(0x0403,))


@pytest.mark.parametrize("number", [10, 13, 43])
@given(content=st.binary(max_size=30))
def test_any_content_of_an_extension_leaves_the_other_lists_as_they_are(number: int, content: bytes) -> None:
    others = [made for at, made in ((43, versions(0x0304)), (10, groups(29)), (13, signatures(0x0403))) if at != number]
    read = read_offer(body(extension(number, content), *others))
    expected = {43: ("versions", (0x0304,)), 10: ("groups", (29,)), 13: ("signatures", (0x0403,))}
    del expected[number]
    assert {field: getattr(read, field) for field, _ in expected.values()} == dict(expected.values())


@given(st.binary(max_size=400), st.booleans())
def test_junk_is_read_for_what_it_is(junk: bytes, is_whole: bool) -> None:
    for offer in (read_offer(junk, is_whole=is_whole), read_opening(junk), read_opening(b"\x16\3\1" + junk)):
        for field in FIELDS:
            assert all(0 <= number <= 0xFFFF for number in getattr(offer, field) or ())


@given(st.sampled_from(sorted(REAL)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8))
def test_a_mutated_hello_is_read_for_what_it_is(name: str, changes: list[tuple[int, int]]) -> None:
    wire = bytearray(REAL[name])
    for at, value in changes:
        wire[at % len(wire)] = value
    for size in (len(wire), len(wire) // 2):
        assert isinstance(read_opening(bytes(wire[:size])), Offer)


def test_the_longest_list_of_suites_is_read_whole() -> None:
    most = (MAX_HELLO_BYTES - len(hello())) // 2
    suites = [number for number in range(0x6000, 0x6000 + most) if number not in GREASE]
    assert read_opening(hello(suites=numbers(*suites))).suites == tuple(suites)


def test_records_without_end_are_not_walked_for_ever() -> None:
    assert read_opening(b"\x16\3\1\0\0" * 3000) == Offer()
