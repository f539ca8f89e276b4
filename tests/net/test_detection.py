"""What a client is about to speak: looked at byte by byte, without taking any, without spinning, and never for ever."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from proxy.core.clienthello import ClientHello, Plaintext
from proxy.core.config import Mode
from proxy.core.reasons import Reason, Rejected
from proxy.net import detection
from proxy.net.detection import Opening
from proxy.net.readiness import Readiness
from tests.net.hello import client_hello, in_records_of
from tests.net.peers import PATIENCE_S
from tests.net.rig import World

HELLO = client_hello("cart.shop.svc")


class Looking:
    """`look` at work on one end of a connection, whose other end the test writes to."""

    def __init__(self, ends: tuple[socket.socket, socket.socket], mode: Mode, silence_s: float | None, within_s: float):
        self.client, self.sock = ends
        self.sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self.seen: list[int] = []
        self.task = loop.create_task(
            detection.look(
                Readiness(loop),
                self.sock,
                mode,
                silence_until=None if silence_s is None else loop.time() + silence_s,
                deadline=loop.time() + within_s,
            )
        )

    async def verdict(self) -> ClientHello | Opening | Plaintext | Reason:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.task
            except Rejected as rejected:
                return rejected.reason

    async def has_seen(self, length: int) -> None:
        """Wait until the kernel has `length` bytes for us and the loop had its turns with them."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while len(peek(self.sock)) < length:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)


def peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


Look = Callable[..., Looking]


@pytest.fixture(params=["tcp", "unix"])
def look(world: World, request: pytest.FixtureRequest) -> Look:
    """`look(mode, silence_s=..., within_s=...)` on a TCP and on a unix socket."""
    if request.param == "unix":
        client, sock = socket.socketpair()
    else:
        listening = world.listening()
        client = socket.create_connection(listening.getsockname())
        sock, _ = listening.accept()
    ends = world.keep(client), world.keep(sock)
    return lambda mode, silence_s=None, within_s=PATIENCE_S: Looking(ends, mode, silence_s, within_s)


async def test_a_hello_that_comes_at_once_is_read_and_stays_in_the_socket(look: Look) -> None:
    looking = look(Mode.PERMISSIVE)
    looking.client.sendall(HELLO)
    verdict = await looking.verdict()
    assert isinstance(verdict, ClientHello)
    assert verdict.sni == "cart.shop.svc"
    assert peek(looking.sock) == HELLO


async def test_a_strict_port_looks_no_further_than_it_must(look: Look) -> None:
    """Whatever the rest is, OpenSSL reads it, and nothing depends on what it says."""
    looking = look(Mode.STRICT)
    looking.client.sendall(HELLO[:20])
    assert await looking.verdict() == Opening(HELLO[:20])
    assert peek(looking.sock) == HELLO[:20]


