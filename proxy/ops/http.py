"""
A small HTTP/1.1 server for operators: h11 speaks the protocol, this file owns sockets, deadlines and bounds.

It knows no path; a handler turns a Request into a Response. Everything a peer can make us keep or wait for is bounded
by HttpLimits: connections, header and body sizes, the time for a request to come whole (a slow sender gets 408 and is
closed), for the handler, for the peer to take the answer, and for a kept connection to be silent. Requests that were
sent ahead (pipelining) wait inside h11's buffer, and nothing more is read while one is being answered.

Where all connections are taken, the one that has been silent longest makes room: kubelet's probe must get its answer
although others hold as many connections as they like, or whoever reaches the port could have the Pod restarted.

Each connection is one task; the server owns them all. close() stops listening, lets answers that are under way finish
for a moment, and ends the rest.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Self

import h11

from proxy.core.config import TcpAddress, UnixAddress
from proxy.net import unixsocket
from proxy.net.sockets import EVERY_IPV4

_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a peer may take up. linger_s: how long an early refusal waits for the rest of the request to pass by."""

    connections: int = 64
    header_bytes: int = 16 * 1024
    body_bytes: int = 1024
    request_s: float = 5.0
    answer_s: float = 60.0
    write_s: float = 10.0
    keep_alive_s: float = 30.0
    linger_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request. path: without the query; headers: names in lower case, the first of equal names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; the server adds length, date and connection headers."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def sentence(cls, status: int, text: str, *headers: tuple[str, str]) -> Self:
        """Answer with one line of plain text."""
        return cls(status, "text/plain; charset=utf-8", text.encode() + b"\n", headers)


Handler = Callable[[Request], Awaitable[Response]]


