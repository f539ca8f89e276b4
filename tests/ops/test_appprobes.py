"""Probes of a real application over loopback: one that serves, one that does not, one that hangs, one that lies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from proxy.core.appprobe import AppProbe, ProbeKind
from proxy.ops.appprobes import MOST_AT_A_TIME, AppProbes, Verdict, pod_host
from proxy.ops.views import config_view
from tests.configtexts import read, with_top

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class App:
    """An application on a port of the kernel's choice; it keeps the heads of the requests that it got."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
        self.hang = asyncio.Event()
        self.hung = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            if self.answer == b"hang":
                self.hung += 1
                await self.hang.wait()
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def app() -> AsyncIterator[App]:
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0)
    app.port = server.sockets[0].getsockname()[1]
    yield app
    app.hang.set()
    server.close()


async def check(probe: AppProbe, host: str = "10.0.0.7") -> Verdict:
    return await AppProbes([probe]).check(probe, host)


def http(port: int, **more: object) -> AppProbe:
    return AppProbe(name="app/livez", kind=ProbeKind.HTTP, port=port, **{"timeout_s": 5.0, **more})  # type: ignore[arg-type]


def grpc_probe(port: int, service: str = "") -> AppProbe:
    return AppProbe(name="app/livez", kind=ProbeKind.GRPC, port=port, service=service, timeout_s=5.0)


@pytest.mark.parametrize(
    ("status", "healthy"), [(200, True), (204, True), (399, True), (400, False), (404, False), (500, False)]
)
async def test_a_status_from_200_to_399_is_healthy(app: App, status: int, healthy: bool) -> None:
    app.answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    assert Verdict(healthy, f"Port {app.port} answered with status {status}.") == await check(http(app.port))


async def test_the_request_is_what_kubelet_would_have_sent(app: App) -> None:
    await check(http(app.port, path="/healthz?full=1", headers=("X-Probe: a b", "Accept: text/plain")))
    first, *lines = app.requests[0].rstrip().split("\r\n")
    assert first == "GET /healthz?full=1 HTTP/1.1"
    assert sorted(lines) == [
        "accept: text/plain",
        "connection: close",
        f"host: 10.0.0.7:{app.port}",
        "user-agent: kube-probe/mtls-sidecar",
        "x-probe: a b",
    ]


async def test_a_host_header_of_the_pods_author_is_kept(app: App) -> None:
    await check(http(app.port, headers=("Host: shop.example",)))
    assert "host: shop.example\r\n" in app.requests[0]


async def test_nothing_of_the_answer_is_in_the_verdict(app: App) -> None:
    assert "secret" not in (await check(http(app.port))).detail


async def test_a_redirect_within_the_port_is_followed(app: App) -> None:
    app.answer = b"HTTP/1.1 302 Found\r\nLocation: /login?x=1\r\nContent-Length: 0\r\n\r\n"
    verdict = await check(http(app.port))
    assert Verdict(False, f"Port {app.port} redirects without end.") == verdict
    assert [head.split("\r\n")[0] for head in app.requests] == ["GET / HTTP/1.1"] + ["GET /login?x=1 HTTP/1.1"] * 9


@pytest.mark.parametrize("location", ["http://elsewhere.example/", "https://10.0.0.7/", "//10.0.0.8/x"])
async def test_a_redirect_to_another_place_is_not_followed_and_counts_as_success(app: App, location: str) -> None:
    app.answer = f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    verdict = await check(http(app.port))
    assert (verdict.healthy, len(app.requests)) == (True, 1)
    assert "not followed" in verdict.detail


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, b"\x16\x03\x01"],
)
async def test_what_is_no_whole_answer_is_unhealthy(app: App, answer: bytes) -> None:
    app.answer = answer
    verdict = await check(http(app.port))
    assert not verdict.healthy
    assert "HTTP/1.1" in verdict.detail


@pytest.mark.parametrize("kind", [ProbeKind.HTTP, ProbeKind.GRPC])
async def test_an_app_that_is_silent_is_unhealthy_by_the_deadline(app: App, kind: ProbeKind) -> None:
    app.answer = b"hang"
    probe = AppProbe(name="app/livez", kind=kind, port=app.port, timeout_s=0.05)
    assert Verdict(False, f"Port {app.port} did not answer within 0.05 s.") == await check(probe)


@pytest.mark.parametrize("kind", list(ProbeKind))
async def test_a_closed_port_is_unhealthy(unused_port: int, kind: ProbeKind) -> None:
    verdict = await check(AppProbe(name="app/livez", kind=kind, port=unused_port))
    assert not verdict.healthy
    assert "cannot be connected to" in verdict.detail


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(App().serve, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_a_port_that_takes_connections_is_healthy_for_tcp(app: App) -> None:
    assert (await check(AppProbe(name="app/livez", kind=ProbeKind.TCP, port=app.port))).healthy


async def test_an_app_on_ipv6_alone_is_found() -> None:
    server = await asyncio.start_server(App().serve, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await check(AppProbe(name="app/livez", kind=ProbeKind.TCP, port=port))).healthy
    server.close()


async def test_only_so_many_probes_are_at_work_at_a_time(app: App) -> None:
    app.answer = b"hang"
    probe = http(app.port)
    probes = AppProbes([probe])
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(probes.check(probe, "a")) for _ in range(MOST_AT_A_TIME)]
        async with asyncio.timeout(10):
            while app.hung < MOST_AT_A_TIME:
                await asyncio.sleep(0.005)
        one_more = await probes.check(probe, "a")
        for task in held:
            task.cancel()
    assert "at work already" in one_more.detail
    app.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    assert (await probes.check(probe, "a")).healthy


@pytest.fixture
async def grpc_port() -> AsyncIterator[int]:
    """A server of the standard health service, by its bytes: `orders` serves, `cart` does not, others are unknown."""
    statuses = {b"": b"\x08\x01", b"orders": b"\x08\x01", b"cart": b"\x08\x02"}

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        service = request[2:]
        if service not in statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return statuses[service]

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait(5)


@pytest.mark.parametrize(("service", "healthy"), [("", True), ("orders", True), ("cart", False), ("nobody", False)])
async def test_a_real_grpc_server_is_understood(grpc_port: int, service: str, healthy: bool) -> None:
    verdict = await check(grpc_probe(grpc_port, service))
    assert healthy is verdict.healthy, verdict.detail


async def test_an_http_server_gives_no_grpc_status(app: App) -> None:
    app.answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    assert "does not speak HTTP/2" in (await check(grpc_probe(app.port))).detail


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("10.0.0.7:15021", "10.0.0.7"),
        ("[fd00::7]:15021", "[fd00::7]"),
        ("orders.shop", "orders.shop"),
        (None, "127.0.0.1"),
        ("", "127.0.0.1"),
        ("a b", "127.0.0.1"),
        ("[x]", "127.0.0.1"),
        ("a/../b:1", "127.0.0.1"),
    ],
)
def test_the_host_is_kubelets_without_the_port(header: str | None, host: str) -> None:
    assert host == pod_host(header)


def test_the_admin_endpoint_shows_a_probes_headers_without_their_values() -> None:
    probe = "{name: a/livez, kind: http, port: 1, headers: ['Authorization: Bearer s3cret']}"
    shown = str(config_view(read(with_top(f"health: {{listen: 0.0.0.0:15021, app_probes: [{probe}]}}"))))
    assert "Authorization: ..." in shown
    assert "s3cret" not in shown
