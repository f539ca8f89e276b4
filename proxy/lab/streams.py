"""
The client of `bench relay` and `bench compare`: a process that opens connections and moves bytes on them.

    with StreamClient() as client:
        client.aim(address, credentials, Offer())     # credentials None: plaintext
        client.open(64)                               # nothing is counted yet
        report = client.requests(seconds=2.0)
        client.close_streams()

Opening, working and closing are steps of their own, so that whoever reads the server's CPU does it between them.
"""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import msgspec

from proxy.core.reasons import EXPLANATIONS, Reason
from proxy.lab.generator import LoadFault
from proxy.lab.linechild import LineChild
from proxy.tls.loadclient import Negotiated
from proxy.tls.loadcontext import Credentials, Offer

MODULE = "proxy.lab.streamprocess"
_PATIENCE_S = 60.0
_SLOWEST_BYTES_S = 5e6  # a transfer slower than this is given up


class Aim(msgspec.Struct, frozen=True, kw_only=True, tag="aim"):
    """What the next connections are. credentials None: plaintext"""

    address: tuple[str, int]
    credentials: Credentials | None
    offer: Offer
    message_bytes: int


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Open so many more."""

    count: int
    in_flight: int


class Exchanges(msgspec.Struct, frozen=True, kw_only=True, tag="exchanges"):
    """So many connections from their first byte to their end."""

    count: int
    in_flight: int
    resume: bool


class Requests(msgspec.Struct, frozen=True, kw_only=True, tag="requests"):
    """Keep a request in flight on each."""

    seconds: float


class Transfer(msgspec.Struct, frozen=True, kw_only=True, tag="transfer"):
    """Move bytes on the first of them, to the app (upload) or from it."""

    size: int
    upload: bool


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """End all in order."""


StreamOrder = Aim | Open | Exchanges | Requests | Transfer | Close


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an order came to.

    latency: Latencies.encode() of the connections or requests; empty where none were timed
    resumed: how many of the connections were
    cpu_s:   of the client
    reason, detail: why it failed; nothing is open then
    """

    count: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    latency: str = ""
    resumed: int = 0
    negotiated: Negotiated | None = None
    reason: Reason | None = None
    detail: str = ""


class StreamClient:
    """The process. cores: where it may run; None: anywhere"""

    def __init__(self, cores: Iterable[int] | None = None) -> None:
        self._child = LineChild("the client", MODULE, cores=cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._child.close()

    def aim(
        self, address: tuple[str, int], credentials: Credentials | None, offer: Offer, message_bytes: int = 1024
    ) -> None:
        """Say what the next connections are, and drop what is open. Raises: LoadFault"""
        self._ask(Aim(address=address, credentials=credentials, offer=offer, message_bytes=message_bytes), 0.0)

    def open(self, count: int, in_flight: int = 1) -> StreamReport:
        """Open so many more, so many at once, each with one byte to the app and back. Raises: LoadFault"""
        return self._ask(Open(count=count, in_flight=in_flight), count / 20)

    def exchange(self, count: int, in_flight: int, *, resume: bool = False) -> StreamReport:
        """So many connections, each with one byte to the app and back, and its end in order. Raises: LoadFault"""
        return self._ask(Exchanges(count=count, in_flight=in_flight, resume=resume), count / 20)

    def requests(self, seconds: float) -> StreamReport:
        """One request in flight on each, for so long. Raises: LoadFault"""
        return self._ask(Requests(seconds=seconds), seconds)

    def transfer(self, size: int, *, upload: bool) -> StreamReport:
        """So many bytes on the first connection. Raises: LoadFault"""
        return self._ask(Transfer(size=size, upload=upload), size / _SLOWEST_BYTES_S)

    def close_streams(self) -> None:
        """End all in order. Raises: LoadFault"""
        self._ask(Close(), 0.0)

    def _ask(self, order: StreamOrder, within_s: float) -> StreamReport:
        answer = self._child.ask(msgspec.json.encode(order), within_s + _PATIENCE_S)
        report = msgspec.json.decode(answer, type=StreamReport)
        if report.reason is not None:
            raise LoadFault(f"{report.detail}. {EXPLANATIONS[report.reason].advice}", report.reason)
        return report
