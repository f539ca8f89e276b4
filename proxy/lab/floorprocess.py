"""The process behind lab/floor.py: orders are lines of JSON, each is answered by one, and the end of stdin ends it."""

import gc
import os
import sys
import time
from collections.abc import Callable

import msgspec

from proxy.core.reasons import Rejected
from proxy.lab.floor import FloorOrder, FloorReport, Work
from proxy.tls.inmemory import RECORD_BYTES, InMemory

_WARM_UP = 3


def measure(order: FloorOrder) -> FloorReport:
    """Do the work for so long. Raises: Rejected when a file of the order cannot be used"""
    floor = InMemory(order.cert, order.key, order.credentials, order.offer, mutual=order.mutual)
    step, size = _step(floor, order)
    resumed = [step() for _ in range(_WARM_UP)]
    gc.collect()
    floor.server_s, count, start_s = 0.0, 0, time.monotonic()
    while (passed_s := time.monotonic() - start_s) < order.seconds:
        resumed.append(step())
        count += 1
    if order.work is Work.RESUMED and not all(resumed[1:]):
        return FloorReport(fault="OpenSSL made a full handshake where a session was offered")
    return FloorReport(count=count, seconds=passed_s, server_cpu_s=floor.server_s, payload_bytes=count * size)


def _step(floor: InMemory, order: FloorOrder) -> tuple[Callable[[], bool | None], int]:
    """(what is to be done over and over, and says whether it was resumed where that is asked; the payload of one)."""
    match order.work:
        case Work.FULL | Work.RESUMED as work:
            return lambda: floor.handshake(resumed=work is Work.RESUMED), 0
        case Work.REQUEST:
            stream, message = floor.open(), os.urandom(order.message_bytes)
            return lambda: stream.request(message), 2 * len(message)
        case Work.UPLOAD:
            stream, record = floor.open(), os.urandom(RECORD_BYTES)
            return lambda: stream.upload(record), RECORD_BYTES
        case Work.DOWNLOAD:
            stream, record = floor.open(), os.urandom(RECORD_BYTES)
            return lambda: stream.download(record), RECORD_BYTES


def main() -> int:
    """Obey until stdin ends."""
    for line in sys.stdin.buffer:
        try:
            report = measure(msgspec.json.decode(line, type=FloorOrder))
        except Rejected as rejected:
            report = FloorReport(fault=rejected.detail)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
