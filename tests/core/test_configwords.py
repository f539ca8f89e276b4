"""Small words, and hints that lead to a word that is taken."""

import re

import pytest

from proxy.core.config import CIPHER_SUITES, GROUPS, TLS_VERSIONS
from proxy.core.configwords import GROUP_HINTS, SUITE_HINTS, VERSION_HINTS, parse_alpn, parse_name, parse_path


def test_every_hint_names_a_word_that_is_taken() -> None:
    for hints, taken in [(SUITE_HINTS, CIPHER_SUITES), (GROUP_HINTS, GROUPS), (VERSION_HINTS, TLS_VERSIONS)]:
        for spelling, hint in hints.items():
            assert spelling == spelling.lower()
            named = re.search(r"write (\S+)", hint)
            assert named is None or named[1] in taken


def test_every_suite_has_its_openssl_name() -> None:
    named = {match[1] for hint in SUITE_HINTS.values() if (match := re.search(r"write (\S+)", hint))}
    assert named == set(CIPHER_SUITES)


@pytest.mark.parametrize("text", ["http", "a", "0", "payments-v2.eu_1", "a" * 63])
def test_a_plain_name_is_a_name(text: str) -> None:
    assert parse_name(text) == text


@pytest.mark.parametrize("text", ["", "-a", ".a", "a b", "a\n", "a/b", "ü", "a" * 64, 'a"'])
def test_what_could_break_a_label_or_a_log_line_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="letter or digit"):
        parse_name(text)


@pytest.mark.parametrize("text", ["~/tls.crt", "/run/", "a\0b"])
def test_what_is_no_path_of_a_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "says"), [("a" * 256, "256 bytes"), ("ü", "ASCII"), ("a\n", "ASCII"), ("http/2", "h2")]
)
def test_what_is_no_alpn_protocol_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_alpn(text)
