"""
App A: the plaintext HTTP client of the demo, one request at a time or as steady traffic that counts what failed.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from proxy.cli.childprocess import Address, NotShown

_TIMEOUT_S = 5.0
_PAUSE_S = 0.003  # between two requests of one client: traffic, not a load test
_MAX_FAILURES = 20


class Answer(NamedTuple):
    """What app B said. client: the address that app A called from, which names the connection in sidecar A's log."""

    body: dict[str, Any]
    client: str


def connect(address: Address) -> http.client.HTTPConnection:
    """A connection that is never opened anew behind our back. Raises: OSError."""
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    connection.connect()
    connection.auto_open = 0  # a kept-alive connection that broke must fail, not be replaced in silence
    return connection


def ask(connection: http.client.HTTPConnection) -> dict[str, Any]:
    """One request. Raises: OSError, http.client.HTTPException, ValueError: anything but a whole answer."""
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        raise ValueError(f"status {response.status}")
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is no object")
    return answer


def call(address: Address) -> Answer:
    """One request on a connection of its own. Raises: NotShown."""
    try:
        with contextlib.closing(connect(address)) as connection:
            client = connection.sock.getsockname()
            return Answer(ask(connection), f"{client[0]}:{client[1]}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotShown(f"app A got no answer: {describe(error)}") from None


def describe(error: BaseException) -> str:
    """An error of a client in words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Tally:
    """What one kind of client has counted; several threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.failures: list[str] = []
        self.failed = 0

    def add(self, error: BaseException | None = None) -> None:
        """Count one request."""
        with self._lock:
            self.requests += 1
            if error is not None:
                self.failed += 1
                if len(self.failures) < _MAX_FAILURES:
                    self.failures.append(describe(error))


class Traffic(NamedTuple):
    """Steady traffic: on new connections, and on connections that are kept alive from before the first rotation."""

    fresh: Tally
    kept: Tally


@contextlib.contextmanager
def steady_traffic(addresses: list[Address]) -> Iterator[Traffic]:
    """While it is open, two clients for each address ask on and on; one of them has one connection for all of it."""
    traffic = Traffic(Tally(), Tally())
    stop = threading.Event()
    begun = threading.Barrier(2 * len(addresses) + 1)
    clients = [
        threading.Thread(target=client, args=(address, tally, stop, begun), daemon=True)
        for address in addresses
        for client, tally in ((_ask_on_fresh_connections, traffic.fresh), (_ask_on_one_connection, traffic.kept))
    ]
    for client in clients:
        client.start()
    try:
        begun.wait(_TIMEOUT_S * 2)
        yield traffic
    except threading.BrokenBarrierError:
        raise NotShown("the traffic did not begin") from None
    finally:
        stop.set()
        for client in clients:
            client.join(_TIMEOUT_S * 2)


def _ask_on_fresh_connections(address: Address, tally: Tally, stop: threading.Event, begun: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        begun.wait(_TIMEOUT_S * 2)
    while not stop.wait(_PAUSE_S):
        try:
            with contextlib.closing(connect(address)) as connection:
                ask(connection)
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.add(error)
        else:
            tally.add()


def _ask_on_one_connection(address: Address, tally: Tally, stop: threading.Event, begun: threading.Barrier) -> None:
    try:
        with contextlib.closing(connect(address)) as connection:
            ask(connection)
            tally.add()
            begun.wait(_TIMEOUT_S * 2)
            while not stop.wait(_PAUSE_S):
                ask(connection)
                tally.add()
    except (OSError, http.client.HTTPException, ValueError) as error:
        tally.add(error)  # and this client's connection is over: one failure, and its requests stop
    except threading.BrokenBarrierError:
        pass
