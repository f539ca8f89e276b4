"""
The load: one process that plays every client. Jobs are JSON lines on stdin, answers are JSON lines on stdout.

It counts a connection only when the first byte of the server came back: in TLS 1.3 the client's handshake ends before
the server has judged the client's certificate. Every connection ends as RFC 8446 6.1 asks: close_notify, then it waits
for the server's end. TLS runs on the descriptor (pyOpenSSL), several connections at once under one epoll; group and
suite are the only ones offered, so every side does the same arithmetic.

Jobs (`address` is [host, port]; `tls` is "1.2", "1.3" or null for plaintext):
    exchanges  count, in_flight, resume   connect, handshake, one byte each way, close
    hold       count                      as above, but the connections stay open
    requests   count                      1 KiB each way, one in flight on each held connection
    upload     size / download size       on the first held connection
    release                               close what is held
"""

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from bench.yardsticks.bare_engine import GROUPS, SUITES_1_2, SUITES_1_3, ffi, lib

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
NO_AUTO_CHAIN = 0x8  # SSL_MODE_NO_AUTO_CHAIN: OpenSSL would add the root, because the client trusts it too
STALL_S = 20.0  # no event on any connection for this long ends the job
REQUEST = b"E" + os.urandom(1023)
CHUNK = memoryview(bytes(262_144))
Job = dict[str, Any]


class LoadFailed(Exception):  # noqa: N818 - a finding about a side, not a fault of the load
    """A side did not do what every side must; the row of the table fails with this sentence."""


class PlainLink:
    """A client connection without TLS; TlsLink has the same face. read: None where it would block, b"" at the end."""

    __slots__ = ("sock",)

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=STALL_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    def handshake(self) -> bool:
        return True

    def read(self, size: int) -> bytes | None:
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""

    def read_into(self, buffer: memoryview) -> int:
        return self.sock.recv_into(buffer)

    def write(self, data: bytes | memoryview) -> int:
        return self.sock.send(data)

    def finish(self) -> None:
        """Say that no more will come."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server was faster

    def close(self) -> None:
        self.sock.close()


class TlsLink(PlainLink):
    """A client connection with TLS on the descriptor."""

    __slots__ = ("connection",)

    def __init__(self, address: tuple[str, int], context: SSL.Context, session: Any) -> None:
        super().__init__(address)
        self.connection = SSL.Connection(context, self.sock)
        self.connection.set_connect_state()
        if session is not None:
            self.connection.set_session(session)

    def handshake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except (SSL.Error, OSError) as error:
            raise LoadFailed(f"the handshake failed: {error!r}") from None
        return True

    def read(self, size: int) -> bytes | None:
        try:
            return self.connection.recv(size)
        except SSL.WantReadError:
            return None
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return b""
        except SSL.Error as error:
            raise LoadFailed(f"reading failed: {error!r}") from None

    def read_into(self, buffer: memoryview) -> int:
        return self.connection.recv_into(buffer)

    def write(self, data: bytes | memoryview) -> int:
        return self.connection.send(data)

    def finish(self) -> None:
        try:
            self.connection.shutdown()
        except SSL.Error:
            pass  # the server was faster

    @property
    def resumed(self) -> bool:
        return bool(lib.SSL_session_reused(self.connection._ssl))

    def settled(self) -> tuple[str, str, str]:
        """(version, cipher, group) as negotiated; a resumed TLS 1.2 handshake has no group."""
        group = lib.SSL_get0_group_name(self.connection._ssl)
        return (
            self.connection.get_protocol_version_name(),
            str(self.connection.get_cipher_name()),
            "" if group == ffi.NULL else ffi.string(group).decode(),
        )


class Exchange:
    """One connection's way: handshake, ask, answered; then its owner says whether it is held or finished."""

    __slots__ = ("began_s", "finishing", "link", "on_answer", "shaken")

    def __init__(self, link: PlainLink, on_answer: "Callable[[Exchange], None]") -> None:
        self.began_s = time.perf_counter()
        self.link = link
        self.on_answer = on_answer
        self.shaken = False
        self.finishing = False

    def step(self) -> bool:
        """Go as far as it goes without waiting. True once the server's end was seen."""
        if not self.shaken:
            if not self.link.handshake():
                return False
            self.shaken = True
            self.link.write(b"P")
        answer = self.link.read(1)
        if answer is None:
            return False
        if self.finishing:
            return answer == b""
        if answer != b"P":
            raise LoadFailed("the connection ended before the server's first byte")
        self.on_answer(self)
        return False


