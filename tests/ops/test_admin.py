"""Every path of the operator's endpoint, asked over a socket."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

import pytest

from proxy.core.appprobe import AppProbe, ProbeKind
from proxy.core.config import AdminConfig, HealthConfig, LogFormat, LogLevel, TcpAddress
from proxy.core.reasons import Reason
from proxy.ops.admin import open_admin, open_health
from proxy.ops.appprobes import AppProbes
from proxy.ops.http import HttpServer
from proxy.ops.log import Log, configure

LOOPBACK = TcpAddress("127.0.0.1", 0)


class Operations:
    """An Operated that remembers what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.is_ready = (True, "ready")
        self.level = LogLevel.INFO
        self.reloaded = "published"
        self.on_level: Callable[[LogLevel], None] = lambda level: None

    def ready(self) -> tuple[bool, str]:
        return self.is_ready

    def log_level(self) -> LogLevel:
        return self.level

    async def certs(self) -> Mapping[str, object]:
        return {"leaf": {"spiffe_id": "spiffe://example.org/a"}}

    async def config(self) -> Mapping[str, object]:
        raise RuntimeError("the worker is gone")

    async def connections(self) -> Sequence[Mapping[str, object]]:
        return [{"listener": "http", "sni": "a\x1b[2J"}]

    async def recent(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        return {"refusals": [{"reason": "NOT_ALLOWED", "who": "<i>"}], "reloads": []}

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        return f"text/plain; seen={accept}", b"mtls_sidecar_x 1\n"

    async def drain(self) -> None:
        self.done.append("drain")

    def quit(self) -> None:
        self.done.append("quit")

    async def reload(self) -> Mapping[str, object]:
        return {"result": self.reloaded}

    async def set_log_level(self, level: LogLevel) -> None:
        self.level = level
        self.on_level(level)


class Answer(NamedTuple):
    """A response as a client sees it."""

    status: int
    headers: dict[str, str]
    body: str


class Stderr:
    """A pipe for the log."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fileno(self) -> int:
        return self.writer

    def isatty(self) -> bool:
        return False


class Desk:
    """An operator in front of a running proxy."""

    def __init__(self, operated: Operations, admin: HttpServer, health: HttpServer, stderr: Stderr, log: Log) -> None:
        self.operated = operated
        self.log = log
        self.admin = admin
        self.health = health
        self.stderr = stderr

    async def ask(
        self, method: str, path: str, body: str = "", *, server: HttpServer | None = None, **headers: str
    ) -> Answer:
        fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", (server or self.admin).port)
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode()
        writer.close()
        head, _, text = answer.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        return Answer(int(status.split()[1]), dict(line.split(": ", 1) for line in lines), text)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    stderr, operated = Stderr(), Operations()
    log: Log = configure(LogLevel.INFO, LogFormat.JSON, stderr)
    admin = await open_admin(AdminConfig(listen=LOOPBACK), operated, log)
    health = await open_health(HealthConfig(listen=LOOPBACK), operated, log)
    yield Desk(operated, admin, health, stderr, log)
    await admin.close()
    await health.close()
    log.close()
    os.close(stderr.reader)
    os.close(stderr.writer)


GETS = ("/live", "/ready", "/metrics", "/certs", "/connections", "/recent", "/reasons", "/")
POSTS = ("/drain", "/quitquitquit", "/reload")


@pytest.mark.parametrize("path", GETS)
async def test_a_page_is_there_in_both_forms_and_head_has_its_length(desk: Desk, path: str) -> None:
    answer = await desk.ask("GET", path)
    text = await desk.ask("GET", path, Accept="text/plain")
    head = await desk.ask("HEAD", path)
    assert (answer.status, text.status, head.status) == (200, 200, 200)
    assert head.body == ""
    assert head.headers["Content-Length"] == str(len(answer.body.encode()))
    assert text.headers["Content-Type"].startswith("text/plain")
    if path not in {"/metrics", "/"}:
        assert answer.headers["Content-Type"] == "application/json"
        json.loads(answer.body)


async def test_ready_is_503_with_the_reason_while_it_is_not(desk: Desk) -> None:
    desk.operated.is_ready = (False, "waiting for a first valid identity")
    answer = await desk.ask("GET", "/ready")
    assert answer.status == 503
    assert json.loads(answer.body) == {"ready": False, "detail": "waiting for a first valid identity"}
    text = await desk.ask("GET", "/ready", Accept="text/plain")
    assert (text.status, text.body) == (503, "waiting for a first valid identity\n")
    assert (await desk.ask("GET", "/live")).status == 200


async def test_metrics_are_the_proxys_own_in_the_form_that_was_asked_for(desk: Desk) -> None:
    answer = await desk.ask("GET", "/metrics", Accept="application/openmetrics-text")
    assert answer.headers["Content-Type"] == "text/plain; seen=application/openmetrics-text"
    assert answer.body == "mtls_sidecar_x 1\n"


async def test_every_reason_is_explained(desk: Desk) -> None:
    rows = json.loads((await desk.ask("GET", "/reasons")).body)
    assert [row["reason"] for row in rows] == list(Reason)
    assert all(row["meaning"] and row["advice"] for row in rows)


async def test_the_index_lists_every_path_and_is_html_for_a_browser(desk: Desk) -> None:
    text = (await desk.ask("GET", "/")).body
    browser = await desk.ask("GET", "/", Accept="text/html,*/*;q=0.8")
    assert browser.headers["Content-Type"].startswith("text/html")
    for path in (*GETS, *POSTS, "/config", "/log-level"):
        assert path in text
        assert path in browser.body


async def test_the_page_for_people_is_whole_although_a_part_of_it_cannot_be_had(desk: Desk) -> None:
    page = await desk.ask("GET", "/", Accept="text/html")
    assert (page.status, page.body.endswith("</html>\n")) == (200, True)
    assert "not to be had: /config (RuntimeError)" in page.body
    assert "NOT_ALLOWED" in page.body
    assert "&lt;i&gt;" in page.body
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "the worker is gone" in os.read(desk.stderr.reader, 65536).decode()


async def test_peers_text_is_harmless_on_a_terminal(desk: Desk) -> None:
    for accept in ("application/json", "text/plain"):
        assert "\x1b" not in (await desk.ask("GET", "/connections", Accept=accept)).body


async def test_drain_and_quit_begin_what_they_say(desk: Desk) -> None:
    assert (await desk.ask("POST", "/drain")).status == 200
    assert (await desk.ask("POST", "/quitquitquit")).status == 200
    assert desk.operated.done == ["drain", "quit"]


@pytest.mark.parametrize(("result", "status"), [("published", 200), ("unchanged", 200), ("failed", 409)])
async def test_a_reload_tells_its_outcome(desk: Desk, result: str, status: int) -> None:
    desk.operated.reloaded = result
    answer = await desk.ask("POST", "/reload")
    assert (answer.status, json.loads(answer.body)) == (status, {"result": result})


async def test_the_log_level_is_the_bare_word_of_the_body(desk: Desk) -> None:
    answer = await desk.ask("PUT", "/log-level", "debug\n")
    assert json.loads(answer.body) == {"log_level": "debug", "before": "info"}
    assert desk.operated.level is LogLevel.DEBUG


@pytest.mark.parametrize(("before", "level"), [("info", "error"), ("error", "debug"), ("info", "info")])
async def test_a_change_of_the_log_level_is_in_the_log(desk: Desk, before: str, level: str) -> None:
    desk.operated.level = LogLevel(before)
    desk.operated.on_level = desk.log.set_level  # as the sidecar does: the line must be written while it is loud enough
    desk.log.set_level(LogLevel(before))
    await desk.ask("PUT", "/log-level", level)
    line = json.loads(os.read(desk.stderr.reader, 10_000))
    assert (line["event"], line["detail"]) == (
        "notice",
        f"log level {before} -> {level}, asked for at the admin endpoint",
    )


@pytest.mark.parametrize("body", ["", "loud", '"debug"', "debug info", "\x00", "débug"])
async def test_another_word_changes_nothing_and_lists_the_words(desk: Desk, body: str) -> None:
    answer = await desk.ask("PUT", "/log-level", body, **{"Content-Length": str(len(body.encode()))})
    assert answer.status == 400
    assert "debug, info, warning, error" in answer.body
    assert desk.operated.level is LogLevel.INFO


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
@pytest.mark.parametrize("path", ["/live", "/drain", "/log-level"])
async def test_other_methods_are_405_and_say_which_are_allowed(desk: Desk, method: str, path: str) -> None:
    allowed = {"/live": "GET, HEAD", "/drain": "POST", "/log-level": "PUT"}[path]
    answer = await desk.ask(method, path, "info")
    if method in allowed.split(", "):
        assert answer.status == 200
    else:
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert desk.operated.done == []


@pytest.mark.parametrize("path", ["/nothing", "/live/", "//live", "/LIVE", "/%6cive", "/../live"])
async def test_an_unknown_path_is_404_and_lists_what_there_is(desk: Desk, path: str) -> None:
    answer = await desk.ask("GET", path)
    assert answer.status == 404
    assert "/quitquitquit" in answer.body


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=["rebound name", "another page", "null"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/quitquitquit"), ("GET", "/certs"), ("GET", "/nothing")])
async def test_a_web_page_gets_403(desk: Desk, method: str, path: str, headers: dict[str, str]) -> None:
    answer = await desk.ask(method, path, **headers)
    assert answer.status == 403
    assert desk.operated.done == []


async def test_a_page_of_the_endpoint_itself_may_ask(desk: Desk) -> None:
    answer = await desk.ask("POST", "/drain", Host="localhost:15000", Origin="http://localhost:15000")
    assert answer.status == 200


async def test_a_fault_of_ours_is_a_sentence_there_and_a_line_here(desk: Desk) -> None:
    answer = await desk.ask("GET", "/config")
    assert answer.status == 500
    assert "worker is gone" not in answer.body
    line = json.loads(os.read(desk.stderr.reader, 10_000))
    assert (line["event"], line["fault"]) == ("an admin request failed", "RuntimeError: the worker is gone")


async def test_health_serves_three_pages_to_any_host_and_nothing_else(desk: Desk) -> None:
    for path in ("/live", "/ready", "/metrics"):
        assert (await desk.ask("GET", path, server=desk.health, Host="sidecar.shop:15021")).status == 200
    for method, path in (("GET", "/"), ("GET", "/certs"), ("POST", "/drain"), ("POST", "/quitquitquit")):
        assert (await desk.ask(method, path, server=desk.health)).status == 404
    assert (await desk.ask("GET", "/live", server=desk.health, Origin="http://evil.example")).status == 403
    assert desk.operated.done == []


async def test_health_makes_the_apps_probes_that_are_in_force_and_admin_does_not(desk: Desk) -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(app, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    in_force = [AppProbes()]
    health = await open_health(HealthConfig(listen=LOOPBACK), desk.operated, desk.log, lambda: in_force[0])
    path = "/app-health/orders/livez"
    before = await desk.ask("GET", path, server=health)
    in_force[0] = AppProbes([AppProbe(name="orders/livez", kind=ProbeKind.TCP, port=port)])
    healthy = await desk.ask("GET", path, server=health)
    by_post = await desk.ask("POST", path, server=health)
    by_page = await desk.ask("GET", path, server=health, Origin="http://evil.example")
    at_admin = await desk.ask("GET", path)
    listening.close()
    await listening.wait_closed()
    unhealthy = await desk.ask("GET", path, server=health)
    await health.close()
    statuses = [answer.status for answer in (before, healthy, by_post, by_page, at_admin, unhealthy)]
    assert statuses == [404, 200, 404, 403, 404, 503]
    assert healthy.body == f"Port {port} takes connections.\n"


async def test_health_on_every_interface_takes_ipv4_and_ipv6(desk: Desk) -> None:
    health = await open_health(HealthConfig(listen=TcpAddress("::", 0)), desk.operated, desk.log)
    statuses = []
    for host in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(host, health.port)
        writer.write(b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            statuses.append((await reader.read()).split(b"\r\n")[0])
        writer.close()
    await health.close()
    assert statuses == [b"HTTP/1.1 200 OK"] * 2


async def test_health_on_every_interface_is_there_without_ipv6(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was started with ipv6.disable=1."""
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: False)
    health = await open_health(HealthConfig(listen=TcpAddress("::", 0)), desk.operated, desk.log)
    _, writer = await asyncio.open_connection("127.0.0.1", health.port)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("::1", health.port)
    await health.close()
