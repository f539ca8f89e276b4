"""The generator against servers that behave, stall, refuse and hang: it counts what they accepted, and no more."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.core.reasons import Reason
from proxy.lab.generator import MODULE, Generators, LoadFault, Measured
from proxy.lab.plan import Arrivals, ClosedLoop, OpenLoop, Plan, Prepare, Report, Start
from proxy.ops.ownmodule import package_command, package_environment
from tests import minting
from tests.lab.tlsserver import DEADLINE_S, Ends, make_ends, plan_for, server_context, tls_server

BOTH = pytest.mark.parametrize("version", ["1.2", "1.3"])


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"))


@pytest.fixture(scope="module")
def generators() -> Iterator[Generators]:
    with Generators(processes=1) as running:
        yield running


def measure(generators: Generators, plan: Plan) -> Measured:
    generators.prepare(plan)
    return generators.measure()


@BOTH
def test_every_accepted_handshake_has_one_latency_and_its_bytes(
    generators: Generators, ends: Ends, version: str
) -> None:
    with tls_server(server_context(ends)) as address:
        measured = measure(generators, plan_for(address, ends.credentials(), version, pace=ClosedLoop(in_flight=2)))
    assert measured.fault is None
    assert measured.failures == {}
    assert measured.count == measured.latencies.count > 0
    assert measured.negotiated is not None
    assert measured.negotiated.version == version
    assert measured.bytes_received is not None
    assert measured.bytes_received / measured.count > 500  # at least a certificate
    assert measured.most_open <= 2
    assert measured.cpu_s > 0


@BOTH
def test_a_server_that_trusts_nobody_has_no_success_in_either_version(
    generators: Generators, ends: Ends, version: str, tmp_path: Path
) -> None:
    """In TLS 1.3 the client's own handshake succeeds each time, which is what an honest count must not count."""
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(minting.authority("other.org").bundle_pem)
    with tls_server(server_context(ends, trusted=stranger)) as address:
        for request in (b"P", b""):
            plan = plan_for(address, ends.credentials(), version, request=request)
            measured = measure(generators, plan)
            assert measured.count == measured.latencies.count == 0
            assert set(measured.failures) == {Reason.UPSTREAM_REJECTED_US}, measured.details
            assert measured.fault is not None
            assert "accepted no handshake: UPSTREAM_REJECTED_US" in measured.fault
            assert "--cert and --key" in measured.fault


@pytest.mark.parametrize(("offered", "taken"), [("1.3", "1.2"), ("1.2", "1.3")])
def test_a_pinned_version_that_the_server_does_not_take_is_never_another_one(
    generators: Generators, ends: Ends, offered: str, taken: str
) -> None:
    with tls_server(server_context(ends, taken)) as address:
        measured = measure(generators, plan_for(address, ends.credentials(), offered))
    assert measured.count == 0
    assert set(measured.failures) == {Reason.UNSUPPORTED_TLS_VERSION}
    assert measured.fault is not None
    assert f"leave it out with --matrix version={taken}" in measured.fault


@BOTH
def test_resumed_means_that_each_counted_session_was_reused(generators: Generators, ends: Ends, version: str) -> None:
    with tls_server(server_context(ends)) as address:
        full = measure(generators, plan_for(address, ends.credentials(), version))
        resumed = measure(generators, plan_for(address, ends.credentials(), version, resumed=True))
    assert resumed.fault is None
    assert resumed.count > 0
    assert resumed.not_resumed == 0
    assert full.bytes_received is not None
    assert resumed.bytes_received is not None
    # No certificate of the server comes in a resumed handshake.
    assert resumed.bytes_received / resumed.count < full.bytes_received / full.count - 300


def test_a_row_of_resumed_handshakes_fails_where_the_server_does_not_resume(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends, "1.3", tickets=False)) as address:
        measured = measure(generators, plan_for(address, ends.credentials(), resumed=True))
    assert measured.count == measured.latencies.count == 0
    assert measured.not_resumed > 0
    assert measured.fault is not None
    assert "were full although a session was offered" in measured.fault


