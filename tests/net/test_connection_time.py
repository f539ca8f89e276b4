"""What time a client has to prove itself."""

import asyncio

import pytest

from proxy.core.config import Timeouts
from proxy.core.reasons import Reason
from tests.net.hello import client_hello
from tests.net.peers import receive_to_end
from tests.net.rig import World, blocking, inbound


async def test_one_deadline_covers_the_hello_and_the_rest_of_the_handshake(world: World) -> None:
    """A client that begins its hello in the last moment gets no second term for the rest of it."""
    rig = world.rig(inbound(("127.0.0.1", 1)), timeouts=Timeouts(handshake_s=0.5))
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    sock = await world.dial(rig.address())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.recorder.closed(), 0.4)
    await blocking(sock.sendall, client_hello()[:11])
    await blocking(receive_to_end, sock)
    assert loop.time() - begun < 0.4 + 0.5
    sock.close()
    assert await rig.recorder.reason() is Reason.HANDSHAKE_TIMEOUT
