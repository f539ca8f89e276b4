"""A new configuration is in force in all workers or in none, and one that does not answer has no veto."""

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from proxy.core.config import TcpAddress
from proxy.core.reasons import Reason, Rejected
from proxy.ops.configsource import Source
from proxy.ops.rollout import Rollout, reload_identity
from proxy.ops.workerfleet import Answer, Fleet
from proxy.ops.workerhandle import Addresses, WorkerHandle
from proxy.ops.workerlink import Order, Reload, encode

OLD, NEW = Source(b"old", "f"), Source(b"new", "f")
OLD_SOCKETS = cast("Addresses", {TcpAddress("::1", 1): "a socket"})
NEW_SOCKETS = cast("Addresses", {TcpAddress("::1", 2): "a socket"})
REFUSAL = {"result": "failed", "configuration_failure": {"reason": "FILE_MISSING", "detail": "no tls.crt"}}


class Worker:
    """What a rollout sees of a worker. answers: to the new configuration; None: silence."""

    def __init__(self, number: int, answer: Mapping[str, object] | None, *, ready: bool = True) -> None:
        self.number = number
        self.source: Source | None = OLD
        self.why_not_ready = None if ready else "it is starting"
        self.heard: list[Source | None] = []
        self.handed: list[Addresses] = []
        self.answer = answer

    def hand(self, sockets: Addresses) -> None:
        self.handed.append(sockets)


class Workers:
    """What a rollout sees of a fleet."""

    def __init__(self, *workers: Worker) -> None:
        self.handles = list(workers)
        self.order: list[int] = []
        self.generation = 0

    def learn_generation(self, number: object) -> None:
        assert isinstance(number, int)
        self.generation = number

    async def ask_all(
        self, order: Order, *, within_s: float | None, of: Sequence[Worker] | None = None
    ) -> list[tuple[Worker, Answer]]:
        assert isinstance(order, Reload)
        assert within_s is not None
        answers: list[tuple[Worker, Answer]] = []
        for worker in self.handles if of is None else of:
            self.order.append(worker.number)
            worker.heard.append(order.source)
            outcome = {"result": "published", "generation": 2} if order.source is OLD else worker.answer
            answers.append((worker, "did not answer" if outcome is None else encode(outcome)))
        return answers


TAKEN = {"result": "published", "generation": 2}


def rollout(*workers: Worker) -> tuple[Workers, Rollout]:
    fleet = Workers(*workers)
    return fleet, Rollout(cast("Fleet", fleet))


async def publish(carrier: Rollout) -> None:
    await carrier.publish(NEW, NEW_SOCKETS, OLD, OLD_SOCKETS)


async def test_all_take_it_and_a_ready_one_goes_first() -> None:
    workers = Worker(1, TAKEN, ready=False), Worker(2, TAKEN), Worker(3, TAKEN)
    fleet, carrier = rollout(*workers)
    await publish(carrier)
    assert fleet.order == [2, 1, 3]
    assert [worker.source for worker in workers] == [NEW, NEW, NEW]
    assert all(worker.handed == [NEW_SOCKETS] for worker in workers)
    assert carrier.lagging(NEW) == []
    assert fleet.generation == 2


async def test_what_the_first_refuses_no_other_sees() -> None:
    workers = Worker(1, REFUSAL), Worker(2, TAKEN)
    fleet, carrier = rollout(*workers)
    with pytest.raises(Rejected) as caught:
        await publish(carrier)
    assert (caught.value.reason, caught.value.detail) == (Reason.FILE_MISSING, "worker 1: no tls.crt")
    assert fleet.order == [1]
    assert workers[1].source is OLD


async def test_what_a_later_one_refuses_is_taken_back_from_the_others() -> None:
    workers = Worker(1, TAKEN), Worker(2, REFUSAL), Worker(3, TAKEN)
    _, carrier = rollout(*workers)
    with pytest.raises(Rejected, match="worker 2"):
        await publish(carrier)
    assert [worker.heard for worker in workers] == [[NEW, OLD], [NEW], [NEW, OLD]]
    assert workers[0].handed == [NEW_SOCKETS, OLD_SOCKETS]


async def test_silence_is_no_veto_and_it_is_given_again() -> None:
    workers = Worker(1, TAKEN), Worker(2, None)
    _, carrier = rollout(*workers)
    await publish(carrier)
    assert carrier.lagging(NEW) == cast("list[WorkerHandle]", [workers[1]])
    workers[1].answer = TAKEN
    await carrier.catch_up(NEW, NEW_SOCKETS)
    assert workers[1].heard == [NEW, NEW]
    assert workers[0].heard == [NEW]
    assert carrier.lagging(NEW) == []


async def test_without_a_living_worker_nobody_refuses() -> None:
    _, carrier = rollout()
    await publish(carrier)


async def test_a_reload_of_the_identity_has_a_row_for_each() -> None:
    fleet, _ = rollout(Worker(1, TAKEN), Worker(2, None))
    assert await reload_identity(cast("Fleet", fleet)) == [
        {"worker": 1, **TAKEN},
        {"worker": 2, "result": "failed", "detail": "did not answer"},
    ]
