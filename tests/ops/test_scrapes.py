"""Many scrapers at once: none sees what was rendered before it asked, and the loop that relays is not held up."""

import asyncio

import pytest

from proxy.ops import scrapes
from proxy.ops.scrapes import MOST_WAITING, Scrapes

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Counting:
    """A renderer of how often it was called; gate: what a rendering waits for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def render(self, accept: str) -> tuple[str, bytes]:
        self.calls.append(accept)
        number = len(self.calls)
        await self.gate.wait()
        return "text/plain", b"%d" % number


async def test_one_that_comes_alone_gets_a_rendering_of_its_own() -> None:
    counting = Counting()
    asked = Scrapes(counting.render)
    assert [await asked.get(""), await asked.get("")] == [("text/plain", b"1"), ("text/plain", b"2")]


async def test_who_asks_while_one_is_rendered_shares_the_next() -> None:
    counting = Counting()
    asked = Scrapes(counting.render)
    counting.gate.clear()
    first = asyncio.create_task(asked.get(""))
    await asyncio.sleep(0)
    later = [asyncio.create_task(asked.get("")) for _ in range(5)]
    await asyncio.sleep(0)
    counting.gate.set()
    assert await first == ("text/plain", b"1")
    assert await asyncio.gather(*later) == [("text/plain", b"2")] * 5  # the first had begun before they asked


async def test_each_form_is_rendered_for_those_who_ask_for_it() -> None:
    counting = Counting()
    asked = Scrapes(counting.render)
    answers = await asyncio.gather(*(asked.get(accept) for accept in ("", OPEN_METRICS, "text/plain", OPEN_METRICS)))
    assert counting.calls == ["", OPEN_METRICS]
    assert [body for _, body in answers if body] == [b"1", b"2", b"1", b"2"]


async def test_after_a_rendering_there_is_a_rest_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rests = [100.0], []

    async def sleep(seconds: float) -> None:
        rests.append(round(seconds, 3))
        now[0] += seconds

    async def render(_accept: str) -> tuple[str, bytes]:
        now[0] += costs.pop(0)
        return "text/plain", b""

    monkeypatch.setattr(scrapes.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(scrapes.asyncio, "sleep", sleep)
    costs = [0.004, 1.0, 0.0]
    asked = Scrapes(render)
    for _ in range(3):
        await asked.get("")
    assert rests == [0, 0.036, 0.25]


async def test_only_so_many_wait() -> None:
    counting = Counting()
    asked = Scrapes(counting.render)
    counting.gate.clear()
    waiting = [asyncio.create_task(asked.get("")) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert await asked.get("") is None
    counting.gate.set()
    assert None not in await asyncio.gather(*waiting)
    assert await asked.get("") is not None


async def test_one_that_leaves_takes_nobody_along() -> None:
    counting = Counting()
    asked = Scrapes(counting.render)
    counting.gate.clear()
    leaver, stayer = (asyncio.create_task(asked.get("")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    counting.gate.set()
    assert await stayer == ("text/plain", b"1")
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_a_rendering_that_fails_is_the_failure_of_one_alone() -> None:
    calls = []

    async def render(_accept: str) -> tuple[str, bytes]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug of ours")
        return "text/plain", b""

    asked = Scrapes(render)
    first, second = await asyncio.gather(asked.get(""), asked.get(""), return_exceptions=True)
    assert isinstance(first, RuntimeError)
    assert second == ("text/plain", b"")
