"""
A yardstick: the ordinary TLS relay, what most people would write. uvloop, asyncio.start_server(ssl=...), two pumps.

    python -m proxy.lab.ordinaryprocess LISTEN UPSTREAM CERT KEY [CA]

With CA it demands a client certificate of it. It hands out session tickets, and lets OpenSSL choose the group: X25519
comes first in OpenSSL 3.0 and in the only list that the load offers, so nothing needs to be set (Python cannot before
3.15). It runs on Python's own ssl module, which has an OpenSSL of its own.
"""

import asyncio
import contextlib
import ssl
import sys

import uvloop

MODULE = "proxy.lab.ordinaryprocess"
_CHUNK_BYTES = 65_536


def server_context(cert: str, key: str, ca: str | None) -> ssl.SSLContext:
    """TLS 1.2 and 1.3; with a CA a client certificate is required. Python sets a session id context, so it resumes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if ca is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends; then the sink is closed."""
    try:
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        sink.close()


async def serve(listen: str, upstream: str, cert: str, key: str, ca: str | None = None) -> None:
    """Relay until the process ends."""
    upstream_host, _, upstream_port = upstream.rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(upstream_host, int(upstream_port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
        for each in (writer, up_writer):
            with contextlib.suppress(OSError, ssl.SSLError):
                await each.wait_closed()

    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(relay, host, int(port), ssl=server_context(cert, key, ca), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