class Load:
    """What outlives a job: contexts, the newest session of each address, held connections."""

    def __init__(self, cert: str, key: str, ca: str) -> None:
        self.contexts = {version: self._context(version, cert, key, ca) for version in VERSIONS}
        self.sessions: dict[tuple[str, int, str], Any] = {}
        self.held: list[PlainLink] = []
        self.settled: set[tuple[str, str, str]] = set()

    @staticmethod
    def _context(version: str, cert: str, key: str, ca: str) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(VERSIONS[version])
        context.set_max_proto_version(VERSIONS[version])
        context.use_certificate_chain_file(cert)
        context.use_privatekey_file(key)
        context.load_verify_locations(ca)
        context.set_mode(NO_AUTO_CHAIN)  # an SVID is sent without its root, as SPIFFE workloads do
        context.set_verify(SSL.VERIFY_PEER)
        context.set_cipher_list(SUITES_1_2)
        lib.SSL_CTX_set_ciphersuites(context._context, SUITES_1_3)
        lib.SSL_CTX_set1_curves_list(context._context, GROUPS)
        return context

    def link(self, job: Job, *, resume: bool = False) -> PlainLink:
        """A new connection to the job's address, offering the newest session when resume is set."""
        host, port = job["address"]
        if job["tls"] is None:
            return PlainLink((host, port))
        session = self.sessions.get((host, port, job["tls"])) if resume else None
        return TlsLink((host, port), self.contexts[job["tls"]], session)

    def exchanges(self, job: Job, *, hold: bool = False) -> Job:
        """Many short connections; with hold they stay open and are kept."""
        count, in_flight, resume = job["count"], job.get("in_flight", 8), job.get("resume", False)
        begun = answered = resumed = 0
        live: dict[int, Exchange] = {}
        poll = select.epoll()
        latencies_s: list[float] = []

        def on_answer(exchange: Exchange) -> None:
            nonlocal answered, resumed
            answered += 1
            latencies_s.append(time.perf_counter() - exchange.began_s)
            link = exchange.link
            if isinstance(link, TlsLink):
                resumed += link.resumed
                if resume:
                    self.sessions[*job["address"], job["tls"]] = link.connection.get_session()
                if answered == 1:
                    self.settled.add(link.settled())
            if hold:
                poll.unregister(link.sock)
                del live[link.sock.fileno()]
                self.held.append(link)
            else:
                exchange.finishing = True
                link.finish()

        start = time.perf_counter()
        while begun < count or live:
            while begun < count and len(live) < in_flight:
                exchange = Exchange(self.link(job, resume=resume), on_answer)
                begun += 1
                number = exchange.link.sock.fileno()
                live[number] = exchange
                poll.register(number, select.EPOLLIN)
                exchange.step()
            events = poll.poll(STALL_S)
            if live and not events:
                raise LoadFailed(f"nothing came for {STALL_S:.0f} s after {answered} of {count} connections")
            for number, _ in events:
                if live[number].step():
                    live.pop(number).link.close()
        poll.close()
        seconds = time.perf_counter() - start
        latencies_s.sort()
        return {
            "answered": answered,
            "resumed": resumed,
            "seconds": seconds,
            "p50_s": latencies_s[len(latencies_s) // 2],
            "p99_s": latencies_s[len(latencies_s) * 99 // 100],
        }

    def requests(self, job: Job) -> Job:
        """1 KiB there and back, one in flight on each held connection."""
        count = job["count"]
        poll = select.epoll()
        links = {link.sock.fileno(): link for link in self.held}
        answers = dict.fromkeys(links, b"")
        start = time.perf_counter()
        for number, link in links.items():
            poll.register(number, select.EPOLLIN)
            link.write(REQUEST)
        asked, answered = len(links), 0
        while answered < asked:
            events = poll.poll(STALL_S)
            if not events:
                raise LoadFailed(f"nothing came for {STALL_S:.0f} s after {answered} of {count} requests")
            for number, _ in events:
                link = links[number]
                got = link.read(len(REQUEST))
                if got is None:
                    continue
                if not got:
                    raise LoadFailed(f"a connection ended after {answered} of {count} requests")
                answers[number] += got
                if len(answers[number]) < len(REQUEST):
                    continue
                if answers[number] != REQUEST:
                    raise LoadFailed("an answer differs from its request")
                answers[number] = b""
                answered += 1
                if asked < count:
                    link.write(REQUEST)
                    asked += 1
        poll.close()
        return {"answered": answered, "seconds": time.perf_counter() - start}

    def upload(self, job: Job) -> Job:
        """`size` bytes to the app, done when the app has said that it has them all."""
        link, left = self.held[0], job["size"]
        link.sock.setblocking(True)
        start = time.perf_counter()
        link.write(b"S" + left.to_bytes(8, "big"))
        while left:
            left -= link.write(CHUNK[:left])
        if link.read(1) != b"K":
            raise LoadFailed("the app did not acknowledge the upload")
        return {"seconds": time.perf_counter() - start}

    def download(self, job: Job) -> Job:
        """`size` bytes from the app."""
        link, left = self.held[0], job["size"]
        link.sock.setblocking(True)
        scratch = memoryview(bytearray(262_144))
        start = time.perf_counter()
        link.write(b"G" + left.to_bytes(8, "big"))
        while left:
            got = link.read_into(scratch)
            if not got:
                raise LoadFailed(f"the connection ended {left} bytes early")
            left -= got
        return {"seconds": time.perf_counter() - start}

    def release(self, _job: Job) -> Job:
        """End what is held, all at once, and wait for the server's ends."""
        for link in self.held:
            link.sock.setblocking(True)
            link.finish()
        for link in self.held:
            link.sock.settimeout(STALL_S)
            link.read(1)
            link.close()
        self.held.clear()
        return {}

    def run(self, job: Job) -> Job:
        """Do one job; a failed one leaves nothing open."""
        try:
            match job["job"]:
                case "exchanges":
                    answer = self.exchanges(job)
                case "hold":
                    answer = self.exchanges(job, hold=True)
                case "requests" | "upload" | "download" | "release" as name:
                    answer = getattr(self, name)(job)
                case other:
                    raise LoadFailed(f"unknown job {other}")
        except (LoadFailed, OSError, SSL.Error) as error:
            for link in self.held:
                link.close()
            self.held.clear()
            return {"failed": str(error) or repr(error)}
        return answer | {"settled": sorted(self.settled)}


def main(cert: str, key: str, ca: str) -> None:
    """Serve jobs until stdin ends."""
    load = Load(cert, key, ca)
    for line in sys.stdin:
        print(json.dumps(load.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
