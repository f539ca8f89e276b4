"""Which Host and Origin the admin endpoint answers to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ops.origins import foreign_host, foreign_origin


@pytest.mark.parametrize(
    "host",
    [
        None,  # HTTP/1.0: no browser
        "localhost",
        "LOCALHOST:15000",
        "localhost:9999",
        "127.0.0.1",
        "127.0.0.1:15000",
        "10.1.2.3:80",
        "[::1]",
        "[::1]:15000",
        "[2001:db8::1]:1",
        "admin.shop.svc:15000",
    ],
)
def test_ip_literals_localhost_and_the_configured_host_are_ours(host: str | None) -> None:
    assert foreign_host(host, "admin.shop.svc") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:15000",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.evil.example",
        "localhost:",
        "localhost:x",
        "localhost:1:2",
        "localhost:123456",
        "::1",
        "[::1",
        "[localhost]",
        "[127.0.0.1]",
        "[::1]evil",
        "2130706433",
        "0x7f000001",
        "localhost, evil.example",
        " localhost",
        "localhost:１",  # a digit, and not an ASCII one
    ],
)
def test_every_other_host_is_foreign(host: str) -> None:
    sentence = foreign_host(host, "127.0.0.1")
    assert sentence is not None
    assert "localhost" in sentence


@given(st.text(max_size=30))
def test_a_name_that_is_neither_never_passes(host: str) -> None:
    if foreign_host(f"x{host}.evil.example", "admin") is None:
        pytest.fail("a name of evil.example was let in")


@pytest.mark.parametrize("origin", ["http://localhost:15000", "HTTP://LOCALHOST:15000", None])
def test_no_origin_and_the_same_origin_are_ours(origin: str | None) -> None:
    assert foreign_origin(origin, "localhost:15000") is None


@pytest.mark.parametrize(
    "origin", ["null", "", "http://evil.example", "https://localhost:15000", "http://localhost", "http://localhost:1"]
)
def test_another_origin_is_foreign(origin: str) -> None:
    assert foreign_origin(origin, "localhost:15000") is not None


def test_an_origin_without_a_host_is_foreign() -> None:
    assert foreign_origin("http://localhost", None) is not None
