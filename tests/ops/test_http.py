"""The HTTP server against clients that are slow, big, early, late or wrong."""

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.core.config import TcpAddress, UnixAddress
from proxy.ops.http import HttpLimits, HttpServer, Request, Response

SOON = HttpLimits(connections=2, request_s=0.2, keep_alive_s=0.2, answer_s=0.2, write_s=0.2, linger_s=0.2)
LATER = HttpLimits()
LOOPBACK = TcpAddress("127.0.0.1", 0)


async def echo(request: Request) -> Response:
    return Response.sentence(200, f"{request.method} {request.path} {request.body.decode()}")


class Served:
    """A server and what it reported."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]], limits: HttpLimits) -> None:
        self.reported: list[Exception] = []
        self.server = HttpServer(handler, self.reported.append, limits)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def say(self, data: bytes) -> bytes:
        """Send, then read until the server closes."""
        reader, writer = await self.connect()
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def serving(
    handler: Callable[[Request], Awaitable[Response]] = echo, limits: HttpLimits = LATER
) -> AsyncIterator[Served]:
    served = Served(handler, limits)
    await served.server.open(LOOPBACK)
    async with asyncio.timeout(10):
        try:
            yield served
        finally:
            await served.server.close()


def get(path: str = "/", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


CLOSE = "Connection: close"


async def test_a_request_is_answered_with_length_and_date() -> None:
    async with serving() as served:
        head, _, body = (await served.say(get("/a?b=c", CLOSE))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 8\r\n" in head
    assert b"\r\nDate: " in head
    assert body == b"GET /a \n"


async def test_head_is_the_same_answer_without_its_body() -> None:
    async with serving() as served:
        head, _, body = (await served.say(get("/", CLOSE, method="HEAD"))).partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 8\r\n" in head
    assert body == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as served:
        answer = await served.say(get("/1") + get("/2") + get("/3", CLOSE))
    assert [line for line in answer.split(b"\n") if line.startswith(b"GET")] == [b"GET /1 ", b"GET /2 ", b"GET /3 "]


async def test_requests_that_were_sent_ahead_take_their_turn_with_everything_else() -> None:
    turns = []

    async def handler(request: Request) -> Response:
        turns.append(request.path)
        asyncio.get_running_loop().call_soon(turns.append, "another")
        return Response.sentence(200, "ok")

    async with serving(handler) as served:
        await served.say(get("/1") + get("/2") + get("/3", CLOSE))
    assert turns[:5] == ["/1", "another", "/2", "another", "/3"]


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for byte in get("/", CLOSE, "Content-Length: 2", method="POST") + b"hi":
            writer.write(bytes([byte]))
            await writer.drain()
        assert b"POST / hi" in await reader.read()
        writer.close()


async def test_a_slow_sender_gets_408_however_often_it_sends() -> None:
    async with serving(limits=SOON) as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = asyncio.get_running_loop().create_task(reader.read())
        while not answer.done():
            writer.write(b"X: y\r\n")  # slowloris: always one more header
            await asyncio.wait([answer], timeout=0.02)
        try:
            assert b" 408 " in answer.result()
        except ConnectionResetError:
            pass  # it went on sending after our end of file: the kernel may have thrown the answer away
        writer.close()


async def test_a_client_that_never_speaks_gets_408() -> None:
    async with serving(limits=SOON) as served:
        assert b" 408 " in await served.say(b"")


async def test_a_body_that_never_comes_gets_408() -> None:
    async with serving(limits=SOON) as served:
        assert b" 408 " in await served.say(get("/", "Content-Length: 5", method="POST") + b"hi")


async def test_a_silent_kept_connection_is_closed_without_a_word() -> None:
    async with serving(limits=SOON) as served:
        assert (await served.say(get())).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000, 431),
        (get("/", "Content-Length: 1025", "Expect: 100-continue", method="PUT"), 413),
        (get("/", "Transfer-Encoding: chunked", method="PUT") + b"402\r\n" + b"x" * 1026 + b"\r\n0\r\n\r\n", 413),
        (get("/", "Content-Length: x", method="PUT"), 400),
        (get("/", "Transfer-Encoding: gzip", method="PUT"), 501),
        (get("/", "Content-Length: 5", "Transfer-Encoding: chunked", method="PUT") + b"0\r\n\r\n", 400),
        (get("/", "Transfer-Encoding: chunked", method="PUT") + b"zz\r\n", 400),
    ],
)
async def test_what_cannot_be_read_is_refused_in_a_sentence_and_closed(request_bytes: bytes, status: int) -> None:
    async with serving() as served:
        head, _, body = (await served.say(request_bytes)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert body.endswith(b".\n")
    assert served.reported == []


async def test_a_body_far_beyond_the_bound_still_gets_its_answer() -> None:
    async with serving() as served:
        answer = await served.say(get("/", "Content-Length: 100000", method="PUT") + b"x" * 100_000)
    assert b" 413 " in answer


async def test_a_client_that_waits_is_told_to_go_on() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(get("/", "Content-Length: 2", "Expect: 100-continue", CLOSE, method="PUT"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hi")
        assert b"PUT / hi" in await reader.read()
        writer.close()


async def test_at_the_cap_the_connection_that_was_silent_longest_makes_room() -> None:
    async with serving(limits=HttpLimits(connections=2)) as served:
        first, first_writer = await served.connect()
        first_writer.write(get())
        await first.readuntil(b"GET / \n")
        silent, silent_writer = await served.connect()  # says nothing, and came before the first fell silent again
        first_writer.write(get())
        await first.readuntil(b"GET / \n")
        for _ in range(5):
            assert b" 200 " in await served.say(get("/", CLOSE))
        assert await silent.read() == b""
        first_writer.close()
        silent_writer.close()


async def test_at_the_cap_of_answers_under_way_a_connection_is_turned_away_at_once() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        asked.set()
        await go.wait()
        return Response.sentence(200, "done")

    async with serving(slow, HttpLimits(connections=1)) as served:
        reader, writer = await served.connect()
        writer.write(get("/", CLOSE))
        await asked.wait()
        assert b" 503 " in await served.say(b"")
        go.set()
        assert b"done" in await reader.read()
        writer.close()


async def test_a_fault_of_ours_is_a_sentence_for_the_client_and_reported() -> None:
    async def broken(_: Request) -> Response:
        raise KeyError("secret")

    async with serving(broken) as served:
        answer = await served.say(get("/", CLOSE))
        assert b" 500 " in answer
        assert b"secret" not in answer
        assert b"Traceback" not in answer
        assert [type(error) for error in served.reported] == [KeyError]


async def test_a_handler_that_takes_too_long_gets_504() -> None:
    async def stuck(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(stuck, SOON) as served:
        assert b" 504 " in await served.say(get("/", CLOSE))


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async def big(_: Request) -> Response:
        return Response(200, "text/plain", b"x" * 32_000_000)

    async with serving(big, SOON) as served:
        reader, writer = await served.connect()
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait(served.server._tasks)  # nobody reads meanwhile
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(32_000_000)
        writer.close()


async def test_closing_lets_an_answer_finish_and_ends_silent_connections() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        asked.set()
        await may_answer.wait()
        return await echo(request)

    async with serving(slow) as served:
        silent, silent_writer = await served.connect()
        reader, writer = await served.connect()
        writer.write(get())
        await asked.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(served.server.close(grace_s=5))
            assert await silent.read() == b""
            may_answer.set()
            answer = await reader.read()
        assert b"\r\nConnection: close" in answer
        assert b"GET / " in answer
        silent_writer.close()
        writer.close()


async def test_closing_ends_an_answer_that_does_not_finish() -> None:
    asked = asyncio.Event()

    async def stuck(_: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(stuck) as served:
        reader, writer = await served.connect()
        writer.write(get())
        await asked.wait()
        await served.server.close(grace_s=0)
        assert await reader.read() == b""
        assert not served.server._tasks
        writer.close()


async def test_a_port_in_use_is_an_os_error() -> None:
    async with serving() as served:
        second = HttpServer(echo, lambda _: None, LATER)
        with pytest.raises(OSError, match="address already in use"):
            await second.open(TcpAddress("127.0.0.1", served.server.port))


async def test_a_unix_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = HttpServer(echo, lambda _: None, LATER)
    await server.open(UnixAddress(str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(get("/", CLOSE))
    assert b"GET / " in await reader.read()
    writer.close()
    await server.close()
    assert not path.exists()
