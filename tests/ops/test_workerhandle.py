"""One worker process, from the outside."""

import asyncio
import re

import pytest

from proxy.ops.workerhandle import Backoff, WorkerHandle, describe_end
from proxy.ops.workerlink import LinkLost, Show, Status, What


def test_pauses_double_up_to_ten_seconds() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_minute_of_health_makes_pauses_short_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(59.9)
    assert backoff.after(60.0) == 0.1
    assert backoff.after(0.0) == 0.2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-11, "ended by SIGSEGV"),
        (-9, "ended by SIGKILL (somebody's, or the kernel's where memory ran out)"),
        (-99, "ended by signal 99"),
    ],
)
def test_an_end_has_words(status: int, words: str) -> None:
    assert describe_end(status) == words


async def test_a_worker_that_was_told_nothing_goes_when_it_is_released() -> None:
    handle = WorkerHandle(1, 1, "asyncio", lambda: None)
    assert handle.why_not_ready == "it is starting"
    handle.release()
    assert handle.why_not_ready == "it has ended"
    assert await handle.reap() == 0


async def test_a_question_has_a_deadline_and_an_end() -> None:
    changes = asyncio.Event()
    handle = WorkerHandle(7, 1, "asyncio", changes.set)
    with pytest.raises(LinkLost, match="worker 7 does not answer: it is starting"):
        await handle.ask(Show(What.METRICS), 20.0)
    handle.status = Status(True, "ready", 1, "")
    with pytest.raises(TimeoutError, match=re.escape("worker 7 did not answer within 0.01 s")):
        await handle.ask(Show(What.METRICS), 0.01)
    question = asyncio.ensure_future(handle.ask(Show(What.METRICS), 20.0))
    await asyncio.sleep(0)
    handle.kill()
    with pytest.raises(LinkLost, match="worker 7 has ended"):
        await question
    assert handle.gone.is_set()
    assert changes.is_set()
    assert await handle.reap() == -9
    with pytest.raises(LinkLost):
        await handle.ask(Show(What.METRICS), 20.0)
