"""
A worker on real loopback sockets with a recording observer: what the tests of the net floor drive.

Listener number n is on 127.0.0.(n + 1), since two listeners need two addresses and every port is the kernel's choice.
"""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from OpenSSL import SSL

from proxy.core.config import (
    Config,
    Engine,
    IdentityConfig,
    InboundConfig,
    ListenAddress,
    OutboundConfig,
    TcpAddress,
    TlsConfig,
    UpstreamAddress,
)
from proxy.core.entrances import entrances
from proxy.core.events import Accepted, Closed, Event, Relaying
from proxy.core.reasons import Reason
from proxy.core.spiffe import parse_pattern
from proxy.net.connection import Connection
from proxy.net.server import Worker
from proxy.net.sockets import ListeningSocket, open_socket
from proxy.tls.authority import Authority, Svid
from proxy.tls.channel import End
from proxy.tls.material import Material
from proxy.tls.store import Generation, Store, build_generation
from tests import minting
from tests.net.peers import PATIENCE_S, Address, TlsPeer, dial, receive_to_end, tls_context
from tests.tls import pairs

Answer = TypeVar("Answer")
CLIENT_ID = "spiffe://example.org/ns/web/sa/shop"


@cache
def issuer() -> Authority:
    return minting.authority()


@cache
def stranger() -> Authority:
    """Another CA that says it is of the same trust domain."""
    return minting.authority()


@cache
def client_svid() -> Svid:
    return minting.svid(issuer(), CLIENT_ID)


def inbound(upstream: UpstreamAddress | Address, name: str = "http", **fields: Any) -> InboundConfig:
    fields.setdefault("listen", TcpAddress("127.0.0.1", 0))
    allow = tuple(parse_pattern(text) for text in fields.pop("allow", pairs.ANYBODY))
    return InboundConfig(name=name, upstream=_target(upstream), allow=allow, **fields)


def outbound(upstream: UpstreamAddress | Address, name: str = "payments", **fields: Any) -> OutboundConfig:
    fields.setdefault("listen", TcpAddress("127.0.0.2", 0))
    server_ids = tuple(parse_pattern(text) for text in fields.pop("server_ids", pairs.ANYBODY))
    return OutboundConfig(name=name, upstream=_target(upstream), server_ids=server_ids, **fields)


def _target(upstream: UpstreamAddress | Address) -> UpstreamAddress:
    return TcpAddress(*upstream[:2]) if isinstance(upstream, tuple) else upstream


def config_of(*listeners: InboundConfig | OutboundConfig, **sections: Any) -> Config:
    return Config(
        identity=IdentityConfig(cert="", key="", bundles={}),
        inbound=tuple(one for one in listeners if isinstance(one, InboundConfig)),
        outbound=tuple(one for one in listeners if isinstance(one, OutboundConfig)),
        **sections,
    )


def material(**changes: Any) -> Material:
    return replace(pairs.material_of(minting.svid(issuer()), issuer()), **changes)


class Recorder:
    """Every fact in its order, and waiting for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: type[Answer]) -> list[Answer]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, fact: Callable[[], Answer], what: str) -> Answer:
        """Wait until `fact` is true; asked again at each event."""
        async with asyncio.timeout(PATIENCE_S):
            while not (answer := fact()):
                self._news.clear()
                await self._news.wait()
        return answer

    async def until_polled(self, fact: Callable[[], Answer], what: str) -> Answer:
        """Wait for a fact that no event announces."""
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := fact()):
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            await asyncio.sleep(0.002)
        return answer

    async def closed(self, count: int = 1) -> list[Closed]:
        """Wait until that many connections are over."""
        try:
            return await self.until(lambda: (found := self.of(Closed)) and len(found) >= count and found, "closed")
        except TimeoutError:
            raise AssertionError(f"{count} were to be closed; seen: {self.events}") from None

    async def reason(self) -> Reason:
        """Why the one connection ended."""
        [closed] = await self.closed()
        return closed.reason


class Rig:
    """One worker and what is published to it."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time, **changes: Any) -> None:
        self.recorder = Recorder()
        self.bugs: list[BaseException] = []
        self.clock = clock
        self.sockets: dict[ListenAddress, ListeningSocket] = {}
        self.generation = self._build(1, config, **changes)
        self.store = Store(self.generation)
        loop = asyncio.get_running_loop()
        self.worker = Worker(loop, self.store, self.recorder, lambda: self.clock(), self.bugs.append)
        self._put_in_force()

    def apply(self, config: Config, **changes: Any) -> Generation:
        """Publish another generation."""
        self.generation = self._build(self.generation.number + 1, config, **changes)
        self._put_in_force()
        return self.generation

    def with_sections(self, **sections: Any) -> Config:
        """The configuration in force, with some sections replaced."""
        return replace(self.generation.config, **sections)

    def _build(self, number: int, config: Config, **changes: Any) -> Generation:
        return build_generation(number, config, material(**changes), lambda: self.clock())

    def _put_in_force(self) -> None:
        wanted = entrances(self.generation.config).keys()
        for address in wanted - self.sockets.keys():
            self.sockets[address] = open_socket(address, {})
        self.worker.apply(self.generation, {address: self.sockets[address] for address in wanted})
        for address in self.sockets.keys() - wanted:
            self.sockets.pop(address).close()

    def address(self, name: str = "http") -> Address:
        """Where a listener is."""
        [address] = [one for one, listener in entrances(self.generation.config).items() if listener.name == name]
        found = self.sockets[address].sock.getsockname()
        return found[:2] if isinstance(found, tuple) else found

    @property
    def only(self) -> Connection:
        """The one live connection."""
        [connection] = self.worker.connections
        return connection

    def half_closed(self) -> bool:
        """Whether the one live connection is."""
        return self.only.living().is_half_closed

    async def stop(self) -> None:
        """End everything, and assert that nothing is left and every fact has its counterpart."""
        for connection in self.worker.connections:
            connection.end(Reason.DRAINED, "the test is over")
        await self.worker.drain(PATIENCE_S)
        for listening in self.sockets.values():
            listening.close()
        assert self.bugs == []
        recorder = self.recorder
        assert len(recorder.of(Closed)) == len(recorder.of(Accepted))
        assert list(self.worker.living()) == []
        for admission in self.worker._admissions.values():
            assert (admission.connections, admission.handshakes) == (0, 0)


