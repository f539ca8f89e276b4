"""Fixtures of the net floor: both loops, both engines, and a world that must be empty again when the test is over."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from proxy.core.config import Engine
from tests import engines
from tests.net.rig import World, open_sockets


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test here runs on the loop that `run` uses and on the plain one, and on both TLS engines."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop, "boringssl": uvloop.new_event_loop}


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine of this test: loops and engines do not know of each other, so three of the four pairs are enough."""
    name = Engine.BORINGSSL if "boringssl" in request.node.callspec.id.split("-") else Engine.OPENSSL
    engines.require(name)
    return name


@pytest.fixture
async def world(engine: Engine) -> AsyncIterator[World]:
    """Where a test opens its worker and peers. Nothing may be left of them: no socket, no task."""
    before, tasks = open_sockets(), asyncio.all_tasks()
    world = World(engine)
    yield world
    await world.stop()
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    assert open_sockets() == before
