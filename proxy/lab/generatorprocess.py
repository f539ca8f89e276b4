"""
One generator process: orders are lines of JSON on stdin, each is answered by one line on stdout, and the end of stdin
ends the process. `lab/generator.py` starts it (`python -m proxy.lab.generatorprocess`).

It keeps one prepared loop at a time. What goes wrong in an order is answered, in a sentence; only the loss of the
parent ends it.
"""

import gc
import resource
import socket
import sys
import time
from pathlib import Path

import msgspec

from proxy.core.reasons import Reason, Rejected
from proxy.lab.arrivals import arrivals
from proxy.lab.loadloop import LoadLoop, Shortage, Tally
from proxy.lab.plan import ClosedLoop, Hold, Order, Prepare, Release, Report, Start
from proxy.tls.loadclient import LoadContext

PRIMED_PER_PROCESS = 16
HOLD_IN_FLIGHT = 64


class Worker:
    """What outlives an order: the loop that was prepared last."""

    def __init__(self, watched: int) -> None:
        self._watched = watched
        self._loop: LoadLoop | None = None
        self._share, self._shares = 0, 1

    def obey(self, order: Order) -> Report:
        """Do it. Raises: Rejected when the client cannot be made or the server refuses it from the start; Shortage"""
        if isinstance(order, Prepare):
            return self._prepare(order)
        if self._loop is None:
            raise Rejected(Reason.CONFIG_FAULT, "nothing was prepared")
        match order:
            case Start(at_s=at_s):
                return self._measure(self._loop, at_s)
            case Hold(count=count):
                self._loop.tally = tally = Tally()
                self._loop.hold(count, HOLD_IN_FLIGHT)
                return tally.report(seconds=0.0, cpu_s=0.0)
            case Release():
                self._loop.release()
                return Report()

    def close(self) -> None:
        """End what was prepared, with all that is open."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _prepare(self, order: Prepare) -> Report:
        self.close()
        plan = order.plan
        family, address = resolve(plan.address)
        self._loop = loop = LoadLoop(plan, LoadContext(plan.credentials, plan.offer), family, address, self._watched)
        self._share, self._shares = order.share, order.shares
        if plan.resumed:
            loop.prime(PRIMED_PER_PROCESS)
        if plan.warm_up_s > 0:
            self._run(loop, time.monotonic(), plan.warm_up_s)
        return loop.tally.report(seconds=plan.warm_up_s, cpu_s=0.0)

    def _measure(self, loop: LoadLoop, at_s: float) -> Report:
        loop.tally = tally = Tally()
        gc.collect()
        time.sleep(max(0.0, at_s - time.monotonic()))
        cpu_s, waited_s, shortage = time.process_time(), _waited_s(), None
        try:
            self._run(loop, at_s, loop.plan.seconds)
        except Shortage as short:
            shortage = str(short)
        seconds = max(tally.last_s - at_s, loop.plan.seconds)
        used_s, waited_s = time.process_time() - cpu_s, _waited_s() - waited_s
        return tally.report(seconds=seconds, cpu_s=used_s, waited_s=waited_s, shortage=shortage)

    def _run(self, loop: LoadLoop, start_s: float, seconds: float) -> None:
        pace = loop.plan.pace
        if isinstance(pace, ClosedLoop):
            loop.closed(portion(pace.in_flight, self._share, self._shares), start_s + seconds)
        else:
            instants = arrivals(pace, seconds, share=self._share, shares=self._shares)
            loop.open(instants, start_s, portion(loop.plan.max_open, self._share, self._shares))


def portion(whole: int, share: int, shares: int) -> int:
    """The part of a number that one of `shares` processes has; the parts add up to it."""
    return whole // shares + (share < whole % shares)


def resolve(address: tuple[str, int]) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The first numeric address of a name. Raises: Rejected(UPSTREAM_UNRESOLVED)"""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        words = f"the name {address[0]} has no address: {error.strerror}"
        raise Rejected(Reason.UPSTREAM_UNRESOLVED, words) from None
    return found[0], (str(found[4][0]), int(found[4][1]))


def _waited_s() -> float:
    """For how long this process's one thread was ready to run and had no core; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def main() -> int:
    """Obey until stdin ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    worker = Worker(sys.stdin.fileno())
    decoder: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
    for line in sys.stdin.buffer:
        try:
            report = worker.obey(decoder.decode(line))
        except Rejected as rejected:
            report = Report(failures={rejected.reason: 1}, details={rejected.reason: rejected.detail}, fatal=True)
        except Shortage as short:
            report = Report(shortage=str(short), fatal=True)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