class World:
    """What a test opens; everything in it is closed when the test is over."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rigs: list[Rig] = []
        self._sockets: list[socket.socket] = []

    def rig(self, *listeners: InboundConfig | OutboundConfig, **options: Any) -> Rig:
        """A worker. options: sections of the configuration, and `clock` or fields of the Material."""
        changes = {key: options.pop(key) for key in ("bundles", "clock") if key in options}
        options["tls"] = replace(options.get("tls", TlsConfig()), engine=self.engine)
        rig = Rig(config_of(*listeners, **options), **changes)
        self.rigs.append(rig)
        return rig

    def keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(PATIENCE_S)
        self._sockets.append(sock)
        return sock

    def listening(self, host: str = "127.0.0.1", *, backlog: int = 128, path: str | None = None) -> socket.socket:
        """An app that listens: blocking, on a port of the kernel's choice, or on a unix path."""
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = self.keep(socket.socket(family))
        sock.bind(path or (host, 0))
        sock.listen(backlog)
        return sock

    async def relayed(self, version: str = "1.3", **options: Any) -> tuple[Rig, TlsPeer, socket.socket]:
        """A client of an inbound listener in `version`, and the app's end of its connection, both relaying."""
        app = self.listening()
        rig = self.rig(inbound(app.getsockname()), **options)
        peer = await self.dial_tls(rig.address(), client(version))
        accepted = await self.accept(app)
        await rig.recorder.until(lambda: rig.recorder.of(Relaying), "relaying")
        return rig, peer, accepted

    async def dial(self, address: Address, **options: Any) -> socket.socket:
        return self.keep(await blocking(lambda: dial(address, **options)))

    async def dial_to_end(self, address: Address) -> tuple[bytes, End]:
        """A silent client that is refused: what comes until the end, and which one."""
        try:
            sock = await self.dial(address)
        except ConnectionResetError:  # it was there before the client had noticed that it was connected
            return b"", End.RESET
        return await blocking(receive_to_end, sock)

    async def accept(self, app: socket.socket) -> socket.socket:
        return self.keep((await blocking(app.accept))[0])

    async def dial_tls(
        self, address: Address, context: SSL.Context | None = None, server_name: str | None = None, **options: Any
    ) -> TlsPeer:
        """A client whose handshake is done on its own side. Raises: SSL.Error"""
        sock = await self.dial(address, **options)
        peer = TlsPeer(context or client(), sock, accepting=False, server_name=server_name)
        return await blocking(peer.shake)

    async def accept_tls(self, app: socket.socket, context: SSL.Context | None = None) -> TlsPeer:
        """An upstream whose handshake is done. Raises: SSL.Error"""
        return await blocking(TlsPeer(context or server(), await self.accept(app), accepting=True).shake)

    async def stop(self) -> None:
        for rig in self.rigs:
            await rig.stop()
        for sock in self._sockets:
            sock.close()


def client(version: str | None = None, svid: Svid | None = None) -> SSL.Context:
    """A client that the worker's policy lets in."""
    return tls_context(svid or client_svid(), server=False, version=version)


def server(version: str | None = None, svid: Svid | None = None, **options: Any) -> SSL.Context:
    """An upstream that speaks mutual TLS. options: of tls_context"""
    return tls_context(svid or minting.svid(issuer()), server=True, version=version, **options)


def blocking(call: Callable[..., Answer], *arguments: Any) -> "asyncio.Future[Answer]":
    """Let a peer block in a thread, from now on, while the worker runs here."""
    return asyncio.get_running_loop().run_in_executor(None, call, *arguments)


def open_sockets() -> int:
    """How many sockets this process has open."""
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass  # the descriptor of the listing itself
    return sum(link.startswith("socket:") for link in links)
