"""Numbers and booleans: what is read means what every YAML reader says it means."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.configkinds import BAD, ScalarKind
from proxy.core.confignumbers import boolean_kind, count_kind, rate_kind, seconds_kind, workers_kind
from proxy.core.configyaml import Faults, load

NUMBERISH = st.from_regex(r"[-+]?[0-9_]{0,4}[.:]?[0-9_]{0,4}(e[+-]?[0-9])?", fullmatch=True)


def read(kind: ScalarKind, text: str) -> object:
    """The value, or BAD with exactly one fault."""
    faults = Faults()
    node = load(text.encode(), faults)
    assert node is not None
    value = kind.read(node, "key", faults)
    assert len(faults.found) == (1 if value is BAD else 0)
    return value


@given(NUMBERISH.filter(lambda text: any(map(str.isdigit, text)) and not text.endswith(":")))
def test_a_number_that_is_read_is_the_number_that_yaml_reads(text: str) -> None:
    for kind in (seconds_kind(), rate_kind(), count_kind(), workers_kind(most=1024)):
        value = read(kind, text)
        if value is not BAD:
            assert value == yaml.safe_load(text)


@given(st.floats(0, 1e8, allow_subnormal=False) | st.integers(0, 10**8))
def test_every_plain_number_in_range_is_read(number: float) -> None:
    text = f"{number:.6f}" if isinstance(number, float) else str(number)
    assert read(seconds_kind(), text) == float(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("1", 1), ("1000000000", 10**9)])
def test_a_count_is_a_whole_number(text: str, value: int) -> None:
    got = read(count_kind(), text)
    assert got == value
    assert type(got) is int


@pytest.mark.parametrize(
    "text", ["1000000001", "1.0", "-0", "+1", "01", "0b1", "0o7", "1_0", "true", "null", "[]", "{}"]
)
def test_what_is_no_plain_count_is_a_fault(text: str) -> None:
    assert read(count_kind(), text) is BAD


@pytest.mark.parametrize(("text", "value"), [("auto", 0), ("1", 1), ("1024", 1024)])
def test_workers_are_a_number_or_auto(text: str, value: int) -> None:
    assert read(workers_kind(most=1024), text) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("FALSE", False)])
def test_booleans_are_the_words_of_yaml_1_2(text: str, value: bool) -> None:
    assert read(boolean_kind(), text) is value


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "y", "n", "1", "0", "'true'", "null", "tRUE"])
def test_every_other_word_for_a_boolean_is_a_fault(text: str) -> None:
    assert read(boolean_kind(), text) is BAD
