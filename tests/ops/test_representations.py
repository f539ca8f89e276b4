"""JSON for programs, text for people."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.config import LogConfig, TcpAddress
from proxy.ops.representations import as_text, prefers_text, show


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ("TEXT/PLAIN", True),
        ("text/*", True),
        ("application/json, text/plain, */*", False),
        ("text/plain, application/json", True),
        ("application/json;q=0.5, text/plain", True),
        ("text/plain;q=0.5, application/json", False),
        ("text/plain;q=0", False),
        ("text/plain;q=x", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
    ],
)
def test_text_is_given_where_it_is_preferred(accept: str, text: bool) -> None:
    assert prefers_text(accept) is text


@given(st.text(max_size=100))
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    assert show(accept, {"a": 1}).body.endswith(b"\n")


def test_values_of_the_house_become_json_and_yaml() -> None:
    data = {"log": LogConfig(), "listen": TcpAddress("127.0.0.1", 1), "none": None}
    assert json.loads(show("", data).body) == {
        "log": {"level": "info", "format": "json"},
        "listen": {"host": "127.0.0.1", "port": 1, "nth": 0},
        "none": None,
    }
    assert show("text/plain", data).body.startswith(b"log:\n  level: info\n")


def test_objects_are_a_table_with_inner_objects_flattened() -> None:
    rows = [{"id": 1, "tls": {"sni": "a"}}, {"id": 2, "tls": None, "more": "x"}]
    lines = [line.split() for line in as_text(rows).splitlines()]
    assert lines == [["id", "tls.sni", "tls", "more"], ["1", "a", "-", "-"], ["2", "-", "-", "x"]]
    assert as_text([]) == "none\n"


@given(st.text(alphabet=st.characters(), max_size=50))
@example("\x7f")
@example("\x9b2J")
def test_peers_text_moves_no_cursor_in_any_form(text: str) -> None:
    for accept in ("", "text/plain"):
        for data in ([{"sni": text}], {"detail": text}, {text: 1}):
            body = show(accept, data).body.decode()
            assert all(letter.isprintable() or letter == "\n" for letter in body)
