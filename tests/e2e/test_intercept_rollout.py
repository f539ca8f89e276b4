"""
Transparent mode over time: from PERMISSIVE to STRICT in mid-traffic, routes that come and go, a Job that ends, and a
Pod that is told to go while its app still works.
"""

import signal
import socket
import threading
from typing import Self

import pytest

from tests.e2e.apps import echo, http_hello
from tests.e2e.pki import Pki
from tests.e2e.pods import EVERYBODY, Namespace, Node, Pod, PodSidecar, interception
from tests.e2e.tlspeers import HELLO, ask, end_of, is_served
from tests.e2e.waiting import PATIENCE_S, until

pytestmark = pytest.mark.needs("ip", "nft", "nsenter", "setpriv", "unshare", "curl")

PORT = 8080


class Requests:
    """An app that asks all the time, on a new connection for every request and on one that it keeps."""

    def __init__(self, client: Namespace, host: str) -> None:
        self._client = client
        self._host = host
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._anew, self._kept)]
        self.served = {"anew": 0, "kept": 0}
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.flow()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def flow(self) -> None:
        """Wait until each has been served some more."""
        before = dict(self.served)
        until(lambda: self.failures or all(self.served[how] > before[how] + 2 for how in before), "requests are served")

    def _anew(self) -> None:
        while not self._enough.is_set() and not self.failures:
            self._ask("anew", None)

    def _kept(self) -> None:
        with self._client.dial((self._host, PORT)) as sock:
            while not self._enough.wait(0.005) and not self.failures:
                self._ask("kept", sock)

    def _ask(self, how: str, kept: socket.socket | None) -> None:
        try:
            if kept is not None:
                answer = ask(kept)
            else:
                with self._client.dial((self._host, PORT)) as sock:
                    answer = ask(sock)
            assert answer == HELLO
            self.served[how] += 1
        except (OSError, EOFError, AssertionError) as error:
            self.failures.append(f"{how}: {error!r}")


def sidecar_of(pod: Pod, pki: Pki, name: str, **sections: object) -> PodSidecar:
    """Rules and a sidecar."""
    pod.apply("--no-validate", "--backend", "nft")
    sections.setdefault("intercept", interception())
    return pod.sidecar(pki.identity(name), **sections)  # type: ignore[arg-type]


def reconfigure(sidecar: PodSidecar, intercept: dict[str, object]) -> None:
    """Put another `intercept` in force."""
    sidecar.config["intercept"] = intercept
    sidecar.write()
    assert sidecar.reload()["result"] == "published"


def test_from_permissive_to_strict_no_client_with_mutual_tls_notices(node: Node, pki: Pki) -> None:
    a, b = node.pod("a"), node.pod("b")
    sidecar_of(a, pki, "a")
    permissive = {"mode": "PERMISSIVE", "allow": EVERYBODY}
    of_b = sidecar_of(b, pki, "b", intercept=interception(default=permissive))
    b.app(echo, PORT)
    with Requests(a, b.v4) as requests, node.dial((b.v6, PORT)) as plaintext:
        assert ask(plaintext) == HELLO
        reconfigure(of_b, interception(default={"mode": "STRICT", "allow": EVERYBODY}))
        assert end_of(plaintext) == "reset"
        requests.flow()
        with pytest.raises((ConnectionError, EOFError)), node.dial((b.v4, PORT)) as late:
            ask(late)
        requests.flow()
    assert requests.failures == []
    until(lambda: of_b.metric("connections_active") == 0, "everybody has left")
    assert of_b.metric("closed_total", reason="POLICY_CHANGED") == 1
    assert of_b.metric("rejected_total", reason="PLAINTEXT_REFUSED") == 1
    assert of_b.metric("closed_total", reason="COMPLETED") == requests.served["anew"] + 1


def test_a_route_that_comes_ends_what_passed_in_plaintext_before(node: Node, pki: Pki) -> None:
    pod, other = node.pod("pod"), node.pod("other")
    sidecar = sidecar_of(pod, pki, "pod", intercept=interception(routes=[]))
    other.app(echo, PORT)
    other.app(echo, 9090)
    with pod.dial((other.v4, PORT)) as moved, pod.dial((other.v4, 9090)) as stays:
        assert is_served(moved)
        assert is_served(stays)
        route = {"to": "10.88.0.0/24", "ports": [PORT], "server_ids": EVERYBODY}
        reconfigure(sidecar, interception(routes=[route]))
        assert end_of(moved) == "reset"
        assert is_served(stays)
        (line,) = sidecar.closed()
        assert line["reason"] == "POLICY_CHANGED"
        assert f"{other.v4}:{PORT} is now a matter of intercept-10.88.0.0/24:8080" in line["detail"]
        reconfigure(sidecar, interception(routes=[route], rest="refuse"))
        assert end_of(stays) == "reset"
    assert sidecar.closed(2)[1]["reason"] == "POLICY_CHANGED"


