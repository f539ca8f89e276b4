"""`bench handshake` as a user types it: tables, result files, and a sentence for everything that cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.core.config import Engine
from proxy.lab.results import Kind, Mode, Result, read
from tests import engines
from tests.lab.tlsserver import SERVER, Ends, late_ticket_server, make_ends, server_context, tls_server

QUICK = ["--rounds", "1", "--seconds", "0.2", "--warm-up", "0", "--timeout", "5"]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"))


@pytest.fixture
def address(ends: Ends) -> Iterator[tuple[str, int]]:
    with tls_server(server_context(ends)) as at:
        yield at


def bench(*words: str) -> int:
    return main(["bench", "handshake", *words])


def target(address: tuple[str, int], ends: Ends, *words: str) -> list[str]:
    files = [
        f"--{name}={ends.client / file}" for name, file in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key"))
    ]
    return [f"--target={address[0]}:{address[1]}", *files, *QUICK, *words]


def test_a_sidecar_of_its_own_is_measured_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    assert bench("--matrix", "key=p256", "--concurrency", "4", *QUICK, "--json", str(file)) == 0
    shown = capsys.readouterr().out
    for line in ("TLS 1.2, full", "TLS 1.3, full", "TLS 1.2, resumed", "TLS 1.3, resumed", "What it means"):
        assert line in shown
    result: Result = read(str(file))
    assert (result.kind, result.target) == (Kind.HANDSHAKE, None)
    rounds = {(row.scenario.version, row.scenario.mode): row.rounds[0] for row in result.rows}
    assert all(row.fault is None for row in result.rows)
    for round_ in rounds.values():
        assert round_.count > 0
        assert round_.server_cpu_s is not None
        assert 0.00005 < round_.server_cpu_s / round_.count < 0.05
        assert round_.bytes_sent is not None
        assert round_.failures == {}
    trips = {name: (round_.round_trips or 0) / round_.count for name, round_ in rounds.items()}
    assert trips == {("1.2", Mode.FULL): 4, ("1.3", Mode.FULL): 3, ("1.2", Mode.RESUMED): 3, ("1.3", Mode.RESUMED): 3}
    assert {each.key for each in result.certificates} == {"ECDSA P-256"}
    assert result.configuration["rounds"] == 1


def test_chain_key_and_group_are_really_those_that_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["version=1.3", "mode=full", "key=ed25519", "chain=1,3", "group=p384", "cipher=chacha20", "concurrency=1"]
    assert bench("--matrix", *words, *QUICK, "--json", str(file)) == 0
    one, three = read(str(file)).rows
    assert (one.negotiated_group, one.negotiated_cipher) == ("P-384", "TLS_CHACHA20_POLY1305_SHA256")
    received = [(row.rounds[0].bytes_received or 0) / row.rounds[0].count for row in (one, three)]
    assert received[1] - received[0] > 500  # two intermediates more


def test_an_open_loop_through_a_delay_line_has_its_round_trips_in_every_latency(
    address: tuple[str, int], ends: Ends, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    words = ["--matrix", "mode=full", "version=1.3", "--rate", "20", "--rtt", "20ms", "--send", "P"]
    assert bench(*target(address, ends, "--server-id", SERVER, *words, "--json", str(file))) == 0
    (row,) = read(str(file)).rows
    assert (row.scenario.rate, row.scenario.rtt_s, row.scenario.side) == (20.0, 0.02, "target")
    assert row.rounds[0].count == 4
    from proxy.lab.latencies import Latencies

    fastest = Latencies.decode(row.rounds[0].latency or "").percentile(0)
    assert fastest is not None
    assert fastest >= 3 * 0.02


def test_the_cpu_of_a_target_is_unknown_unless_its_process_is_named(
    address: tuple[str, int], ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*target(address, ends, "--server-id", SERVER, "--matrix", "mode=full", "version=1.3")) == 0
    shown = capsys.readouterr().out
    assert "unknown" in shown
    assert "The server's CPU time is unknown" in shown


def test_a_row_that_cannot_be_measured_is_said_and_fails_the_command(
    ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    with tls_server(server_context(ends, "1.3")) as address:
        assert bench(*target(address, ends, "--server-id", SERVER, "--matrix", "mode=full")) == 1
    shown = capsys.readouterr().out
    assert "Not whole: TLS 1.2, full: the server does not take TLS 1.2: leave it out with --matrix version=1.3" in shown
    assert "TLS 1.3, full" in shown


def test_a_target_whose_tickets_come_last_is_measured_and_that_is_said(
    ends: Ends, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In full and resumed; BoringSSL's servers, and so Envoy and this sidecar on its quicker engine, are like that."""
    file = tmp_path / "result.json"
    with late_ticket_server(server_context(ends, "1.3")) as address:
        words = ["--server-id", SERVER, "--matrix", "version=1.3", "--json", str(file)]
        assert bench(*target(address, ends, *words)) == 0
    assert "the client said its end at once there" in capsys.readouterr().out
    assert [row.rounds[0].count > 0 for row in read(str(file)).rows] == [True, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["version=1.2,1.3"], True), (["version=1.3"], False), (["version=1.2,1.3", "--send", "x"], False)],
)
def test_where_the_versions_are_not_alike_that_is_said(
    words: list[str], said: bool, address: tuple[str, int], ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*target(address, ends, "--server-id", SERVER, "--matrix", "mode=full", *words)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert ("a round trip later than a client waits that sends its request at once" in shown) is said


def test_the_first_to_meet_that_meets_nobody_says_whom_it_missed(
    address: tuple[str, int], ends: Ends, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--server-id", SERVER, "--fleet", "0/2", "--meet", str(tmp_path / "run"), "--meet-within", "10ms"]
    assert bench(*target(address, ends, "--matrix", "version=1.3", "mode=full", *words)) == 1
    said = capsys.readouterr().err
    assert "generator-1.ready" in said
    assert said.endswith("with the same folder and size?\n")


def test_the_knee_is_searched_and_its_steps_are_rows(
    address: tuple[str, int], ends: Ends, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    words = ["--find-max", "--slo", "p50=1us", "--matrix", "mode=full", "version=1.3", "--json", str(file)]
    quick = ["--seconds", "0.05"]
    assert bench(*target(address, ends, "--server-id", SERVER, *words, *quick)) == 0
    assert "The highest rate that kept p50=1us: none of those tried" in capsys.readouterr().out
    (maximum,) = json.loads(file.read_text())["maxima"]
    assert (maximum["rate"], maximum["slo"]) == (None, "p50=1us")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--server-id", "spiffe://example.org/ns/x/**"], f"the server is {SERVER}, expected was"),
        ([], "--server-id spiffe://"),
        (["--server-id", SERVER, "--ca", "/nonexistent"], "the CA file /nonexistent cannot be read"),
        (["--server-id", SERVER, "--pid", "4194304"], "there is no process 4194304 to be seen here"),
        (["--server-id", SERVER, "--cgroup", "no/such"], "cat /proc/PID/cgroup"),
        (["--server-id", SERVER, "--target", "nobody.invalid:443"], "nobody.invalid has no address"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence_with_advice_and_exit_1(
    address: tuple[str, int], ends: Ends, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*target(address, ends, "--matrix", "version=1.3", "mode=full", *QUICK, *words)) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("mtls-sidecar bench handshake: ")
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(
    address: tuple[str, int], ends: Ends, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--server-id", SERVER, "--matrix", "version=1.3", "mode=full", "--json", "/nonexistent/x.json"]
    assert bench(*target(address, ends, *words)) == 1
    shown = capsys.readouterr()
    assert "/nonexistent/x.json cannot be written: No such file or directory" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ca", "x"], "--ca is for a server of yours: name it with --target HOST:PORT"),
        (["--pid", "1"], "--pid is for a server of yours"),
        (["--server-id", "spiffe://a/b"], "--server-id is for a server of yours"),
        (["--alpn", "h2"], "--alpn is for a server of yours"),
        (["--target", "h:1", "--alpn", "h2,,"], "is no list of protocols"),
        (["--send", "x"], "--send is for a server of yours"),
        (["--target", "h:1"], "--target needs --ca FILE"),
        (["--target", "h:1", "--ca", "x", "--cert", "x"], "--cert and --key go together"),
        (["--target", "h:1", "--ca", "x", "--server-name", "h", "--server-id", "spiffe://a/b"], "give one"),
        (["--target", "h:1", "--ca", "x", "--pid", "1", "--cgroup", "x"], "give one"),
        (["--target", "h:1", "--ca", "x", "--send", "\\xZZ"], "--send holds an escape"),
        (["--target", "h:1", "--ca", "x", "--send", "y" * 5000], "--send takes at most 4096 bytes"),
        (["--target", "h:1", "--ca", "x", "--matrix", "client=cert"], "give --cert and --key"),
        (["--find-max"], "--find-max and --slo go together"),
        (["--slo", "p99=1ms"], "--find-max and --slo go together"),
        (["--find-max", "--slo", "fast"], "'fast' is no promise"),
        (["--find-max", "--slo", "p99=1ms", "--rate", "5"], "leave --rate out"),
        (["--rate", "5", "--concurrency", "5"], "no concurrency"),
        (["--matrix", "colour=red"], "'colour=red' is no axis"),
        (["--concurrency", "x"], "'x' is no number"),
        (["--rate", "x"], "is no rate"),
        (["--rounds", "0"], "is no whole number from 1 to 1000"),
    ],
)
def test_options_that_do_not_fit_together_are_said_and_exit_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "engine", "sentence"),
    [
        ("x448", "auto", "a sidecar has no group X448: choose of X25519MLKEM768, "),
        ("secp384r1mlkem1024", "boringssl", "the engine boringssl has no group SecP384r1MLKEM1024: choose of P-256, "),
    ],
)
def test_a_group_that_no_sidecar_of_this_engine_has_is_refused_before_one_is_started(
    group: str, engine: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == Engine.BORINGSSL:
        engines.require(Engine.BORINGSSL)
    assert bench("--matrix", "version=1.3", f"group={group}", f"engine={engine}", *QUICK) == 1
    assert capsys.readouterr().err.startswith(f"mtls-sidecar bench handshake: {sentence}")


def test_an_engine_that_is_not_built_here_is_refused_before_any_sidecar_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_built() -> None:
        raise ImportError("No module named 'mtls_sidecar_boringssl'")

    monkeypatch.setattr("proxy.tls.engine.boringssl_engine", not_built)
    monkeypatch.setattr("proxy.tls.engine._DISTRIBUTION", "mtls_sidecar_no_such_engine")
    assert bench("--matrix", "engine=openssl,boringssl", *QUICK) == 1
    told = capsys.readouterr().err
    assert told.startswith(
        "mtls-sidecar bench handshake: the engine boringssl is not installed here: build it with `make"
    )
    assert "001-inbound.yaml" not in told