def test_a_session_ticket_is_acceptance_where_nothing_is_asked(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        measured = measure(generators, plan_for(address, ends.credentials(), request=b""))
    assert measured.fault is None
    assert measured.count > 0


def test_without_ticket_and_byte_nothing_says_that_the_server_accepted(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends, "1.3", tickets=False)) as address:
        plan = plan_for(address, ends.credentials(), request=b"", seconds=0.05, timeout_s=0.3)
        measured = measure(generators, plan)
    assert measured.count == 0
    assert set(measured.failures) == {Reason.HANDSHAKE_TIMEOUT}
    assert "let the client ask for a byte (--send)" in measured.details[Reason.HANDSHAKE_TIMEOUT]


def test_a_silent_server_costs_its_deadline_and_no_latency(generators: Generators, ends: Ends) -> None:
    with tls_server(None) as address:
        plan = plan_for(address, ends.credentials(), seconds=0.05, timeout_s=0.2, pace=ClosedLoop(in_flight=3))
        measured = measure(generators, plan)
    assert measured.count == measured.latencies.count == 0
    assert measured.failures == {Reason.HANDSHAKE_TIMEOUT: 3}


def test_an_address_where_nothing_listens_is_said(generators: Generators, ends: Ends) -> None:
    with tls_server(None) as address:
        pass
    measured = measure(generators, plan_for(address, ends.credentials(), seconds=0.05))
    assert set(measured.failures) == {Reason.UPSTREAM_REFUSED}
    assert measured.fault is not None
    assert "Does the server listen there? Check --target" in measured.fault


def stall_once(after: int, seconds: float) -> Callable[[], None]:
    """Called before each accept: the server does nothing for a while after so many connections."""
    seen = iter(range(1_000_000))

    def before() -> None:
        if next(seen) == after:
            threading.Event().wait(seconds)

    return before


def test_an_open_loop_shows_the_stall_of_a_server_in_full(generators: Generators, ends: Ends) -> None:
    """
    A client that waits for answers asks nothing of a server that stalls, and so counts one slow answer. The arrivals of
    an open loop come all the same: those during a stall of 0.6 s wait up to 0.6 s, and their latency says so.
    """
    rate, stall_s = 100.0, 0.6
    with tls_server(server_context(ends), before=stall_once(30, stall_s)) as address:
        plan = plan_for(address, ends.credentials(), pace=OpenLoop(rate=rate), seconds=1.0)
        opened = measure(generators, plan)
    with tls_server(server_context(ends), before=stall_once(30, stall_s)) as address:
        closed = measure(generators, plan_for(address, ends.credentials(), pace=ClosedLoop(in_flight=1), seconds=1.0))
    assert opened.fault is None
    assert opened.count == rate  # every arrival, also those that had to wait
    p50, p99 = opened.latencies.percentile(50), opened.latencies.percentile(99)
    assert p99 is not None
    assert p50 is not None
    assert p99 > 0.8 * stall_s
    assert p50 > 0.05  # more than half of the arrivals fell into the stall or its aftermath
    hidden = closed.latencies.percentile(90)
    assert hidden is not None
    assert hidden < 0.5 * stall_s  # the closed loop hides it: this is what coordinated omission is


