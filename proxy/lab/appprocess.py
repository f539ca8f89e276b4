"""
The app behind every measured proxy: small, quick, and the same for all of them.

    python -m proxy.lab.appprocess [PORTS]     started by proxy/lab/testbed.py

It takes free ports on loopback (one for each side, so that no side meets another's closed connections), prints them as
one line of JSON, and ends when its stdin does. One byte says what is wanted, and after `P`, `S` and `G` the next
command may follow on the same connection:

    P                    answered with P
    S + 8-byte length    that many bytes are swallowed, then answered with K
    G + 8-byte length    that many bytes come back
    E ...                everything from here on, this byte too, is echoed
"""

import asyncio
import json
import os
import sys
from typing import cast

import uvloop

MODULE = "proxy.lab.appprocess"
_CHUNK = bytes(262_144)
_HOST = "127.0.0.1"


class App(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.echoing = False
        self.to_swallow = 0
        self.to_send = 0
        self.writable = True
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio's."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        if self.echoing:
            self.transport.write(data)
        elif self.to_swallow:
            self._swallow(data)
        else:
            self._command(self.head + data)

    def pause_writing(self) -> None:
        """As asyncio's."""
        self.writable = False

    def resume_writing(self) -> None:
        """As asyncio's."""
        self.writable = True
        self._send()

    def _command(self, data: bytes) -> None:
        """Obey the first command in data; a length that is not whole yet waits in head."""
        self.head = b""
        word = data[:1]
        if word == b"E":
            self.echoing = True
            self.transport.write(data)
        elif word == b"P":
            self.transport.write(b"P")
            if data[1:]:
                self._command(data[1:])
        elif word not in (b"S", b"G"):
            self.transport.abort()
        elif len(data) < 9:
            self.head = data
        elif word == b"S":
            self.to_swallow = int.from_bytes(data[1:9], "big")
            self._swallow(data[9:])
        else:
            self.to_send = int.from_bytes(data[1:9], "big")
            self._send()

    def _swallow(self, data: bytes) -> None:
        """Count down, then acknowledge."""
        self.to_swallow -= len(data)
        if self.to_swallow == 0:
            self.transport.write(b"K")

    def _send(self) -> None:
        """Fill the transport up to its high-water mark."""
        while self.to_send and self.writable:
            chunk = _CHUNK[: self.to_send]
            self.to_send -= len(chunk)
            self.transport.write(chunk)


async def serve(ports: int) -> None:
    """Listen on so many ports until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(App, _HOST, 0, backlog=4096) for _ in range(ports)]
    sys.stdout.write(json.dumps([server.sockets[0].getsockname()[1] for server in servers]) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), look)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
