"""From a Permit to a socket: no permit, no dial; every address is tried; nothing is left open by a dial that failed."""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.config import Mode, TcpAddress, UnixAddress
from proxy.core.policy import Permit, permit_plaintext
from proxy.core.reasons import Reason, Rejected
from proxy.net.dialer import Dialed, dial, format_address
from proxy.net.readiness import Readiness
from proxy.net.resolver import AddressInfo, Resolver
from tests.net.rig import World
from tests.tls.pairs import INBOUND


def permit() -> Permit:
    return permit_plaintext(INBOUND, Mode.DISABLE)


def waiting_for(names: Callable[[str, int], list[AddressInfo]] | None = None) -> tuple[Readiness, Resolver]:
    loop = asyncio.get_running_loop()
    return Readiness(loop), Resolver(loop, names) if names is not None else Resolver(loop)


async def dialed(world: World, target: TcpAddress | UnixAddress, connect_s: float = 5.0) -> Dialed | Reason:
    try:
        found = await dial(*waiting_for(), permit(), target, connect_s)
    except Rejected as rejected:
        return rejected.reason
    world.keep(found.sock)
    return found


async def test_without_a_permit_nothing_is_dialed(world: World) -> None:
    listening = world.listening()
    with pytest.raises(TypeError):
        await dial(*waiting_for(), object(), TcpAddress(*listening.getsockname()), 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_dial_ends_connected(world: World, host: str) -> None:
    listening = world.listening("::1" if ":" in host else "127.0.0.1")
    port = listening.getsockname()[1]
    found = await dialed(world, TcpAddress(host, port))
    assert isinstance(found, Dialed)
    assert found.address == (f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}")
    assert found.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert listening.accept()[0].close() is None


async def test_a_unix_path_is_dialed(world: World, tmp_path: Path) -> None:
    world.listening(path=str(tmp_path / "s"))
    found = await dialed(world, UnixAddress(str(tmp_path / "s")))
    assert isinstance(found, Dialed)
    assert found.address == f"unix:{tmp_path}/s"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_where_nobody_listens_refuses(world: World, host: str) -> None:
    assert await dialed(world, TcpAddress(host, 1)) is Reason.UPSTREAM_REFUSED


async def test_a_unix_path_that_is_not_there_refuses(world: World, tmp_path: Path) -> None:
    assert await dialed(world, UnixAddress(str(tmp_path / "s"))) is Reason.UPSTREAM_REFUSED


def fill(world: World, listening: socket.socket) -> None:
    """Fill a backlog of 0: the kernel answers nobody who comes after."""
    for _ in range(3):
        sock = world.keep(socket.socket(listening.family))
        sock.setblocking(False)
        sock.connect_ex(listening.getsockname())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_upstream_that_does_not_answer_is_given_up(world: World, host: str) -> None:
    listening = world.listening(backlog=0)
    fill(world, listening)
    assert await dialed(world, TcpAddress(host, listening.getsockname()[1]), 0.1) is Reason.UPSTREAM_TIMEOUT


async def test_a_unix_socket_whose_backlog_is_full_is_given_up(world: World, tmp_path: Path) -> None:
    listening = world.listening(path=str(tmp_path / "s"), backlog=0)
    fill(world, listening)
    assert await dialed(world, UnixAddress(str(tmp_path / "s")), 0.1) is Reason.UPSTREAM_TIMEOUT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_dial_that_is_cancelled_leaves_nothing(world: World, host: str) -> None:
    """The fixture counts the sockets."""
    listening = world.listening(backlog=0)
    fill(world, listening)
    dialing = dial(*waiting_for(), permit(), TcpAddress(host, listening.getsockname()[1]), 0)
    task = asyncio.get_running_loop().create_task(dialing)
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Names:
    """A system's resolver that answers as told."""

    def __init__(self, answer: list[tuple[str, int]] | Exception) -> None:
        self._answer = answer

    def __call__(self, _host: str, _port: int) -> list[AddressInfo]:
        if isinstance(self._answer, Exception):
            raise self._answer
        kinds = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, (ip, at)) for ip, at in self._answer]
        return [
            (family, socket.SOCK_STREAM, 6, "", address if family == socket.AF_INET else (*address, 0, 0))
            for family, address in kinds
        ]


@pytest.mark.parametrize("dead", ["127.0.0.1", "::1"])
async def test_every_address_of_a_name_is_tried(world: World, dead: str) -> None:
    listening = world.listening()
    names = Names([(dead, 1), listening.getsockname()])
    found = await dial(*waiting_for(names), permit(), TcpAddress("app.shop.svc", 80), 5.0)
    world.keep(found.sock)
    assert found.address == format_address(listening.getsockname())


async def test_an_address_with_a_zone_is_looked_up_since_the_socket_wants_its_number(world: World) -> None:
    listening = world.listening()
    names = Names([listening.getsockname()])
    found = await dial(*waiting_for(names), permit(), TcpAddress("fe80::1%eth0", 80), 5.0)
    world.keep(found.sock)
    assert found.address == format_address(listening.getsockname())


async def test_an_address_that_does_not_answer_keeps_the_next_one_waiting_for_a_moment_only(world: World) -> None:
    silent, listening = world.listening(backlog=0), world.listening()
    fill(world, silent)
    names = Names([silent.getsockname(), listening.getsockname()])
    found = await dial(*waiting_for(names), permit(), TcpAddress("app.shop.svc", 80), 5.0)
    world.keep(found.sock)
    assert found.address == format_address(listening.getsockname())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.UPSTREAM_UNRESOLVED),
        ([], Reason.UPSTREAM_UNRESOLVED),
        ([("127.0.0.1", 1), ("127.0.0.2", 1)], Reason.UPSTREAM_REFUSED),
        (OSError(errno.EMFILE, "Too many open files"), Reason.OVERLOADED),
    ],
)
async def test_a_name_that_leads_nowhere_has_its_reason(world: World, answer, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        await dial(*waiting_for(Names(answer)), permit(), TcpAddress("app.shop.svc", 80), 5.0)
    assert caught.value.reason is reason
    assert "app.shop.svc" in caught.value.detail


async def test_a_look_up_that_nobody_answers_is_told_from_an_upstream_that_does_not(world: World) -> None:
    silence = threading.Event()
    names = waiting_for(lambda *_: list[AddressInfo]() * silence.wait())
    with pytest.raises(Rejected) as caught:
        await dial(*names, permit(), TcpAddress("app.shop.svc", 80), 0.05)
    assert caught.value.reason is Reason.UPSTREAM_UNRESOLVED
    assert "look-up was not over within 0.05 s" in caught.value.detail
    silence.set()
