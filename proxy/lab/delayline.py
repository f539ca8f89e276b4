"""
The delay line as its users see it: an address on loopback behind which a target seems to be a round trip away.

    with DelayLine(("127.0.0.1", 8443), rtt_s=0.02) as line:
        ...                               # connect to line.address instead
        print(line.report().late_p99_s)   # how far it kept to it

It is a process of its own, for a thread would share the interpreter with whoever measures. What it models and what it
does not is said in proxy/lab/delayprocess.py and in docs/benchmarking.md. It ends with the `with`, and with its parent.
"""

import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import msgspec

from proxy.core.reasons import Reason
from proxy.lab.generator import LoadFault
from proxy.lab.linechild import LineChild

MODULE = "proxy.lab.delayprocess"
MAX_RTT_S = 10.0
NOTABLY_LATE = 0.1  # of the round trip
_PATIENCE_S = 20.0


class LineReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a line has done. connections, delivered_bytes: ever; the rest: since the last report.

    deliveries:           chunks of bytes, and ends, that were passed on; at most the newest 65536
    late_*_s:             by how much later than due they were; time that the receiver had no room is not the line's
    """

    connections: int
    delivered_bytes: int
    deliveries: int
    late_p50_s: float
    late_p99_s: float
    late_max_s: float


class _Greeting(msgspec.Struct, frozen=True):
    port: int


class DelayLine:
    """
    A line to one target.

    target: (host, port); a name is resolved once, here
    rtt_s:  0 to 10
    cores:  where the process may run; None: anywhere
    Raises: LoadFault when the name has no address or the process does not start
    """

    def __init__(self, target: tuple[str, int], rtt_s: float, cores: Iterable[int] | None = None) -> None:
        if not 0 <= rtt_s <= MAX_RTT_S:
            raise LoadFault(f"a round trip of {rtt_s:g} s is out of range: 0 to {MAX_RTT_S:g} s")
        self.rtt_s = rtt_s
        host, port = _numeric(target)
        self._child = LineChild("the delay line", MODULE, host, str(port), repr(rtt_s), cores=cores)
        try:
            self.address = ("127.0.0.1", msgspec.json.decode(self._child.hear(_PATIENCE_S), type=_Greeting).port)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def report(self) -> LineReport:
        """Ask what it has done. Raises: LoadFault"""
        return msgspec.json.decode(self._child.ask(b"", _PATIENCE_S), type=LineReport)

    def close(self) -> None:
        """End it with all its connections."""
        self._child.close()


class DelayLines:
    """Lines by target and round trip, each started when it is first asked for. cores: of all their processes"""

    def __init__(self, cores: Iterable[int] | None = None) -> None:
        self._cores = None if cores is None else set(cores)
        self._lines: dict[tuple[tuple[str, int], float], DelayLine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            line.close()

    def address(self, target: tuple[str, int], rtt_s: float) -> tuple[str, int]:
        """Where the target seems to be a round trip away; itself where that is none. Raises: LoadFault"""
        if rtt_s == 0:
            return target
        if (target, rtt_s) not in self._lines:
            self._lines[target, rtt_s] = DelayLine(target, rtt_s, self._cores)
        return self._lines[target, rtt_s].address

    def notes(self) -> list[str]:
        """A sentence for each round trip that a line did not keep to. Raises: LoadFault"""
        late_s: dict[float, float] = {}
        for line in self._lines.values():
            late_s[line.rtt_s] = max(late_s.get(line.rtt_s, 0.0), line.report().late_p99_s)
        return [
            f"The delay line of {rtt_s * 1e3:g} ms was late by {late * 1e3:.2g} ms or more in 1 % of all it delivered, "
            "for this machine was busy: high percentiles of latency there are partly its own."
            for rtt_s, late in late_s.items()
            if late > NOTABLY_LATE * rtt_s
        ]


def _numeric(target: tuple[str, int]) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo(*target, type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise LoadFault(f"the name {target[0]} has no address: {error.strerror}", Reason.UPSTREAM_UNRESOLVED) from None
    return str(found[0]), int(found[1])
