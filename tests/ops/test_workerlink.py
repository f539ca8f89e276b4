"""The wire between a supervisor and a worker: whole frames with their descriptors, an end for what breaks a rule."""

import asyncio
import os
import socket
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import LogLevel
from proxy.ops.configsource import Source
from proxy.ops.workerlink import (
    MAX_DESCRIPTORS,
    MAX_FRAME_BYTES,
    Answer,
    Drain,
    Link,
    Order,
    Ordered,
    Reload,
    Said,
    SetLogLevel,
    Show,
    Sockets,
    Start,
    Status,
    What,
    decode_ordered,
    decode_said,
    encode,
)

texts = st.text(max_size=20)
sources = st.builds(Source, st.binary(max_size=50), texts, texts)
orders: st.SearchStrategy[Order] = st.one_of(
    st.builds(Sockets, st.lists(texts, max_size=3)),
    st.builds(Start, st.integers(1, 9), st.integers(1, 9), sources, st.sampled_from(LogLevel), st.integers(0, 9)),
    st.builds(Reload, st.none() | sources),
    st.builds(Drain),
    st.builds(SetLogLevel, st.sampled_from(LogLevel)),
    st.builds(Show, st.sampled_from(What)),
)
sayings: st.SearchStrategy[Said] = st.one_of(
    st.builds(Status, st.booleans(), texts, st.integers(0, 9), texts),
    st.builds(Answer, st.integers(0, 9), st.binary(max_size=50), texts),
)


class End:
    """One end of a wire, with all that came to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.frames: list[tuple[bytes, int]] = []
        self.descriptors: list[int] = []
        self.lost: list[str] = []
        self.changed = asyncio.Event()
        self.link = Link(asyncio.get_running_loop(), sock, self._receive, self._lost)

    def _receive(self, body: bytes, descriptors: list[int]) -> None:
        self.frames.append((body, len(descriptors)))
        self.descriptors += descriptors
        self.changed.set()
        if body == b"not understood":
            raise ValueError(body)

    def _lost(self, why: str) -> None:
        self.lost.append(why)
        self.changed.set()

    async def until_frames(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.frames) < count:
                self.changed.clear()
                await self.changed.wait()

    async def until_lost(self) -> str:
        async with asyncio.timeout(10):
            while not self.lost:
                self.changed.clear()
                await self.changed.wait()
        return self.lost[0]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for sock in pair:
        sock.close()


def frame(body: bytes, descriptors: int = 0) -> bytes:
    return len(body).to_bytes(4, "big") + bytes([descriptors]) + body


@given(orders, st.integers(0, 2**32))
def test_an_order_is_what_was_ordered(order: Order, number: int) -> None:
    assert decode_ordered(encode(Ordered(number, order))) == Ordered(number, order)


@given(sayings)
def test_what_a_worker_says_is_what_is_heard(said: Said) -> None:
    assert decode_said(encode(said)) == said


@given(sayings, st.binary(min_size=1, max_size=9))
def test_what_is_cut_short_or_followed_by_junk_is_refused(said: Said, junk: bytes) -> None:
    body = encode(said)
    for length in range(len(body)):
        with pytest.raises(msgspec.MsgspecError):
            decode_said(body[:length])
    with pytest.raises(msgspec.MsgspecError):
        decode_said(body + junk)


async def test_frames_arrive_whole_and_in_order(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = End(sockets[0]), End(sockets[1])
    ours.link.send(b"one")
    ours.link.send(b"")
    theirs.link.send(b"other way")
    ours.link.send(b"three")
    await theirs.until_frames(3)
    await ours.until_frames(1)
    assert theirs.frames == [(b"one", 0), (b"", 0), (b"three", 0)]
    assert ours.frames == [(b"other way", 0)]
    ours.link.close()
    assert await theirs.until_lost() == "it closed the link"
    assert ours.lost == []


async def test_a_frame_that_comes_byte_by_byte_is_one_frame(sockets: tuple[socket.socket, socket.socket]) -> None:
    end = End(sockets[1])
    data = frame(b"first") + frame(b"second")
    for at in range(len(data)):
        sockets[0].sendall(data[at : at + 1])
        await asyncio.sleep(0)
    await end.until_frames(2)
    assert [body for body, _ in end.frames] == [b"first", b"second"]
    end.link.close()


async def test_a_long_frame_never_makes_the_sender_wait(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours = End(sockets[0])
    body = os.urandom(5_000_000)
    ours.link.send(body)
    ours.link.send(b"behind it")
    theirs = End(sockets[1])  # nobody read until now
    await theirs.until_frames(2)
    assert [received for received, _ in theirs.frames] == [body, b"behind it"]
    ours.link.close()
    theirs.link.close()


async def test_descriptors_come_with_their_own_frame(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = End(sockets[0]), End(sockets[1])
    pipes = [os.pipe() for _ in range(3)]
    ours.link.send(b"plain")
    ours.link.send(b"two", [pipes[0][1], pipes[1][1]])
    ours.link.send(b"x" * 500_000, [pipes[2][1]])
    ours.link.send(b"plain again")
    for _, writing in pipes:
        os.close(writing)  # what travels are copies
    await theirs.until_frames(4)
    assert [count for _, count in theirs.frames] == [0, 2, 1, 0]
    for number, descriptor in enumerate(theirs.descriptors):
        os.write(descriptor, b"%d" % number)
        os.close(descriptor)
    for number, (reading, _) in enumerate(pipes):
        assert os.read(reading, 9) == b"%d" % number
        os.close(reading)
    ours.link.close()
    theirs.link.close()


async def test_as_many_descriptors_as_are_allowed_arrive(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = End(sockets[0]), End(sockets[1])
    ours.link.send(b"many", [0] * MAX_DESCRIPTORS)
    await theirs.until_frames(1)
    assert theirs.frames == [(b"many", MAX_DESCRIPTORS)]
    for descriptor in theirs.descriptors:
        os.close(descriptor)
    with pytest.raises(ValueError, match="beyond the bounds"):
        ours.link.send(b"", [0] * (MAX_DESCRIPTORS + 1))
    ours.link.close()
    theirs.link.close()


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"\0",
        (1).to_bytes(4, "big") + bytes([MAX_DESCRIPTORS + 1]) + b"x",
        frame(b"descriptors", 1),
        frame(b"not understood"),
    ],
    ids=["too long", "too many descriptors", "descriptors are missing", "not understood"],
)
async def test_what_breaks_a_rule_ends_the_link(sockets: tuple[socket.socket, socket.socket], data: bytes) -> None:
    end = End(sockets[1])
    sockets[0].sendall(data)
    assert (await end.until_lost()).startswith("it said what cannot be understood")
    assert sockets[0].recv(1) == b""


async def test_after_the_end_nothing_is_sent_and_the_end_is_said_once(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    end = End(sockets[1])
    sockets[0].close()
    assert await end.until_lost() == "it closed the link"
    end.link.send(b"anybody there?")
    end.link.close()
    assert len(end.lost) == 1


async def test_a_reader_that_never_reads_is_given_up(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ops.workerlink.MAX_FRAME_BYTES", 500_000)
    end = End(sockets[0])
    for _ in range(5):
        end.link.send(bytes(400_000))
    assert await end.until_lost() == "it has not read what was sent to it for too long"
