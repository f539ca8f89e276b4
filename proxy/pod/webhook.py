"""
The admission webhook as an ASGI application: POST /inject, and /live, /ready and /metrics beside it.

It keeps nothing between two requests but its counters. A body is read to a bound and within a deadline; what is no
review gets 400 and a sentence, and what is our own fault 500 and a line in the log, so that the webhook's failurePolicy
decides. How bytes come here over TLS is webhookserver.py's.
"""

import asyncio
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from proxy.ops.log import Log
from proxy.pod.admission import (
    MAX_REVIEW_BYTES,
    Answer,
    MalformedReview,
    OnRefusal,
    Verdict,
    answer_review,
)
from proxy.pod.settings import Settings

BODY_S = 5.0  # for a review to come whole; the API server waits 10 s by default, for all of it
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_JSON = "application/json"


class Counts:
    """What the webhook counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "mtls_sidecar_webhook"
        self.reviews = Counter(f"{prefix}_reviews", "Reviews by how they ended.", ["verdict"], registry=self.registry)
        what = "From the whole request to the answer."
        self.seconds = Histogram(f"{prefix}_review_seconds", what, registry=self.registry, buckets=_BUCKETS)
        self.not_after = Gauge(
            f"{prefix}_certificate_not_after_timestamp_seconds", "When our certificate lapses.", registry=self.registry
        )
        self.reloads = Counter(f"{prefix}_reloads", "Reloads of the certificate.", ["result"], registry=self.registry)
        for verdict in Verdict:
            self.reviews.labels(verdict)


@dataclass(slots=True)
class Webhook:
    """The webhook's own state. draining: shown by /ready, so that the Service sends no more."""

    defaults: Settings
    on_refusal: OnRefusal
    log: Log
    counts: Counts = field(default_factory=Counts)
    draining: bool = False

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/inject", self._inject, methods=["POST"]),
            Route("/live", self._live, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        return Starlette(routes=routes)

    async def _inject(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            return self._refuse(415, f"Post an AdmissionReview as {_JSON}.")
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read(request)
        except TimeoutError:
            return self._refuse(408, f"The review did not come whole within {BODY_S:g} s.")
        except ClientDisconnect:
            return self._refuse(400, "The review ended before it was whole.")
        if body is None:
            return self._refuse(413, f"A review has at most {MAX_REVIEW_BYTES} bytes.")
        begun = time.perf_counter()
        try:
            answer = answer_review(body, self.defaults, self.on_refusal)
        except MalformedReview as malformed:
            return self._refuse(400, str(malformed))
        except Exception as error:  # a fault of ours must end this answer, never the webhook
            self.log.bug(error)
            return PlainTextResponse("The webhook could not answer this; its log says why.\n", 500)
        self._note(answer, time.perf_counter() - begun)
        return Response(answer.body, media_type=_JSON)

    def _note(self, answer: Answer, seconds: float) -> None:
        self.counts.reviews.labels(answer.verdict).inc()
        self.counts.seconds.observe(seconds)
        refused = answer.verdict in (Verdict.DENIED, Verdict.ADMITTED_WITHOUT)
        say = self.log.warning if refused else self.log.info
        say(
            "review",
            verdict=str(answer.verdict),
            pod=answer.pod,
            duration_s=round(seconds, 6),
            detail=" ".join(answer.sentences),
        )

    def _refuse(self, status: int, sentence: str) -> Response:
        self.counts.reviews.labels(Verdict.MALFORMED).inc()
        self.log.warning("review", verdict=str(Verdict.MALFORMED), status=status, detail=sentence)
        return PlainTextResponse(f"{sentence}\n", status)

    async def _live(self, _request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def _ready(self, _request: Request) -> Response:
        return PlainTextResponse("draining\n", 503) if self.draining else PlainTextResponse("ready\n")

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.counts.registry), headers={"content-type": content_type})


async def _read(request: Request) -> bytes | None:
    """The body; None where it is longer than a review can be."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared[:12]) > MAX_REVIEW_BYTES:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REVIEW_BYTES:
            return None
    return bytes(body)
