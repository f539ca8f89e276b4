"""What a generator process does with orders, in this process: shares, and what the machine runs out of."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.reasons import Reason, Rejected
from proxy.lab import loadloop
from proxy.lab.exchange import begin_connecting
from proxy.lab.generatorprocess import Worker, portion, resolve
from proxy.lab.loadloop import Shortage
from proxy.lab.plan import ClosedLoop, Hold, Prepare, Start
from tests.lab.tlsserver import Ends, make_ends, plan_for, server_context, tls_server


@pytest.fixture
def worker() -> Iterator[Worker]:
    parent, ours = os.pipe()
    made = Worker(parent)
    yield made
    made.close()
    os.close(ours)
    os.close(parent)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"))


def runs_out(monkeypatch: pytest.MonkeyPatch, *, after: int, error: int) -> None:
    """From some connection on, this machine has no more of something."""
    begun = iter(range(1_000_000))

    def begin(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
        if next(begun) >= after:
            raise OSError(error, os.strerror(error))
        return begin_connecting(family, address)

    monkeypatch.setattr(loadloop, "begin_connecting", begin)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.EMFILE, "no file descriptor left"),
        (errno.EADDRNOTAVAIL, "no local port left for the target"),
        (errno.ENOBUFS, "could not open a connection: No buffer space available"),
    ],
)
def test_what_this_machine_runs_out_of_ends_the_measurement_with_a_sentence(
    worker: Worker, ends: Ends, monkeypatch: pytest.MonkeyPatch, error: int, said: str
) -> None:
    with tls_server(server_context(ends)) as address:
        plan = plan_for(address, ends.credentials(), pace=ClosedLoop(in_flight=2), seconds=30.0)
        worker.obey(Prepare(plan=plan, share=0, shares=1))
        runs_out(monkeypatch, after=5, error=error)
        report = worker.obey(Start(at_s=time.monotonic()))
    assert report.shortage is not None
    assert said in report.shortage
    assert report.count <= 5  # what was counted until then is in the report still


def test_while_connections_are_held_it_is_the_end_of_the_order(
    worker: Worker, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(server_context(ends)) as address:
        worker.obey(Prepare(plan=plan_for(address, ends.credentials()), share=0, shares=1))
        runs_out(monkeypatch, after=3, error=errno.EMFILE)
        with pytest.raises(Shortage, match="use more processes or fewer connections"):
            worker.obey(Hold(count=10))


def test_sessions_that_cannot_be_made_end_the_order_with_the_servers_reason(worker: Worker, ends: Ends) -> None:
    with tls_server(server_context(ends, "1.2")) as address:
        plan = plan_for(address, ends.credentials(), "1.3", resumed=True)
        with pytest.raises(Rejected) as refused:
            worker.obey(Prepare(plan=plan, share=0, shares=1))
    assert refused.value.reason is Reason.UNSUPPORTED_TLS_VERSION


def test_an_order_without_anything_prepared_is_refused(worker: Worker) -> None:
    with pytest.raises(Rejected, match="nothing was prepared"):
        worker.obey(Start(at_s=0.0))


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_the_parts_of_all_processes_add_up_to_the_whole(whole: int, shares: int) -> None:
    parts = [portion(whole, share, shares) for share in range(shares)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1


def test_a_name_is_resolved_once_and_one_without_an_address_is_said() -> None:
    assert resolve(("127.0.0.1", 443)) == (socket.AF_INET, ("127.0.0.1", 443))
    assert resolve(("::1", 443)) == (socket.AF_INET6, ("::1", 443))
    with pytest.raises(Rejected) as refused:
        resolve(("nobody.invalid", 443))
    assert refused.value.reason is Reason.UPSTREAM_UNRESOLVED


def test_a_client_that_cannot_be_made_leaves_nothing_prepared(worker: Worker, ends: Ends, tmp_path: Path) -> None:
    with tls_server(server_context(ends)) as address:
        worker.obey(Prepare(plan=plan_for(address, ends.credentials()), share=0, shares=1))
        with pytest.raises(Rejected):
            worker.obey(Prepare(plan=plan_for(address, ends.credentials(ca=str(tmp_path))), share=0, shares=1))
        with pytest.raises(Rejected, match="nothing was prepared"):
            worker.obey(Start(at_s=0.0))
