"""
The process behind lab/streams.py: orders are lines of JSON on stdin, each is answered by one on stdout, and the end of
stdin ends it.
"""

import gc
import resource
import sys
import time

import msgspec

from proxy.core.reasons import Reason, Rejected
from proxy.lab.generatorprocess import resolve
from proxy.lab.streamloop import StreamLoop
from proxy.lab.streams import Aim, Exchanges, Open, Requests, StreamOrder, StreamReport, Transfer
from proxy.tls.loadclient import LoadContext


class Client:
    """What outlives an order: the open connections."""

    def __init__(self) -> None:
        self._loop: StreamLoop | None = None

    def obey(self, order: StreamOrder) -> StreamReport:
        """Do it. Raises: Rejected, OSError; nothing is open then"""
        if isinstance(order, Aim):
            self.drop()
            context = None if order.credentials is None else LoadContext(order.credentials, order.offer)
            self._loop = StreamLoop(*resolve(order.address), context, order.message_bytes)
            return StreamReport()
        if self._loop is None:
            raise Rejected(Reason.CONFIG_FAULT, "the client was not aimed at anything")
        if isinstance(order, Requests | Transfer) and not self._loop.is_open:
            raise Rejected(Reason.CONFIG_FAULT, "no connection is open")
        try:
            return self._work(self._loop, order)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Close what is open at once."""
        if self._loop is not None:
            self._loop.drop()

    def _work(self, loop: StreamLoop, order: StreamOrder) -> StreamReport:
        gc.collect()
        cpu_s, start_s = time.process_time(), time.monotonic()
        latencies, seconds, resumed = None, None, 0
        match order:
            case Open(count=count, in_flight=in_flight):
                latencies = loop.open(count, in_flight)
            case Exchanges(count=count, in_flight=in_flight, resume=resume):
                latencies, resumed = loop.exchange(count, in_flight, resume=resume)
            case Requests(seconds=wanted_s):
                latencies, seconds = loop.requests(wanted_s)
            case Transfer(size=size, upload=upload):
                seconds = loop.upload(size) if upload else loop.download(size)
            case _:
                loop.close()
        return StreamReport(
            count=0 if latencies is None else latencies.count,
            seconds=time.monotonic() - start_s if seconds is None else seconds,
            cpu_s=time.process_time() - cpu_s,
            latency="" if latencies is None else latencies.encode(),
            resumed=resumed,
            negotiated=loop.negotiated,
        )


def main() -> int:
    """Obey until stdin ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()
    client = Client()
    decoder: msgspec.json.Decoder[StreamOrder] = msgspec.json.Decoder(StreamOrder)
    for line in sys.stdin.buffer:
        try:
            report = client.obey(decoder.decode(line))
        except Rejected as rejected:
            report = StreamReport(reason=rejected.reason, detail=rejected.detail)
        except OSError as error:
            words = f"this machine could not open a connection: {error.strerror or error}"
            report = StreamReport(reason=Reason.OVERLOADED, detail=words)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
