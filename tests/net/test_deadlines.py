"""Many deadlines on one timer: none early, none forgotten, none of what was taken back."""

import asyncio

from proxy.net.deadlines import GRAIN_S, Deadlines
from tests.net.peers import PATIENCE_S


class Alarm:
    """Notes when it was due, and may enter itself again."""

    def __init__(self, deadlines: Deadlines, after_s: float, again: int = 0) -> None:
        self.loop = asyncio.get_running_loop()
        self.deadlines = deadlines
        self.after_s = after_s
        self.again = again
        self.rung = asyncio.Event()
        self.enter()

    def enter(self) -> None:
        self.at = self.loop.time() + self.after_s
        self.bucket = self.deadlines.add(self.on_due, self.at)

    def on_due(self) -> None:
        self.late_s = self.loop.time() - self.at
        if self.again:
            self.again -= 1
            self.enter()
        else:
            self.rung.set()

    async def wait(self) -> float:
        async with asyncio.timeout(PATIENCE_S):
            await self.rung.wait()
        return self.late_s


async def test_a_deadline_comes_late_by_a_grain_at_most_and_never_early() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    alarms = [Alarm(deadlines, after_s) for after_s in (0.2, 0.0, 0.05, 0.05, 0.13)]
    late = [await alarm.wait() for alarm in alarms]
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 4 * GRAIN_S


async def test_an_earlier_deadline_comes_before_one_that_was_entered_first() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    later, sooner = Alarm(deadlines, 60), Alarm(deadlines, 0.05)
    await sooner.wait()
    assert not later.rung.is_set()
    deadlines.discard(later.on_due, later.bucket)


async def test_what_was_taken_back_does_not_come() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    gone, other = Alarm(deadlines, 0.05), Alarm(deadlines, 0.2)
    deadlines.discard(gone.on_due, gone.bucket)
    deadlines.discard(gone.on_due, gone.bucket)
    await other.wait()
    assert not gone.rung.is_set()


async def test_one_that_enters_itself_again_comes_again() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    await Alarm(deadlines, 0.0, again=3).wait()


async def test_after_all_were_taken_back_a_new_one_still_comes() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    for after_s in (0.05, 0.1, 30):
        gone = Alarm(deadlines, after_s)
        deadlines.discard(gone.on_due, gone.bucket)
    await Alarm(deadlines, 0.2).wait()
    await Alarm(deadlines, 0.01).wait()


async def test_nothing_of_many_connections_that_are_gone_is_left() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    for number in range(1000):
        gone = Alarm(deadlines, 0.001 * number)
        deadlines.discard(gone.on_due, gone.bucket)
    await Alarm(deadlines, 1.1).wait()
    assert (len(deadlines._buckets), len(deadlines._order)) == (0, 0)


async def test_an_exception_in_one_takes_none_of_the_others_along() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context["exception"]))
    deadlines = Deadlines(loop)
    others = [Alarm(deadlines, 0.1) for _ in range(3)]
    deadlines.add(lambda: 1 / 0, others[0].at)
    for alarm in others:
        await alarm.wait()
    assert [type(bug) for bug in complaints] == [ZeroDivisionError]
