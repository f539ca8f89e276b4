"""Requests that never stop while something else happens: on new connections and on kept ones, each failure kept."""

import ssl
import threading
from typing import Self

from tests.e2e.tlspeers import HELLO, ask, connect
from tests.e2e.waiting import Address, until


class Traffic:
    """
    One thread that opens a connection for every request, and one whose connection is kept alive.

    Inside the `with` block requests flow; leaving it waits for the last ones. context: of a client that is let in
    """

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._anew, self._kept)]
        self.failures: list[str] = []
        self.served = {"anew": 0, "kept": 0}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.flows()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def flows(self) -> None:
        """Wait until each has served some more: what was set in force before is by then what they met."""
        before = dict(self.served)
        until(
            lambda: self.failures or all(self.served[how] > before[how] + 2 for how in before), "requests are answered"
        )

    def _anew(self) -> None:
        while not self._enough.is_set() and not self.failures:
            self._request("anew", None)

    def _kept(self) -> None:
        try:
            with connect(self._address, self._context) as sock:
                while not self._enough.wait(0.005) and not self.failures:
                    self._request("kept", sock)
        except (OSError, EOFError) as error:
            self.failures.append(f"kept: {error!r}")

    def _request(self, how: str, sock: ssl.SSLSocket | None) -> None:
        try:
            if sock is not None:
                answer = ask(sock)
            else:
                with connect(self._address, self._context) as fresh:
                    answer = ask(fresh)
                    fresh.unwrap().close()
            assert answer == HELLO
            self.served[how] += 1
        except (OSError, EOFError, AssertionError) as error:
            self.failures.append(f"{how}: {error!r}")
