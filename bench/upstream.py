"""
The app behind every side: one process, one port for each side, so that no side meets another's closed connections.

usage: python -m bench.upstream PORT...

One byte says what is wanted, and after `P`, `S` and `G` the next command may follow on the same connection:

    P                    answered with P
    S + 8-byte length    that many bytes are swallowed, then answered with K
    G + 8-byte length    that many bytes come back
    E ...                everything from here on, this byte too, is echoed
"""

import asyncio
import sys

import uvloop

CHUNK = bytes(262_144)


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
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.echoing:
            self.transport.write(data)
        elif self.to_swallow:
            self.swallow(data)
        else:
            self.command(self.head + data)

    def command(self, data: bytes) -> None:
        """Obey the first command in data; a length that is not whole yet waits in head."""
        self.head = b""
        word = data[:1]
        if word == b"E":
            self.echoing = True
            self.transport.write(data)
        elif word == b"P":
            self.transport.write(b"P")
            if data[1:]:
                self.command(data[1:])
        elif word not in (b"S", b"G"):
            self.transport.abort()
        elif len(data) < 9:
            self.head = data
        elif word == b"S":
            self.to_swallow = int.from_bytes(data[1:9], "big")
            self.swallow(data[9:])
        else:
            self.to_send = int.from_bytes(data[1:9], "big")
            self.send()

    def swallow(self, data: bytes) -> None:
        """Count down, then acknowledge."""
        self.to_swallow -= len(data)
        if self.to_swallow == 0:
            self.transport.write(b"K")

    def send(self) -> None:
        """Fill the transport up to its high-water mark."""
        while self.to_send and self.writable:
            chunk = CHUNK[: self.to_send]
            self.to_send -= len(chunk)
            self.transport.write(chunk)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.send()


async def serve(ports: list[int]) -> None:
    """Listen on loopback until the process ends."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(App, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
