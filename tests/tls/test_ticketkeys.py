"""Ticket keys: the same for the same facts, another for any other, and a secret that cannot be told from them."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.tls.ticketkeys import SECRET_BYTES, TicketKey, derive, new_secret

SECRET = bytes(range(SECRET_BYTES))
FACTS = st.lists(st.binary(max_size=8), max_size=4)


@given(facts=FACTS)
def test_workers_that_know_the_same_have_the_same_key(facts: list[bytes]) -> None:
    key = derive(SECRET, *facts)

    assert key == derive(SECRET, *facts)
    assert (len(key.name), len(key.key)) == (16, 32)
    assert key.name not in key.key


@given(one=FACTS, other=FACTS)
def test_other_facts_make_another_key(one: list[bytes], other: list[bytes]) -> None:
    """Also where only the borders between them differ."""
    assert (derive(SECRET, *one) == derive(SECRET, *other)) is (one == other)


def test_other_sidecars_have_other_keys() -> None:
    secrets = {new_secret() for _ in range(8)}
    assert len(secrets) == 8
    assert len({derive(secret, b"x") for secret in secrets}) == 8
    assert TicketKey.random() != TicketKey.random()
