"""
The floor of a comparison: a process in which OpenSSL shakes hands with itself, on the core of the servers.

What a proxy needs beyond this figure is its own and the kernel's: sockets, an event loop, the way to the app.
"""

from collections.abc import Iterable
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec

from proxy.lab.generator import LoadFault
from proxy.lab.linechild import LineChild
from proxy.lab.results import Round
from proxy.tls.loadcontext import Credentials, Offer

MODULE = "proxy.lab.floorprocess"
_PATIENCE_S = 30.0


class Work(StrEnum):
    """What is done over and over."""

    FULL = "full"
    RESUMED = "resumed"
    REQUEST = "request"
    UPLOAD = "upload"
    DOWNLOAD = "download"


class FloorOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. cert, key: the server's; mutual: whether it requires a client certificate"""

    work: Work
    cert: str
    key: str
    credentials: Credentials
    offer: Offer
    mutual: bool
    message_bytes: int
    seconds: float


class FloorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What it came to. server_cpu_s: of the server's calls alone; fault: a sentence, and nothing else counts"""

    count: int = 0
    seconds: float = 0.0
    server_cpu_s: float = 0.0
    payload_bytes: int = 0
    fault: str | None = None


class Floor:
    """The process. cores: the servers', since a floor is one of them"""

    def __init__(self, cores: Iterable[int]) -> None:
        self._child = LineChild("OpenSSL in memory", MODULE, cores=cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._child.close()

    def measure(self, order: FloorOrder) -> Round:
        """Do it. Raises: LoadFault"""
        answer = self._child.ask(msgspec.json.encode(order), order.seconds + _PATIENCE_S)
        report = msgspec.json.decode(answer, type=FloorReport)
        if report.fault is not None:
            raise LoadFault(report.fault)
        bulk = order.work in (Work.UPLOAD, Work.DOWNLOAD)
        return Round(
            count=report.count,
            seconds=report.seconds,
            server_cpu_s=report.server_cpu_s,
            payload_bytes=report.payload_bytes if bulk else None,
            client_processes=1,
        )
