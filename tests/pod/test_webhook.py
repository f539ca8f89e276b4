"""The webhook as an ASGI application: statuses, bounds, deadlines, metrics."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import httpx
import pytest

from proxy.core.config import LogFormat, LogLevel
from proxy.ops.log import configure
from proxy.pod import webhook as module
from proxy.pod.admission import MAX_REVIEW_BYTES, OnRefusal
from proxy.pod.webhook import Webhook
from tests.pod.pods import app, pod, settings
from tests.pod.test_admission import review

JSON = {"Content-Type": "application/json"}


class Stderr:
    """A pipe for the log."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fileno(self) -> int:
        return self.writer

    def isatty(self) -> bool:
        return False

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in os.read(self.reader, 1_000_000).splitlines()]


class Desk:
    """The webhook and a client of it."""

    def __init__(self, webhook: Webhook, client: httpx.AsyncClient, stderr: Stderr) -> None:
        self.webhook = webhook
        self.client = client
        self.stderr = stderr

    async def post(self, content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
        return await self.client.post("/inject", content=content, headers=headers or JSON)

    async def metric(self, line: str) -> bool:
        return line in (await self.client.get("/metrics")).text.splitlines()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    stderr = Stderr()
    log = configure(LogLevel.INFO, LogFormat.JSON, stderr)
    webhook = Webhook(settings(), OnRefusal.DENY, log)
    transport = httpx.ASGITransport(webhook.application())
    async with httpx.AsyncClient(transport=transport, base_url="https://webhook") as client:
        yield Desk(webhook, client, stderr)
    log.close()
    os.close(stderr.reader)
    os.close(stderr.writer)


async def test_a_review_is_answered_counted_and_logged(desk: Desk) -> None:
    answer = await desk.post(json.dumps(review(pod())).encode())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["response"]["patchType"] == "JSONPatch"
    assert await desk.metric('mtls_sidecar_webhook_reviews_total{verdict="injected"} 1.0')
    assert await desk.metric("mtls_sidecar_webhook_review_seconds_count 1.0")
    line = desk.stderr.lines()[0]
    assert (line["event"], line["verdict"], line["pod"]) == ("review", "injected", "shop/one")


async def test_a_denial_is_200_with_allowed_false_and_a_line_that_says_why(desk: Desk) -> None:
    answer = await desk.post(json.dumps(review(pod(app(name="istio-proxy")))).encode())
    assert (answer.status_code, answer.json()["response"]["allowed"]) == (200, False)
    line = desk.stderr.lines()[0]
    assert (line["level"], line["verdict"]) == ("warning", "denied")
    assert "Istio" in str(line["detail"])


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"{}", JSON, 400, "no AdmissionReview"),
        (b"\x00", JSON, 400, "no JSON"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
        (b"{}", {"Content-Type": ""}, 415, "application/json"),
        (b" " * (MAX_REVIEW_BYTES + 1), JSON, 413, "at most"),
        (b"{}", {**JSON, "Content-Length": "9" * 30}, 413, "at most"),
        (b"{}", {**JSON, "Content-Length": "x"}, 413, "at most"),
    ],
)
async def test_what_is_no_review_gets_a_status_and_a_sentence(
    desk: Desk, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = await desk.post(content, **headers)
    assert answer.status_code == status
    assert words in answer.text
    assert await desk.metric('mtls_sidecar_webhook_reviews_total{verdict="malformed"} 1.0')


async def test_a_body_without_a_length_has_the_same_bound(desk: Desk) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(MAX_REVIEW_BYTES // 65536 + 1):
            yield b" " * 65536

    assert (await desk.post(parts(), **JSON)).status_code == 413


async def test_a_body_that_does_not_come_is_ended_by_the_deadline(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_S", 0.02)
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(30)
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/inject", "query_string": b"", "headers": []}
    scope["headers"] = [(b"content-type", b"application/json")]
    async with asyncio.timeout(10):
        await desk.webhook.application()(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


async def test_a_fault_of_ours_is_500_and_a_line_without_a_traceback_for_the_client(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(module, "answer_review", fail)
    answer = await desk.post(b"{}")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "RuntimeError" in str(desk.stderr.lines()[0])


async def test_live_and_ready_and_not_ready_while_draining(desk: Desk) -> None:
    assert [(await desk.client.get(path)).status_code for path in ("/live", "/ready", "/nothing")] == [200, 200, 404]
    assert (await desk.client.get("/inject")).status_code == 405
    desk.webhook.draining = True
    assert [(await desk.client.get(path)).status_code for path in ("/live", "/ready")] == [200, 503]
