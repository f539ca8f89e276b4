"""Fixtures of the end-to-end tests: what they start is gone when the test is over, and its log shown if it failed."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.core.config import Engine
from tests import engines
from tests.e2e.apps import App, Serve, echo
from tests.e2e.peers import Peer
from tests.e2e.pki import Identity, Pki
from tests.e2e.pods import Node, sweep, why_no_pods
from tests.e2e.sidecar import Sidecar
from tests.e2e.waiting import Address, until

# On both engines, since what they show of TLS itself may differ. All others run on `auto`: BoringSSL where it is built.
ON_BOTH = {
    "test_engine",
    "test_interop_curl",
    "test_interop_openssl",
    "test_mismatch",
    "test_proxy_protocol",
    "test_reasons",
    "test_resumption",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `engine` for the files above."""
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        metafunc.parametrize("engine", list(engines.ENGINES), ids=str, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine of every sidecar that the test starts."""
    name = getattr(request, "param", Engine.AUTO)
    if name is not Engine.AUTO:
        engines.require(name)
    with engines.using(name):
        yield name


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """A new CA, and a stranger."""
    return Pki(tmp_path / "pki")


@pytest.fixture
def web(pki: Pki) -> Identity:
    """Who a sidecar is where it does not matter."""
    return pki.identity("web")


@pytest.fixture
def start_sidecar(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """
    `start_sidecar(identity, inbound=[...], outbound=[...], **sections)`: a sidecar that is ready; with `ready=False`
    one that has only been started.
    """
    running: list[Sidecar] = []

    def start(*args: object, ready: bool = True, **sections: object) -> Sidecar:
        folder = tmp_path / f"sidecar-{len(running) + 1}"
        folder.mkdir()
        sidecar = Sidecar(folder, *args, **sections)  # type: ignore[arg-type]
        running.append(sidecar)
        return sidecar.wait_ready() if ready else sidecar

    yield start
    for number, sidecar in enumerate(running, 1):
        sidecar.kill()
        sys.stdout.write(f"--- sidecar {number} ---\n{sidecar.log()}\n")
    assert [sidecar.unreadable for sidecar in running] == [[] for _ in running]


@pytest.fixture
def start_app() -> Iterator[Callable[[Serve], App]]:
    """`start_app(echo)`: an application of one function."""
    with contextlib.ExitStack() as stack:
        yield lambda serve: stack.enter_context(App(serve))


@pytest.fixture
def app(start_app: Callable[[Serve], App]) -> App:
    """An application that sends back what it gets."""
    return start_app(echo)


@pytest.fixture
def start_peer(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """`start_peer(argv, listening=ADDRESS)`: a program of others, once it listens there (if it is to listen)."""
    running: list[Peer] = []

    def start(argv: list[str], *, listening: Address | None = None) -> Peer:
        peer = Peer(argv, tmp_path / f"peer-{len(running) + 1}.log")
        running.append(peer)
        if listening is not None:
            until(lambda: peer.listens(listening), f"{argv[0]} listens")
        return peer

    yield start
    for peer in running:
        peer.stop()
        sys.stdout.write(f"--- {' '.join(peer.argv)} ---\n{peer.log()}\n")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node; its Pods, and all that was started in them, are gone when the test is over."""
    if why := why_no_pods():
        if os.environ.get("CI"):
            pytest.fail(f"{why}: CI has to run as root, where namespaces can be made", pytrace=False)
        pytest.skip(why)
    sweep()
    with contextlib.ExitStack() as closing:
        made = Node(tmp_path, closing)
        closing.callback(made.delete)
        yield made
