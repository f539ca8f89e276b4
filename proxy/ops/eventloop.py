"""
The loop that a process runs on, the signals that it minds there, and what becomes of an exception that nobody caught.

SIGTERM and SIGINT ask for a drain and, asked twice, for an end at once; SIGHUP asks for a reload.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from proxy.ops.log import Log

LOOPS = ("uvloop", "asyncio")


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of this name, for asyncio.Runner."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def report_bugs(log: Log) -> None:
    """Let the log say what a callback of the running loop raised; asyncio would print a traceback on stderr."""

    def report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.bug(context.get("exception") or RuntimeError(context["message"]))

    if not os.environ.get("MTLS_SIDECAR_DEBUG"):
        asyncio.get_running_loop().set_exception_handler(report)


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