def test_poisson_arrivals_are_all_begun(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        pace = OpenLoop(rate=60, arrivals=Arrivals.POISSON, seed=3)
        measured = measure(generators, plan_for(address, ends.credentials(), pace=pace, seconds=0.5))
    assert measured.fault is None
    assert 10 < measured.count < 60


def test_arrivals_beyond_the_most_that_may_be_open_wait_and_their_wait_counts(
    generators: Generators, ends: Ends
) -> None:
    with tls_server(server_context(ends), before=stall_once(0, 0.4)) as address:
        plan = plan_for(address, ends.credentials(), pace=OpenLoop(rate=100), seconds=0.3, max_open=2)
        measured = measure(generators, plan)
    assert measured.count == 30
    assert measured.most_open == 2
    assert measured.client_limited
    median = measured.latencies.percentile(50)
    assert median is not None
    assert median > 0.1


def test_arrivals_at_a_server_that_hangs_all_fail_and_do_not_take_for_ever(generators: Generators, ends: Ends) -> None:
    """With 2 open at once and 0.3 s for each, begun one after the other they would take 7.5 s."""
    with tls_server(None) as address:
        pace = OpenLoop(rate=100)
        plan = plan_for(address, ends.credentials(), pace=pace, seconds=0.5, timeout_s=0.3, max_open=2)
        generators.prepare(plan)
        began = time.monotonic()
        measured = generators.measure()
    assert time.monotonic() - began < 4.0
    assert measured.count == 0
    assert sum(measured.failures.values()) == 50
    assert set(measured.failures) == {Reason.HANDSHAKE_TIMEOUT, Reason.UPSTREAM_TIMEOUT}
    assert "--max-open" in measured.details[Reason.UPSTREAM_TIMEOUT]


def test_two_processes_share_the_clients_and_are_summed(ends: Ends) -> None:
    with Generators(processes=2) as two, tls_server(server_context(ends)) as address:
        plan = plan_for(address, ends.credentials(), pace=OpenLoop(rate=50), seconds=0.4)
        measured = measure(two, plan)
        with pytest.raises(LoadFault, match="cannot share 1 clients"):
            two.prepare(plan_for(address, ends.credentials(), pace=ClosedLoop(in_flight=1)))
    assert (measured.count, measured.processes) == (20, 2)
    assert measured.as_round().client_processes == 2


def test_connections_are_held_open_until_they_are_released(generators: Generators, ends: Ends) -> None:
    with tls_server(server_context(ends)) as address:
        generators.prepare(plan_for(address, ends.credentials()))
        held = generators.hold(40)
        generators.release()
    assert held.count == 40


def test_a_client_that_cannot_be_made_is_a_sentence_with_advice(generators: Generators, ends: Ends) -> None:
    with pytest.raises(LoadFault) as fault:
        generators.prepare(plan_for(("127.0.0.1", 1), ends.credentials(ca="/nonexistent/ca.crt")))
    assert str(fault.value) == (
        "the CA file /nonexistent/ca.crt cannot be read: No such file or directory. Check the path and its permissions"
    )
    assert fault.value.reason is Reason.FILE_MISSING


def test_a_generator_process_that_dies_is_said(ends: Ends) -> None:
    with Generators(processes=1) as mortal:
        subprocess.run(["kill", "-9", str(mortal.pids[0])], check=True)
        with pytest.raises(LoadFault, match="ended unexpectedly"):
            mortal.prepare(plan_for(("127.0.0.1", 1), ends.credentials()))


def test_a_generator_process_does_not_outlive_who_started_it(ends: Ends) -> None:
    """Also in the middle of a measurement that would have taken a minute more."""
    with tls_server(server_context(ends)) as address:
        process = subprocess.Popen(
            package_command(MODULE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=package_environment()
        )
        assert process.stdin is not None
        assert process.stdout is not None
        plan = plan_for(address, ends.credentials(), seconds=60.0)
        process.stdin.write(msgspec.json.encode(Prepare(plan=plan, share=0, shares=1)) + b"\n")
        process.stdin.flush()
        assert not msgspec.json.decode(process.stdout.readline(), type=Report).fatal
        process.stdin.write(msgspec.json.encode(Start(at_s=0.0)) + b"\n")
        process.stdin.close()
        process.stdout.close()
        assert process.wait(DEADLINE_S) in (1, 120)  # 120: Python's own, where standard output cannot be flushed
