"""Accepting at the edge: without a descriptor left, and with a backlog that is longer than a turn."""

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest

from proxy.core.config import Mode
from proxy.core.events import Relaying
from proxy.net import listener
from tests.net.peers import receive_exactly
from tests.net.rig import World, blocking, inbound

# In a process of its own, since the limit holds for all of it.
WITHOUT_DESCRIPTORS = """
import asyncio, json, os, resource, socket, sys, time
import uvloop
from proxy.core.config import Mode
from proxy.core.events import Closed
from tests.net.rig import Rig, config_of, inbound

async def main():
    app = socket.create_server(("127.0.0.1", 0), backlog=64)
    rig = Rig(config_of(inbound(app.getsockname(), mode=Mode.DISABLE)))
    clients = [socket.socket() for _ in range(8)]
    for client in clients:
        client.setblocking(False)
    starves = 0
    acceptor = next(iter(rig.worker._acceptors.values()))
    real = acceptor._starved
    def starved(one):
        nonlocal starves
        starves += 1
        real(one)
    acceptor._starved = starved
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    spare = []
    try:
        while True:
            spare.append(os.dup(0))
    except OSError:
        pass
    begun, cpu = time.monotonic(), time.process_time()
    for client in clients:
        client.connect_ex(rig.address())
    await asyncio.sleep(0.55)
    spent, passed = time.process_time() - cpu, time.monotonic() - begun
    reasons = sorted({closed.reason for closed in rig.recorder.of(Closed)})
    seen = starves
    for descriptor in spare:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    late = socket.create_connection(rig.address())
    served = app.accept()[0] if await asyncio.get_running_loop().run_in_executor(None, wait, app) else None
    print(json.dumps([seen, spent, passed, reasons, served is not None, len(rig.bugs)]))
    sys.stdout.flush()
    os._exit(0)

def wait(app):
    import select
    return bool(select.select([app], [], [], 5)[0])

asyncio.run(main(), debug=False) if sys.argv[1] == "asyncio" else uvloop.run(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_without_a_descriptor_clients_are_refused_slowly_and_served_later(loop: str) -> None:
    """A socket that cannot be accepted from stays readable: to retry at once would be to spin."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, loop], capture_output=True, text=True, check=True, timeout=60
    )
    starved, cpu_s, passed_s, reasons, served, bugs = json.loads(done.stdout)
    assert reasons == ["OVERLOADED"]
    assert 1 <= starved <= passed_s / listener.REST_S + 1
    assert cpu_s < 0.3 * passed_s
    assert (served, bugs) == (True, 0)


async def test_a_backlog_longer_than_a_turn_is_served_whole(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE))
    for acceptor in rig.worker._acceptors.values():
        acceptor.pause()
    count = 2 * listener.ACCEPTS_A_TURN + 1
    for _ in range(count):
        await world.dial(rig.address())
    for acceptor in rig.worker._acceptors.values():
        acceptor.resume()
    await rig.recorder.until(lambda: len(rig.recorder.of(Relaying)) == count, "all of them")
    for _ in range(count):
        await world.accept(app)


async def test_a_client_that_left_while_it_waited_is_no_trouble(world: World) -> None:
    app = world.listening()
    rig = world.rig(inbound(app.getsockname(), mode=Mode.DISABLE))
    [acceptor] = rig.worker._acceptors.values()
    acceptor.pause()
    for _ in range(3):
        (await world.dial(rig.address())).close()
    down = await world.dial(rig.address())
    acceptor.resume()
    await blocking(down.sendall, b"x")
    for _ in range(3):
        await world.accept(app)
    assert await blocking(receive_exactly, await world.accept(app), 1) == b"x"


async def test_a_listener_that_was_stopped_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REST_S", 0.01)
    rig = world.rig(inbound(("127.0.0.1", 1)))
    [acceptor] = rig.worker._acceptors.values()
    acceptor._starve()
    await rig.worker.drain(1)
    assert not acceptor._watching
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)
    assert not acceptor._watching