class _UnreadableError(Exception):
    """The request cannot be read to its end: answer this and close."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.response = Response.sentence(status, text)


class HttpServer:
    """
    Listens on one address and serves one handler.

    handler: turns a request into a response; what it raises becomes a 500
    report:  told of what the handler raised: a fault of ours that belongs in the log
    """

    def __init__(self, handler: Handler, report: Callable[[Exception], None], limits: HttpLimits) -> None:
        self._handler = handler
        self._report = report
        self._limits = limits
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they fell silent
        self._answering: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._unix: unixsocket.Listening | None = None

    async def open(self, address: TcpAddress | UnixAddress) -> None:
        """
        Listen. A unix socket is for its owner alone (mode 0600), and replaces a stale file of its kind.

        Raises: OSError where the address cannot be had (in use, not ours, no such interface)
        """
        if isinstance(address, UnixAddress):
            self._unix = unixsocket.listen(address.path)
            self._server = await asyncio.start_unix_server(self._accept, sock=self._unix.socket, limit=_READ_BYTES)
        elif address.host == "::" and socket.has_dualstack_ipv6():
            # asyncio would make it IPv6 alone; [::]:PORT takes IPv4 as well, as it does for listeners.
            sock = socket.create_server(("::", address.port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._server = await asyncio.start_server(self._accept, sock=sock, limit=_READ_BYTES)
        else:
            host = EVERY_IPV4 if address.host == "::" else address.host  # a kernel without IPv6, as for listeners
            self._server = await asyncio.start_server(self._accept, host, address.port, limit=_READ_BYTES)

    @property
    def port(self) -> int:
        """The TCP port that is listened on (the kernel's choice where the configuration says 0)."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self, grace_s: float = 1.0) -> None:
        """Stop listening, give answers that are under way `grace_s` to finish, end every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks.keys() - self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        if self._unix is not None:
            self._unix.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._has_room() or self._server is None or not self._server.is_serving():
            busy = Response.sentence(503, "Too many connections to this endpoint; try again shortly.")
            writer.write(_encode(h11.Connection(h11.SERVER), busy, last=True))
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._end(done, writer))

    def _end(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        # Here and not at the end of `_serve`, which a task that is cancelled at once never enters.
        self._tasks.pop(task, None)
        writer.transport.abort()

    def _has_room(self) -> bool:
        """Whether one more may come, after the longest silent one has left if need be."""
        if len(self._tasks) < self._limits.connections:
            return True
        # One that was told to leave is still here for a turn of the loop; the next asks another one.
        leavable = (task for task in self._tasks if task not in self._answering and not task.cancelling())
        silent = next(leavable, None)
        return silent is not None and silent.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request by request, until either side has had enough."""
        wire = _Wire(reader, writer, self._limits)
        try:
            while (request := await wire.receive()) is not None:
                if not await self._exchange(wire, request):
                    break
                await asyncio.sleep(0)  # nothing above has to wait where requests were sent ahead, and others have to
        except _UnreadableError as fault:
            try:
                await wire.refuse(fault.response)
            except (OSError, TimeoutError):
                pass
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # the peer left or stopped reading: there is nobody to tell

    async def _exchange(self, wire: "_Wire", request: Request) -> bool:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            response = await self._answer(request)
            return await wire.send(response, last=self._server is None or not self._server.is_serving())
        finally:
            self._answering.discard(task)
            if task in self._tasks:
                self._tasks[task] = self._tasks.pop(task)  # silent from now on: behind all others

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                return await self._handler(request)
        except TimeoutError:
            return Response.sentence(504, "The proxy took too long to answer this; try again, or look at its log.")
        except Exception as error:  # a fault of ours must end this answer, never the endpoint
            self._report(error)
            return Response.sentence(500, "The proxy could not answer this; its log says why.")


class _Wire:
    """One connection: bytes to requests, responses to bytes, each under its deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: HttpLimits) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._kept = False  # a request was answered already
        self._head = False
        # drain() then means "all of it is with the kernel", so the deadline covers the whole answer.
        writer.transport.set_write_buffer_limits(high=0)

    async def receive(self) -> Request | None:
        """
        Read the next request.

        Returns: None when the peer is done, or has been silent for long enough
        Raises:  _UnreadableError for what is malformed, too long or too slow; OSError
        """
        begun = not self._kept or bool(self._h11.trailing_data[0])
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.request_s if begun else self._limits.keep_alive_s) as deadline:
                while True:
                    event = self._h11.next_event()
                    if isinstance(event, h11.Request):
                        return await self._whole(event)
                    if event is not h11.NEED_DATA:
                        return None
                    data = await self._reader.read(_READ_BYTES)
                    if data and not begun:
                        begun = True
                        deadline.reschedule(loop.time() + self._limits.request_s)
                    self._h11.receive_data(data)
        except TimeoutError:
            if self._kept and not begun:
                return None
            raise _UnreadableError(
                408, f"The request did not come whole within {self._limits.request_s:g} s."
            ) from None
        except h11.RemoteProtocolError as error:
            raise _UnreadableError(
                error.error_status_hint, f"This is not a request that can be read: {error}."
            ) from None

    async def _whole(self, head: h11.Request) -> Request:
        """Read the body that belongs to `head`; the caller holds the deadline."""
        self._head = head.method == b"HEAD"
        headers: dict[str, str] = {}
        for name, value in head.headers:
            headers.setdefault(name.decode("ascii"), value.decode("latin-1"))
        too_long = _UnreadableError(
            413, f"The body of a request to this endpoint is at most {self._limits.body_bytes} bytes."
        )
        if "content-length" in headers and "transfer-encoding" in headers:
            # RFC 9112 6.3: a proxy before us may go by the other one, and see a second request where we see a body.
            raise _UnreadableError(400, "A request has Content-Length or Transfer-Encoding, never both.")
        if int(headers.get("content-length", "0")) > self._limits.body_bytes:
            raise too_long  # before a client that waits for 100 Continue is told to go on
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body_bytes:
                    raise too_long
            elif event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    self._writer.write(self._h11.send(go_on) or b"")
                self._h11.receive_data(await self._reader.read(_READ_BYTES))
            else:
                break  # EndOfMessage
        target = head.target.decode("ascii")
        if not target.startswith("/"):
            raise _UnreadableError(400, "The target of a request is a path that begins with a slash.")
        return Request(head.method.decode("ascii"), target.partition("?")[0], headers, bytes(body))

    async def send(self, response: Response, *, last: bool) -> bool:
        """Write the answer and be ready for the next request; False when the connection is to end."""
        self._writer.write(_encode(self._h11, response, last=last, body=not self._head))
        async with asyncio.timeout(self._limits.write_s):
            await self._writer.drain()
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._kept = True
        return True

    async def refuse(self, response: Response) -> None:
        """Answer before the request was read, and let the rest of it pass by: a reset would eat the answer."""
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        await self.send(response, last=True)
        if self._writer.can_write_eof():
            self._writer.write_eof()
        async with asyncio.timeout(self._limits.linger_s):
            while await self._reader.read(_READ_BYTES):
                pass


def _encode(connection: h11.Connection, response: Response, *, last: bool, body: bool = True) -> bytes:
    """Make the bytes of an answer; to HEAD it is the same answer without its body (its length stays)."""
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Date", formatdate(usegmt=True)),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *response.headers,
    ]
    if last:
        headers.append(("Connection", "close"))
    reason = HTTPStatus(response.status).phrase.encode()
    data = connection.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
    if body:
        data += connection.send(h11.Data(data=response.body)) or b""
    return data + (connection.send(h11.EndOfMessage()) or b"")