def test_an_interception_that_leaves_the_configuration_ends_its_connections(node: Node, pki: Pki) -> None:
    """And comes back, at its old address."""
    pod = node.pod("pod")
    sidecar = sidecar_of(pod, pki, "pod", intercept=interception(default={"mode": "DISABLE"}))
    pod.app(echo, PORT)
    with node.dial((pod.v4, PORT)) as sock:
        assert is_served(sock)
        whole = sidecar.config["intercept"]
        reconfigure(sidecar, {"outbound": whole["outbound"]})
        assert end_of(sock) == "reset"
        with pytest.raises(ConnectionRefusedError):
            node.dial((pod.v4, PORT))
        reconfigure(sidecar, whole)
        with node.dial((pod.v4, PORT)) as again:
            assert is_served(again)


def test_a_job_ends_its_sidecar_when_it_has_ended(node: Node, pki: Pki) -> None:
    """On clusters without native sidecars: the last thing that the Job's container does."""
    job, b = node.pod("job"), node.pod("b")
    sidecar = sidecar_of(job, pki, "job")
    sidecar_of(b, pki, "b")
    b.app(http_hello, PORT)
    assert job.curl(f"http://{b.v4}:{PORT}/").body == "hello"
    assert job.curl("http://127.0.0.1:15000/quitquitquit", "--request", "POST").status == 200
    assert sidecar.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_under_way_at_sigterm_is_served_and_may_still_call_others(node: Node, pki: Pki, workers: int) -> None:
    """The app needs an upstream to answer what it was asked before: inbound is closed first, outbound last."""
    a, b, c = node.pod("a"), node.pod("b"), node.pod("c")
    of_a, of_c = (sidecar_of(pod, pki, name) for pod, name in ((a, "a"), (c, "c")))
    of_b = sidecar_of(b, pki, "b", workers=workers)
    c.app(echo, PORT)
    asked, go_on = threading.Event(), threading.Event()

    def app_of_b(sock: socket.socket) -> None:
        question = sock.recv(64)
        asked.set()
        go_on.wait(PATIENCE_S)
        for _ in range(3):
            with b.dial((c.v4, PORT)) as upstream:
                assert ask(upstream, question) == question
        sock.sendall(question)
        sock.shutdown(socket.SHUT_RDWR)

    b.app(app_of_b, PORT)
    with a.dial((b.v4, PORT)) as sock:
        sock.sendall(HELLO)
        assert asked.wait(PATIENCE_S)
        of_b.signal(signal.SIGTERM)
        until(lambda: refuses(node, b), "inbound is closed")
        go_on.set()
        assert sock.recv(64) == HELLO
    assert of_b.wait() == 0
    assert [line["reason"] for line in [*of_a.closed(), *of_c.closed(3)]] == ["COMPLETED"] * 4


def test_during_the_drain_delay_everything_goes_on(node: Node, pki: Pki) -> None:
    """The app got its SIGTERM at the same moment, as in a Pod without native sidecars, and still has work to do."""
    a, b = node.pod("a"), node.pod("b")
    of_a = sidecar_of(a, pki, "a", timeouts={"drain_delay_s": 1.5})
    sidecar_of(b, pki, "b")
    a.app(echo, PORT)
    b.app(echo, PORT)
    of_a.signal(signal.SIGTERM)
    of_a.lines("draining")
    assert of_a.ask("GET", "/ready")[0] == 503
    for _ in range(5):
        with a.dial((b.v4, PORT)) as sock:
            assert is_served(sock)
        with b.dial((a.v4, PORT)) as sock:
            assert is_served(sock)
    assert of_a.wait() == 0
    assert {line["reason"] for line in of_a.closed(10)} == {"COMPLETED"}


def refuses(client: Namespace, pod: Pod) -> bool:
    """Whether nobody takes what the rules redirect."""
    try:
        client.dial((pod.v4, PORT)).close()
    except ConnectionRefusedError:
        return True
    return False
