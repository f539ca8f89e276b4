"""The steps of `probe`: which connections are made, and that what is not known is not claimed."""

import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import probe_network
from proxy.cli.probe_document import Demand, Outcome, Resumption
from proxy.cli.probe_steps import Findings, Probe, Wish
from proxy.core.config import TcpAddress
from proxy.core.reasons import Reason
from proxy.tls.probing import OwnSvid
from tests import minting
from tests.e2e.apps import App, Serve

AUTHORITY = minting.authority()
SVID = minting.svid(AUTHORITY)


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Mutual TLS by Python's ssl, with an end in order."""
    files = minting.write_identity(tmp_path, SVID, {minting.DOMAIN: AUTHORITY})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.bundles[minting.DOMAIN])
    context.verify_mode = ssl.CERT_REQUIRED

    def answer(sock: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(sock, server_side=True) as encrypted:
            encrypted.recv(1)
            encrypted.unwrap()

    return answer


@pytest.fixture
def start() -> Iterator[Callable[[Serve], App]]:
    with contextlib.ExitStack() as stack:
        yield lambda serve: stack.enter_context(App(serve))


def probe(app: App, **fields: Any) -> Findings:
    wish = Wish(
        **{"upstream": TcpAddress(*app.address), "svid": OwnSvid(SVID.chain, SVID.key), "server_name": None, **fields}
    )
    return Probe(wish, time.monotonic).run()


def test_a_whole_probe_is_about_twenty_connections_and_says_how_many(
    start: Callable[[Serve], App], serve: Serve
) -> None:
    app = start(serve)
    found = probe(app)
    assert found.connections == app.accepted
    assert 10 <= app.accepted <= 22
    assert [version.resumption for version in found.versions] == [Resumption.WORKS, Resumption.WORKS]
    assert [version.client_certificate for version in found.versions] == [Demand.REQUIRED, Demand.REQUIRED]


def test_a_quick_one_is_four(start: Callable[[Serve], App], serve: Serve) -> None:
    app = start(serve)
    found = probe(app, quick=True)
    assert app.accepted == 4
    assert (found.groups, found.cipher_suites) == (None, None)
    assert [version.resumption for version in found.versions] == [Resumption.NOT_TRIED, Resumption.NOT_TRIED]


def test_only_the_versions_that_are_wished_for_are_tried(start: Callable[[Serve], App], serve: Serve) -> None:
    found = probe(start(serve), versions=("1.2",), quick=True)
    assert [version.version for version in found.versions] == ["1.2"]


@pytest.mark.parametrize("served", [6, 8])
def test_a_peer_that_takes_no_more_connections_leaves_the_rest_unknown(
    start: Callable[[Serve], App], serve: Serve, served: int
) -> None:
    """Six: two versions with and without a certificate, and resumed. Whatever comes then is closed at once."""
    numbers = itertools.count(1)

    def tire(sock: socket.socket) -> None:
        if next(numbers) <= served:
            serve(sock)

    found = probe(start(tire))
    assert [version.as_asked.outcome for version in found.versions] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert found.groups is not None
    assert found.cipher_suites is not None
    assert not found.groups.complete
    assert not found.cipher_suites.complete
    assert len(found.groups.taken) == served - 6
    assert found.cipher_suites.taken == []


def test_a_peer_that_takes_one_connection_is_judged_by_it(start: Callable[[Serve], App], serve: Serve) -> None:
    numbers = itertools.count(1)

    def once(sock: socket.socket) -> None:
        if next(numbers) == 1:
            serve(sock)

    found = probe(start(once), quick=True)
    first, second = found.versions
    assert (first.as_asked.outcome, first.client_certificate) == (Outcome.ACCEPTED, Demand.UNKNOWN)
    assert (second.as_asked.outcome, second.spoken) == (Outcome.FAILED, False)


def test_the_first_address_that_answers_is_probed_and_the_others_have_their_line(
    start: Callable[[Serve], App], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(serve)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [closed.getsockname(), app.address, app.address]
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(probe_network.socket, "getaddrinfo", lambda *_, **__: infos)
        found = probe(app, upstream=TcpAddress("payments.shop.svc", 443), quick=True)
    assert [one.connected for one in found.addresses] == [False, True]
    assert found.probed == found.addresses[1].address
    assert found.versions[0].as_asked.outcome is Outcome.ACCEPTED


def test_when_no_address_answers_the_refusal_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one, socket.socket() as two, App(lambda _: None) as app:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", sock.getsockname()) for sock in (one, two)]
        monkeypatch.setattr(probe_network.socket, "getaddrinfo", lambda *_, **__: infos)
        found = probe(app, upstream=TcpAddress("payments.shop.svc", 443))
    assert found.refusal is not None
    assert found.refusal.reason is Reason.UPSTREAM_REFUSED
    assert found.refusal.detail.startswith("none of 2 addresses answers")