async def test_a_sender_of_single_bytes_wakes_us_a_few_times(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    real = detection.detect

    def counted(data: bytes, **options):
        looks.append(len(data))
        return real(data, **options)

    monkeypatch.setattr(detection, "detect", counted)
    looking = look(Mode.PERMISSIVE, silence_s=PATIENCE_S)
    is_tcp = looking.sock.family == socket.AF_INET
    # On a unix socket the kernel holds some ninety messages, whatever their size. A hello with a post-quantum key share
    # (OpenSSL 3.5) is three times as long as one without, and more single bytes than a TCP socket holds either.
    size = (1 if is_tcp else 16) * (1 + len(HELLO) // 600)
    if is_tcp:
        looking.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(HELLO), size):
        looking.client.sendall(HELLO[at : at + size])
        await looking.has_seen(min(at + size, len(HELLO)))
    assert isinstance(await looking.verdict(), ClientHello)
    assert len(looks) <= (6 if is_tcp else 40)  # unix: by a pause that grows


async def test_one_byte_and_then_silence_does_not_spin(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    peeks = 0
    real = detection._peek

    def counted(sock: socket.socket) -> bytes | None:
        nonlocal peeks
        peeks += 1
        return real(sock)

    monkeypatch.setattr(detection, "_peek", counted)
    looking = look(Mode.STRICT, within_s=0.5)
    looking.client.sendall(b"\x16")
    assert await looking.verdict() is Reason.HANDSHAKE_TIMEOUT
    assert peeks <= 12


async def test_a_hello_cut_in_two_anywhere_is_a_hello(world: World) -> None:
    listening = world.listening()
    for cut in range(1, len(HELLO)):
        with socket.create_connection(listening.getsockname()) as client, listening.accept()[0] as sock:
            looking = Looking((client, sock), Mode.PERMISSIVE, PATIENCE_S, PATIENCE_S)
            client.sendall(HELLO[:cut])
            await looking.has_seen(cut)
            client.sendall(HELLO[cut:])
            assert isinstance(await looking.verdict(), ClientHello), cut


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_a_hello_over_many_records_is_a_hello(look: Look, size: int) -> None:
    looking = look(Mode.PERMISSIVE)
    looking.client.sendall(in_records_of(HELLO, size))
    assert isinstance(await looking.verdict(), ClientHello)


async def test_the_low_water_mark_is_one_again_however_it_ends(world: World) -> None:
    """Otherwise OpenSSL, or the relay, would not be woken for the last bytes of a message."""
    for begin, rest, within_s in (
        (HELLO[:9], HELLO[9:], PATIENCE_S),
        (HELLO[:9], b"", 0.05),
        (HELLO[:9], None, PATIENCE_S),
    ):
        listening = world.listening()
        client = world.keep(socket.create_connection(listening.getsockname()))
        looking = Looking((client, world.keep(listening.accept()[0])), Mode.PERMISSIVE, PATIENCE_S, within_s)
        client.sendall(begin)
        while looking.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1:
            await asyncio.sleep(0)
        if rest is None:
            looking.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking.task
        else:
            client.sendall(rest)
            await looking.verdict()
        assert looking.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize(
    ("said", "strict", "permissive"),
    [
        (b"GET / HTTP/1.1\r\n", Reason.PLAINTEXT_REFUSED, Plaintext),
        (b"\x00", Reason.PLAINTEXT_REFUSED, Plaintext),
        (b"\x16junk that is no record", Reason.NOT_TLS, Plaintext),
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", Reason.NOT_TLS, Plaintext),
        (b"\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03", Reason.HELLO_TOO_LONG, Reason.HELLO_TOO_LONG),
    ],
)
async def test_what_is_no_hello_is_judged_by_the_mode(
    look: Look, said: bytes, strict: object, permissive: object
) -> None:
    strictly = look(Mode.STRICT)
    strictly.client.sendall(said)
    assert await strictly.verdict() is strict
    freely = look(Mode.PERMISSIVE)  # nothing was taken, so a second look sees the same
    verdict = await freely.verdict()
    assert verdict is permissive or isinstance(verdict, Plaintext)
    assert peek(freely.sock) == said


async def test_silence_is_plaintext_in_permissive_after_its_time(look: Look) -> None:
    looking = look(Mode.PERMISSIVE, silence_s=0.05)
    assert await looking.verdict() == Plaintext("the client said nothing")


@pytest.mark.parametrize("length", [1, 5])
async def test_too_little_to_be_tls_counts_as_silence(look: Look, length: int) -> None:
    looking = look(Mode.PERMISSIVE, silence_s=0.1)
    looking.client.sendall(HELLO[:length])
    assert await looking.verdict() == Plaintext("the client said too little to be TLS")


async def test_the_beginning_of_a_hello_is_no_silence(look: Look) -> None:
    looking = look(Mode.PERMISSIVE, silence_s=0.05, within_s=0.3)
    looking.client.sendall(HELLO[:20])
    assert await looking.verdict() is Reason.HANDSHAKE_TIMEOUT


@pytest.mark.parametrize("length", [0, 1, 5])
async def test_a_silent_client_costs_a_strict_port_no_more_than_the_deadline(look: Look, length: int) -> None:
    looking = look(Mode.STRICT, within_s=0.1)
    looking.client.sendall(HELLO[:length])
    assert await looking.verdict() is Reason.HANDSHAKE_TIMEOUT


@pytest.mark.parametrize("length", [0, 1, 5])
async def test_a_client_that_ends_in_mid_hello_has_left(look: Look, length: int) -> None:
    looking = look(Mode.STRICT)
    looking.client.sendall(HELLO[:length])
    await looking.has_seen(length)
    looking.client.shutdown(socket.SHUT_WR)
    assert await looking.verdict() is Reason.CLIENT_LEFT


@pytest.mark.parametrize("length", [1, 20])
async def test_an_early_end_after_some_bytes_is_plaintext_in_permissive(look: Look, length: int) -> None:
    looking = look(Mode.PERMISSIVE, silence_s=PATIENCE_S)
    looking.client.sendall(HELLO[:length])
    looking.client.shutdown(socket.SHUT_WR)
    assert isinstance(await looking.verdict(), Plaintext)
    assert peek(looking.sock) == HELLO[:length]


async def test_an_end_without_a_byte_is_no_plaintext(look: Look) -> None:
    looking = look(Mode.PERMISSIVE, silence_s=PATIENCE_S)
    looking.client.close()
    assert await looking.verdict() is Reason.CLIENT_LEFT
