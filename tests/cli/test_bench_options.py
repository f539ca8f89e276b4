"""How the options of the measuring subcommands are read."""

import argparse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.bench_options import (
    configuration,
    positive_span_s,
    processes,
    rates,
    span_s,
    spans_s,
    tcp_address,
    typed_command,
    whole,
)

Read = Callable[[str], object]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("250us", 0.00025), ("1.5s", 1.5), ("10m", 600.0), ("1h", 3600.0), ("3", 3.0), ("0", 0.0)],
)
def test_a_span_of_time_is_read(text: str, seconds: float) -> None:
    assert span_s(text) == pytest.approx(seconds)


def test_several_spans_are_read_once_each() -> None:
    assert spans_s("0,1ms, 20ms,1ms") == (0.0, 0.001, 0.02)


@pytest.mark.parametrize(
    ("text", "found"),
    [("200", (200.0,)), ("100,200,100", (100.0, 200.0)), ("100:300:100", (100.0, 200.0, 300.0)), ("1:1:1", (1.0,))],
)
def test_rates_are_a_number_a_list_or_a_ramp(text: str, found: tuple[float, ...]) -> None:
    assert rates(text) == found


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (span_s, "20 ms", "write 20ms, 1.5s"),
        (span_s, "-1s", "is no span of time"),
        (span_s, "25h", "longer than a day"),
        (positive_span_s, "0s", "no time at all"),
        (rates, "0", "is no rate"),
        (rates, "1,,2", "is no rate"),
        (rates, "nan", "is no rate"),
        (rates, "inf", "is no rate"),
        (rates, "1:10:0", "is no rate"),
        (rates, "10:1:1", "is no rate"),
        (rates, "1:1000000:1", "is no rate"),
        (rates, "1:1e999:1", "is no rate"),
        (rates, "1:2:0.0000000001", "is no rate"),
        (processes, "0", "is no whole number from 1"),
        (processes, "many", "is no whole number"),
        (whole(1, 5), "6", "from 1 to 5"),
        (tcp_address, "localhost", "the port is missing"),
        (tcp_address, "unix:/run/x.sock", "is no HOST:PORT"),
        (tcp_address, "https://host:443", "no scheme"),
    ],
)
def test_what_cannot_be_read_is_said(read: Read, text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as fault:
        read(text)
    assert said in str(fault.value)


@given(st.text(max_size=30) | st.text("0123456789.,:eshmu-", max_size=30))
@pytest.mark.parametrize("read", [span_s, spans_s, rates, processes, tcp_address])
def test_junk_is_read_or_said(read: Read, text: str) -> None:
    try:
        assert read(text) is not None
    except argparse.ArgumentTypeError:
        pass


def test_an_address_is_a_pair() -> None:
    assert tcp_address("127.0.0.1:443") == ("127.0.0.1", 443)
    assert tcp_address("[::1]:443") == ("::1", 443)


def test_auto_leaves_the_server_a_core_where_there_is_one() -> None:
    assert processes("auto") >= 1
    assert processes("3") == 3


def test_the_configuration_of_a_run_is_its_options_without_the_machinery() -> None:
    args = argparse.Namespace(rounds=5, rate=(1.0, 2.0), json="x.json", run_subcommand=print, command="bench", key=None)
    assert configuration(args) == {"rounds": 5, "rate": ["1.0", "2.0"], "key": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--rounds 7 --json /home/kim/r.json --seed 1", "mtls-sidecar --rounds 7 --json r.json --seed 1"),
        ("--json=/home/kim/r.json", "mtls-sidecar --json=r.json"),
        ("--json r.json --ca /etc/ca.pem --json", "mtls-sidecar --json r.json --ca /etc/ca.pem --json"),
    ],
)
def test_what_was_typed_is_kept_but_for_the_folder_of_the_result(words: str, said: str) -> None:
    assert typed_command(words.split()) == said


def test_what_was_typed_can_be_typed_again() -> None:
    assert typed_command(["bench", "--server-id", "spiffe://a/**"]) == "mtls-sidecar bench --server-id 'spiffe://a/**'"
