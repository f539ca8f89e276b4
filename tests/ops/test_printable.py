"""Peers' text on an operator's terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ops.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay.shop.svc", "pay.shop.svc"),
        ("zweig-straße", "zweig-straße"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("exe\u202etxt", "exe\\u202etxt"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_cannot_be_printed_is_escaped_and_the_rest_is_kept(text: str, shown: str) -> None:
    assert shown == printable(text)


@given(st.text(alphabet=st.characters()))
def test_the_result_is_always_printable(text: str) -> None:
    assert printable(text).isprintable()
