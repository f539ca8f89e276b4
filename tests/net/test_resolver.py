"""A name is asked for once at a time; one that nobody answers for holds up neither the others nor the end."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from proxy.net.resolver import MOST_THREADS, AddressInfo, Resolver


class System:
    """A system's resolver: names that begin with "dead" are not answered before `silence` is over."""

    def __init__(self) -> None:
        self.silence = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[AddressInfo]:
        self.asked.append(host)
        if host.startswith("dead"):
            self.silence.wait()
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{len(self.asked)}", port))]


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.silence.set()


async def test_names_that_nobody_answers_for_hold_up_no_other(system: System) -> None:
    resolver = Resolver(asyncio.get_running_loop(), system)
    dead = [asyncio.ensure_future(resolver.addresses(f"dead{number}", 80)) for number in range(MOST_THREADS - 1)]
    async with asyncio.timeout(10):
        for _ in range(3):
            assert (await resolver.addresses("app", 80))[0][4][1] == 80
    assert not any(one.done() for one in dead)
    system.silence.set()
    await asyncio.gather(*dead)
    resolver.close()


async def test_who_asks_for_the_same_name_shares_the_answer_and_the_next_asks_anew(system: System) -> None:
    resolver = Resolver(asyncio.get_running_loop(), system)
    waiting = [asyncio.ensure_future(resolver.addresses("dead", 80)) for _ in range(100)]
    await asyncio.sleep(0)
    system.silence.set()
    answers = await asyncio.gather(*waiting)
    assert system.asked == ["dead"]
    assert all(answer == answers[0] for answer in answers)
    assert await resolver.addresses("dead", 80) != answers[0]
    resolver.close()


async def test_who_leaves_disturbs_nobody_else_who_waits(system: System) -> None:
    resolver = Resolver(asyncio.get_running_loop(), system)
    first, second = (asyncio.ensure_future(resolver.addresses("dead", 80)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    system.silence.set()
    assert await second
    assert first.cancelled()
    resolver.close()


async def test_a_failure_is_raised_to_everybody_who_waits(system: System) -> None:
    resolver = Resolver(asyncio.get_running_loop(), system)
    outcomes = await asyncio.gather(*(resolver.addresses("nobody", 80) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [socket.gaierror] * 3
    resolver.close()


async def test_one_name_after_the_other_takes_one_thread_or_two(system: System) -> None:
    resolver, before = Resolver(asyncio.get_running_loop(), system), threading.active_count()
    for number in range(50):
        await resolver.addresses(f"app{number}", 80)
    assert threading.active_count() <= before + 2
    resolver.close()


async def test_beyond_the_most_threads_a_name_waits_and_is_answered(system: System) -> None:
    resolver = Resolver(asyncio.get_running_loop(), system)
    asked = [asyncio.ensure_future(resolver.addresses(f"dead{number}", 80)) for number in range(MOST_THREADS + 5)]
    await asyncio.sleep(0)
    system.silence.set()
    assert len(await asyncio.gather(*asked)) == MOST_THREADS + 5
    resolver.close()


async def test_without_a_thread_it_is_an_error_of_the_system(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread can be had"):
        await Resolver(asyncio.get_running_loop(), system).addresses("app", 80)


def test_an_answer_that_comes_after_the_loop_disturbs_nobody(system: System) -> None:
    before = set(threading.enumerate())

    async def leave() -> None:
        asked = asyncio.ensure_future(Resolver(asyncio.get_running_loop(), system).addresses("dead", 80))
        await asyncio.sleep(0)
        assert not asked.done()

    with asyncio.Runner() as runner:
        runner.run(leave())
    (thread,) = set(threading.enumerate()) - before
    system.silence.set()
    thread.join(10)
    assert not thread.is_alive()
