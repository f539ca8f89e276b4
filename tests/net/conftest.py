"""Fixtures of the net floor: both event loops, and a world that must be empty again when the test is over."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.net.rig import World, open_sockets


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test here runs on the loop that `run` uses and on the plain one."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Where a test opens its worker and peers. Nothing may be left of them: no socket, no task."""
    before, tasks = open_sockets(), asyncio.all_tasks()
    world = World()
    yield world
    await world.stop()
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    assert open_sockets() == before
