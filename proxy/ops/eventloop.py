"""
The loop that a process runs on, and the signals that it minds there.

SIGTERM and SIGINT ask for a drain and, asked twice, for an end at once; SIGHUP asks for a reload.
"""

import asyncio
import signal
from collections.abc import Callable

LOOPS = ("uvloop", "asyncio")


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of this name, for asyncio.Runner."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def attend_signals(*, leave: Callable[[], None], leave_at_once: Callable[[], None], look: Callable[[], None]) -> None:
    """
    Take signals on the running loop, from now on.

    leave:         SIGTERM or SIGINT for the first time
    leave_at_once: and for the second
    look:          SIGHUP
    """
    loop = asyncio.get_running_loop()
    asked = False

    def terminate() -> None:
        nonlocal asked
        if asked:
            leave_at_once()
        asked = True
        leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, terminate)
    loop.add_signal_handler(signal.SIGHUP, look)
